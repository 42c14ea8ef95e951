"""Answers to a query: an identifier is read once, then each match is written in it without a dataset in between.

A match is whatever the readers read; a reader returns text, of several values separated by backslashes, "" for what is not known.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from pydicom.charset import custom_encoders
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from broker.dicom.charset import UNICODE, charset_of, encodings_of, is_known, write_in
from broker.dicom.dataset import IMPLICIT_LITTLE, decode, encode
from broker.dicom.scan import BIG_ENDIAN

T = TypeVar("T")
Reader = Callable[[T], str]
Readers = Mapping[str, Reader[T]]  # by keyword, dotted into sequences

_CHARSET = 0x00080005
_LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})  # VRs whose length has four bytes
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i"}
_ASCII_ONLY = frozenset({"iso8859", "shift_jis"})  # what pydicom takes for ASCII, and a set with another backslash
_ITEM = 0xFFFEE000


def charsets_of(identifier: Dataset, configured: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the character sets of the answers, best first: the one the query asks for, the peer's, and Unicode where there is neither."""
    asked = tuple(charset_of(identifier))
    known = [asked] if any(asked) and is_known(asked) else []
    return [*known, *([tuple(configured)] if configured else [])] or [(UNICODE,)]


class Answers(Generic[T]):
    """Writes matches as the identifier of a query asks: what is asked for and not known is there, and empty.

    A sequence without an item asks for all of it. A text that does not fit the first character set goes the way of
    `charset.write_in`.
    """

    def __init__(
        self, identifier: Dataset, readers: Readers[T], charsets: Sequence[tuple[str, ...]], unencodable: str, syntax: str
    ) -> None:
        self._readers = dict(_asked(identifier, readers, ""))
        self._charsets, self._unencodable, self._syntax = charsets, unencodable, syntax
        self._writer = _Writer(syntax, _codec(charsets[0]))
        named = "\\".join(charsets[0])
        self._head = self._writer.element(_CHARSET, "CS", named.encode("ascii")) if named else b""
        self._write = self._writer.dataset(self._readers)

    def write(self, match: T) -> bytes:
        """Return the encoded dataset of one answer."""
        try:
            return self._head + self._write(match)
        except UnicodeEncodeError:
            return self._rewritten(match)

    def _rewritten(self, match: T) -> bytes:
        """Return the answer in the character set that suits it, or with the nearest letters."""
        dataset = decode(self._in_unicode(match), self._syntax)
        write_in(dataset, self._charsets, self._unencodable)
        return encode(dataset, self._syntax)

    def _in_unicode(self, match: T) -> bytes:
        writer = _Writer(self._syntax, "utf-8")
        return writer.element(_CHARSET, "CS", UNICODE.encode("ascii")) + writer.dataset(self._readers)(match)


def _asked(identifier: Dataset, readers: Readers[T], prefix: str) -> Iterator[tuple[str, Reader[T]]]:
    """Give each path that is asked for with its reader; of what is not known, one that returns ""."""
    for element in identifier:
        keyword = element.keyword
        if not keyword or element.tag <= _CHARSET:
            continue
        path = prefix + keyword
        if element.VR != "SQ":
            yield path, readers.get(path, _nothing)
        elif element.value:
            yield from _asked(element.value[0], readers, f"{path}.")
        else:
            known = [(name, read) for name, read in readers.items() if name.startswith(f"{path}.")]
            yield from known or [(f"{path}.", _nothing)]


def _nothing(match: object) -> str:
    return ""


def _codec(terms: Sequence[str]) -> str:
    """Return the codec that writes any text of these sets, ASCII where they need escapes or have none."""
    codec = encodings_of(terms)[0] if len(terms) == 1 else ""
    return codec if codec and codec not in _ASCII_ONLY and codec not in custom_encoders else "ascii"


