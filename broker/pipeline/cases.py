"""Cases: what a route is given, and what is expected of it; read from YAML and compared with what happened.

    - name: a CT order is scheduled, and archive and EHR are told
      state: {patient: {family: DOE}}         # what the RIS knows at first (`broker.pipeline.recorded`)
      after: samples/adt_a04.hl7              # one or several that came before
      given: samples/orm_ct.hl7               # or {image: {...}, from: CT1}, {performed: {...}, uid: 1.2.3}, {event: ...}
      with: {OBR-4.1: MRKNEE}                 # fields that differ from the sample
      expect:
        answer: AA                            # or AE, AR; for a modality the DIMSE status, 0x0000
        error: {at: OBR-4.1, says: not in table procedures}
        dropped: test patient                 # a part of the reason; held: likewise
        state: {exam: {status: scheduled, modality: CT}}
        sent:                                 # all that is sent; `none` for nothing
          archive_hl7: [{MSH-9.1: OMI, IPC-1: present}]

What an expected value may be: `broker.pipeline.expect`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.model import Outgoing
from broker.pipeline import references
from broker.pipeline.expect import check_value, differs, sent_differs, text_of
from broker.pipeline.recorded import Recorded, read_recorded
from broker.pipeline.shape import Mistakes, check, did_you_mean
from broker.pipeline.subject import EVENTS
from broker.spec import Option, mapping_schema

EXPECT = (
    Option("answer", "text", "Answer to the sender: AA, AE, AR, or a DIMSE status such as 0x0000.", default=None, example="AA"),
    Option(
        "error",
        "mapping",
        "What the answer says is wrong.",
        default=None,
        options=(
            Option("at", "text", "The field, as ERR-2 or the DICOM keyword names it.", default=None, example="OBR-4.1"),
            Option("says", "text", "A part of the reason.", default=None, example="not in table procedures"),
        ),
    ),
    Option(
        "state", "mapping", "Records of the RIS afterwards: record, field, value.", default=None, example={"exam": {"status": "scheduled"}}
    ),
    Option("sent", "any", "By destination, all that is sent, each with the fields to look at; or `none`.", default=None),
    Option("dropped", "text", "A part of the reason for which a route dropped it on purpose.", default=None, example="test patient"),
    Option("held", "text", "A part of the reason for which an image is kept back.", default=None, example="no exam"),
    Option("message", "text", "State of the message in the journal.", default=None, example="parked"),
)
CASE = (
    Option("name", "text", "What is shown when it fails."),
    Option(
        "state",
        "mapping",
        "What the RIS knows at first: patient, order, exam, steps, report and charge, each with its fields.",
        default=None,
        example={"exam": {"accession": "A1", "status": "scheduled"}},
    ),
    Option("after", "any", "What came before, in this order.", default=None),
    Option("given", "any", "A sample file, what a modality sends, or an event of the RIS.", example="samples/orm_ct.hl7"),
    Option("with", "mapping", "Fields of the sample that are different.", default=None, example={"OBR-4.1": "NOSUCH"}),
    Option("expect", "mapping", "What must happen.", options=EXPECT),
)
_SENDINGS = ("image", "performed", "event")
_SENDING_KEYS = ("from", "uid", "set")


@dataclass(frozen=True, slots=True)
class Given:
    """One thing that arrives: the file of an HL7 message, the attributes of an image or MPPS by keyword, or an event of the RIS."""

    kind: str  # "hl7", "image", "performed", "event"
    file: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    sender: str = ""  # calling AE title
    uid: str = ""  # of the MPPS
    create: bool = True  # of the MPPS: N-CREATE, else N-SET
    event: str = ""
    raw: bytes = b""  # of a message that is in no file


@dataclass(frozen=True, slots=True)
class Case:
    """One case: given this, expect that."""

    name: str
    before: tuple[Given, ...]
    given: Given
    changes: Mapping[str, str]
    expect: Mapping[str, Any]
    state: Recorded | None = None
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Happened:
    """What became of the given message, as the runner saw it."""

    answer: str = ""  # MSA-1 or DIMSE status
    error_at: str = ""
    error_says: str = ""
    message: str = ""  # its state in the journal
    view: Mapping[str, Any] = field(default_factory=dict)  # ris.view of the last event, or of the exam
    sent: Sequence[Outgoing] = ()
    dropped: str = ""  # why it went no further
    held: str = ""
    channels: tuple[str, ...] = ()  # that it ran through


def read_cases(document: Any, mistakes: Mistakes, *, file: str = "", line: Any = None) -> tuple[Case, ...]:
    """Return the cases of a YAML document; what is wrong is added to `mistakes`. `line(place)` tells where a case stands."""
    if document is None:
        return ()
    if not isinstance(document, list):
        mistakes.add("a list of cases is needed here", "begin each with - name:")
        return ()
    cases = []
    for index, item in enumerate(document):
        place = mistakes.at(index)
        if check(mapping_schema(CASE), item, place):
            cases.append(_case(item, place, file, line((index,)) if line else 0))
    return tuple(cases)


def _case(item: Mapping[str, Any], mistakes: Mistakes, file: str, line: int) -> Case:
    after = item.get("after") or []
    before = [_given(one, mistakes.at("after")) for one in (after if isinstance(after, list) else [after])]
    given = _given(item["given"], mistakes.at("given"))
    for number, one in enumerate(before):
        if one.kind == "event":
            what = "an event of the RIS is no message that came before"
            mistakes.add(what, "write what has happened by then under state:", key=("after", number))
    if given.kind == "event" and not item.get("state"):
        mistakes.add("an event is about records of the RIS", "write them under state:", key=("given",))
    _check_expected(item["expect"], mistakes.at("expect"))
    changes = {path: text_of(value) for path, value in (item.get("with") or {}).items()}
    state = read_recorded(item["state"], mistakes.at("state")) if item.get("state") else None
    return Case(item["name"], tuple(before), given, changes, item["expect"], state, file, line)


def _given(value: Any, mistakes: Mistakes) -> Given:
    if isinstance(value, str):
        return Given("hl7", file=value)
    kinds = [key for key in value if key in _SENDINGS] if isinstance(value, Mapping) else []
    if len(kinds) != 1 or not isinstance(value[kinds[0]], str if kinds[0] == "event" else Mapping | str):
        mistakes.add(
            "neither a sample file nor what a modality sends nor an event",
            "write samples/orm_ct.hl7, {image: {PatientID: ...}, from: CT1} or {event: exam.scheduled}",
        )
        return Given("hl7")
    (kind,) = kinds
    for key in value:
        if key not in (kind, *_SENDING_KEYS):
            mistakes.add(f"unknown key {key}", did_you_mean(str(key), (*_SENDINGS, *_SENDING_KEYS)), key=(key,))
    if kind == "event" and value[kind] not in EVENTS:
        mistakes.add(f"there is no event {value[kind]}", did_you_mean(value[kind], EVENTS), key=(kind,))
    given = value[kind]
    attributes = {keyword: text_of(text) for keyword, text in given.items()} if isinstance(given, Mapping) else {}
    return Given(
        kind,
        file=given if isinstance(given, str) and kind != "event" else "",
        attributes=attributes,
        sender=text_of(value.get("from", "")),
        uid=text_of(value.get("uid", "")),
        create=value.get("set") is not True,
        event=given if kind == "event" else "",
    )


def _check_expected(expect: Mapping[str, Any], mistakes: Mistakes) -> None:
    for root, fields in (expect.get("state") or {}).items():
        if not isinstance(fields, Mapping):
            mistakes.add("record, field and value are needed here", "such as {exam: {status: scheduled}}", key=("state", root))
            continue
        for name in fields:
            if wrong := references.check(f"{root}.{name}"):
                mistakes.add(wrong, key=("state", root, name))
            check_value(fields[name], mistakes, "state", root, name)
    sent = expect.get("sent")
    if sent is not None and sent != "none" and not _is_sent(sent):
        mistakes.add(
            "destinations, each with a list of messages, are needed here", "such as {ehr: [{MSH-9.1: SIU}]}, or none", key=("sent",)
        )
    for destination, messages in sent.items() if isinstance(sent, Mapping) and _is_sent(sent) else ():
        for number, fields in enumerate(messages):
            for path, value in fields.items():
                check_value(value, mistakes, "sent", destination, number, path)


def _is_sent(sent: Any) -> bool:
    return isinstance(sent, Mapping) and all(isinstance(m, list) and all(isinstance(one, Mapping) for one in m) for m in sent.values())


def failures(case: Case, happened: Happened) -> list[str]:
    """Return how what happened differs from what was expected, one sentence each; empty when the case holds."""
    expect = case.expect
    found = []
    error = expect.get("error") or {}
    for name, wanted, actual in (("answer", expect.get("answer"), happened.answer), ("message", expect.get("message"), happened.message)):
        if wanted is not None and wanted != actual:
            found.append(f"{name}: expected {wanted}, was {actual or 'none'}" + (_because(happened) if name == "answer" else ""))
    if "at" in error and error["at"] != happened.error_at:
        found.append(f"error at: expected {error['at']}, was {happened.error_at or 'none'}")
    for name, wanted, actual in (
        ("error says", error.get("says"), happened.error_says),
        ("dropped", expect.get("dropped"), happened.dropped),
        ("held", expect.get("held"), happened.held),
    ):
        if wanted is not None and (wanted not in actual or not actual):
            found.append(f"{name}: expected {wanted!r}, was {actual or 'nothing'!r}")
    for root, fields in (expect.get("state") or {}).items():
        for name, wanted in fields.items():
            value = references.resolve(f"{root}.{name}", happened.view)
            found += differs(f"{root}.{name}", wanted, value if isinstance(value, str) else "~".join(value))
    if "sent" in expect and expect["sent"] is not None:
        found += sent_differs(expect["sent"], happened.sent)
    if found and happened.error_says and not found[0].startswith("answer"):
        found.append(f"it went wrong{_because(happened)}")
    return found


def _because(happened: Happened) -> str:
    return f" ({happened.error_at}: {happened.error_says})" if happened.error_says else ""
