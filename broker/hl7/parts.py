"""A message taken apart at its segments or groups, and put together again from what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from broker.errors import MessageError
from broker.hl7 import groups
from broker.hl7.groups import LEVELS, Span
from broker.hl7.message import Message
from broker.hl7.path import ALL, parse
from broker.hl7.view import Line


class Parts:
    """One message for each segment of a name, or for each group that begins with one: the segments it belongs to, and its own.

    Whose observation an OBX is, and whose order an OBR, follows from `broker.hl7.groups.LEVELS`; other segments belong to the
    group they stand in.
    """

    __slots__ = ("_group", "_heads", "_message", "_name", "_spans")

    def __init__(self, message: Message, name: str, *, group: bool) -> None:
        names = message._index()
        self._message, self._name, self._group = message, name, group
        if group:
            self._spans = [_trimmed(names, span) for span in groups.spans(names, [(name, ALL)])]
        else:
            self._spans = [(at, at + 1) for at in groups.lines(names, [(name, ALL)])]
        self._heads = list(_heads(names, name.encode(), [start for start, _ in self._spans]))

    def __len__(self) -> int:
        return len(self._spans)

    def __iter__(self) -> Iterator[Message]:
        """Yield the parts; they may be changed without changing the message."""
        m = self._message
        names = m._index()
        for head, (start, end) in zip(self._heads, self._spans, strict=True):
            kept = [*head, *range(start, end)]
            ends = [m._ends[i] for i in kept] if isinstance(m._ends, list) else m._ends
            part = Message(m._prefix, [m._lines[i] for i in kept], ends, m._delimiters, m._coder, m._fallback)
            part._fields = {at: m._fields[i] for at, i in enumerate(kept) if i in m._fields}
            part._restructured([names[i] for i in kept])
            yield part

    def put(self, parts: Sequence[Message | None]) -> None:
        """Put into the message what became of each part, None for one that goes away.

        Raises MessageError when a part was changed outside of its own segments.
        """
        m = self._message
        old = m._ends if isinstance(m._ends, list) else []
        lines: list[Line] = []
        ends: list[bytes] = []
        at = 0
        for (start, end), head, part in zip(self._spans, self._heads, parts, strict=True):
            lines += m._lines[at:start]
            ends += old[at:start]
            at = end
            if part is not None:
                self._check(head, part)
                own = part._lines[len(head) :]
                lines += own
                ends += part._ends[len(head) :] if isinstance(part._ends, list) else [part._ends] * len(own)
        m._lines = [*lines, *m._lines[at:]]
        if old:
            m._ends = [*ends, *old[at:]]
        m._fields = {i: line for i, line in enumerate(m._lines) if isinstance(line, list)}
        m._names = []
        m._restructured(m._index())

    def whole(self, path: str, number: int) -> str:
        """Return where a path of the part with this index, from 0, stands in the message."""
        try:
            place = parse(path)
        except ValueError:
            return path  # no place in a message
        part = next(part for at, part in enumerate(self) if at == number)
        chosen = part._chosen(place)
        if not chosen:
            return f"{self._name}[{number + 1}]>{path}" if self._group and not place.groups else path
        head = self._heads[number]
        line = head[chosen[0]] if chosen[0] < len(head) else self._spans[number][0] + chosen[0] - len(head)
        return str(place.in_steps(((place.segment, self._message._number(line)),)))

    def _check(self, head: Sequence[int], part: Message) -> None:
        m = self._message
        for at, i in enumerate(head):
            if at >= len(part._lines) or (part._lines[at] is not m._lines[i] and part._bytes(at) != m._bytes(i)):
                what = f"one group {self._name}" if self._group else f"one {self._name}"
                raise MessageError(m._index()[i].decode("latin-1"), f"changed by a step that may only change {what}", 207)


def _trimmed(names: Sequence[bytes], span: Span) -> Span:
    """Return the span without the empty lines at its end."""
    start, end = span
    while end > start + 1 and not names[end - 1]:
        end -= 1
    return start, end


def _heads(names: Sequence[bytes], key: bytes, starts: Sequence[int]) -> Iterator[list[int]]:
    """Yield for each part the lines that it belongs to."""
    wanted = set(starts)
    open_groups: list[tuple[int, list[int]]] = [(-1, [])]
    for at, name in enumerate(names):
        level = LEVELS.get(name)
        while level is not None and open_groups[-1][0] >= level:
            open_groups.pop()
        if at in wanted:
            yield [i for _, lines in open_groups for i in lines if names[i] != key]
        if level is not None:
            open_groups.append((level, [at]))
        elif name:
            open_groups[-1][1].append(at)
