"""Header attributes changed in the bytes of a dataset, without decoding it: what `coerce` does, for the changes that most objects need."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from broker.dicom.charset import encodings_of, is_known
from broker.dicom.files import LONG_VRS
from broker.dicom.path import parse
from broker.dicom.scan import BIG_ENDIAN, DEFLATED, IMPLICIT_SYNTAXES

_CHARSET, _ORIGINALS = 0x00080005, 0x04000561
_MODIFIED, _WHEN, _SYSTEM, _SOURCE, _REASON = 0x04000550, 0x04000562, 0x04000563, 0x04000564, 0x04000565
_CODED = frozenset(("SH", "LO", "ST", "LT", "PN", "UC", "UT"))  # VRs whose text follows Specific Character Set
_PLAIN = frozenset(("AE", "AS", "CS", "DA", "DT", "TM", "UI", "UR"))
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 32
_HEAD, _EXPLICIT, _EXPLICIT_LONG = struct.Struct("<HHI"), struct.Struct("<HH2sH"), struct.Struct("<HH2sHI")
_LONG = struct.Struct("<I")


class _NotSimple(Exception):
    """This takes the library."""


@dataclass(slots=True)
class _Walked:
    """The elements of a dataset up to (0400,0561): tags, where each begins, where its value does, and where the last one ends."""

    tags: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)

    def find(self, tag: int) -> int | None:
        """Return the index of an element."""
        at = bisect_left(self.tags, tag)
        return at if at < len(self.tags) and self.tags[at] == tag else None


def splice(
    data: bytes,
    syntax: str,
    changes: Mapping[str, str],
    *,
    whole: bool,
    reason: str,
    system: str,
    now: str,
    removals: Collection[str] = (),
    source: str = "",
) -> tuple[bytes, int] | None:
    """Return what stands for the first bytes of a dataset after `changes`, and for how many of them; None when it is not that simple.

    Simple is: little endian and not deflated; text of the outermost level, outside of private groups, in a character set that
    needs no escapes; all elements up to (0400,0561) inside of `data`. whole: nothing follows
    `data`. The other arguments are those of `coerce.coerce`.
    """
    if syntax in (BIG_ENDIAN, DEFLATED):
        return None
    try:
        return _Splice(data, syntax in IMPLICIT_SYNTAXES, whole, reason, system, now, source).run(changes, removals)
    except (_NotSimple, struct.error, IndexError, UnicodeError, LookupError, ValueError):
        return None


class _Splice:
    def __init__(self, data: bytes, implicit: bool, whole: bool, reason: str, system: str, now: str, source: str) -> None:
        self._data, self._implicit, self._whole = data, implicit, whole
        self._reason, self._system, self._now, self._source = reason, system, now, source
        self._walked = _Walked()
        self._end = self._walk()
        self._coding = self._charset()

    def run(self, changes: Mapping[str, str], removals: Collection[str]) -> tuple[bytes, int]:
        wanted: dict[int, bytes] = {}  # what comes in the place of each element
        originals: list[bytes] = []
        for tag, vr, value, gone in sorted(self._asked(changes, removals)):
            at, after = self._walked.find(tag), self._encoded(vr, value)
            before = None if at is None else self._value(at, vr)
            if before is None if gone else before == value:
                continue
            originals.append(self._element(tag, vr, b"") if at is None else self._raw(at))
            wanted[tag] = b"" if gone else self._element(tag, vr, after)
        if not originals:
            return self._data[: self._end], self._end
        wanted[_ORIGINALS] = self._with_note(b"".join(originals))
        return self._assembled(wanted), self._end

    def _asked(self, changes: Mapping[str, str], removals: Collection[str]) -> list[tuple[int, str, str, bool]]:
        asked = []
        for path, value in changes.items():
            levels = parse(path)
            level = levels[0]
            simple = len(levels) == 1 and not level.creator and not level.number and _CHARSET < level.tag < _ORIGINALS
            if not simple or level.vr not in _CODED | _PLAIN or not level.tag & 0xFFFF:
                raise _NotSimple
            asked.append((level.tag, level.vr, value, path in removals))
        return asked

    def _assembled(self, wanted: Mapping[int, bytes]) -> bytes:
        parts, done = [], 0
        for tag, element in sorted(wanted.items()):
            place = bisect_left(self._walked.tags, tag)
            begin = self._begin(place)
            parts += [self._data[done:begin], element]
            done = self._begin(place + 1) if place < len(self._walked.tags) and self._walked.tags[place] == tag else begin
        parts.append(self._data[done : self._end])
        return b"".join(parts)

    # what is there

    def _walk(self) -> int:
        """Note every element up to (0400,0561), and return where the next one begins."""
        at, last, walked = 0, 0, self._walked
        while at < len(self._data):
            tag, length, start = self._head(at)
            if tag > _ORIGINALS:
                return at
            if tag <= last or not tag & 0xFFFF:  # out of order, or a group length that would be wrong then
                raise _NotSimple
            walked.tags.append(tag)
            walked.begins.append(at)
            walked.values.append(start)
            last, at = tag, (start + length if length != _UNDEFINED else self._behind(start, self._is_un(at), 0))
        if not self._whole or at != len(self._data):
            raise _NotSimple  # the end of the header is not in sight
        return at

    def _head(self, at: int, implicit: bool = False) -> tuple[int, int, int]:
        group, number, length = _HEAD.unpack_from(self._data, at)
        if self._implicit or implicit or group == 0xFFFE:
            return group << 16 | number, length, at + 8
        vr = self._data[at + 4 : at + 6]
        if vr in LONG_VRS:
            return group << 16 | number, _LONG.unpack_from(self._data, at + 8)[0], at + 12
        return group << 16 | number, length >> 16, at + 8

    def _is_un(self, at: int) -> bool:
        return self._data[at + 4 : at + 6] == b"UN"

    def _behind(self, at: int, implicit: bool, depth: int) -> int:
        """Return where a sequence of undefined length ends."""
        if depth > _DEEPEST:
            raise _NotSimple
        while True:
            tag, length, start = self._head(at)
            if tag == _SEQUENCE_END:
                return start
            if tag != _ITEM:
                raise _NotSimple
            at = start + length if length != _UNDEFINED else self._behind_item(start, implicit, depth)

    def _behind_item(self, at: int, implicit: bool, depth: int) -> int:
        while True:
            tag, length, start = self._head(at, implicit)
            if tag == _ITEM_END:
                return start
            un = implicit or (not self._implicit and self._is_un(at))
            at = start + length if length != _UNDEFINED else self._behind(start, un, depth + 1)

    def _begin(self, index: int) -> int:
        return self._walked.begins[index] if index < len(self._walked.begins) else self._end

    def _raw(self, index: int) -> bytes:
        return self._data[self._begin(index) : self._begin(index + 1)]

    def _value(self, index: int, vr: str) -> str:
        raw = self._data[self._walked.values[index] : self._begin(index + 1)]
        return raw.decode(self._coding if vr in _CODED else "ascii").rstrip(" \0")

    def _charset(self) -> str:
        """Return the codec of all text; one that switches by escapes is not simple."""
        index = self._walked.find(_CHARSET)
        terms = "" if index is None else self._data[self._walked.values[index] : self._begin(index + 1)].decode("ascii").strip(" \0")
        if not terms:
            return "ascii"
        if not is_known([terms]) or terms.startswith("ISO 2022"):
            raise _NotSimple
        return encodings_of([terms])[0]

    # what comes there

    def _encoded(self, vr: str, value: str) -> bytes:
        raw = value.encode(self._coding if vr in _CODED else "ascii")
        if b"\x1b" in raw:
            raise _NotSimple
        return raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)

    def _element(self, tag: int, vr: str, value: bytes) -> bytes:
        group, number, code = tag >> 16, tag & 0xFFFF, vr.encode()
        if self._implicit:
            return _HEAD.pack(group, number, len(value)) + value
        if code in LONG_VRS:
            return _EXPLICIT_LONG.pack(group, number, code, 0, len(value)) + value
        return _EXPLICIT.pack(group, number, code, len(value)) + value

    def _item(self, content: bytes) -> bytes:
        return _HEAD.pack(0xFFFE, 0xE000, len(content)) + content

    def _with_note(self, originals: bytes) -> bytes:
        """Return Original Attributes Sequence (0400,0561) with one item more."""
        note = (
            self._element(_MODIFIED, "SQ", self._item(originals)),
            self._element(_WHEN, "DT", self._encoded("DT", self._now)),
            self._element(_SYSTEM, "LO", self._encoded("LO", self._system)),
            self._element(_SOURCE, "LO", self._encoded("LO", self._source)),
            self._element(_REASON, "CS", self._encoded("CS", self._reason)),
        )
        return self._element(_ORIGINALS, "SQ", self._items() + self._item(b"".join(note)))

    def _items(self) -> bytes:
        """Return the items that the sequence has."""
        index = self._walked.find(_ORIGINALS)
        if index is None:
            return b""
        if self._is_un(self._begin(index)) and not self._implicit:
            raise _NotSimple
        _, length, start = self._head(self._begin(index))
        return self._data[start : self._begin(index + 1) - (8 if length == _UNDEFINED else 0)]
