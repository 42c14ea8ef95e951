"""Objects in other transfer syntaxes: pydicom's own test files as sources, DCMTK reads what was written in tests/interop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from broker.dicom import codecs
from broker.dicom.transcode import LOSSLESS, LOSSY, NATIVE, transcode
from broker.errors import MessageError
from tests.dicom.objects import ct, part10

SOURCES = (
    "CT_small.dcm",  # 16 bits signed, explicit
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "image_dfl.dcm",  # deflated
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg_gdcm.dcm",  # JPEG lossless, colour
    "JPEG-lossy.dcm",  # JPEG extended, 12 bits
    "SC_rgb_dcmtk_+eb+cy+s2.dcm",  # JPEG baseline, YBR_FULL_422
    "SC_rgb_rle_2frame.dcm",  # colour by plane, two frames
    "693_J2KI.dcm",  # 14 of 16 bits
    "ExplVR_BigEnd.dcm",  # colour in 8 bits, OW or OB
    "examples_palette.dcm",
    "examples_overlay.dcm",
)


def path_of(name: str) -> str:
    found = get_testdata_file(name)
    assert isinstance(found, str)
    return found


def frames(path: Any) -> list[codecs.Frame]:
    return [frame for frame, _ in codecs.frames(dcmread(path))]


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("syntax", [*LOSSLESS, *NATIVE], ids=lambda uid: UID(uid).keyword)
def test_every_pixel_is_the_same_in_every_syntax(name: str, syntax: str, tmp_path: Path) -> None:
    source, made = path_of(name), tmp_path / "made.dcm"
    transcode(source, made, syntax)
    before, after = dcmread(source), dcmread(made)
    assert after.file_meta.TransferSyntaxUID == syntax
    assert after.SOPInstanceUID == before.SOPInstanceUID
    expected = frames(source)
    found = frames(made)
    assert len(found) == len(expected)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_all_else_of_the_header_stays(tmp_path: Path) -> None:
    made = tmp_path / "made.dcm"
    transcode(path_of("CT_small.dcm"), made, JPEGLSLossless)
    before, after = dcmread(path_of("CT_small.dcm")), dcmread(made)
    after.PixelData, after["PixelData"].VR = before.PixelData, before["PixelData"].VR
    after["PixelData"].is_undefined_length = False
    assert after == before


def test_numbers_of_bulk_data_are_turned_round_with_the_bytes_order(tmp_path: Path) -> None:
    made = tmp_path / "made.dcm"
    transcode(path_of("rtdose_expb.dcm"), made, ExplicitVRLittleEndian)
    expected = dcmread(path_of("rtdose.dcm"))
    assert dcmread(made).PixelData == expected.PixelData


def test_an_object_without_pixels_changes_its_header_only(tmp_path: Path) -> None:
    made = tmp_path / "made.dcm"
    transcode(path_of("test-SR.dcm"), made, DeflatedExplicitVRLittleEndian)
    assert dcmread(made) == dcmread(path_of("test-SR.dcm"))
    with pytest.raises(MessageError, match="without pixel data"):
        transcode(path_of("test-SR.dcm"), made, JPEGLSLossless)


@pytest.mark.parametrize("syntax", list(LOSSY), ids=lambda uid: UID(uid).keyword)
def test_what_loses_something_is_an_object_of_its_own_and_says_so(syntax: str, tmp_path: Path) -> None:
    made, again = tmp_path / "made.dcm", tmp_path / "again.dcm"
    source = path_of("examples_rgb_color.dcm") if syntax != JPEGExtended12Bit else path_of("examples_overlay.dcm")
    transcode(source, made, syntax)
    transcode(source, again, syntax)
    before, after = dcmread(source), dcmread(made)
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert after.SOPInstanceUID == after.file_meta.MediaStorageSOPInstanceUID == dcmread(again).SOPInstanceUID
    assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert (after.ImageType[0], after.LossyImageCompression) == ("DERIVED", "01")
    assert after["LossyImageCompressionMethod"].value
    [found], [expected] = frames(made), frames(source)
    assert found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert 0 < difference.mean() < (20 if syntax == JPEGExtended12Bit else 8)


def test_what_was_lossy_stays_known_to_be(tmp_path: Path) -> None:
    made = tmp_path / "made.dcm"
    transcode(path_of("SC_rgb_jpeg_dcmtk.dcm"), made, ExplicitVRLittleEndian)
    assert dcmread(made).LossyImageCompression == "01"


@pytest.mark.parametrize(
    ("name", "syntax", "why"),
    [
        ("CT_small.dcm", ExplicitVRBigEndian, "cannot be written in"),
        ("CT_small.dcm", "1.2.3", "cannot be written in"),
        ("CT_small.dcm", JPEGBaseline8Bit, "cannot be encoded"),  # 16 bits
        ("MR_truncated.dcm", RLELossless, "cannot be decoded"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", ExplicitVRLittleEndian, "cannot be decoded"),
        ("liver_1frame.dcm", JPEG2000Lossless, "one bit"),
    ],
)
def test_what_cannot_be_is_said_and_names_nothing_of_the_patient(name: str, syntax: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(MessageError, match=why) as caught:
        transcode(path_of(name), tmp_path / "made.dcm", syntax)
    patient = str(dcmread(path_of(name), force=True).get("PatientName") or "-")
    assert patient not in str(caught.value)


def test_bits_beyond_those_stored_are_not_lost_in_silence(tmp_path: Path) -> None:
    ds = ct(64)
    ds.BitsStored, ds.HighBit = 12, 11
    ds.PixelData = (0xF123).to_bytes(2, "little") * 64 * 64  # the upper four bits hold an overlay of old
    source = tmp_path / "source.dcm"
    source.write_bytes(part10(ds))
    made = tmp_path / "made.dcm"
    with pytest.raises(MessageError, match="beyond those stored"):
        transcode(source, made, JPEGLSLossless)
    transcode(source, made, ImplicitVRLittleEndian)
    assert dcmread(made).PixelData == ds.PixelData


def test_the_sign_of_a_pixel_is_no_other_bit(tmp_path: Path) -> None:
    ds = ct(64)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 1
    ds.PixelData = b"".join(value.to_bytes(2, "little", signed=True) for value in range(-2048, 2048))
    source, made = tmp_path / "source.dcm", tmp_path / "made.dcm"
    source.write_bytes(part10(ds))
    transcode(source, made, JPEGLSLossless)
    transcode(made, tmp_path / "back.dcm", ExplicitVRLittleEndian)
    assert dcmread(tmp_path / "back.dcm").PixelData == ds.PixelData


def test_the_syntaxes_are_those_that_are_promised() -> None:
    assert set(LOSSLESS) == {JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, RLELossless}
    assert set(LOSSY) == {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000}
    assert set(codecs.ENCODED) == {*LOSSLESS, *LOSSY}
