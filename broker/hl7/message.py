"""The HL7 v2 message: lazy and loss-free. A segment is split when it is touched; what is not set leaves byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from broker.errors import MessageError
from broker.hl7 import charset as charsets
from broker.hl7 import groups
from broker.hl7.coder import Coder, Doubt, ShiftedCoder, coder, declared
from broker.hl7.delimiters import STANDARD_ENCODING, Delimiters, delimiters
from broker.hl7.lines import cut
from broker.hl7.path import ALL, Path, Step, parse
from broker.hl7.recode import Unencodable, recode
from broker.hl7.view import View, firsts

_START = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*(?=MSH)")
_MSH_18 = parse("MSH-18")
_MSH_18_MOST = 200  # characters that are looked at


class Message(View):
    """One HL7 v2 message.

    Paths are `SEG[n]-F[n].C.S`, and `ORC[2]>OBR-4` inside a group (see `broker.hl7.path`). A path that names a field means all of
    it; one that names a component without a repetition means the first repetition. Text is Unicode without escapes, except in
    `raw` and `set_raw`.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, raw: bytes, charset: str | None = None, fallback: str = charsets.FALLBACK) -> Message:
        """Return the message in `raw`; `charset` counts where MSH-18 names none, `fallback` reads bytes that do not decode.

        Raises MessageError with `reject` when it is not HL7, and ValueError for a character set or fallback that is not known.
        """
        prefix, whole = b"", raw
        if raw[:3] != b"MSH":
            start = _START.match(raw)
            if not start:
                raise MessageError("MSH", "the message does not begin with MSH", 100, reject=True)
            prefix, raw = start[0], raw[start.end() :]
        separator = raw[3:4]
        if not separator.isascii() or separator.isalnum() or separator <= b" ":
            raise MessageError("MSH-1", "no field separator follows MSH", 101, reject=True)
        lines, ends = cut(raw, separator)
        header = bytes(lines[0])
        fields = header.decode("latin-1").split(separator.decode())
        if len(fields) < 9:
            raise MessageError("MSH-9", "the header ends before the message type", 101, reject=True)
        d = _delimiters(separator.decode(), fields[1])
        if d is None:
            raise MessageError("MSH-2", "not encoding characters", 102, reject=True)
        plain = header.isascii()
        reader, doubt = _declared(fields, d, plain, charset, fallback)
        message = cls(prefix, [*lines], ends, d, reader, fallback)
        message._raw = whole
        message._unknown = doubt
        if plain and not isinstance(reader, ShiftedCoder):
            message._fields[0] = fields
        return message

    @classmethod
    def new(cls, type: str, version: str = "2.5.1", charset: str = charsets.DEFAULT) -> Message:
        """Return a message that is only MSH: its delimiters, type ("ADT^A04^ADT_A01"), processing ID P, version and character set."""
        return cls.parse(f"MSH|{STANDARD_ENCODING}|||||||{type}||P|{version}||||||{charset}\r".encode())

    def clone(self) -> Message:
        """Return a message that can be changed without changing this one."""
        copy = Message(self._prefix, self._lines.copy(), self._ends, self._delimiters, self._coder, self._fallback)
        copy._raw, copy._unknown, copy._fields = self._raw, self._unknown, self._fields.copy()
        copy._names, copy._firsts, copy._places = self._names, self._firsts, self._places
        return copy

    # -- fields

    def set(self, path: str, value: str) -> None:
        """Set plain text, with escapes as needed, creating what is missing; "" empties and creates nothing.

        Setting MSH-18 writes the whole message in that character set. Raises MessageError for a character that the message's
        character set does not have, ValueError for MSH-1 and MSH-2.
        """
        if path == "MSH-18":
            self._declare(value)
        else:
            self._write(parse(path), self._stored(path, self._delimiters.escaped(value)))

    def set_raw(self, path: str, composite: str) -> None:
        r"""Set a composite that is written in the standard delimiters `^~\&`, escapes included; otherwise as `set`."""
        self._write(parse(path), self._stored(path, self._delimiters.from_standard(composite)))

    def copy(self, source: str, target: str) -> None:
        """Copy the first match of `source`, byte for byte, or each to its own where both paths begin with the same `[*]`.

        What is absent empties the target. Raises ValueError when the source has parts that do not fit into `target`.
        """
        for origin, place in self._paired(parse(source), parse(target)):
            self._write(place, self._fitting(origin, place))

    def move(self, source: str, target: str) -> None:
        """Copy, and remove the source; otherwise as `copy`."""
        for origin, place in self._paired(parse(source), parse(target)):
            text = self._fitting(origin, place)
            if origin.steps == place.steps and origin.field == place.field:
                self._remove(origin)  # first, for one may be a part of the other
                self._write(place, text)
            else:
                self._write(place, text)
                self._remove(origin)

    def remove(self, path: str) -> None:
        """Empty what is there; a repetition goes away altogether, and so does a segment when no field is named."""
        self._remove(parse(path))

    # -- segments

    def add(self, path: str, *, before: str = "", after: str = "") -> int:
        """Add an empty segment and return its number among those of its name in the message.

        It stands at the end of the message, or of the group that the path names, or `before` or `after` another segment.
        Raises MessageError when that segment or group is missing.
        """
        place = parse(path)
        if place.field or place.number != 1 or place.key == b"MSH" or (place.groups and (before or after)):
            raise ValueError(f"{path} cannot be added; name a segment, such as NTE or ORC[2]>NTE")
        names, anchor = self._index(), before or after
        if anchor:
            found = [at if before else at + 1 for at in self._chosen(parse(anchor))]
        else:
            found = [end for _, end in groups.spans(names, place.groups)]
        if not found:
            raise MessageError(anchor or path.rpartition(">")[0], "the segment is missing", 100)
        if found[0] == 0:
            raise ValueError("no segment stands before MSH")
        for at in reversed(found if place.many else found[:1]):
            line = self._insert(at, place.segment, 1)
        return self._number(line)

    # -- character sets

    def recoded(self, charset: str, policy: str = "refuse") -> Message:
        r"""Return the message in another character set (table 0211), named in MSH-18; this one when there is nothing to do.

        policy: what happens to a character that the set does not have: `refuse` raises MessageError with the first field that
        has one; `transliterate` writes the nearest, and refuses where there is none; `escape` writes `\X..\` with its UTF-8 bytes.
        Raises ValueError for a set that is not known.
        """
        target = coder(charset, self._fallback)
        if self._coder is target and self._unit(_MSH_18) == target.names and not self.charset_doubt:
            return self
        copy = self.clone()
        copy._recode(target, policy)
        copy._unknown = ""
        copy._write(_MSH_18, self._delimiters.from_standard(target.names))
        return copy

    # -- inside

    def _declare(self, value: str) -> None:
        target, doubt = declared(value, self._coder.names, self._fallback)
        if target is not self._coder:
            self._recode(target, "refuse")
        self._unknown = doubt
        self._write(_MSH_18, self._delimiters.from_standard(value))

    def _recode(self, target: Coder, policy: str) -> None:
        """Write every field for another coder; raises MessageError before anything is changed."""
        changed: dict[int, list[str]] = {}
        for i in range(len(self._lines)):
            line = self._bytes(i)
            if not line.isascii() or b"\x1b" in line or b"\\M" in line or b"\\C" in line:
                changed[i] = self._recoded_fields(i, target, policy)
        for i, fields in changed.items():
            self._put(i, fields)
        self._coder = target
        self._fields = {i: fields for i, fields in self._fields.items() if i in changed or isinstance(self._lines[i], list)}

    def _recoded_fields(self, i: int, target: Coder, policy: str) -> list[str]:
        fields = []
        for at, field in enumerate(self._split(i)):
            try:
                fields.append(recode(field, self._coder, target, self._delimiters, policy))
            except Unencodable:
                name = self._split(i)[0]
                place = parse(f"{name}[{self._number(i)}]-{at + (name == 'MSH')}")
                raise MessageError(str(place), f"a character that {target.names} does not have", 102) from None
        return fields

    def _stored(self, path: str, text: str) -> str:
        if text.isascii():
            return text
        try:
            return self._coder.write(text)
        except UnicodeEncodeError as error:
            raise MessageError(path, f"a character that {self._coder.names} does not have", 102) from error

    def _fitting(self, source: Path, target: Path) -> str:
        """Return what stands at `source`, as it is stored."""
        if not source.writable:
            raise ValueError(f"{source} cannot be copied; name a field, such as PID-3.1")
        text, d = self._unit(source), self._delimiters
        inside = (d.repetition if target.inner else "") + (d.component if target.component else "")
        if any(c in text for c in inside + (d.subcomponent if target.subcomponent else "")):
            raise ValueError(f"{source} has parts that do not fit into {target}")
        return text

    def _paired(self, source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
        """Yield source and target, one pair for each segment when a `[*]` that both begin with runs over them."""
        if not (source.many and target.many):
            yield source, target
            return
        shared = [ours for ours, theirs in zip(source.steps, target.steps, strict=False) if ours == theirs]
        depth = next((at for at, step in enumerate(shared) if step[1] == ALL and shared[: at + 1] == [*source.steps[: at + 1]]), -1)
        if depth < 0:
            yield source, target
            return
        for number in range(1, len(groups.lines(self._index(), source.steps[: depth + 1])) + 1):
            step = (source.steps[depth][0], number)
            yield from self._paired(
                source.in_steps((*source.steps[:depth], step, *source.steps[depth + 1 :])),
                target.in_steps((*target.steps[:depth], step, *target.steps[depth + 1 :])),
            )

    def _remove(self, place: Path) -> None:
        if not place.field:
            if place.key == b"MSH":
                raise ValueError("MSH cannot be removed")
            gone = set(self._chosen(place))
            self._keep([i for i in range(len(self._lines)) if i not in gone])
        elif place.repetition > 0 and not place.component:
            for i in self._chosen(place):
                fields = self._split(i)
                if place.at < len(fields):
                    repetitions = fields[place.at].split(self._delimiters.repetition)
                    del repetitions[place.repetition - 1 : place.repetition]
                    self._put_field(i, place.at, self._delimiters.repetition.join(repetitions))
        else:
            self._write(place, "")

    def _write(self, place: Path, text: str) -> None:
        if not place.writable:
            raise ValueError(f"{place} cannot be set")
        chosen = self._chosen(place)
        if text and (place.groups or not chosen) and place.number != ALL:
            self._create(place.steps)
            chosen = self._chosen(place)
        for i in chosen:
            fields = self._split(i)
            if place.at < len(fields):
                old = fields[place.at]
            elif text:
                old = ""
            else:
                continue
            self._put_field(i, place.at, self._changed(old, place, text) if place.inner else text)

    def _changed(self, old: str, place: Path, text: str) -> str:
        """Return a field in which one place, or that place in each repetition, holds `text`."""
        if not text and not old:
            return old
        d = self._delimiters
        levels = [(d.component, place.component - 1)] if place.component else []
        if place.subcomponent:
            levels.append((d.subcomponent, place.subcomponent - 1))
        if place.repetition == ALL:
            return d.repetition.join([_replaced(one, levels, text) for one in old.split(d.repetition)])
        return _replaced(old, [(d.repetition, max(place.repetition, 1) - 1), *levels], text)

    def _put_field(self, i: int, at: int, text: str) -> None:
        fields = self._split(i)
        if at < len(fields):
            if fields[at] == text:
                return
            fields = fields.copy()
        else:
            fields = fields + [""] * (at + 1 - len(fields))
        fields[at] = text
        self._put(i, fields)

    def _put(self, i: int, fields: list[str]) -> None:
        self._fields[i] = self._lines[i] = fields
        self._raw = None

    def _create(self, steps: tuple[Step, ...]) -> None:
        """Add the groups and segments that are missing on the way, each at the end of the group around it."""
        for depth in range(len(steps)):
            name, number = steps[depth]
            if number == ALL:
                continue
            for span in reversed(groups.spans(self._index(), steps[:depth])):
                missing = number - len(groups.within(self._index(), span, name, ALL))
                if missing > 0:
                    self._insert(span[1], name, missing)

    def _insert(self, at: int, name: str, count: int) -> int:
        """Insert empty segments before a line, or before the blank lines before it; return the line of the first."""
        names = self._index()
        while at > 1 and not names[at - 1]:
            at -= 1
        self._lines[at:at] = [[name] for _ in range(count)]
        if isinstance(self._ends, list):
            # the line before may have had no end; it needs one now, and the last new one takes over what was there
            before = self._ends[at - 1]
            self._ends = [*self._ends[: at - 1], *[before or b"\r"] * count, before, *self._ends[at:]]
        self._fields = {i if i < at else i + count: fields for i, fields in self._fields.items()}
        self._restructured([*names[:at], *[name.encode()] * count, *names[at:]])
        return at

    def _keep(self, kept: list[int]) -> None:
        names = self._index()
        self._lines = [self._lines[i] for i in kept]
        if isinstance(self._ends, list):
            self._ends = [self._ends[i] for i in kept]
        self._fields = {at: self._fields[i] for at, i in enumerate(kept) if i in self._fields}
        self._restructured([names[i] for i in kept])

    def _restructured(self, names: list[bytes]) -> None:
        self._names, self._firsts, self._places, self._raw = names, firsts(names), {}, None


@lru_cache(maxsize=256)
def _delimiters(separator: str, encoding: str) -> Delimiters | None:
    """Return the delimiters of a header, None when these are no encoding characters."""
    if not encoding or not encoding.isascii() or any(c.isalnum() or c <= " " for c in encoding):
        return None
    return delimiters(separator, encoding)


def _declared(fields: list[str], d: Delimiters, plain: bool, default: str | None, fallback: str) -> tuple[Coder, Doubt]:
    """Return the coder for MSH-18; delimiter bytes inside a multi-byte name in the header may have moved it to the right."""
    value = fields[17][:_MSH_18_MOST] if len(fields) > 17 else ""
    found = declared(value.replace(d.repetition, "~") if d.foreign else value, default, fallback)
    if plain or (value and not found[1]):
        return found
    for later in fields[18:20]:
        moved = charsets.find(later[:_MSH_18_MOST])
        if moved and not moved.ascii_compatible:
            return declared(later, default, fallback)
    return found


def _replaced(old: str, levels: list[tuple[str, int]], text: str) -> str:
    """Return `old` with `text` at an index of each level, outermost delimiter first."""
    if not levels:
        return text
    (delimiter, index), *inner = levels
    parts = old.split(delimiter)
    parts.extend([""] * (index + 1 - len(parts)))
    parts[index] = _replaced(parts[index], inner, text)
    return delimiter.join(parts)
