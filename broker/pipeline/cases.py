"""Cases: what a route is given, and what is expected of it; read from YAML and compared with what happened.

    - name: a CT order is scheduled, and archive and EHR are told
      after: samples/adt_a04.hl7              # one or several that came before
      given: samples/orm_ct.hl7               # or {image: {...}, from: CT1} or {performed: {...}, uid: 1.2.3, from: CT1}
      with: {OBR-4.1: MRKNEE}                 # fields that differ from the sample
      expect:
        answer: AA                            # or AE, AR; for a modality the DIMSE status, 0x0000
        error: {at: OBR-4.1, says: not in table procedures}
        state: {exam: {status: scheduled, modality: CT}}
        sent:                                 # all that is sent; `none` for nothing
          archive_hl7: [{MSH-9.1: OMI, IPC-1: present}]

An expected value is a text, `present`, `absent`, or `{matches: a regular expression}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.dicom.storerequest import decode_request
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.model import Outgoing
from broker.pipeline import references
from broker.pipeline.shape import Mistakes, check, did_you_mean
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
    Option("message", "text", "State of the message in the journal.", default=None, example="parked"),
)
CASE = (
    Option("name", "text", "What is shown when it fails."),
    Option("after", "any", "What came before, in this order.", default=None),
    Option("given", "any", "A sample file, or what a modality sends."),
    Option("with", "mapping", "Fields of the sample that are different.", default=None, example={"OBR-4.1": "NOSUCH"}),
    Option("expect", "mapping", "What must happen.", options=EXPECT),
)
_SENDINGS = ("image", "performed")
_SENDING_KEYS = ("from", "uid", "set")


@dataclass(frozen=True, slots=True)
class Given:
    """One thing that arrives: the file of an HL7 message, or the attributes of an image or MPPS by keyword."""

    kind: str  # "hl7", "image", "performed"
    file: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    sender: str = ""  # calling AE title
    uid: str = ""  # of the MPPS
    create: bool = True  # of the MPPS: N-CREATE, else N-SET


@dataclass(frozen=True, slots=True)
class Case:
    """One case: given this, expect that."""

    name: str
    before: tuple[Given, ...]
    given: Given
    changes: Mapping[str, str]
    expect: Mapping[str, Any]
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
    _check_expected(item["expect"], mistakes.at("expect"))
    changes = {path: _text(value) for path, value in (item.get("with") or {}).items()}
    return Case(item["name"], tuple(before), _given(item["given"], mistakes.at("given")), changes, item["expect"], file, line)


def _given(value: Any, mistakes: Mistakes) -> Given:
    if isinstance(value, str):
        return Given("hl7", file=value)
    kinds = [key for key in value if key in _SENDINGS] if isinstance(value, Mapping) else []
    if len(kinds) != 1 or not isinstance(value[kinds[0]], Mapping):
        mistakes.add("neither a sample file nor what a modality sends", "write samples/orm_ct.hl7, or {image: {PatientID: ...}, from: CT1}")
        return Given("hl7")
    for key in value:
        if key not in (*kinds, *_SENDING_KEYS):
            mistakes.add(f"unknown key {key}", did_you_mean(str(key), (*_SENDINGS, *_SENDING_KEYS)), key=(key,))
    attributes = {keyword: _text(text) for keyword, text in value[kinds[0]].items()}
    return Given(kinds[0], "", attributes, _text(value.get("from", "")), _text(value.get("uid", "")), value.get("set") is not True)


def _check_expected(expect: Mapping[str, Any], mistakes: Mistakes) -> None:
    for root, fields in (expect.get("state") or {}).items():
        if not isinstance(fields, Mapping):
            mistakes.add("record, field and value are needed here", "such as {exam: {status: scheduled}}", key=("state", root))
            continue
        for name in fields:
            if wrong := references.check(f"{root}.{name}"):
                mistakes.add(wrong, key=("state", root, name))
    sent = expect.get("sent")
    if sent is not None and sent != "none" and not _is_sent(sent):
        mistakes.add(
            "destinations, each with a list of messages, are needed here", "such as {ehr: [{MSH-9.1: SIU}]}, or none", key=("sent",)
        )


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
    if "says" in error and error["says"] not in happened.error_says:
        found.append(f"error says: expected {error['says']!r}, was {happened.error_says or 'nothing'!r}")
    for root, fields in (expect.get("state") or {}).items():
        for name, wanted in fields.items():
            value = references.resolve(f"{root}.{name}", happened.view)
            actual = value if isinstance(value, str) else "~".join(value)
            found += _differs(f"{root}.{name}", wanted, actual)
    if "sent" in expect and expect["sent"] is not None:
        found += _sent(expect["sent"], happened.sent)
    return found


def _because(happened: Happened) -> str:
    return f" ({happened.error_at}: {happened.error_says})" if happened.error_says else ""


def _sent(expected: Any, sent: Sequence[Outgoing]) -> list[str]:
    wanted: Mapping[str, list[Mapping[str, Any]]] = {} if expected == "none" else expected
    by_destination: dict[str, list[Outgoing]] = {}
    for one in sent:
        by_destination.setdefault(one.destination, []).append(one)
    found = []
    for destination in dict.fromkeys((*wanted, *by_destination)):
        messages, own = wanted.get(destination, []), by_destination.get(destination, [])
        if len(messages) != len(own):
            kinds = ", ".join(one.kind for one in own) or "nothing"
            found.append(f"sent to {destination}: expected {len(messages) or 'nothing'}, was {kinds}")
            continue
        for number, (fields, one) in enumerate(zip(messages, own, strict=True), 1):
            for path, value in fields.items():
                found += _differs(f"sent to {destination}, message {number} ({one.kind}), {path}", value, _read(one, path))
    return found


def _read(outgoing: Outgoing, path: str) -> str:
    if outgoing.kind == "C-STORE":
        return decode_request(outgoing.payload).changes.get(path, "")
    try:
        return Message.parse(outgoing.payload).get(path)
    except (MessageError, ValueError) as error:
        return f"unreadable: {error}"


def _differs(what: str, wanted: Any, actual: str) -> list[str]:
    if isinstance(wanted, Mapping):
        pattern = str(wanted.get("matches", ""))
        return [] if re.search(pattern, actual) else [f"{what}: expected to match {pattern}, was {actual or 'absent'}"]
    if wanted == "present":
        return [] if actual else [f"{what}: expected to be present, was absent"]
    if wanted == "absent":
        return [f"{what}: expected to be absent, was {actual}"] if actual else []
    return [] if _text(wanted) == actual else [f"{what}: expected {_text(wanted) or 'nothing'}, was {actual or 'absent'}"]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
