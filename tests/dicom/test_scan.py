"""The fast header scan, with pydicom as the oracle."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from broker.dicom.dataset import encode
from broker.dicom.files import file_meta
from broker.dicom.scan import ROUTING, scan, scan_header
from broker.errors import MessageError
from tests.dicom.objects import ct, dataset_bytes, part10

EXPECTED = {
    "AccessionNumber": "A1",
    "Modality": "CT",
    "PatientID": "4711",
    "PatientName": "DOE^JANE",
    "RequestAttributesSequence.ScheduledProcedureStepID": "S1",
    "RequestAttributesSequence.RequestedProcedureID": "R1",
}


def file_in(syntax: str, ds: Dataset) -> bytes:
    body = encode(ds, syntax)
    if syntax == DeflatedExplicitVRLittleEndian:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = deflate.compress(body) + deflate.flush()
    return file_meta(ds.SOPClassUID, ds.SOPInstanceUID, syntax) + body


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit]
)
def test_every_transfer_syntax_gives_the_same(syntax: str) -> None:
    found = scan(file_in(syntax, ct()))
    assert EXPECTED.items() <= found.items()
    assert "StationName" not in found


def test_a_path_and_an_open_file_will_do(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(part10(ct()))
    with path.open("rb") as file:
        assert scan(str(path)) == scan(path) == scan(file) == scan(part10(dcmread(path)))


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "MÜLLER^ZOË"),
        ("ISO_IR 192", "山田^太郎"),
        ("ISO_IR 144", "ИВАНОВ^ИВАН"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 6", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_text_follows_the_character_set(charset: str, name: str) -> None:
    ds = ct(name=name)
    ds.SpecificCharacterSet = charset
    assert scan(part10(ds))["PatientName"] == name


def test_values_are_stripped_joined_and_told_from_absent_ones() -> None:
    ds = ct()
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.StationName = ""
    ds.PatientComments = "  two\r\nlines "
    ds.AccessionNumber = "A1 "
    found = scan(part10(ds), ["ImageType", "StationName", "PatientComments", "AccessionNumber", "Rows", "Columns", "InstitutionName"])
    assert found == {
        "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
        "StationName": "",
        "PatientComments": "  two\r\nlines",
        "AccessionNumber": "A1",
        "Rows": "16",
        "Columns": "16",
    }


def sequence_of(length: int | None, inner: bytes) -> bytes:
    """Return ReferencedStudySequence (0008,1110) with one item around `inner`; None is undefined length."""
    undefined = length is None
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", 0xFFFFFFFF if undefined else len(inner)) + inner
    item += b"\xfe\xff\x0d\xe0\0\0\0\0" if undefined else b""
    end = b"\xfe\xff\xdd\xe0\0\0\0\0" if undefined else b""
    return b"\x08\x00\x10\x11SQ\0\0" + struct.pack("<I", 0xFFFFFFFF if undefined else len(item)) + item + end


def explicit(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


PATIENT = explicit(0x10, 0x20, b"LO", b"4711")
META = file_meta("1.2", "1.2.3", ExplicitVRLittleEndian)


@pytest.mark.parametrize("outer", [0, None])
@pytest.mark.parametrize("inner", [0, None])
def test_nested_sequences_of_either_length_are_skipped(outer: int | None, inner: int | None) -> None:
    nested = sequence_of(outer, sequence_of(inner, explicit(0x10, 0x20, b"LO", b"WRONG ")))
    assert scan(META + nested + PATIENT, ["PatientID"]) == {"PatientID": "4711"}


def test_an_unknown_value_of_undefined_length_is_implicit_inside() -> None:
    inside = struct.pack("<HHI", 0x10, 0x20, 6) + b"WRONG "
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inside)) + inside
    unknown = b"\x09\x00\x10\x11UN\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert scan(META + unknown + PATIENT, ["PatientID"]) == {"PatientID": "4711"}


def test_only_the_first_item_of_a_wanted_sequence_counts() -> None:
    ds = ct()
    second = Dataset()
    second.ScheduledProcedureStepID = "S2"
    ds.RequestAttributesSequence.append(second)
    assert scan(part10(ds))["RequestAttributesSequence.ScheduledProcedureStepID"] == "S1"


@pytest.mark.parametrize("size", [1 << 15, 1 << 20, (1 << 23) + 100])
def test_long_elements_before_the_wanted_ones_are_no_obstacle(size: int) -> None:
    ds = ct()
    ds.private_block(0x0009, "BROKER TEST").add_new(0x10, "OB", bytes(size))
    assert EXPECTED.items() <= scan(part10(ds)).items()


def test_nothing_from_the_pixels_on_is_read() -> None:
    data = part10(ct())
    assert scan(data[: data.rindex(b"\xe0\x7f\x10\x00") + 12], [*ROUTING, "PixelData"]) == scan(data)


def test_a_header_that_is_cut_is_an_error_without_its_values() -> None:
    data = part10(ct())
    with pytest.raises(MessageError, match="cut inside an element") as caught:
        scan(data[: data.index(b"4711") + 2])
    assert "47" not in str(caught.value)


def test_what_is_no_dicom_file_is_said() -> None:
    with pytest.raises(MessageError, match="DICM"):
        scan(b"MSH|^~\\&|" + bytes(500))


def test_sequences_nested_too_deep_are_an_error() -> None:
    nested = PATIENT
    for _ in range(40):
        nested = sequence_of(None, nested)
    with pytest.raises(MessageError, match="too deep"):
        scan(META + nested + PATIENT)


def test_a_keyword_that_does_not_exist_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="PatientNumber"):
        scan(part10(ct()), ["PatientNumber"])


def test_implicit_scan_agrees_with_pydicom() -> None:
    ds = ct()
    data = file_meta(ds.SOPClassUID, ds.SOPInstanceUID, ImplicitVRLittleEndian) + dataset_bytes(ds, implicit=True)
    assert scan(data, ["StudyInstanceUID", "InstanceNumber"]) == {"StudyInstanceUID": ds.StudyInstanceUID, "InstanceNumber": "1"}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_items_and_private_attributes(tmp_path: Path, syntax: str) -> None:
    ds = ct()
    first, second = ds.RequestAttributesSequence[0], Dataset()
    second.ScheduledProcedureStepID = "S2"
    second.private_block(0x0029, "OTHER", create=True).add_new(0x10, "LO", "not this")
    second.private_block(0x0029, "ACME", create=True).add_new(0x10, "LO", "in the item")
    ds.RequestAttributesSequence = [first, second]
    block = ds.private_block(0x0029, "ACME", create=True)
    block.add_new(0x10, "LO", "north")
    block.add_new(0x11, "SQ", [second])
    path = tmp_path / "a.dcm"
    path.write_bytes(part10(ds, syntax, syntax == ImplicitVRLittleEndian))
    wanted = {
        "RequestAttributesSequence.ScheduledProcedureStepID": "S1",
        "RequestAttributesSequence[2].ScheduledProcedureStepID": "S2",
        'RequestAttributesSequence[2].(0029,"ACME",10)': "in the item",
        '(0029,"ACME",10)': "north",
    }
    absent = ['(0029,"NOBODY",10)', "RequestAttributesSequence[3].ScheduledProcedureStepID", 'RequestAttributesSequence.(0029,"ACME",10)']
    assert scan(path, [*wanted, *absent, "PatientID"]) == {**wanted, "PatientID": "4711"}
    if syntax == ExplicitVRLittleEndian:  # without a VR, a private sequence of unknown length is known by nothing
        assert scan(path, ['(0029,"ACME",11).ScheduledProcedureStepID']) == {'(0029,"ACME",11).ScheduledProcedureStepID': "S2"}


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, JPEGBaseline8Bit])
def test_the_first_bytes_of_a_dataset_tell_what_the_file_does(syntax: str) -> None:
    ds = ct()
    data, body = file_in(syntax, ds), encode(ds, syntax)
    cut = scan_header(body, syntax)
    assert cut is not None
    assert cut == scan(data)


def test_first_bytes_that_do_not_reach_far_enough_tell_nothing() -> None:
    body = encode(ct(), ExplicitVRLittleEndian)
    assert [scan_header(body[:size], ExplicitVRLittleEndian) for size in range(0, 120, 7)] == [None] * 18
    assert scan_header(body, DeflatedExplicitVRLittleEndian) is None


def test_first_bytes_that_are_wrong_are_a_message_error() -> None:
    nested = b"\x08\x00\x40\x11SQ\0\0\x10\0\0\0" + b"\x08\x00\x50\x11" + bytes(12)
    with pytest.raises(MessageError, match="no item"):
        scan_header(nested, ExplicitVRLittleEndian, ["ReferencedImageSequence.ReferencedSOPInstanceUID"])
