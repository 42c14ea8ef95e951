"""DICOM files (PS3.10): the preamble and file meta information, written and read by hand."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from broker.dicom.negotiation import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from broker.errors import MessageError

PREAMBLE = bytes(128) + b"DICM"
LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT_ELEMENT = struct.Struct("<HH2sH")
_LONG_ELEMENT = struct.Struct("<HH2sHI")
_USUAL_META = 1 << 10
_MOST_META = 1 << 16


@dataclass(frozen=True, slots=True)
class Meta:
    """What the file meta information says, and the offset of the dataset behind it."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    offset: int


def file_meta(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Return preamble and group 2 of a file; they depend on nothing but the arguments."""
    body = b"".join(
        (
            _LONG_ELEMENT.pack(2, 1, b"OB", 0, 2) + b"\0\1",
            _element(2, b"UI", sop_class),
            _element(3, b"UI", sop_instance),
            _element(0x10, b"UI", transfer_syntax),
            _element(0x12, b"UI", IMPLEMENTATION_UID),
            _element(0x13, b"SH", IMPLEMENTATION_VERSION),
        )
    )
    return PREAMBLE + _SHORT_ELEMENT.pack(2, 0, b"UL", 4) + struct.pack("<I", len(body)) + body


def _element(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return _SHORT_ELEMENT.pack(2, number, vr, len(value)) + value


def read_meta(file: BinaryIO) -> Meta:
    """Return the file meta information of an open file; raises MessageError when it is none of PS3.10."""
    file.seek(0)
    data = file.read(_USUAL_META)
    if len(data) == _USUAL_META and not _reaches_dataset(data):
        data += file.read(_MOST_META)
    return parse_meta(data)


def _reaches_dataset(data: bytes) -> bool:
    """Whether group 2 ends in these bytes, by its own length (0002,0000)."""
    group, number, _, _, length = struct.unpack_from("<HH2sHI", data, 132)
    return (group, number) == (2, 0) and 144 + length + 8 <= len(data)


def parse_meta(data: bytes) -> Meta:
    """Return the file meta information at the beginning of these bytes; raises MessageError."""
    if data[128:132] != b"DICM":
        raise MessageError("", "no DICOM file: the prefix DICM is missing", reject=True)
    found: dict[int, str] = {}
    at = 132
    while at + 8 <= len(data):
        group, number, vr, length = _SHORT_ELEMENT.unpack_from(data, at)
        if group != 2:
            break
        at += 8
        if vr in LONG_VRS:
            if at + 4 > len(data):
                break
            (length,) = struct.unpack_from("<I", data, at)
            at += 4
        found[number] = data[at : at + length].rstrip(b"\0 ").decode("latin-1")
        at += length
    if at > len(data) or not found.get(0x10):
        raise MessageError("TransferSyntaxUID", "the file meta information is incomplete", reject=True)
    return Meta(found.get(2, ""), found.get(3, ""), found[0x10], at)
