"""A fast reader of a few attributes at the beginning of a DICOM file, without building a dataset."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import BinaryIO

from pydicom import dcmread
from pydicom.charset import decode_bytes
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

from broker.dicom.charset import encodings_of
from broker.dicom.files import LONG_VRS, read_meta
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
_MOST_READ = 1 << 23
_UNDEFINED = 0xFFFFFFFF
_PIXELS = 0x7FE00000
_CHARSET = 0x00080005
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DEEPEST = 32
_HEAD = struct.Struct("<HHI")
_EXPLICIT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<I")

_CODED = frozenset(("SH", "LO", "ST", "LT", "PN", "UC", "UT"))  # VRs whose text follows Specific Character Set
_BLOCKS = frozenset(("ST", "LT", "UT"))  # one value, leading blanks count
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}


class _More(Exception):
    """The scan needs the file up to this offset."""

    def __init__(self, upto: int) -> None:
        super().__init__(upto)
        self.upto = upto


@dataclass(slots=True)
class _Plan:
    """What to look for in one dataset: by tag, the path to report and the VR, or the plan of a sequence's first item."""

    wanted: dict[int, tuple[str, str]] = field(default_factory=dict)
    inside: dict[int, _Plan] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return max((*self.wanted, *self.inside, _CHARSET))


@lru_cache(maxsize=64)
def _plan(paths: tuple[str, ...]) -> _Plan:
    plan = _Plan({_CHARSET: ("SpecificCharacterSet", "CS")})
    for path in paths:
        *sequences, last = path.split(".")
        here = plan
        for keyword in sequences:
            here = here.inside.setdefault(_tag(keyword), _Plan())
        here.wanted[_tag(last)] = (path, dictionary_VR(_tag(last)))
    return plan


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is not a DICOM keyword")
    return int(tag)


def scan(source: bytes | str | os.PathLike[str] | BinaryIO, keywords: Iterable[str] = ROUTING) -> dict[str, str]:
    """Return the attributes that a DICOM file (its path, its bytes or itself, open) has of these keywords, as text.

    Keywords may be dotted into the first item of sequences. Values are joined by a backslash; what is empty is "", what is
    absent is not there. Nothing from the pixel data on is read. Raises MessageError when the header cannot be read.
    """
    paths = tuple(keywords)
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            return _scan(file, paths)
    return _scan(BytesIO(source) if isinstance(source, bytes) else source, paths)


def _scan(file: BinaryIO, paths: tuple[str, ...]) -> dict[str, str]:
    plan, upto = _plan(paths), _FIRST_READ
    meta = read_meta(file)
    file.seek(0)
    data = file.read(upto)
    while meta.transfer_syntax not in (BIG_ENDIAN, DEFLATED) and upto <= _MOST_READ:
        ended = len(data) < upto
        try:
            found = _Walk(data, meta.transfer_syntax in IMPLICIT_SYNTAXES, ended).run(meta.offset, plan)
        except _More as more:
            if ended:
                raise MessageError("", "the header is cut inside an element", 102) from None
            upto = max(2 * upto, more.upto + 64)
            data += file.read(upto - len(data))
            continue
        if "SpecificCharacterSet" not in paths:
            found.pop("SpecificCharacterSet", None)
        return found
    return _by_pydicom(file, paths)


