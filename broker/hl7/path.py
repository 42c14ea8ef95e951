"""HL7 paths: `SEG[n]-F[n].C.S`, numbered from 1 as the standard does, `*` for all."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

ALL = -1

_SYNTAX = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<number>\d{1,6}|\*)\])?"
    r"(?:-(?P<field>\d{1,3})(?:\[(?P<repetition>\d{1,6}|\*)\])?(?:\.(?P<component>\d{1,3})(?:\.(?P<subcomponent>\d{1,3}))?)?)?",
    re.ASCII,
)
_HEADERS = frozenset({"MSH", "FHS", "BHS"})  # their first field is the separator itself


class Path(NamedTuple):
    """Where something stands in a message; a part that was not written is 0."""

    segment: str
    number: int  # of the segment among those of its name, 1 unless written, or ALL
    field: int  # 0: the whole segment
    repetition: int  # 0: the whole field, or the first repetition when a component is named; or ALL
    component: int
    subcomponent: int
    at: int  # where the field is in a segment that was split at the field separator

    @property
    def composite(self) -> bool:
        """Whether the place may hold parts of its own."""
        return not self.subcomponent

    def __str__(self) -> str:
        text = self.segment + (f"[{_shown(self.number)}]" if self.number != 1 else "")
        if self.field:
            text += f"-{self.field}" + (f"[{_shown(self.repetition)}]" if self.repetition else "")
        return text + "".join(f".{part}" for part in (self.component, self.subcomponent) if part)


@lru_cache(maxsize=8192)
def parse(text: str) -> Path:
    """Return the path that `text` writes; raises ValueError."""
    match = _SYNTAX.fullmatch(text)
    if not match:
        raise ValueError(f"not an HL7 path: {text!r}; write for example PID-3.1, OBX[2]-5 or PID-3[*].4.2")
    part = match.groupdict()
    numbers = {name: _number(part[name], text) for name in ("number", "field", "repetition", "component", "subcomponent")}
    field = numbers["field"]
    return Path(
        part["segment"],
        numbers["number"] or 1,
        field,
        numbers["repetition"],
        numbers["component"],
        numbers["subcomponent"],
        field - 1 if part["segment"] in _HEADERS and field else field,
    )


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
