"""A fast reader of a few attributes at the beginning of a DICOM file, without building a dataset."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import BinaryIO

from pydicom.charset import decode_bytes
from pydicom.datadict import private_dictionary_VR
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

from broker.dicom.charset import encodings_of
from broker.dicom.files import LONG_VRS, read_meta
from broker.dicom.inflate import Inflating
from broker.dicom.path import Level, parse
from broker.errors import MessageError

ROUTING = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyDate",
    "AccessionNumber",
    "Modality",
    "StationName",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "BodyPartExamined",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "StudyID",
    "SeriesNumber",
    "InstanceNumber",
    "RequestAttributesSequence.ScheduledProcedureStepID",
    "RequestAttributesSequence.RequestedProcedureID",
)

IMPLICIT_SYNTAXES = frozenset(("1.2.840.10008.1.2", "1.2.840.113619.5.2"))
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

_FIRST_READ = 1 << 14
_MOST_READ = 1 << 23  # bytes of a header that are read; of a longer one in a file, only the pages that are looked at
_MOST_ELEMENTS = 1 << 17  # looked at in one header
_MOST_VALUE = 1 << 20  # bytes of a value that is asked for
_UNDEFINED = 0xFFFFFFFF
_PIXELS = 0x7FE00000
_CHARSET = 0x00080005
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DEEPEST = 32
_HEADS = {order: (struct.Struct(f"{order}HHI"), struct.Struct(f"{order}HH2sH"), struct.Struct(f"{order}I")) for order in "<>"}

_CODED = frozenset(("SH", "LO", "ST", "LT", "PN", "UC", "UT"))  # VRs whose text follows Specific Character Set
_BLOCKS = frozenset(("ST", "LT", "UT"))  # one value, leading blanks count
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}


class _More(Exception):
    """The scan needs the file up to this offset."""

    def __init__(self, upto: int) -> None:
        super().__init__(upto)
        self.upto = upto


@dataclass(slots=True)
class _Goal:
    """What is wanted of one attribute: its path and the VR to read it by, or what is wanted in its items, by their number from 1."""

    path: str = ""
    vr: str = ""
    items: dict[int, _Plan] = field(default_factory=dict)


@dataclass(slots=True)
class _Plan:
    """What to look for in one dataset: by tag, and private attributes by group, creator and the last two digits."""

    public: dict[int, _Goal] = field(default_factory=dict)
    private: dict[tuple[int, str, int], _Goal] = field(default_factory=dict)

    def goal(self, level: Level) -> _Goal:
        """Return what is wanted of an attribute, which is wanted from now on."""
        if level.creator:
            return self.private.setdefault((level.tag >> 16, level.creator, level.tag & 0xFF), _Goal())
        return self.public.setdefault(level.tag, _Goal())

    @property
    def last(self) -> int:
        """The highest tag at which something may stand."""
        return max((*self.public, *(group << 16 | 0xFFFF for group, _, _ in self.private), _CHARSET))


@lru_cache(maxsize=64)
def _plan(paths: tuple[str, ...]) -> _Plan:
    plan = _Plan({_CHARSET: _Goal("SpecificCharacterSet", "CS")})
    for path in paths:
        *sequences, last = parse(path)
        here = plan
        for level in sequences:
            here = here.goal(level).items.setdefault(max(level.number, 1), _Plan())
        goal = here.goal(last)
        goal.path, goal.vr = path, last.vr or _private_vr(last)
    return plan


def _private_vr(level: Level) -> str:
    """Return the VR that the library knows of a private attribute, else LO: what has no VR is read as text."""
    try:
        return private_dictionary_VR(level.tag & 0xFFFF0000 | 0x1000 | level.tag & 0xFF, level.creator)
    except KeyError:
        return "LO"


def scan(source: bytes | str | os.PathLike[str] | BinaryIO, keywords: Iterable[str] = ROUTING) -> dict[str, str]:
    """Return the attributes that a DICOM file (its path, its bytes or itself, open) has of these keywords, as text.

    They are paths of `broker.dicom.path`: also into items of sequences, and to private attributes. Values are joined by a backslash; what
    is empty is "", what is absent is not there. Nothing from the pixel data on is read. Raises MessageError when the header cannot be read.
    """
    paths = tuple(keywords)
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            return _scan(file, paths)
    return _scan(BytesIO(source) if isinstance(source, bytes) else source, paths)


def scan_header(data: bytes, syntax: str, keywords: Iterable[str] = ROUTING) -> dict[str, str] | None:
    """Return what `scan` finds of a file whose dataset begins with these bytes; None when they do not tell. Raises MessageError."""
    paths = tuple(keywords)
    if syntax == DEFLATED:
        return None
    try:
        found = _Walk(data, syntax, False).run(0, _plan(paths))
    except _More:
        return None
    if "SpecificCharacterSet" not in paths:
        found.pop("SpecificCharacterSet", None)
    return found


def _scan(file: BinaryIO, paths: tuple[str, ...]) -> dict[str, str]:
    plan, upto = _plan(paths), _FIRST_READ
    meta = read_meta(file)
    deflated = meta.transfer_syntax == DEFLATED
    source, start = (Inflating(file), 0) if deflated else (file, meta.offset)
    file.seek(meta.offset if deflated else 0)
    read = source.read(upto)
    data: bytes | mmap.mmap = read
    while True:
        ended = len(data) < upto
        try:
            found = _Walk(data, meta.transfer_syntax, ended).run(start, plan)
        except _More as more:
            if ended:
                raise MessageError("", "the header is cut inside an element", 102) from None
            upto = max(2 * upto, more.upto + 64)
            if upto <= _MOST_READ:
                data = read = read + source.read(upto - len(read))
            elif deflated:
                raise MessageError("", "the deflated header is too long", 102) from None
            else:
                data = _whole(file)
                upto = len(data) + 1
            continue
        if "SpecificCharacterSet" not in paths:
            found.pop("SpecificCharacterSet", None)
        return found


def _whole(file: BinaryIO) -> bytes | mmap.mmap:
    """Return all bytes without reading them, where they are in a file."""
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # it is in memory
        file.seek(0)
        return file.read()


class _Walk:
    """One pass over the first bytes of a file."""

    def __init__(self, data: bytes | mmap.mmap, syntax: str, ended: bool) -> None:
        self.data, self.implicit, self.ended = data, syntax in IMPLICIT_SYNTAXES, ended
        self.order = ">" if syntax == BIG_ENDIAN else "<"
        self._head, self._explicit, self._long = _HEADS[self.order]
        self.end = len(data)
        self.left = _MOST_ELEMENTS
        self.found: dict[str, str] = {}
        self.blocks: dict[tuple[int, int, int], str] = {}  # depth, group and number of a private creator -> what it is called
        self.encodings: list[str] = encodings_of([])

    def run(self, at: int, plan: _Plan) -> dict[str, str]:
        last = min(plan.last, _PIXELS - 1)
        while at < self.end or not self.ended:
            tag, vr, length, start = self._element(at, self.implicit)
            if tag > last:
                break
            at = self._value(tag, vr, length, start, plan, self.implicit, 0)
        if at > self.end:
            raise _More(at)
        return self.found

    def _element(self, at: int, implicit: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR ("" when implicit), length and start of the value of the element at this offset."""
        if at + 12 > self.end and not (self.ended and at + 8 <= self.end):
            raise _More(at + 12)
        self.left -= 1
        if self.left < 0:
            raise MessageError("", "the header holds too many elements", 102)
        group, number, length = self._head.unpack_from(self.data, at)
        tag = group << 16 | number
        if implicit or group == 0xFFFE:
            return tag, b"", length, at + 8
        _, _, vr, short = self._explicit.unpack_from(self.data, at)
        if vr not in LONG_VRS:
            return tag, vr, short, at + 8
        if at + 12 > self.end:
            raise _More(at + 12)
        return tag, vr, self._long.unpack_from(self.data, at + 8)[0], at + 12

    def _value(self, tag: int, vr: bytes, length: int, start: int, plan: _Plan | None, implicit: bool, depth: int) -> int:
        """Take note of the value if it is wanted, and return the offset behind it."""
        goal = None
        if plan is not None:
            goal = plan.public.get(tag) or (self._private(tag, length, start, plan, depth) if plan.private and tag >> 16 & 1 else None)
        items = goal.items if goal is not None else None
        if length == _UNDEFINED:
            return self._items(start, None, items, implicit or vr == b"UN", depth + 1)
        if items and length:
            return self._items(start, start + length, items, implicit or vr == b"UN", depth + 1)
        if goal is not None and goal.path:
            read_as = vr.decode("latin-1") if vr and vr != b"UN" else goal.vr
            self._note(goal.path, read_as, self._bytes(goal.path, start, length))
        return start + length

    def _bytes(self, path: str, start: int, length: int) -> bytes:
        if length > _MOST_VALUE:
            raise MessageError(path, "the value is too long", 102)
        if start + length > self.end:
            raise _More(start + length)
        return self.data[start : start + length]

    def _private(self, tag: int, length: int, start: int, plan: _Plan, depth: int) -> _Goal | None:
        """Return what is wanted of a private attribute; of a creator, note which block it has reserved (PS3.5 7.8.1)."""
        group, number = tag >> 16, tag & 0xFFFF
        if 0x10 <= number <= 0xFF:
            creator = self._bytes("", start, length) if length != _UNDEFINED else b""
            self.blocks[depth, group, number] = _decode("LO", creator, self.encodings, self.order)
            return None
        return plan.private.get((group, self.blocks.get((depth, group, number >> 8), ""), number & 0xFF))

    def _items(self, at: int, stop: int | None, plans: Mapping[int, _Plan] | None, implicit: bool, depth: int) -> int:
        """Walk the items of a sequence, of which some are read by a plan; return the offset behind the sequence."""
        if depth > _DEEPEST:
            raise MessageError("", "sequences are nested too deep", 102)
        number, left = 0, max(plans) if plans else 0
        while stop is None or at < stop:
            tag, _, length, start = self._element(at, True)
            if tag == _SEQUENCE_END:
                return start
            if tag != _ITEM:
                raise MessageError("", "a sequence holds something that is no item", 102)
            number += 1
            plan = plans.get(number) if plans else None
            if length != _UNDEFINED and plan is None:
                at = start + length
            else:
                at = self._item(start, None if length == _UNDEFINED else start + length, plan, implicit, depth)
            if stop is not None and number == left:
                return stop
        return at

    def _item(self, at: int, stop: int | None, plan: _Plan | None, implicit: bool, depth: int) -> int:
        if plan is not None and plan.private:
            self.blocks = {key: creator for key, creator in self.blocks.items() if key[0] != depth}
        while stop is None or at < stop:
            tag, vr, length, start = self._element(at, implicit)
            if tag == _ITEM_END:
                return start
            at = self._value(tag, vr, length, start, plan, implicit, depth)
        return at

    def _note(self, path: str, vr: str, value: bytes) -> None:
        text = _decode(vr, value, self.encodings, self.order)
        self.found[path] = text
        if path == "SpecificCharacterSet":
            self.encodings = encodings_of(text.split("\\"))


def _decode(vr: str, value: bytes, encodings: Sequence[str], order: str) -> str:
    if vr in _NUMBERS:
        code = _NUMBERS[vr]
        count = len(value) // struct.calcsize(code)
        return "\\".join(map(str, struct.unpack_from(f"{order}{count}{code}", value)))
    if vr not in _CODED:
        text = value.decode("latin-1")
    elif len(encodings) == 1 and b"\x1b" not in value:
        text = value.decode(encodings[0], "replace")
    else:
        text = decode_bytes(value, encodings, PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS)
    strip: Callable[[str], str] = _rstrip if vr in _BLOCKS else _strip
    return "\\".join(map(strip, text.split("\\"))) if "\\" in text and vr not in _BLOCKS else strip(text)


def _strip(text: str) -> str:
    return text.strip(" \0")


def _rstrip(text: str) -> str:
    return text.rstrip(" \0")
