from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import JPEGLSLossless

from broker.dicom import codecs
from broker.dicom.derive import derive
from broker.dicom.storerequest import encode_request
from broker.dicom.transcode import transcode
from broker.errors import MessageError
from broker.model import Spooled, StoreRequest
from tests.dicom.objects import ct, part10

SETTINGS: dict[str, Any] = {"system": "BROKER", "now": "20260302081500.000000+0000", "key": "0123456789abcdef"}


def request(changes: dict[str, str] | None = None) -> str:
    return encode_request(StoreRequest(Spooled("x", "1.2", "1.2.3", "1.2.840.10008.1.2.1", 1, "d"), changes or {})).decode()


def deidentified(source: str | Path, target: Path, *, changes: dict[str, str] | None = None, **rules: Any) -> dict[str, Any]:
    return derive("deidentify", source=str(source), target=str(target), request=request(changes), rules=rules, **SETTINGS)


def test_what_the_delivery_changes_is_changed_before_it_is_hidden(tmp_path: Path) -> None:
    source, target = str(get_testdata_file("CT_small.dcm")), tmp_path / "made.dcm"
    made = deidentified(source, target, changes={"PatientID": "P1"})
    found = dcmread(target)
    assert found.SOPInstanceUID == found.file_meta.MediaStorageSOPInstanceUID == made["sop_instance"]
    assert ("patient", "P1") in {(kind, original) for kind, original, _ in made["given"]}
    assert "OriginalAttributesSequence" not in found
    assert made["syntax"] == dcmread(source).file_meta.TransferSyntaxUID
    assert "SourceApplicationEntityTitle" not in found.file_meta


@pytest.mark.parametrize("compressed", [False, True])
def test_regions_are_black_and_all_else_is_as_it_was(compressed: bool, tmp_path: Path) -> None:
    source = str(get_testdata_file("examples_rgb_color.dcm"))
    if compressed:
        transcode(source, tmp_path / "source.dcm", JPEGLSLossless)
        source = str(tmp_path / "source.dcm")
    device = {"sop_class": "", "manufacturer": "", "model": "", "rows": 240, "columns": 320, "boxes": [[10, 20, 30, 40]]}
    made = deidentified(source, tmp_path / "made.dcm", options=["clean_pixel_data"], devices=[device])
    [before], [after] = ([frame for frame, _ in codecs.frames(dcmread(path))] for path in (source, tmp_path / "made.dcm"))
    assert not after[20:60, 10:40].any()
    outside = np.ones(before.shape, bool)
    outside[20:60, 10:40] = False
    assert np.array_equal(before[outside], after[outside])
    found = dcmread(tmp_path / "made.dcm")
    assert found.BurnedInAnnotation == "NO"
    assert [code.CodeValue for code in found.DeidentificationMethodCodeSequence] == ["113100", "113101"]
    assert made["syntax"] == found.file_meta.TransferSyntaxUID == dcmread(source).file_meta.TransferSyntaxUID


def test_what_says_that_it_shows_text_is_held_also_without_the_option(tmp_path: Path) -> None:
    ds = ct()
    ds.BurnedInAnnotation = "YES"
    (tmp_path / "source.dcm").write_bytes(part10(ds))
    with pytest.raises(MessageError, match="may show who the patient is"):
        deidentified(tmp_path / "source.dcm", tmp_path / "made.dcm", options=[])
