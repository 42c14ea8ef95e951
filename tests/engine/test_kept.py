"""Queries answered from the headers of spooled files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from broker.dicom.query import IMAGE, PATIENT_ROOT, SERIES, STUDY, STUDY_ROOT, Query, read_retrieval, values_of
from broker.engine.kept import asked_for, entries, narrowed
from broker.model import Spooled, StoreRequest
from broker.store.kept import ACCESSION, Kept
from tests.dicom.objects import ct, part10
from tests.engine.archives import entry

SYNTAX = "1.2.840.10008.1.2.1"


class Shelf:
    """A folder of objects, each with what changes on its way out."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, list[Kept]()

    def add(self, study: str = "1.2", series: str = "1.2.1", count: int = 1, changes: dict[str, str] | None = None, **more: Any) -> Dataset:
        image = ct(4)
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.PatientID, image.AccessionNumber, image.StudyDate, image.StudyTime = "4711", "A1", "20260302", "091500"
        for keyword, value in more.items():
            setattr(image, keyword, value)
        name = f"{len(self.rows)}.dcm"
        (self.folder / name).write_bytes(part10(image))
        spooled = Spooled(name, str(image.SOPClassUID), str(image.SOPInstanceUID), SYNTAX, 1, "d")
        self.rows.append(Kept(StoreRequest(spooled, changes or {}), "A1", False, count))
        return image

    def find(self, level: str = STUDY, **keys: Any) -> list[Dataset]:
        return entries(Query(STUDY_ROOT, level, entry(QueryRetrieveLevel=level, **keys)), self.rows, lambda name: self.folder / name)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_a_study_is_counted_over_its_series(shelf: Shelf) -> None:
    shelf.add(count=3)
    shelf.add(series="1.2.2", count=2, Modality="SR")
    keys = ("ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "StudyID", "ProcedureCodeSequence", "Rows")
    [found] = shelf.find(**dict.fromkeys(keys, None))
    assert values_of(found, "ModalitiesInStudy") == ["CT", "SR"]
    assert (found.NumberOfStudyRelatedSeries, found.NumberOfStudyRelatedInstances, found.Rows) == (2, 5, 4)
    assert (found.StudyInstanceUID, found.InstanceAvailability, list(found.ProcedureCodeSequence)) == ("1.2", "ONLINE", [])


def test_what_is_told_is_what_leaves(shelf: Shelf) -> None:
    shelf.add(changes={"PatientName": "RIGHT^PATIENT", "StudyInstanceUID": "1.9", "RequestAttributesSequence.RequestedProcedureID": "RP1"})
    assert shelf.find(StudyInstanceUID="1.2") == []
    [found] = shelf.find(StudyInstanceUID="1.9", PatientName="right*")
    assert found.PatientName == "RIGHT^PATIENT"


@pytest.mark.parametrize(
    "keys",
    [
        {"StudyInstanceUID": ["1.1", "1.2"]},
        {"StudyDate": "20260301-20260302", "StudyTime": "0900-0930"},
        {"StudyDate": "-20260302", "PatientName": "doe^*"},
        {"ModalitiesInStudy": "CT", "AccessionNumber": "A?", "PatientID": "*"},
        {"RetrieveAETitle": "ELSEWHERE", "SpecificCharacterSet": "ISO_IR 100"},
    ],
)
def test_keys_that_fit(shelf: Shelf, keys: dict[str, Any]) -> None:
    shelf.add()
    assert len(shelf.find(**keys)) == 1


@pytest.mark.parametrize(
    "keys",
    [
        {"StudyDate": "20260303-"},
        {"StudyTime": "0800-0900"},
        {"ModalitiesInStudy": "MR"},
        {"AccessionNumber": "a1"},
        {"StudyDescription": "CHEST"},
    ],
)
def test_keys_that_do_not(shelf: Shelf, keys: dict[str, Any]) -> None:
    shelf.add()
    assert shelf.find(**keys) == []


def test_a_file_that_is_gone_or_damaged_is_passed_over(shelf: Shelf) -> None:
    shelf.add()
    image = shelf.add()
    shelf.add()
    (shelf.folder / "0.dcm").unlink()
    (shelf.folder / "2.dcm").write_bytes(b"no DICOM")
    assert [one.SOPInstanceUID for one in shelf.find(IMAGE)] == [image.SOPInstanceUID]


def test_a_retrieval_gets_what_it_names_as_it_leaves_and_each_object_once(shelf: Shelf) -> None:
    image = shelf.add(changes={"PatientID": "NEW"})
    shelf.rows.append(shelf.rows[0])
    shelf.add(study="1.3")
    for patient, count in (("NEW", 1), ("4711", 0)):
        wanted = read_retrieval(PATIENT_ROOT, entry(QueryRetrieveLevel="STUDY", PatientID=patient, StudyInstanceUID="1.2"))
        found = asked_for(wanted, shelf.rows, lambda name: shelf.folder / name)
        assert [one.request.spooled.sop_instance for one in found] == [image.SOPInstanceUID] * count


def test_only_exact_keys_narrow_the_search() -> None:
    asked = entry(StudyInstanceUID=["1.2", "1.3"], PatientID="47*", AccessionNumber="A1", PatientName="DOE")
    assert narrowed(Query(STUDY_ROOT, SERIES, asked)) == {STUDY: ["1.2", "1.3"], ACCESSION: ["A1"]}
