"""Which segments belong together: where a group ends, and the segments that a path's steps lead to.

A group begins with any segment that a path names left of `>`. It ends before the next segment of that name, before any segment
of `LEVELS` on the same level or further out, and with the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.hl7.path import ALL, Step

# the segments that others belong to, from the outermost level in: patient, order or resource, what is done, specimen, observation
LEVELS: Mapping[bytes, int] = {
    name: level
    for level, names in enumerate((b"FHS BHS MSH", b"PID", b"ORC RGS", b"OBR AIS AIG AIL AIP", b"", b"SPM", b"OBX"))
    for name in names.split()
}
_OTHER = 4  # a segment that is not in the table ends no group but its own, and may hold specimens and observations

Span = tuple[int, int]  # first line, and the line after the last


def lines(names: Sequence[bytes], steps: Sequence[Step]) -> list[int]:
    """Return the lines of the segments that the steps lead to; `names` are those of all lines."""
    *groups, (name, number) = steps
    return [at for span in spans(names, groups) for at in within(names, span, name, number)]


def within(names: Sequence[bytes], span: Span, name: str, number: int) -> list[int]:
    """Return the lines of a group with the segment of that name and number, or of all of that name."""
    key = name.encode()
    found = [at for at in range(*span) if names[at] == key]
    return found if number == ALL else found[number - 1 : number]


def spans(names: Sequence[bytes], groups: Sequence[Step]) -> list[Span]:
    """Return the lines of each group that these steps lead to; without a step, of the whole message."""
    found: list[Span] = [(0, len(names))]
    for name, number in groups:
        found = [(at, _end(names, name.encode(), at, end)) for start, end in found for at in within(names, (start, end), name, number)]
    return found


def _end(names: Sequence[bytes], key: bytes, start: int, end: int) -> int:
    level = LEVELS.get(key, _OTHER)
    return next((at for at in range(start + 1, end) if names[at] == key or LEVELS.get(names[at], level + 1) <= level), end)