class _Writer:
    """Makes the functions that write elements in one transfer syntax and codec."""

    def __init__(self, syntax: str, codec: str) -> None:
        self._implicit = syntax == IMPLICIT_LITTLE
        self._order = ">" if syntax == BIG_ENDIAN else "<"
        self._codec = codec
        self._tag, self._length = struct.Struct(self._order + "HH"), struct.Struct(self._order + "I")

    def dataset(self, readers: Mapping[str, Reader[T]]) -> Callable[[T], bytes]:
        """Return what writes the elements of these paths in the order of their tags."""
        leaves, sequences = _split(readers)
        writers: dict[int, Callable[[T], bytes]] = {}
        for keyword, read in leaves.items():
            tag = tag_for_keyword(keyword) or 0
            writers[tag] = self._leaf(tag, dictionary_VR(tag)[:2], read)  # of "US or SS" the first
        for keyword, inner in sequences.items():
            tag = tag_for_keyword(keyword) or 0
            writers[tag] = self._sequence(tag, inner)
        ordered = [writers[tag] for tag in sorted(writers)]
        return lambda match: b"".join([write(match) for write in ordered])

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        """Return an element, its value padded to an even length."""
        value = _even(value, vr)
        return self._head(tag, vr) + self._sized(vr).pack(len(value)) + value

    def _head(self, tag: int, vr: str) -> bytes:
        head = self._tag.pack(tag >> 16, tag & 0xFFFF)
        return head if self._implicit else head + vr.encode() + (b"\0\0" if vr in _LONG else b"")

    def _sized(self, vr: str) -> struct.Struct:
        return self._length if self._implicit or vr in _LONG else struct.Struct(self._order + "H")

    def _leaf(self, tag: int, vr: str, read: Reader[T]) -> Callable[[T], bytes]:
        head, sized = self._head(tag, vr), self._sized(vr)
        empty, size, codec = head + sized.pack(0), sized.pack, self._codec
        if read is _nothing:
            return lambda match: empty
        if vr in _NUMBERS:
            return self._number(head, empty, sized, _NUMBERS[vr], read)
        pad = b"\0" if vr == "UI" else b" "

        def write(match: T) -> bytes:
            text = read(match)
            if not text:
                return empty
            value = text.encode(codec)
            if len(value) & 1:
                value += pad
            return head + size(len(value)) + value

        return write

    def _number(self, head: bytes, empty: bytes, sized: struct.Struct, form: str, read: Reader[T]) -> Callable[[T], bytes]:
        one = struct.Struct(self._order + form)

        def write(match: T) -> bytes:
            values = b"".join(one.pack(int(text)) for text in read(match).split("\\") if text)
            return head + sized.pack(len(values)) + values if values else empty

        return write

    def _sequence(self, tag: int, inner: Mapping[str, Reader[T]]) -> Callable[[T], bytes]:
        """Return what writes a sequence of one item, or of none when nothing in it is known."""
        head, item = self._head(tag, "SQ"), self._tag.pack(_ITEM >> 16, _ITEM & 0xFFFF)
        empty, size = head + self._length.pack(0), self._length.pack
        readers = list(inner.values())
        write = self.dataset({path: read for path, read in inner.items() if path})

        def sequence(match: T) -> bytes:
            if not any(read(match) for read in readers):
                return empty
            content = write(match)
            return head + size(len(content) + 8) + item + size(len(content)) + content

        return sequence


def _split(readers: Mapping[str, Reader[T]]) -> tuple[dict[str, Reader[T]], dict[str, dict[str, Reader[T]]]]:
    """Return the readers of plain elements, and those of each sequence by what is left of their paths."""
    leaves: dict[str, Reader[T]] = {}
    sequences: dict[str, dict[str, Reader[T]]] = {}
    for path, read in readers.items():
        keyword, dot, rest = path.partition(".")
        if dot:
            sequences.setdefault(keyword, {})[rest] = read
        else:
            leaves[keyword] = read
    return leaves, sequences


def _even(value: bytes, vr: str) -> bytes:
    return value + (b"\0" if vr == "UI" else b" ") if len(value) & 1 else value


def keys_of(identifier: Dataset) -> dict[str, str]:
    r"""Return the keys of an identifier by path, several values separated by backslashes; those of a sequence are its first item's."""
    return dict(_keys(identifier, ""))


def _keys(dataset: Dataset, prefix: str) -> Iterator[tuple[str, str]]:
    for element in dataset:
        if not element.keyword:
            continue
        if element.VR == "SQ":
            for item in element.value[:1] if element.value else ():
                yield from _keys(item, f"{prefix}{element.keyword}.")
        else:
            yield prefix + element.keyword, "\\".join(_values(element.value))


def _values(value: object) -> list[str]:
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, MultiValue) else [str(value)]
