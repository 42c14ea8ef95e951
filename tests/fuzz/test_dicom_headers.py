"""Hostile datasets: reading a header gives values or a MessageError, in bounded time, and never the values in its text."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest

from broker.dicom.coerce import coerce
from broker.dicom.dataset import decode, encode_header, read_header, scan
from broker.dicom.files import file_meta
from broker.errors import MessageError
from tests.dicom.objects import ct, dataset_bytes, part10

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom and pynetdicom, silenced in the product by `silence_libraries`

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
DS = ct(8, name="SECRET^NAME")


def hurt(seed: int, data: bytes, start: int) -> bytes:
    """Return the data with a few bytes behind `start` changed, or its end cut off."""
    rng = random.Random(seed)
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 12)):
        changed[rng.randrange(start, len(changed))] = rng.choice((0, 0xFF, rng.randrange(256)))
    return bytes(changed[: rng.randrange(start, len(changed))] if rng.random() < 0.3 else changed)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("seed", range(120))
def test_scanning_gives_texts_or_a_message_error(seed: int, syntax: str) -> None:
    data = hurt(seed, part10(DS, syntax, implicit=syntax == IMPLICIT), 132)
    try:
        found = scan(data)
    except MessageError as error:
        found = {}
        assert "SECRET" not in str(error)  # noqa: PT017 - either outcome is right
    assert all(isinstance(value, str) for value in found.values())


@pytest.mark.parametrize("seed", range(120))
def test_reading_and_changing_a_header_works_or_is_a_message_error(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(hurt(seed, part10(DS), 340))
    outcome = "changed"
    try:
        header, offset = read_header(path)
        assert 0 < offset <= path.stat().st_size
        header = coerce(header, {"PatientID": "9"}, reason="COERCE", system="BROKER", now="20260302")
        assert b"9 " in encode_header(header, EXPLICIT)
    except MessageError as error:
        outcome = str(error)
    assert "SECRET" not in outcome


@pytest.mark.parametrize("seed", range(80))
def test_decoding_an_identifier_works_or_is_a_message_error(seed: int) -> None:
    outcome = "decoded"
    try:
        decode(hurt(seed, dataset_bytes(DS), 0), EXPLICIT)
    except MessageError as error:
        outcome = str(error)
    assert "SECRET" not in outcome


UNDEFINED = 0xFFFFFFFF
ITEM, SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def long(tag: int, vr: bytes, length: int) -> bytes:
    """Return the head of an element of explicit VR with a long length."""
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, length)


def deflated(data: bytes) -> bytes:
    """Return the data as a deflated dataset has it."""
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return deflate.compress(data) + deflate.flush()


SEQUENCE = long(0x00081115, b"SQ", UNDEFINED)
HOSTILE = {
    "a value of 4 GB that is not there": (EXPLICIT, long(0x00090010, b"OB", UNDEFINED - 1) + bytes(64)),
    "a wanted value of 4 GB that is not there": (EXPLICIT, long(0x00100020, b"UT", UNDEFINED - 1) + bytes(64)),
    "a sequence that never ends": (EXPLICIT, SEQUENCE),
    "an item that never ends": (EXPLICIT, SEQUENCE + ITEM),
    "items without end": (EXPLICIT, SEQUENCE + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 2_000_000),
    "an unknown value that never ends, of 40 MB": (EXPLICIT, long(0x00090010, b"UN", UNDEFINED) + bytes(40_000_000)),
    "sequences in sequences": (EXPLICIT, (SEQUENCE + ITEM) * 5000),
    "sequences in sequences, implicit": (IMPLICIT, (struct.pack("<HHI", 8, 0x1115, UNDEFINED) + ITEM) * 5000),
    "big endian without end": (BIG_ENDIAN, struct.pack(">HH2sHI", 8, 0x1115, b"SQ", 0, UNDEFINED) + bytes(40_000_000)),
    "zeros that inflate to 400 MB": (DEFLATED, deflated(long(0x00090010, b"OB", 400_000_000) + bytes(400_000_000))),
    "items that inflate to 160 MB": (DEFLATED, deflated(SEQUENCE + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 20_000_000)),
    "deflated and cut": (DEFLATED, deflated(dataset_bytes(DS))[:100]),
    "not deflated": (DEFLATED, dataset_bytes(DS)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_made_to_hurt_is_refused_within_bounds(name: str, tmp_path: Path) -> None:
    syntax, data = HOSTILE[name]
    path = tmp_path / "a.dcm"
    path.write_bytes(file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", syntax) + data)
    tracemalloc.start()
    with pytest.raises(MessageError) as raised:
        scan(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000
    assert "SECRET" not in str(raised.value)


def test_a_bomb_is_not_inflated_to_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", DEFLATED) + HOSTILE["zeros that inflate to 400 MB"][1])
    with pytest.raises(MessageError, match="too large to be changed"):
        read_header(path)


def test_a_header_beyond_what_can_be_changed_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.dicom.dataset._MOST_HEADER", 1 << 20)
    path = tmp_path / "a.dcm"
    for data in (long(0x00090010, b"OB", 2_000_000) + bytes(2_000_000), long(0x00090010, b"OB", UNDEFINED) + bytes(2_000_000)):
        path.write_bytes(file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", EXPLICIT) + data)
        with pytest.raises(MessageError, match="too large to be changed"):
            read_header(path)


def test_a_header_that_is_cut_inside_a_value_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", EXPLICIT) + long(0x00090010, b"OB", 100) + bytes(50))
    with pytest.raises(MessageError, match="cannot be read"):
        read_header(path)


@pytest.mark.parametrize("depth", [40, 1000, 30_000])
def test_an_identifier_nested_too_deep_is_an_error(depth: int) -> None:
    with pytest.raises(MessageError):
        decode((SEQUENCE + ITEM) * depth, EXPLICIT)
