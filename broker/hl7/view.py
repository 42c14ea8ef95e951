"""A message as it is read: each segment is decoded and split when a path into it is read, and found by its name alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from broker.hl7 import groups
from broker.hl7.coder import Coder, Doubt
from broker.hl7.delimiters import STANDARD, Delimiters
from broker.hl7.lines import Ends, Piece, join
from broker.hl7.path import ALL, Path, parse

Line = Piece | list[str]  # a segment as it came, or the fields of one that was changed
_HEADER: Mapping[bytes, int] = {b"MSH": 0}


class View:
    """The reading half of `Message`.

    A list of fields is never changed in place, nor a table of places: clones share them. `broker.hl7.parts` takes a
    message apart at its lines, and is the only other module that knows them.
    """

    __slots__ = (
        "_coder",
        "_delimiters",
        "_ends",
        "_fallback",
        "_fields",
        "_firsts",
        "_lines",
        "_names",
        "_places",
        "_prefix",
        "_raw",
        "_unknown",
    )

    def __init__(self, prefix: bytes, lines: list[Line], ends: Ends, d: Delimiters, coder: Coder, fallback: str) -> None:
        self._prefix = prefix  # byte order mark and line ends before MSH
        self._lines = lines
        self._ends = ends  # between the lines
        self._delimiters = d
        self._coder = coder
        self._fallback = fallback
        self._raw: bytes | None = None  # the whole, while nothing is changed
        self._unknown: Doubt = ""  # whether MSH-18 names a set that is not known
        self._fields: dict[int, list[str]] = {}  # of the lines that were read
        self._names: list[bytes] = []  # of all lines; empty until one is looked for
        self._firsts: Mapping[bytes, int] = _HEADER  # segment name -> its first line
        self._places: dict[bytes, list[int]] = {}  # segment name -> all its lines, for the names that were asked for

    # -- reading

    def get(self, path: str) -> str:
        """Return the text of the first match, without escapes; "" when it is absent, and '""' for the HL7 null."""
        place = parse(path)
        text = self._unit(place)
        if self._delimiters.plain not in text and text.isascii():
            return text
        return self._plain(text, place)

    def raw(self, path: str) -> str:
        r"""Return what stands there with its escapes, in the standard delimiters `|^~\&` whatever the message uses."""
        return self._delimiters.to_standard(self._coder.read(self._unit(parse(path))))

    def all(self, path: str) -> list[str]:
        """Return every match, without escapes: one for each segment, group or repetition that a `[*]` runs over, empty ones too."""
        place = parse(path)
        texts = [self._plain(text, place) for text in self._units(place)]
        return texts if place.many else [text for text in texts if text]

    def exists(self, path: str) -> bool:
        """Return whether it is present and holds more than delimiters; a path without a field asks for the segment."""
        place = parse(path)
        d = self._delimiters
        empty = d.component + d.repetition + d.subcomponent if place.at > 1 or place.segment != "MSH" else ""
        if not place.many:
            return bool(self._unit(place).strip(empty))
        return any(text.strip(empty) for text in self._units(place))

    @property
    def type(self) -> str:
        """MSH-9 as "ORM^O01"; without an event "ACK"."""
        parts = self._head(8)
        kind, event = parts[:2] if parts else (self.get("MSH-9.1"), self.get("MSH-9.2"))
        return f"{kind}^{event}" if event else kind

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.get("MSH-10")

    @property
    def sender(self) -> str:
        """Sending application and facility as "MSH-3|MSH-4", the first components."""
        application, facility = self._head(2), self._head(3)
        return f"{application[0] if application else self.get('MSH-3.1')}|{facility[0] if facility else self.get('MSH-4.1')}"

    @property
    def version(self) -> str:
        """MSH-12, "2.5.1"."""
        return self.get("MSH-12.1")

    @property
    def charset(self) -> str:
        """The Python codec that the message is read with."""
        return self._coder.codec

    @property
    def charset_doubt(self) -> Doubt:
        """What is doubtful about the character set, "" when nothing is.

        MSH-18 names an "unknown" one, or bytes of the message are "undecodable" in it, or "mislabelled": they look like another one.
        """
        if self._unknown:
            return self._unknown
        raw = self._raw
        if raw is not None and raw.isascii() and b"\x1b" not in raw:
            return ""
        doubts = {self._coder.doubt(self._bytes(i)) for i in range(len(self._lines))}
        return "undecodable" if "undecodable" in doubts else "mislabelled" if "mislabelled" in doubts else ""

    def segment_names(self) -> list[str]:
        """Return the names of the segments in their order."""
        names = (self._bytes(i).partition(self._delimiters.field.encode())[0] for i in range(len(self._lines)))
        return [name.decode("latin-1") for name in names if name]

    def segments(self, name: str) -> range:
        """Return the numbers of the segments of a name, also in a group: `len(...)` counts them, a loop over it gives n for `OBX[n]-5`."""
        if ">" not in name:
            return range(1, len(self._places_of(name.encode())) + 1)
        place = parse(name)
        return range(1, len(self._chosen(place.in_steps((*place.groups, (place.segment, ALL))))) + 1)

    def absolute(self, path: str) -> str:
        """Return the path of the first match counted in the whole message: `OBR[2]-4` for `ORC[2]>OBR-4`; as it is when there is none."""
        place = parse(path)
        chosen = self._chosen(place) if place.groups else []
        return str(place.in_steps(((place.segment, self._number(chosen[0])),))) if chosen else path

    # -- bytes

    def encode(self) -> bytes:
        """Return the message; whatever was not set is as it came, byte for byte, with its line ends."""
        if self._raw is not None:
            return self._raw
        separator, dump = self._delimiters.field, self._coder.dump
        lines = [dump(separator.join(line)) if isinstance(line, list) else line for line in self._lines]
        self._raw = raw = self._prefix + join(lines, self._ends)
        return raw

    def header(self) -> tuple[list[str], Delimiters, Coder]:
        """Return the fields of MSH as they are stored, the delimiters and the coder: for an answer in the sender's own bytes."""
        return self._split(0), self._delimiters, self._coder

    # -- inside

    def _head(self, at: int) -> list[str] | None:
        """Return the components of a field of MSH, two at least; None when there is more to reading them than splitting."""
        fields, d = self._split(0), self._delimiters
        text = fields[at] if at < len(fields) else ""
        if d.plain in text or d.repetition in text or not text.isascii():
            return None
        return [*text.split(d.component), ""]

    def _bytes(self, i: int) -> bytes:
        line = self._lines[i]
        return self._coder.dump(self._delimiters.field.join(line)) if isinstance(line, list) else bytes(line)

    def _first(self, key: bytes) -> int:
        """Return the first line of that name, -1 when there is none."""
        i = self._firsts.get(key)
        if i is None:
            if self._names:
                return -1
            self._index()
            i = self._firsts.get(key, -1)
        return i

    def _index(self) -> list[bytes]:
        """Return the names of all lines; one of more than three characters is cut after the fourth."""
        if not self._names:
            separator = self._delimiters.field.encode()
            self._names = names = [
                line[:4].rstrip(separator) if isinstance(line, bytes) else _name(line).rstrip(separator) for line in self._lines
            ]
            self._firsts = firsts(names)
        return self._names

    def _places_of(self, key: bytes) -> list[int]:
        places = self._places.get(key)
        if places is None:
            places = self._places[key] = [i for i, name in enumerate(self._index()) if name == key]
        return places

    def _number(self, i: int) -> int:
        """Return which of the segments of its name a line is."""
        names = self._index()
        return names[: i + 1].count(names[i])

    def _chosen(self, place: Path) -> list[int]:
        """Return the lines that the path leads to."""
        if place.groups:
            return groups.lines(self._index(), place.steps)
        if place.number == 1:
            first = self._first(place.key)
            return [first] if first >= 0 else []
        found = self._places_of(place.key)
        return found if place.number == ALL else found[place.number - 1 : place.number]

    def _split(self, i: int) -> list[str]:
        fields = self._fields.get(i)
        if fields is None:
            line = self._lines[i]
            fields = line if isinstance(line, list) else self._coder.load(bytes(line)).split(self._delimiters.field)
            self._fields[i] = fields
        return fields

    def _unit(self, place: Path) -> str:
        """Return the first match as it is stored."""
        if place.first:
            i = self._firsts.get(place.key, -1)
            if i < 0:
                i = self._first(place.key)
        else:
            chosen = self._chosen(place)
            i = chosen[0] if chosen else -1
        if i < 0:
            return ""
        fields = self._fields.get(i) or self._split(i)
        at = place.at
        if not at:
            return self._whole(fields, place)
        if at >= len(fields):
            return ""
        return self._inner(fields[at], place) if place.inner else fields[at]

    def _units(self, place: Path) -> Iterator[str]:
        """Yield every match as it is stored; of a group that has no such segment, ""."""
        for lines in self._by_group(place):
            if not lines and place.groups and place.number != ALL:
                yield ""
            for i in lines:
                fields = self._split(i)
                if not place.at:
                    yield self._whole(fields, place)
                    continue
                text = fields[place.at] if place.at < len(fields) else ""
                if place.repetition != ALL:
                    yield self._inner(text, place) if place.inner else text
                elif text:
                    yield from (self._inner(one, place) for one in text.split(self._delimiters.repetition))

    def _by_group(self, place: Path) -> list[list[int]]:
        if not place.groups:
            return [self._chosen(place)]
        names = self._index()
        return [groups.within(names, span, place.segment, place.number) for span in groups.spans(names, place.groups)]

    def _whole(self, fields: list[str], place: Path) -> str:
        return self._delimiters.field if place.field else self._delimiters.field.join(fields)

    def _inner(self, text: str, place: Path) -> str:
        """Return a repetition, component or subcomponent of a field."""
        d = self._delimiters
        repetition, component = place.repetition, place.component
        if d.repetition in text:
            text = _piece(text, d.repetition, repetition if repetition > 0 else 1)
        elif repetition > 1:
            return ""
        if component:
            text = _piece(text, d.component, component)
            if place.subcomponent:
                text = _piece(text, d.subcomponent, place.subcomponent)
        return text

    def _plain(self, text: str, place: Path) -> str:
        d = self._delimiters
        if "\\C" in text or "\\M" in text:
            text = self._coder.switched(text)
        elif not text.isascii():
            text = self._coder.read(text)
        if d.foreign and not place.subcomponent:
            text, d = d.to_standard(text), STANDARD
        return d.unescaped(text, self._coder.decode)


def _name(line: Line) -> bytes:
    return line[0][:4].encode("latin-1", "replace") if isinstance(line, list) else bytes(line[:4])


def firsts(names: list[bytes]) -> Mapping[bytes, int]:
    """Return each name's first line."""
    return dict(zip(reversed(names), range(len(names) - 1, -1, -1), strict=True))


def _piece(text: str, delimiter: str, number: int) -> str:
    if number == 1:
        return text.partition(delimiter)[0]
    pieces = text.split(delimiter, number)
    return pieces[number - 1] if number <= len(pieces) else ""
