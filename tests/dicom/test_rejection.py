"""Rejection notes: whose they are, and what they name."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from broker.dicom.rejection import Reference, rejection_note
from tests.dicom.objects import ct

SAID = {"uid": "2.25.1", "series": "2.25.2", "now": "20260302081500", "maker": "BROKER"}


def test_it_belongs_to_the_patient_and_study_of_what_it_rejects() -> None:
    header = ct()
    note = rejection_note(header, [Reference("1", "1.1", "1.2", "1.1.1")], "quality", **SAID)
    assert (note.PatientID, note.PatientName, note.StudyInstanceUID) == (header.PatientID, header.PatientName, header.StudyInstanceUID)
    assert (note.SOPInstanceUID, note.SeriesInstanceUID, note.Modality) == ("2.25.1", "2.25.2", "KO")
    assert (note.ContentDate, note.ContentTime) == ("20260302", "081500")
    assert "PixelData" not in note


def test_what_the_image_does_not_say_is_empty() -> None:
    header = Dataset()
    header.StudyInstanceUID = "1"
    note = rejection_note(header, [Reference("1", "1.1", "1.2", "1.1.1")], "quality", **SAID)
    assert note.PatientName == ""
    assert "IssuerOfPatientID" not in note


def test_the_evidence_is_in_order_of_study_and_series() -> None:
    rejected = [Reference("1", "1.1", "1.2", "1.1.1"), Reference("1", "1.2", "1.2", "1.2.1"), Reference("1", "1.1", "1.2", "1.1.2")]
    note = rejection_note(ct(), rejected, "safety", **SAID)
    [study] = note.CurrentRequestedProcedureEvidenceSequence
    found = {
        one.SeriesInstanceUID: [sop.ReferencedSOPInstanceUID for sop in one.ReferencedSOPSequence] for one in study.ReferencedSeriesSequence
    }
    assert found == {"1.1": ["1.1.1", "1.1.2"], "1.2": ["1.2.1"]}
    assert len(note.ContentSequence) == 3


@pytest.mark.parametrize(
    ("rejected", "title", "error"), [([], "quality", ValueError), ([Reference("1", "1", "1", "1")], "nosuch", KeyError)]
)
def test_without_instances_or_a_title_there_is_none(rejected: list[Reference], title: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        rejection_note(ct(), rejected, title, **SAID)
