"""Headers read and written: what is not touched leaves as it came."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from broker.dicom.dataset import decode, encode, encode_header, read_header
from broker.dicom.files import Meta, file_meta, parse_meta, read_meta
from broker.dicom.storerequest import decode_request, encode_request
from broker.errors import MessageError
from broker.model import Spooled, StoreRequest
from tests.dicom.objects import ct, dataset_bytes

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


def put(path: Path, ds: Dataset, syntax: str) -> Path:
    path.write_bytes(file_meta(ds.SOPClassUID, ds.SOPInstanceUID, syntax) + encode(ds, syntax))
    return path


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_header_and_rest_together_are_the_object(tmp_path: Path, syntax: str) -> None:
    path = put(tmp_path / "a.dcm", ct(), syntax)
    header, offset = read_header(path)
    data = path.read_bytes()
    assert "PixelData" not in header
    assert encode_header(header, syntax) + data[offset:] == data[parse_meta(data).offset :]


def test_a_header_without_pixels_ends_with_the_file(tmp_path: Path) -> None:
    ds = ct()
    del ds.PixelData
    path = put(tmp_path / "a.dcm", ds, ExplicitVRLittleEndian)
    assert read_header(path)[1] == path.stat().st_size


def test_a_deflated_object_is_read_whole(tmp_path: Path) -> None:
    ds = ct()
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    path = tmp_path / "a.dcm"
    body = deflate.compress(dataset_bytes(ds)) + deflate.flush()
    path.write_bytes(file_meta(ds.SOPClassUID, ds.SOPInstanceUID, DeflatedExplicitVRLittleEndian) + body)
    header, offset = read_header(path)
    assert offset == path.stat().st_size
    assert header.PixelData == ds.PixelData
    written = encode_header(header, DeflatedExplicitVRLittleEndian)
    assert len(written) % 2 == 0
    assert zlib.decompressobj(-zlib.MAX_WBITS).decompress(written) == dataset_bytes(ds)


def test_damaged_deflation_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(file_meta("1.2", "1.2.3", DeflatedExplicitVRLittleEndian) + b"\xff" * 50)
    with pytest.raises(MessageError, match="deflated"):
        read_header(path)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_identifiers_go_both_ways(syntax: str) -> None:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = "山田^太郎"
    step = Dataset()
    step.Modality = "CT"
    ds.ScheduledProcedureStepSequence = [step]
    assert decode(encode(ds, syntax), syntax) == ds


def test_an_identifier_that_is_cut_inside_a_sequence_is_an_error() -> None:
    cut = b"\x40\0\0\x01\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff"
    with pytest.raises(MessageError, match="cannot be decoded"):
        decode(cut, ImplicitVRLittleEndian)


def test_file_meta_is_what_pydicom_reads(tmp_path: Path) -> None:
    path = put(tmp_path / "a.dcm", ct(instance="1.2.3"), ExplicitVRLittleEndian)
    meta = dcmread(path).file_meta
    assert (meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID) == ("1.2.3", ExplicitVRLittleEndian)
    assert meta.FileMetaInformationGroupLength + 144 == parse_meta(path.read_bytes()).offset


def test_a_long_file_meta_of_others_is_read(tmp_path: Path) -> None:
    ds = ct(instance="1.2.3")
    ds.file_meta.PrivateInformationCreatorUID = "1.2.3.4"
    ds.file_meta.PrivateInformation = bytes(5000)
    path = tmp_path / "a.dcm"
    ds.save_as(path, enforce_file_format=True)
    with path.open("rb") as file:
        meta = read_meta(file)
        assert meta == Meta(ds.SOPClassUID, "1.2.3", ExplicitVRLittleEndian, meta.offset)
        file.seek(meta.offset)
        assert file.read() == dataset_bytes(ds)


def test_store_requests_go_both_ways() -> None:
    request = StoreRequest(Spooled("20260302/a.dcm", "1.2", "1.2.3", "1.2.840.10008.1.2", 10, "ff"), {"PatientName": "ИВАНОВ"}, "CORRECT")
    assert decode_request(encode_request(request)) == request


@pytest.mark.parametrize("payload", [b"", b"MSH|", b"[]", b'{"spooled": {}}', b"\xff"])
def test_a_payload_that_is_no_store_request_is_an_error(payload: bytes) -> None:
    with pytest.raises(MessageError):
        decode_request(payload)