class _Walk:
    """One pass over the first bytes of a file."""

    def __init__(self, data: bytes, implicit: bool, ended: bool) -> None:
        self.data, self.implicit, self.ended = data, implicit, ended
        self.end = len(data)
        self.found: dict[str, str] = {}
        self.encodings: list[str] = encodings_of([])

    def run(self, at: int, plan: _Plan) -> dict[str, str]:
        last = min(plan.last, _PIXELS - 1)
        while at < self.end or not self.ended:
            tag, vr, length, start = self._element(at, self.implicit)
            if tag > last:
                break
            at = self._value(tag, vr, length, start, plan, self.implicit, 0)
        return self.found

    def _element(self, at: int, implicit: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR ("" when implicit), length and start of the value of the element at this offset."""
        if at + 12 > self.end and not (self.ended and at + 8 <= self.end):
            raise _More(at + 12)
        group, number, length = _HEAD.unpack_from(self.data, at)
        tag = group << 16 | number
        if implicit or group == 0xFFFE:
            return tag, b"", length, at + 8
        _, _, vr, short = _EXPLICIT.unpack_from(self.data, at)
        if vr not in LONG_VRS:
            return tag, vr, short, at + 8
        if at + 12 > self.end:
            raise _More(at + 12)
        return tag, vr, _LONG.unpack_from(self.data, at + 8)[0], at + 12

    def _value(self, tag: int, vr: bytes, length: int, start: int, plan: _Plan | None, implicit: bool, depth: int) -> int:
        """Take note of the value if it is wanted, and return the offset behind it."""
        inside = plan.inside.get(tag) if plan else None
        if length == _UNDEFINED:
            return self._items(start, None, inside, implicit or vr == b"UN", depth + 1)
        if inside is not None and length:
            return self._items(start, start + length, inside, implicit or vr == b"UN", depth + 1)
        if plan and tag in plan.wanted:
            if start + length > self.end:
                raise _More(start + length)
            path, expected = plan.wanted[tag]
            self._note(path, vr.decode("latin-1") or expected, self.data[start : start + length])
        return start + length

    def _items(self, at: int, stop: int | None, plan: _Plan | None, implicit: bool, depth: int) -> int:
        """Walk the items of a sequence, of which the first is read by the plan; return the offset behind the sequence."""
        if depth > _DEEPEST:
            raise MessageError("", "sequences are nested too deep", 102)
        while stop is None or at < stop:
            tag, _, length, start = self._element(at, True)
            if tag == _SEQUENCE_END:
                return start
            if tag != _ITEM:
                raise MessageError("", "a sequence holds something that is no item", 102)
            if length != _UNDEFINED and plan is None:
                at = start + length
            else:
                at = self._item(start, None if length == _UNDEFINED else start + length, plan, implicit, depth)
            if stop is not None and plan is not None:
                return stop
            plan = None
        return at

    def _item(self, at: int, stop: int | None, plan: _Plan | None, implicit: bool, depth: int) -> int:
        while stop is None or at < stop:
            tag, vr, length, start = self._element(at, implicit)
            if tag == _ITEM_END:
                return start
            at = self._value(tag, vr, length, start, plan, implicit, depth)
        return at

    def _note(self, path: str, vr: str, value: bytes) -> None:
        text = _decode(vr, value, self.encodings)
        self.found[path] = text
        if path == "SpecificCharacterSet":
            self.encodings = encodings_of(text.split("\\"))


def _decode(vr: str, value: bytes, encodings: Sequence[str]) -> str:
    if vr in _NUMBERS:
        code = _NUMBERS[vr]
        count = len(value) // struct.calcsize(code)
        return "\\".join(map(str, struct.unpack_from(f"<{count}{code}", value)))
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


def _by_pydicom(file: BinaryIO, paths: tuple[str, ...]) -> dict[str, str]:
    """The slow way, for big endian and deflated datasets and for very long headers."""
    file.seek(0)
    try:
        dataset = dcmread(file, stop_before_pixels=True, specific_tags=[path.split(".")[0] for path in paths])
        found = {path: _texts(dataset, path.split(".")) for path in paths}
    except Exception as error:  # whatever a damaged header raises in the library
        raise MessageError("", "the header cannot be read", 102) from error
    return {path: "\\".join(texts) for path, texts in found.items() if texts is not None}


def _texts(dataset: Dataset, path: list[str]) -> list[str] | None:
    """Return the values of a keyword, dotted into the first item of sequences; None when absent."""
    for keyword in path[:-1]:
        if not dataset.get(keyword):
            return None
        dataset = dataset[keyword].value[0]
    if path[-1] not in dataset:
        return None
    element = dataset[path[-1]]
    if element.is_empty:
        return []
    return [str(value) for value in element.value] if element.VM > 1 else [str(element.value)]
