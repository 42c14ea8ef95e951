"""Scenarios: what the systems of a department do, one after the other, and what each of them must see. The language, not the play.

    scenario: one CT, from registration to charge
    clock: 2026-03-02 08:00
    steps:
      - hospital sends samples/orm_ct.hl7: AA
      - CT1 asks worklist: {for: {PatientID: "4711"}, finds: [{AccessionNumber: present}]}
      - clock advances: 12m
      - CT1 stores 3 images: ok
      - archive has: {images: 3, each: {AccessionNumber: "{CT1.AccessionNumber}"}}

A step is one sentence, which is a key, and its value. `{CT1.AccessionNumber}` in a text is an attribute of the worklist entry that CT1
chose last. What an expected value may be: `broker.pipeline.expect`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from dataclasses import fields as dataclass_fields
from datetime import datetime
from typing import Any

from broker.obs.status import ExamItem, MessageItem, UnmatchedItem
from broker.pipeline.expect import check_value, text_of
from broker.pipeline.header import check_keyword
from broker.pipeline.shape import Mistakes, check, did_you_mean
from broker.pipeline.subject import check_path

Schema = dict[str, Any]

_VALUE: Schema = {"type": ["string", "number", "boolean", "null", "object"]}
_FIELDS: Schema = {
    "description": "HL7 paths or DICOM keywords (dotted into sequences), each with its text; present: any text, absent: none.",
    "type": "object",
    "minProperties": 1,
    "additionalProperties": _VALUE,
}
_ROWS: Schema = {"type": "array", "items": _FIELDS}
_CODE: Schema = {"enum": ["AA", "AE", "AR", "CA", "CE", "CR"]}
_ANSWER: Schema = {"anyOf": [_CODE, _FIELDS]}
_STATUS: Schema = {"type": "string", "pattern": "^(ok|0x[0-9A-F]{4})$"}
_NOTHING: Schema = {"type": "null"}
_NUMBER: Schema = {"type": "integer", "minimum": 1}


def _mapping(*required: str, **properties: Any) -> Schema:
    return {"type": "object", "required": list(required), "additionalProperties": False, "properties": properties}


_PERFORMS: Schema = {"anyOf": [_STATUS, _mapping("answer", **{"with": _FIELDS, "answer": _STATUS})]}


@dataclass(frozen=True, slots=True)
class Sentence:
    """One kind of step: what it is called, how its key is written, what it means and what its value may be."""

    name: str
    pattern: str
    meaning: str
    example: str
    value: Schema
    clocked: bool = False  # whether it turns the clock, which only stands still in process


_LISTENER, _AE, _DESTINATION = r"(?P<listener>[a-z]\w*)", r"(?P<modality>[A-Z][A-Z0-9_]*)", r"(?P<destination>[a-z]\w*)"

SENTENCES: tuple[Sentence, ...] = (
    Sentence(
        "sends",
        rf"^{_LISTENER} sends (?P<file>[\w./-]+\.hl7)$",
        "A sender of the listener sends a sample: its answer, or the fields to change and the answer.",
        "hospital sends samples/orm_ct.hl7: {with: {ORC-2.1: P9}, answer: AA}",
        {"anyOf": [_CODE, _mapping("answer", **{"with": _FIELDS, "answer": _ANSWER})]},
    ),
    Sentence(
        "sends text",
        rf"^{_LISTENER} sends text$",
        "Anything in a frame, and the answer.",
        "hospital sends text: {text: GET / HTTP/1.1, answer: AR}",
        _mapping("text", "answer", text={"type": "string"}, answer=_ANSWER),
    ),
    Sentence(
        "repeats",
        rf"^{_LISTENER} repeats the last message$",
        "The very same message once more: the answer is the stored one, byte for byte.",
        "hospital repeats the last message: AA",
        _CODE,
    ),
    Sentence("echoes", rf"^{_AE} echoes$", "C-ECHO.", "CT1 echoes: ok", _STATUS),
    Sentence(
        "asks worklist",
        rf"^{_AE} asks worklist$",
        "The keys, and all entries that match, in any order; the modality chooses the first one, or the one `chooses` says.",
        "CT1 asks worklist: {for: {PatientID: P1}, finds: [{AccessionNumber: present}]}",
        _mapping("for", "finds", **{"for": _FIELDS, "charset": {"type": "string"}, "finds": _ROWS, "chooses": _NUMBER}),
    ),
    Sentence(
        "stores",
        rf"^{_AE} stores (?P<count>\d{{1,4}}) images?$",
        "C-STORE of new images of the chosen entry: the answer, or attributes that differ and the answer.",
        "CT1 stores 3 images: ok",
        _PERFORMS,
    ),
    Sentence(
        "stores again",
        rf"^{_AE} stores the same images again$",
        "C-STORE of the last images.",
        "CT1 stores the same images again: ok",
        _STATUS,
    ),
    Sentence("starts", rf"^{_AE} starts$", "MPPS N-CREATE, in progress, for the chosen entry.", "CT1 starts: ok", _PERFORMS),
    Sentence("ends", rf"^{_AE} (?P<how>completes|discontinues)$", "MPPS N-SET of what it has started.", "CT1 completes: ok", _PERFORMS),
    Sentence(
        "asks for commitment",
        rf"^{_AE} asks for commitment$",
        "Storage commitment of the last images, and what the report says that comes over the same association.",
        "CT1 asks for commitment: {committed: 3, failed: 0}",
        {**_mapping(committed={"type": "integer", "minimum": 0}, failed={"type": "integer", "minimum": 0}), "minProperties": 1},
    ),
    Sentence(
        "gets",
        rf"^{_DESTINATION} gets$",
        "All messages it got since it was asked last, refused ones too, in order: kinds, or fields. At the end of the scenario, no more.",
        "ehr gets: [SIU^S12, {MSH-9.1: ORM, ORC-5: IP}]",
        {"type": "array", "items": {"anyOf": [{"type": "string", "pattern": r"^[A-Z]{3}\^[A-Z][0-9A-Z]\d$"}, _FIELDS]}},
    ),
    Sentence(
        "has",
        rf"^{_DESTINATION} has$",
        "How many images it keeps, and what the header of each says.",
        "archive has: {images: 3, each: {PatientID: P1}}",
        _mapping("images", images={"type": "integer", "minimum": 0}, each=_FIELDS),
    ),
    Sentence(
        "answers",
        rf"^{_DESTINATION} answers$",
        "From now on it answers every message with this code, every image with this status.",
        "ehr answers: AE",
        {"anyOf": [_CODE, _STATUS]},
    ),
    Sentence("goes down", rf"^{_DESTINATION} goes down$", "It can no longer be reached.", "archive goes down:", _NOTHING),
    Sentence("comes back", rf"^{_DESTINATION} comes back$", "It can be reached again.", "archive comes back:", _NOTHING),
    Sentence(
        "queue",
        rf"^queue of {_DESTINATION} has$",
        "Deliveries that wait for it, and those set aside for a person.",
        "queue of ehr has: {waiting: 2, parked: 0}",
        {**_mapping(waiting={"type": "integer", "minimum": 0}, parked={"type": "integer", "minimum": 0}), "minProperties": 1},
    ),
    Sentence(
        "exam is",
        r"^exam (?P<accession>\S+) is$",
        "The exam of this accession number: status, report_status, procedure_code, scheduled_at, priority, images.",
        "exam A00000001 is: {status: completed, report_status: final}",
        _FIELDS,
    ),
    Sentence(
        "lists unmatched",
        r"^broker lists unmatched$",
        "What is open on the reconciliation list (kind, accession, key, reason), the oldest first.",
        "broker lists unmatched: [{kind: images}]",
        _ROWS,
    ),
    Sentence(
        "person",
        r"^person (?P<how>links|releases|moves) images of (?P<study>\S+)(?: to (?P<accession>\S+))?$",
        "What a person says of the images of a study: `links` and `releases` those of its open entry, `moves` those of another exam.",
        "person links images of 1.2.3 to A00000001: ok",
        {"enum": ["ok", "refused"]},
    ),
    Sentence(
        "keeps parked",
        r"^broker keeps parked$",
        "What was received and waits for a person (kind, accession, reason, code), the oldest first.",
        "broker keeps parked: [{kind: ORM^O01, code: AE}]",
        _ROWS,
    ),
    Sentence(
        "counts",
        r"^broker counts$",
        "Metrics by name and labels, each with its value; one that was never counted is 0.",
        "broker counts: {'broker_messages_routed_total{channel=\"orders\"}': 1}",
        {"type": "object", "minProperties": 1, "additionalProperties": {"type": "number"}},
    ),
    Sentence(
        "timeline has",
        r"^timeline of (?P<accession>\S+) has$",
        "What `broker trace` shows: how much, and what comes in this order among it.",
        "timeline of A00000001 has: {in order: [received ORM^O01, exam.scheduled exam]}",
        {**_mapping(**{"at least": {"type": "integer"}, "in order": {"type": "array", "items": {"type": "string"}}}), "minProperties": 1},
    ),
    Sentence(
        "clock",
        r"^clock advances$",
        "Time passes: what is due by then happens, in its order.",
        "clock advances: 12m",
        {"type": "string", "pattern": r"^\d+(\.\d+)? ?(ms|s|m|min|h|d)$"},
        clocked=True,
    ),
)
_TOP: Schema = {
    "scenario": {"description": "What is shown, in one sentence.", "type": "string"},
    "clock": {"description": "When it begins, in the site's time zone; such a scenario can only be played in process.", "type": "string"},
    "renamed": {
        "description": "Words of the samples, and what this scenario has in their place: its own patients and orders.",
        "type": "object",
        "additionalProperties": {"type": "string"},
    },
}
_CLOCK = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?")


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its sentence, the words of it, and the value."""

    sentence: Sentence
    key: str
    said: Mapping[str, str]
    value: Any
    line: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario that may be played."""

    name: str
    steps: tuple[Step, ...]
    clock: str = ""  # YYYY-MM-DD HH:MM[:SS]
    renamed: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    line: int = 0

    @property
    def clocked(self) -> bool:
        """Whether it needs a clock that can be turned."""
        return bool(self.clock) or any(step.sentence.clocked for step in self.steps)


@dataclass(frozen=True, slots=True)
class Names:
    """What a configuration has that a scenario may name."""

    hl7_listeners: frozenset[str]
    hl7_destinations: frozenset[str]
    dicom_destinations: frozenset[str]


def schema() -> Schema:
    """Return the JSON Schema of a scenario, for editors."""
    steps = {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
            "patternProperties": {_plain(one.pattern): {**one.value, "description": one.meaning} for one in SENTENCES},
        },
    }
    return _file(steps)


def _file(steps: Schema) -> Schema:
    return {"type": "object", "required": ["scenario", "steps"], "additionalProperties": False, "properties": {**_TOP, "steps": steps}}


def _plain(pattern: str) -> str:
    """Return a pattern without the names of its groups, which JSON Schema does not know."""
    return re.sub(r"\(\?P<\w+>", "(", pattern)


def understand(key: str) -> tuple[Sentence, Mapping[str, str]] | None:
    """Return the sentence a key is, and its words; None when it is none."""
    for sentence in SENTENCES:
        if said := re.fullmatch(sentence.pattern, key):
            return sentence, said.groupdict()
    return None


def read_scenario(
    document: Any, mistakes: Mistakes, names: Names, *, file: str = "", line: Callable[[tuple[str | int, ...]], int] = lambda place: 0
) -> Scenario | None:
    """Return the scenario of a YAML document, None when it is not in order; what is wrong is added to `mistakes`."""
    known = len(mistakes.found)
    if not check(_file({"type": "array"}), document, mistakes):
        return None
    clock = text_of(document.get("clock"))
    if clock and not _is_time(clock):
        mistakes.add(f"{clock} is no time", "write it like 2026-03-02 08:00", key=("clock",))
    steps = []
    for index, item in enumerate(document["steps"]):
        step = _step(item, mistakes.at("steps", index), names, line(("steps", index)))
        steps += [step] if step else []
    if not document["steps"]:
        mistakes.add("a scenario without steps", "add one, such as - hospital sends samples/orm_ct.hl7: AA", key=("steps",))
    if len(mistakes.found) > known:
        return None
    return Scenario(document["scenario"], tuple(steps), clock, document.get("renamed") or {}, file, line(("scenario",)))


def _is_time(text: str) -> bool:
    try:
        return bool(_CLOCK.fullmatch(text)) and bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def _step(item: Any, mistakes: Mistakes, names: Names, line: int) -> Step | None:
    if not isinstance(item, Mapping) or len(item) != 1:
        mistakes.add("a step is one sentence and its value", "such as - CT1 stores 3 images: ok")
        return None
    ((key, value),) = item.items()
    understood = understand(str(key))
    if understood is None:
        examples = [one.example.partition(":")[0] for one in SENTENCES]
        mistakes.add(f"nobody understands {key}", did_you_mean(str(key), examples), key=(key,))
        return None
    sentence, said = understood
    place = mistakes.at(key)
    if not check(sentence.value, value, place):
        return None
    _check_names(said, sentence, names, place)
    _check_fields(sentence, value, place)
    return Step(sentence, str(key), said, value, line)


def _check_names(said: Mapping[str, str], sentence: Sentence, names: Names, mistakes: Mistakes) -> None:
    if (name := said.get("listener")) and name not in names.hl7_listeners:
        mistakes.add(f"there is no listener {name} for HL7", did_you_mean(name, names.hl7_listeners))
    if name := said.get("destination"):
        known = {"gets": names.hl7_destinations, "has": names.dicom_destinations}.get(
            sentence.name, names.hl7_destinations | names.dicom_destinations
        )
        if name not in known:
            mistakes.add(f"there is no destination {name} that {sentence.name} can be said of", did_you_mean(name, known))


_SHOWN: Mapping[str, type] = {"exam is": ExamItem, "lists unmatched": UnmatchedItem, "keeps parked": MessageItem}


def _check_fields(sentence: Sentence, value: Any, mistakes: Mistakes) -> None:
    """Check the paths and values of a step; `sentence.value` has its shape already."""
    hl7, dicom = (lambda path: check_path("hl7", path)), check_keyword
    checks: Mapping[str, tuple[tuple[str, Callable[[str], str]], ...]] = {
        "sends": (("with", hl7), ("answer", hl7)),
        "sends text": (("answer", hl7),),
        "asks worklist": (("for", dicom), ("finds", dicom)),
        "stores": (("with", dicom),),
        "starts": (("with", dicom),),
        "ends": (("with", dicom),),
        "gets": (("", hl7),),
        "has": (("each", dicom),),
    }
    if shown := _SHOWN.get(sentence.name):
        known = [one.name for one in dataclass_fields(shown)]
        checks = {sentence.name: (("", lambda name: "" if name in known else f"it shows no {name}; {did_you_mean(name, known)}"),)}
    for key, test in checks.get(sentence.name, ()):
        inner = value if not key else value.get(key) if isinstance(value, Mapping) else None
        for place, fields in _each_mapping(inner, (key,) if key else ()):
            for path, wanted in fields.items():
                if wrong := test(path):
                    mistakes.add(wrong, key=(*place, path))
                check_value(wanted, mistakes, *place, path)


def _each_mapping(value: Any, place: tuple[str | int, ...]) -> list[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        return [(place, value)]
    items = enumerate(value) if isinstance(value, list) else ()
    return [((*place, index), item) for index, item in items if isinstance(item, Mapping)]
