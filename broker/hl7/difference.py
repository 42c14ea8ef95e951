"""What differs between two versions of a message, field by field, down to the component."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import zip_longest

from broker.hl7.delimiters import STANDARD
from broker.hl7.message import Message
from broker.hl7.path import HEADERS
from broker.model import Change

Line = tuple[str, int, list[str]]  # segment name, its number among those of that name, fields in the standard delimiters

_MOST_ALIGNED = 2_000  # segments; longer messages are compared place by place, for aligning costs more than they are long


def difference(before: Message, after: Message) -> list[Change]:
    """Return every change, in the order of the message as it became; the number in a path counts there, of what is gone as it was.

    Values are plain text; a field or segment that is new or gone as a whole stands as a composite, in the standard delimiters.
    """
    if before.encode() == after.encode():
        return []
    return list(_changes(_lines(before), _lines(after)))


def _lines(message: Message) -> list[Line]:
    counts: dict[str, int] = {}
    found = []
    for name in message.segment_names():
        number = counts[name] = counts.get(name, 0) + 1
        found.append((name, number, _fields(message, f"{name}[{number}]") if _is_name(name) else [name]))
    return found


def _fields(message: Message, segment: str) -> list[str]:
    """Return the name of a segment and its fields, in the standard delimiters."""
    separators = message.header()[1]
    if not separators.foreign:
        return message.raw(segment).split("|")
    first = 2 if segment[:3] in HEADERS else 1
    most = message.encode().count(separators.field.encode())
    fields = [segment[:3], *(message.raw(f"{segment}-{number}") for number in range(first, most + 2))]
    while not fields[-1]:
        fields.pop()
    return fields


def _is_name(name: str) -> bool:
    return len(name) == 3 and name.isascii() and name.isalnum() and name[0].isupper() and name == name.upper()


def _changes(before: list[Line], after: list[Line]) -> Iterator[Change]:
    gone: list[Line] = []
    new: list[Line] = []
    for low, high, start, end in _different(before, after):
        left, pairs = before[low:high], _pairs(before[low:high], after[start:end])
        yield from (change for old, line in pairs if old for change in _segment(old, line))
        used = {id(old) for old, _ in pairs}
        gone += [line for line in left if id(line) not in used]
        new += [line for old, line in pairs if old is None]
    elsewhere: dict[str, list[Line]] = {}
    for line in gone:
        elsewhere.setdefault("|".join(line[2]), []).append(line)
    moved = set()
    for line in new:
        text = "|".join(line[2])
        if found := elsewhere.get(text):
            moved.add(id(found.pop()))
            yield Change(_place(line), text, text, "moved")
        else:
            yield Change(_place(line), "", text, "added")
    yield from (Change(_place(line), "|".join(line[2]), "", "removed") for line in gone if id(line) not in moved)


def _pairs(left: list[Line], right: list[Line]) -> list[tuple[Line | None, Line]]:
    """Return for each segment what it was: one of the same name and set ID, else the next one of its name; None for a new one."""
    exact: dict[tuple[str, ...], deque[Line]] = {}
    for line in left:
        exact.setdefault((line[0], *line[2][1:2]), deque()).append(line)
    found = {id(line): same.popleft() for line in right if (same := exact.get((line[0], *line[2][1:2])))}
    used = {id(line) for line in found.values()}
    others: dict[str, deque[Line]] = {}
    for line in left:
        if id(line) not in used:
            others.setdefault(line[0], deque()).append(line)
    return [(found.get(id(line)) or (others[line[0]].popleft() if others.get(line[0]) else None), line) for line in right]


def _different(before: list[Line], after: list[Line]) -> Iterator[tuple[int, int, int, int]]:
    """Yield the runs of lines that differ, of both sides."""
    if len(before) + len(after) > _MOST_ALIGNED:
        yield 0, len(before), 0, len(after)
        return
    old, new = (["|".join(line[2]) for line in side] for side in (before, after))
    for tag, low, high, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            yield low, high, start, end


def _place(line: Line) -> str:
    name, number, _ = line
    return name if number == 1 else f"{name}[{number}]"


def _segment(old: Line, new: Line) -> Iterator[Change]:
    first = 1 if new[0] in HEADERS else 0
    for at, (one, other) in enumerate(zip_longest(old[2], new[2], fillvalue=""), 0):
        if at and one != other:
            yield from _field(f"{_place(new)}-{at + first}", one, other, whole=first == at == 1)


def _field(path: str, one: str, other: str, *, whole: bool) -> Iterator[Change]:
    if whole or not one or not other:
        yield _change(path, one, other)
        return
    repeated = "~" in one or "~" in other
    for number, (left, right) in enumerate(zip_longest(one.split("~"), other.split("~"), fillvalue=""), 1):
        if left == right:
            continue
        repetition = f"{path}[{number}]" if repeated else path
        if left and right:
            inner = "^" in left + right or "&" in left + right
            yield from _parts(path if number == 1 and inner else repetition, left, right, "^&")
        else:
            yield _change(repetition, left, right)


def _parts(path: str, one: str, other: str, delimiters: str) -> Iterator[Change]:
    """Yield what differs among components, and in these among subcomponents."""
    if not delimiters or not one or not other:
        yield _change(path, one, other)
        return
    delimiter, inner = delimiters[0], delimiters[1:]
    if delimiter not in one + other:
        if inner and inner in one + other:
            yield from _parts(f"{path}.1", one, other, inner)
        else:
            yield _change(path, one, other)
        return
    for number, (left, right) in enumerate(zip_longest(one.split(delimiter), other.split(delimiter), fillvalue=""), 1):
        if left != right:
            yield from _parts(f"{path}.{number}", left, right, inner)


def _change(path: str, one: str, other: str) -> Change:
    return Change.between(path, _plain(one), _plain(other))


def _plain(text: str) -> str:
    """Return a part without parts of its own as plain text, a composite as it stands."""
    return text if any(c in text for c in "^&~") else STANDARD.unescaped(text, lambda raw: raw.decode("latin-1"))
