"""HL7 paths: `SEG[n]-F[n].C.S`, numbered from 1 as the standard does, `*` for all; `ORC[2]>OBR-4` looks inside a group of segments.

    path    = {segment ">"} segment ["-" field ["." component ["." subcomponent]]]
    segment = name ["[" (number | "*") "]"]
    field   = number ["[" (number | "*") "]"]

A group begins with a segment of the name left of `>` and ends where `broker.hl7.groups` says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

ALL = -1

_SEGMENT = r"[A-Z][A-Z0-9]{2}(?:\[(?:\d{1,6}|\*)\])?"
_SYNTAX = re.compile(
    rf"(?P<groups>(?:{_SEGMENT}>){{0,4}})"
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<number>\d{1,6}|\*)\])?"
    r"(?:-(?P<field>\d{1,3})(?:\[(?P<repetition>\d{1,6}|\*)\])?(?:\.(?P<component>\d{1,3})(?:\.(?P<subcomponent>\d{1,3}))?)?)?",
    re.ASCII,
)
HEADERS = frozenset({"MSH", "FHS", "BHS"})  # their first field is the separator itself

Step = tuple[str, int]  # name of a segment and its number, or ALL


@dataclass(frozen=True, slots=True)
class Path:
    """Where something stands in a message; a part that was not written is 0."""

    segment: str
    number: int = 1  # of the segment among those of its name, in the innermost group; or ALL
    field: int = 0  # 0: the whole segment
    repetition: int = 0  # 0: the whole field, or the first repetition when a component is named; or ALL
    component: int = 0
    subcomponent: int = 0
    groups: tuple[Step, ...] = ()  # the groups that it stands in, the outermost first
    # what follows from these
    at: int = 0  # where the field is in a segment that was split at the field separator
    key: bytes = b""  # the segment's name as it stands in a message
    first: bool = True  # whether the first segment of that name in the message is the first match
    inner: bool = False  # whether it names a part of a field
    many: bool = False  # whether it may have several matches
    writable: bool = False  # whether it names a field that is not a delimiter

    @property
    def steps(self) -> tuple[Step, ...]:
        """The groups and the segment."""
        return (*self.groups, (self.segment, self.number))

    def in_steps(self, steps: tuple[Step, ...]) -> Path:
        """Return the same place of a field in another segment."""
        *groups, (segment, number) = steps
        return _path(segment, number, self.field, self.repetition, self.component, self.subcomponent, tuple(groups))

    def __str__(self) -> str:
        text = ">".join(name + (f"[{_shown(number)}]" if number != 1 else "") for name, number in self.steps)
        if self.field:
            text += f"-{self.field}" + (f"[{_shown(self.repetition)}]" if self.repetition else "")
        return text + "".join(f".{part}" for part in (self.component, self.subcomponent) if part)


@lru_cache(maxsize=8192)
def parse(text: str) -> Path:
    """Return the path that `text` writes; raises ValueError."""
    match = _SYNTAX.fullmatch(text)
    if not match:
        raise ValueError(f"not an HL7 path: {text!r}; write for example PID-3.1, OBX[2]-5, PID-3[*].4.2 or ORC[2]>OBR-4")
    part = match.groupdict()
    field, repetition, component, subcomponent = (
        _number(part[name], text) for name in ("field", "repetition", "component", "subcomponent")
    )
    groups = tuple(_step(one, text) for one in part["groups"].split(">")[:-1])
    return _path(part["segment"], _number(part["number"], text) or 1, field, repetition, component, subcomponent, groups)


def _path(segment: str, number: int, field: int, repetition: int, component: int, subcomponent: int, groups: tuple[Step, ...]) -> Path:
    return Path(
        segment,
        number,
        field,
        repetition,
        component,
        subcomponent,
        groups,
        at=field - 1 if segment in HEADERS and field else field,
        key=segment.encode(),
        first=number in (1, ALL) and not groups,
        inner=bool(repetition or component),
        many=ALL in (number, repetition, *(n for _, n in groups)),
        writable=field > (2 if segment in HEADERS else 0),
    )


def _step(text: str, path: str) -> Step:
    name, _, number = text.rstrip("]").partition("[")
    return name, _number(number or None, path) or 1


def _number(text: str | None, path: str) -> int:
    if text is None:
        return 0
    if text == "*":
        return ALL
    if int(text) == 0:
        raise ValueError(f"not an HL7 path: {path!r}; numbers begin at 1")
    return int(text)


def _shown(number: int) -> str:
    return "*" if number == ALL else str(number)
