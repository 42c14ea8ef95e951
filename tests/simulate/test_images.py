"""Synthetic images and performed procedure steps that follow a worklist entry."""

from __future__ import annotations

import io

import pytest
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from broker.simulate.images import (
    SOP_CLASSES,
    make_images,
    modality_of,
    performed_created,
    performed_ended,
    pixel_digest,
    scheduled_step,
    unscheduled_entry,
)
from broker.simulate.modality import STEP_KEYS, worklist_identifier

AT = "20260302081500"


@pytest.fixture
def entry() -> Dataset:
    made = unscheduled_entry(patient_id="SIM1", name="PRØVESEN^GANTRY", accession="A1", study_uid="1.2.3", modality="CT", station="CT1")
    made.RequestedProcedureID = "RP1"
    scheduled_step(made).ScheduledProcedureStepID = "SPS1"
    return made


@pytest.mark.parametrize("modality", sorted(SOP_CLASSES))
def test_an_image_is_valid_and_follows_the_entry(entry: Dataset, modality: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduled_step(entry).Modality = modality
    monkeypatch.setattr(config.settings, "writing_validation_mode", config.RAISE)
    [image] = make_images(entry, 1, station="ST1", at=AT)
    written = io.BytesIO()
    image.save_as(written, enforce_file_format=True)
    written.seek(0)
    read = dcmread(written)
    assert read.SOPClassUID == SOP_CLASSES[modality]
    assert (read.PatientName, read.PatientID, read.AccessionNumber) == ("PRØVESEN^GANTRY", "SIM1", "A1")
    assert (read.StudyInstanceUID, read.Modality, read.StationName) == ("1.2.3", modality, "ST1")
    assert (read.StudyDate, read.StudyTime) == ("20260302", "081500")
    request = read.RequestAttributesSequence[0]
    assert (request.RequestedProcedureID, request.ScheduledProcedureStepID) == ("RP1", "SPS1")
    assert pixel_digest(read) == pixel_digest(image)
    assert len(read.PixelData) == read.Rows * read.Columns * 2


def test_images_of_a_series_differ_and_the_same_seed_gives_the_same(entry: Dataset) -> None:
    images = make_images(entry, 5, station="CT1", at=AT, seed=1)
    assert len({image.SOPInstanceUID for image in images}) == 5
    assert len({pixel_digest(image) for image in images}) == 5
    assert len({image.SeriesInstanceUID for image in images}) == 1
    assert [image.InstanceNumber for image in images] == [1, 2, 3, 4, 5]
    assert make_images(entry, 5, station="CT1", at=AT, seed=1) == images
    assert make_images(entry, 5, station="CT1", at=AT, seed=2)[0].SOPInstanceUID != images[0].SOPInstanceUID


def test_each_step_of_an_exam_has_a_series_of_its_own(entry: Dataset) -> None:
    [one] = make_images(entry, 1, station="CT1", at=AT, seed=1)
    scheduled_step(entry).ScheduledProcedureStepID = "SPS2"
    [other] = make_images(entry, 1, station="CT1", at=AT, seed=1)
    assert one.StudyInstanceUID == other.StudyInstanceUID
    assert one.SeriesInstanceUID != other.SeriesInstanceUID
    assert one.SOPInstanceUID != other.SOPInstanceUID


def test_without_a_study_uid_the_modality_makes_one(entry: Dataset) -> None:
    entry.StudyInstanceUID = ""
    one, other = make_images(entry, 2, station="CT1", at=AT, seed=1)
    assert one.StudyInstanceUID == other.StudyInstanceUID
    assert one.StudyInstanceUID.is_valid


def test_an_entry_without_a_step_has_a_modality_that_no_image_class_has(entry: Dataset) -> None:
    assert modality_of(Dataset()) == "OT"
    assert modality_of(entry) == "CT"


def test_a_performed_step_begins_with_what_the_entry_says(entry: Dataset) -> None:
    created = performed_created(entry, station="CT1", at=AT, step_id="P1")
    assert created.PerformedProcedureStepStatus == "IN PROGRESS"
    assert (created.PerformedProcedureStepStartDate, created.PerformedProcedureStepStartTime) == ("20260302", "081500")
    reference = created.ScheduledStepAttributesSequence[0]
    assert (reference.AccessionNumber, reference.StudyInstanceUID) == ("A1", "1.2.3")
    assert (reference.RequestedProcedureID, reference.ScheduledProcedureStepID) == ("RP1", "SPS1")
    assert created.PerformedSeriesSequence == Sequence([])
    assert "SOPInstanceUID" not in created


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_a_performed_step_ends_with_its_series_and_their_images(entry: Dataset, status: str) -> None:
    images = make_images(entry, 3, station="CT1", at=AT)
    ended = performed_ended(images, status=status, at=AT)
    [series] = ended.PerformedSeriesSequence
    assert ended.PerformedProcedureStepStatus == status
    assert series.SeriesInstanceUID == images[0].SeriesInstanceUID
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedImageSequence] == [image.SOPInstanceUID for image in images]


def test_keys_of_the_scheduled_step_go_into_its_sequence() -> None:
    asked = worklist_identifier({"Modality": "CT", "PatientID": "SIM1", "PatientSize": ""}, "ISO_IR 100")
    [step] = asked.ScheduledProcedureStepSequence
    assert (asked.PatientID, step.Modality, asked.SpecificCharacterSet) == ("SIM1", "CT", "ISO_IR 100")
    assert "Modality" not in asked
    assert "PatientSize" in asked
    assert set(STEP_KEYS) < {element.keyword for element in step}
