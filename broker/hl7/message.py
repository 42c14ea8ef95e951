"""The HL7 v2 message: lazy and loss-free. A segment is split when it is touched; what is not set leaves byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterator

from broker.errors import MessageError
from broker.hl7 import charset as charsets
from broker.hl7.delimiters import STANDARD, STANDARD_ENCODING, Delimiters, delimiters
from broker.hl7.path import ALL, Path, parse

_START = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*(?=MSH)")
_END = re.compile(rb"[\r\n]")
# in a message whose segments end with CR, an LF ends a segment only when the next one follows
_MIXED_ENDS = re.compile(r"(\r\n|\r|\n(?=[A-Z][A-Z0-9]{2}(?:[^A-Za-z0-9 ]|$)|[\r\n]|\Z))")


class Message:
    """One HL7 v2 message.

    Paths are `SEG[n]-F[n].C.S` (see `broker.hl7.path`). A path that names a field means all of it; one that names a component
    without a repetition means the first repetition. Text is Unicode without escapes, except in `raw` and `set_raw`.
    """

    __slots__ = ("_coder", "_delimiters", "_ends", "_fallback", "_lines", "_places", "_prefix")

    def __init__(self, prefix: bytes, text: str, separators: Delimiters, coder: charsets.Coder, fallback: str) -> None:
        self._prefix = prefix  # byte order mark and line ends before MSH
        self._delimiters = separators
        self._coder = coder
        self._fallback = fallback
        self._lines: list[str | list[str]] = []  # a segment as it stands, or split into fields
        self._ends: str | list[str] = "\r"  # between segments: always the same one, or one per line
        self._places: dict[str, list[int]] | None = None  # segment name -> its lines
        if "\n" not in text:
            self._lines += text.split("\r")
        elif "\r" not in text or text.count("\r\n") == text.count("\n") == text.count("\r"):
            self._ends = "\r\n" if "\r" in text else "\n"
            self._lines += text.split(self._ends)
        else:
            parts = _MIXED_ENDS.split(text)
            self._lines += parts[::2]
            self._ends = [*parts[1::2], ""]

    @classmethod
    def parse(cls, raw: bytes, charset: str | None = None, fallback: str = charsets.FALLBACK) -> Message:
        """Return the message in `raw`; `charset` counts where MSH-18 names none, `fallback` reads bytes that do not decode.

        Raises MessageError with `reject` when it is not HL7, and ValueError for a character set or fallback that is not known.
        """
        prefix = b""
        if raw[:3] != b"MSH":
            start = _START.match(raw)
            if not start:
                raise MessageError("MSH", "the message does not begin with MSH", 100, reject=True)
            prefix, raw = start[0], raw[start.end() :]
        separator = raw[3:4]
        if not separator.isascii() or separator.isalnum() or separator <= b" ":
            raise MessageError("MSH-1", "no field separator follows MSH", 101, reject=True)
        end = _END.search(raw, 0)
        header = (raw[: end.start()] if end else raw).split(separator, 20)
        if len(header) < 9:
            raise MessageError("MSH-9", "the header ends before the message type", 101, reject=True)
        encoding = header[1].decode("latin-1")
        if not encoding or not encoding.isascii() or any(c.isalnum() or c <= " " for c in encoding):
            raise MessageError("MSH-2", "not encoding characters", 102, reject=True)
        coder = charsets.declared(_declared(header), charset, fallback)
        return cls(prefix, coder.load(raw), delimiters(separator.decode(), encoding), coder, fallback)

    @classmethod
    def new(cls, type: str, version: str = "2.5.1", charset: str = charsets.DEFAULT) -> Message:
        """Return a message that is only MSH: its delimiters, type ("ADT^A04^ADT_A01"), processing ID P, version and character set."""
        header = f"MSH|{STANDARD_ENCODING}|||||||{type}||P|{version}||||||{charset}\r"
        return cls(b"", header, STANDARD, charsets.coder(charset), charsets.FALLBACK)

    # -- reading

    def get(self, path: str) -> str:
        """Return the text of the first match, without escapes; "" when it is absent, and '""' for the HL7 null."""
        place = parse(path)
        text = self._unit(place)
        if text.isascii() and self._delimiters.escape not in text and not self._delimiters.foreign:
            return text
        return self._plain(text, place)

    def raw(self, path: str) -> str:
        r"""Return what stands there with its escapes, in the standard delimiters `|^~\&` whatever the message uses."""
        return self._delimiters.to_standard(self._coder.read(self._unit(parse(path))))

    def all(self, path: str) -> list[str]:
        """Return every match, without escapes: one for each segment or repetition that a `[*]` runs over, empty ones too."""
        place = parse(path)
        texts = [self._plain(text, place) for text in self._units(place)]
        return texts if ALL in (place.number, place.repetition) else [text for text in texts if text]

    def exists(self, path: str) -> bool:
        """Return whether it is present and holds more than delimiters; a path without a field asks for the segment."""
        place = parse(path)
        d = self._delimiters
        empty = d.component + d.repetition + d.subcomponent if place.at > 1 or place.segment != "MSH" else ""
        if ALL not in (place.number, place.repetition):
            return bool(self._unit(place).strip(empty))
        return any(text.strip(empty) for text in self._units(place))

    @property
    def type(self) -> str:
        """MSH-9 as "ORM^O01"; without an event "ACK"."""
        kind, event = self.get("MSH-9.1"), self.get("MSH-9.2")
        return f"{kind}^{event}" if event else kind

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.get("MSH-10")

    @property
    def sender(self) -> str:
        """Sending application and facility as "MSH-3|MSH-4", the first components."""
        return f"{self.get('MSH-3.1')}|{self.get('MSH-4.1')}"

    @property
    def version(self) -> str:
        """MSH-12, "2.5.1"."""
        return self.get("MSH-12.1")

    @property
    def charset(self) -> str:
        """The Python codec that the message is read with."""
        return self._coder.codec

    def segment_names(self) -> list[str]:
        """Return the names of the segments in their order."""
        return [name for name in (self._name(line) for line in self._lines) if name]

    def segments(self, name: str) -> range:
        """Return the numbers of the segments of a name: `len(...)` counts them, a loop over it gives n for `OBX[n]-5`."""
        return range(1, len(self._index().get(name, ())) + 1)

    def groups(self, name: str) -> list[Message]:
        """Return a message of its own for each group that begins with a segment `name`: what stands before the first one, and the group."""
        starts, last = self._index().get(name, []), len(self._lines) - 1
        closing = [] if self._lines[last] else [last]  # the empty line after the end of the last segment
        return [
            self._part([*range(starts[0]), *range(start, end), *(closing if end <= last else [])])
            for start, end in zip(starts, [*starts[1:], last + 1][: len(starts)], strict=True)
        ]

    # -- changing

    def set(self, path: str, value: str) -> None:
        """Set plain text, with escapes as needed, creating what is missing; "" empties and creates nothing.

        Setting MSH-18 writes the whole message in that character set. Raises MessageError for a character that the message's
        character set does not have, ValueError for MSH-1 and MSH-2.
        """
        if path == "MSH-18":
            self._recode(value)
        self._write(parse(path), self._stored(path, self._delimiters.escaped(value)))

    def set_raw(self, path: str, composite: str) -> None:
        r"""Set a composite that is written in the standard delimiters `^~\&`, escapes included; otherwise as `set`."""
        self._write(parse(path), self._stored(path, self._delimiters.from_standard(composite)))

    def copy(self, source: str, target: str) -> None:
        """Copy the first match of `source`, byte for byte; raises ValueError when it has parts that do not fit into `target`."""
        place, text = parse(target), self._unit(parse(source))
        d = self._delimiters
        inside = (d.repetition if place.repetition or place.component else "") + (d.component if place.component else "")
        if any(c in text for c in inside + (d.subcomponent if place.subcomponent else "")):
            raise ValueError(f"{source} has parts that do not fit into {target}")
        self._write(place, text)

    def remove(self, path: str) -> None:
        """Empty what is there; a repetition goes away altogether, and so does a segment when no field is named."""
        place = parse(path)
        if not place.field:
            gone = set(self._chosen(place))
            self._keep([i for i in range(len(self._lines)) if i not in gone])
        elif place.repetition > 0 and not place.component:
            for i in self._chosen(place):
                fields = self._fields(i)
                if place.at < len(fields):
                    repetitions = fields[place.at].split(self._delimiters.repetition)
                    del repetitions[place.repetition - 1 : place.repetition]
                    fields[place.at] = self._delimiters.repetition.join(repetitions)
        else:
            self._write(place, "")

    def add(self, name: str) -> int:
        """Append an empty segment and return its number."""
        at = len(self._lines)
        while at > 1 and not self._lines[at - 1]:
            at -= 1
        self._lines.insert(at, [name])
        if isinstance(self._ends, list):
            # the last segment may have had no end; it needs one now, and the new one takes over what was there
            self._ends.insert(at - 1, "\r")
        self._places = None  # made anew, never changed: clones share it
        return len(self._index()[name])

    def clone(self) -> Message:
        """Return a message that can be changed without changing this one."""
        copy = self._part(range(len(self._lines)))
        copy._places = self._places
        return copy

    # -- bytes

    def encode(self) -> bytes:
        """Return the message; whatever was not set is as it came, byte for byte, with its line ends."""
        separator = self._delimiters.field
        lines = [line if isinstance(line, str) else separator.join(line) for line in self._lines]
        if isinstance(self._ends, str):
            text = self._ends.join(lines)
        else:
            text = "".join([part for pair in zip(lines, self._ends, strict=True) for part in pair])
        return self._prefix + self._coder.dump(text)

    def header(self) -> tuple[list[str], Delimiters, charsets.Coder]:
        """Return the fields of MSH as they are stored, the delimiters and the coder: for an answer in the sender's own bytes."""
        return self._fields(0), self._delimiters, self._coder

    # -- inside

    def _name(self, line: str | list[str]) -> str:
        if isinstance(line, list):
            return line[0]
        separator = self._delimiters.field
        return line[:3] if line[3:4] == separator else line.partition(separator)[0]

    def _index(self) -> dict[str, list[int]]:
        if self._places is None:
            places: dict[str, list[int]] = {}
            self._places = places
            for i, line in enumerate(self._lines):
                name = self._name(line)
                if name in places:
                    places[name].append(i)
                elif name:
                    places[name] = [i]
        return self._places

    def _fields(self, i: int) -> list[str]:
        line = self._lines[i]
        if isinstance(line, str):
            line = self._lines[i] = line.split(self._delimiters.field)
        return line

    def _unit(self, place: Path) -> str:
        """Return the first match as it is stored."""
        places = (self._places or self._index()).get(place[0])
        number = place[1]
        if not places or number > len(places):
            return ""
        i = places[number - 1 if number > 0 else 0]
        line = self._lines[i]
        if isinstance(line, str):
            line = self._lines[i] = line.split(self._delimiters.field)
        index = place[6]
        if index == 0:
            return self._whole(line, place)
        if index >= len(line):
            return ""
        text = line[index]
        return self._inner(text, place) if place[3] or place[4] else text

    def _whole(self, fields: list[str], place: Path) -> str:
        return self._delimiters.field if place.field else self._delimiters.field.join(fields)

    def _inner(self, text: str, place: Path) -> str:
        """Return a repetition, component or subcomponent of a field."""
        _, _, _, repetition, component, subcomponent, _ = place
        d = self._delimiters
        if d.repetition in text:
            text = _piece(text, d.repetition, max(repetition, 1))
        elif repetition > 1:
            return ""
        if component:
            text = _piece(text, d.component, component)
            if subcomponent:
                text = _piece(text, d.subcomponent, subcomponent)
        return text

    def _chosen(self, place: Path) -> list[int]:
        places = self._index().get(place.segment, [])
        return list(places) if place.number == ALL else places[place.number - 1 : place.number]

    def _units(self, place: Path) -> Iterator[str]:
        """Yield every match as it is stored."""
        for i in self._chosen(place):
            fields = self._fields(i)
            if place.at == 0:
                yield self._whole(fields, place)
                continue
            text = fields[place.at] if place.at < len(fields) else ""
            if place.repetition != ALL:
                yield self._inner(text, place) if place.repetition or place.component else text
            elif text:
                yield from (self._inner(one, place) for one in text.split(self._delimiters.repetition))

    def _plain(self, text: str, place: Path) -> str:
        d = self._delimiters
        if not text.isascii():
            text = self._coder.read(text)
        if d.foreign and not place.subcomponent:
            text, d = d.to_standard(text), STANDARD
        return d.unescaped(text, self._coder.decode)

    def _stored(self, path: str, text: str) -> str:
        if text.isascii():
            return text
        try:
            return self._coder.write(text)
        except UnicodeEncodeError as error:
            raise MessageError(path, f"a character that {self._coder.charset.hl7} does not have", 102) from error

    def _write(self, place: Path, text: str) -> None:
        if not place.field or (place.segment == "MSH" and place.field <= 2):
            raise ValueError(f"{place} cannot be set")
        if text and place.number > 0:
            while len(self._index().get(place.segment, ())) < place.number:
                self.add(place.segment)
        for i in self._chosen(place):
            fields = self._fields(i)
            if place.at >= len(fields):
                if not text:
                    continue
                fields.extend([""] * (place.at + 1 - len(fields)))
            fields[place.at] = self._changed(fields[place.at], place, text)

    def _changed(self, old: str, place: Path, text: str) -> str:
        """Return a field in which one place, or that place in each repetition, holds `text`."""
        if not place.component and not place.repetition:
            return text
        if not text and not old:
            return old
        d = self._delimiters
        levels = [(d.component, place.component - 1)] if place.component else []
        if place.subcomponent:
            levels.append((d.subcomponent, place.subcomponent - 1))
        if place.repetition == ALL:
            return d.repetition.join([_replaced(one, levels, text) for one in old.split(d.repetition)])
        return _replaced(old, [(d.repetition, max(place.repetition, 1) - 1), *levels], text)

    def _part(self, kept: list[int] | range) -> Message:
        """Return a message of its own with some of the lines."""
        part = Message(self._prefix, "", self._delimiters, self._coder, self._fallback)
        part._lines = [line if isinstance(line, str) else line.copy() for line in (self._lines[i] for i in kept)]
        part._ends = self._ends if isinstance(self._ends, str) else [self._ends[i] for i in kept]
        return part

    def _keep(self, kept: list[int]) -> None:
        part = self._part(kept)
        self._lines, self._ends, self._places = part._lines, part._ends, None

    def _recode(self, name: str) -> None:
        """Write every field in another character set; raises MessageError before anything is changed."""
        target = charsets.declared(name.encode("ascii", "replace"), self._coder.charset.hl7, self._fallback)
        if target.charset == self._coder.charset:
            return
        read, recoded = self._coder.read, []
        for i, line in enumerate(self._lines):
            fields = [line] if isinstance(line, str) else line
            try:
                recoded.append([field if field.isascii() else target.write(read(field)) for field in fields])
            except UnicodeEncodeError as error:
                raise MessageError(self._name(self._lines[i]), f"a character that {target.charset.hl7} does not have", 102) from error
        self._lines = [new if isinstance(old, list) else new[0] for old, new in zip(self._lines, recoded, strict=True)]
        self._coder = target


def _declared(header: list[bytes]) -> bytes:
    """Return MSH-18; delimiter bytes inside a multi-byte name in the header may have moved it to the right."""
    value = header[17].rstrip(b"\r\n") if len(header) > 17 else b""
    if value and charsets.find(value.decode("latin-1")):
        return value
    for later in header[18:20]:
        found = charsets.find(later.decode("latin-1"))
        if found and not found.ascii_compatible:
            return later
    return value


def _piece(text: str, delimiter: str, number: int) -> str:
    if number == 1:
        return text.partition(delimiter)[0]
    pieces = text.split(delimiter, number)
    return pieces[number - 1] if number <= len(pieces) else ""


def _replaced(old: str, levels: list[tuple[str, int]], text: str) -> str:
    """Return `old` with `text` at an index of each level, outermost delimiter first."""
    if not levels:
        return text
    (delimiter, index), *inner = levels
    parts = old.split(delimiter)
    parts.extend([""] * (index + 1 - len(parts)))
    parts[index] = _replaced(parts[index], inner, text)
    return delimiter.join(parts)
