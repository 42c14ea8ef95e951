"""What a route looks at and changes: an HL7 message, a DICOM header or a RIS event, all read by paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from broker.hl7 import path as hl7_path
from broker.model import Protocol as ProtocolName
from broker.pipeline import references
from broker.pipeline.header import check_keyword, check_written


class Subject(Protocol):
    """Something that answers to paths."""

    def get(self, path: str) -> str:
        """Return the text of the first match, "" when there is none."""

    def all(self, path: str) -> list[str]:
        """Return the text of every match."""

    def exists(self, path: str) -> bool:
        """Return whether there is a match that is not empty."""


class EventSubject:
    """A RIS event with the view of the records it concerns; read only."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self._scope = scope

    def get(self, path: str) -> str:
        value = references.resolve(path, self._scope)
        return value if isinstance(value, str) else (value[0] if value else "")

    def all(self, path: str) -> list[str]:
        value = references.resolve(path, self._scope)
        return list(value) if isinstance(value, tuple) else [value]

    def exists(self, path: str) -> bool:
        return bool(references.resolve(path, self._scope))


_OTHERWISE_WRITTEN = re.compile(r"([A-Za-z][A-Za-z0-9]{2})[-. ]?(\d+)(?:[\[(](\d+|\*)[\])])?(?:[-.](\d+))?(?:[-.](\d+))?")


def _check_hl7(path: str) -> str:
    try:
        hl7_path.parse(path)
    except ValueError as error:
        return str(error).partition(";")[0] + f"; did you mean {meant}?" if (meant := _meant(path)) else str(error)
    return ""


def _meant(path: str) -> str:
    """Return the HL7 path that somebody meant who wrote it as other tools do: PID.5.1, PID-5-1, pid-5.1, PID-3(2).1."""
    match = _OTHERWISE_WRITTEN.fullmatch(path)
    if match is None:
        return ""
    segment, field, repetition, *parts = match.groups()
    meant = f"{segment.upper()}-{field}" + (f"[{repetition}]" if repetition else "") + "".join(f".{part}" for part in parts if part)
    try:
        hl7_path.parse(meant)
    except ValueError:
        return ""
    return meant


def _check_event(path: str) -> str:
    return references.check(path)


EVENTS = frozenset(
    f"{record}.{what}"
    for record, happenings in {
        "patient": "created updated merged",
        "order": "placed cancelled changed held released",
        "exam": "scheduled arrived changed cancelled started completed discontinued reopened replaced",
        "study": "stored complete more incomplete delivered available unavailable moved",
        "dose": "recorded",
        "report": "preliminary final corrected cancelled",
        "charge": "posted",
        "unmatched": "listed resolved",
    }.items()
    for what in happenings.split()
)

# paths with a closed set of values: a condition that names another one is a mistake
VALUES: dict[ProtocolName, dict[str, frozenset[str]]] = {
    "hl7": {},
    "dicom": {"kind": frozenset(("C-STORE", "N-CREATE", "N-SET"))},
    "ris": {"event": EVENTS},
}

_CHECKS: dict[ProtocolName, Callable[[str], str]] = {"hl7": _check_hl7, "dicom": check_keyword, "ris": _check_event}


def check_target(protocol: ProtocolName, path: str) -> str:
    """Return what is wrong with a path of this protocol as a place to write to, "" when nothing is."""
    if protocol == "dicom":
        return check_written(path)
    if wrong := check_path(protocol, path):
        return wrong
    place = hl7_path.parse(path)
    if not place.field or (place.segment == "MSH" and place.field <= 2):
        return f"{path} cannot be written; name a field, such as PID-3.1"
    return ""


def check_removal(protocol: ProtocolName, path: str) -> str:
    """Return what is wrong with a path of this protocol as something to remove, "" when nothing is."""
    if protocol == "dicom":
        return check_written(path, removal=True)
    wrong = check_target(protocol, path)
    if wrong and protocol == "hl7" and not check_path(protocol, path) and not hl7_path.parse(path).field:
        return "" if hl7_path.parse(path).segment != "MSH" else "a message without MSH is none"
    return wrong


def check_path(protocol: ProtocolName, path: str) -> str:
    """Return what is wrong with a path of this protocol, "" when nothing is."""
    return _CHECKS[protocol](path)
