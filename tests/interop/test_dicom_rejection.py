"""Rejection notes and corrected copies as other people's tools see them: dciodvfy, DCMTK's dsrdump and dcmdump."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage

from broker.dicom.coerce import prepared
from broker.dicom.dataset import encode, encode_header, read_header
from broker.dicom.files import file_meta
from broker.dicom.reissue import identity, reissued
from broker.dicom.rejection import KEY_OBJECTS, TITLES, Reference, rejection_note
from broker.model import Spooled, StoreRequest
from tests.dicom.objects import ct, part10

CT = "1.2.840.10008.5.1.4.1.1.2"


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program that must be there."""
    path = shutil.which(name)
    assert path, f"{name} is needed"
    return subprocess.run([path, *arguments], capture_output=True, timeout=60, check=False)


def written(folder: Path, note: Dataset) -> Path:
    file = folder / "note.dcm"
    file.write_bytes(file_meta(KEY_OBJECTS, note.SOPInstanceUID, ExplicitVRLittleEndian) + encode(note, ExplicitVRLittleEndian))
    return file


@pytest.mark.parametrize("title", TITLES)
def test_a_rejection_note_is_a_key_object_selection(tmp_path: Path, title: str) -> None:
    header = ct(charset="ISO_IR 192", name="ΔΟΕ^JANE")
    header.StudyTime, header.StudyID, header.ReferringPhysicianName = "080000", "1", "GREEN^ADAM"
    header.PatientBirthDate = "19700101"
    references = [
        Reference(header.StudyInstanceUID, "1.2.3.1", CT, "1.2.3.1.1"),
        Reference(header.StudyInstanceUID, "1.2.3.1", CT, "1.2.3.1.2"),
        Reference(header.StudyInstanceUID, "1.2.3.2", TwelveLeadECGWaveformStorage, "1.2.3.2.1"),
        Reference(header.StudyInstanceUID, "1.2.3.3", EncapsulatedPDFStorage, "1.2.3.3.1"),
    ]
    note = rejection_note(header, references, title, uid="2.25.1", series="2.25.2", now="20260302080000", maker="BROKER")
    file = written(tmp_path, note)
    checked = tool("dciodvfy", "-new", str(file))
    said = (checked.stdout + checked.stderr).decode()
    assert "KeyObjectSelectionDocument" in said
    assert not re.findall(r"^Error.*", said, re.M), said
    dumped = tool("dsrdump", "+U8", "+Pc", str(file))
    shown = dumped.stdout.decode()
    assert dumped.returncode == 0, dumped.stderr
    assert "Key Object Selection Document" in shown
    code, meaning = TITLES[title]
    assert f'({code},DCM,"{meaning}")' in shown
    assert shown.count("<contains IMAGE:") == 2
    assert shown.count("<contains WAVEFORM:") == 1
    assert shown.count("<contains COMPOSITE:") == 1
    assert "ΔΟΕ^JANE" in tool("dcmdump", "+U8", str(file)).stdout.decode()


def test_a_corrected_copy_is_still_what_it_was_but_for_its_identity(tmp_path: Path) -> None:
    original = ct()
    other, elsewhere = "1.2.3.1.9", "1.2.3.9.9"
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = CT, other
    prior = Dataset()
    prior.ReferencedSOPClassUID, prior.ReferencedSOPInstanceUID = CT, elsewhere
    original.SourceImageSequence = Sequence([image, prior])
    performed = Dataset()
    performed.ReferencedSOPClassUID, performed.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.3", "1.2.3.4"
    original.ReferencedPerformedProcedureStepSequence = Sequence([performed])
    series, study = Dataset(), Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = "1.2.3.9", Sequence([prior])
    study.StudyInstanceUID, study.ReferencedSeriesSequence = "1.2.9", Sequence([series])
    original.StudiesContainingOtherReferencedInstancesSequence = Sequence([study])
    file = tmp_path / "original.dcm"
    file.write_bytes(part10(original))
    own = {name: str(original[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
    changes = {**identity(own, "key", "1.2.840.1"), "PatientID": "8888"}
    spooled = Spooled("x", CT, original.SOPInstanceUID, ExplicitVRLittleEndian, 1, "d")
    header, offset = read_header(file)
    header = prepared(header, StoreRequest(spooled, changes, "CORRECT", (), "CT1", "key"), system="BROKER", now="20260302080000")
    copy = tmp_path / "copy.dcm"
    rest = file.read_bytes()[offset:]
    copy.write_bytes(
        file_meta(CT, changes["SOPInstanceUID"], ExplicitVRLittleEndian) + encode_header(header, ExplicitVRLittleEndian) + rest
    )
    shown = tool("dcmdump", "+L", str(copy)).stdout.decode()
    kept = shown[shown.index("OriginalAttributesSequence") :]
    assert f"[{reissued(other, 'key')}]" in shown
    assert shown.count(f"[{elsewhere}]") == 3  # in the copy twice, and among the originals once
    assert "[1.2.3.4]" in shown
    assert "SourceImageSequence" in kept
    for uid in own.values():
        assert f"[{uid}]" in kept
    assert "[CT1]" in kept
    assert "[CORRECT" in kept
    assert copy.read_bytes().endswith(rest)
    assert tool("dciodvfy", "-new", str(copy)).stderr.decode().count("OriginalAttributesSequence") == 0
