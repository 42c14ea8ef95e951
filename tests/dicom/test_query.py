"""Identifiers of Query/Retrieve: the rules of the hierarchy, answers of several archives made one, retrievals divided among them."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from broker.dicom.query import (
    IMAGE,
    MODELS,
    PATIENT,
    PATIENT_ROOT,
    SERIES,
    STUDY,
    STUDY_ROOT,
    Merging,
    Model,
    combine,
    divide,
    read_query,
    read_retrieval,
    values_of,
)
from broker.errors import MessageError


def dataset(**elements: Any) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def test_each_model_has_three_services() -> None:
    assert len(MODELS) == 6
    assert MODELS["1.2.840.10008.5.1.4.1.2.2.2"] is STUDY_ROOT
    assert MODELS["1.2.840.10008.5.1.4.1.2.1.3"] is PATIENT_ROOT


@pytest.mark.parametrize(
    ("model", "keys", "level"),
    [
        (PATIENT_ROOT, {"QueryRetrieveLevel": "PATIENT", "PatientName": "DOE*"}, PATIENT),
        (PATIENT_ROOT, {"QueryRetrieveLevel": "STUDY", "PatientID": "1", "StudyInstanceUID": ""}, STUDY),
        (STUDY_ROOT, {"QueryRetrieveLevel": "STUDY", "PatientID": "1*", "SeriesInstanceUID": ""}, STUDY),
        (STUDY_ROOT, {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2"}, SERIES),
        (STUDY_ROOT, {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}, IMAGE),
    ],
)
def test_a_query_that_keeps_to_the_hierarchy_is_taken(model: Model, keys: dict[str, str], level: str) -> None:
    assert read_query(model, dataset(**keys)).level == level


@pytest.mark.parametrize(
    ("model", "keys", "at"),
    [
        (STUDY_ROOT, {}, "QueryRetrieveLevel"),
        (STUDY_ROOT, {"QueryRetrieveLevel": "PATIENT"}, "QueryRetrieveLevel"),
        (PATIENT_ROOT, {"QueryRetrieveLevel": "STUDIES"}, "QueryRetrieveLevel"),
        (PATIENT_ROOT, {"QueryRetrieveLevel": "STUDY"}, "PatientID"),
        (PATIENT_ROOT, {"QueryRetrieveLevel": "STUDY", "PatientID": "1*"}, "PatientID"),
        (STUDY_ROOT, {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": ["1.2", "1.3"]}, "StudyInstanceUID"),
        (STUDY_ROOT, {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": "1.2"}, "SeriesInstanceUID"),
        (STUDY_ROOT, {"QueryRetrieveLevel": "STUDY", "SeriesInstanceUID": "1.3"}, "SeriesInstanceUID"),
        (PATIENT_ROOT, {"QueryRetrieveLevel": "PATIENT", "StudyInstanceUID": "1.3"}, "StudyInstanceUID"),
    ],
)
def test_a_query_that_does_not_is_refused_with_the_key(model: Model, keys: dict[str, Any], at: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_query(model, dataset(**keys))
    assert caught.value.path == at


def test_a_retrieval_has_its_unique_keys_and_nothing_else() -> None:
    asked = dataset(QueryRetrieveLevel="SERIES", StudyInstanceUID="1.2", SeriesInstanceUID=["1.3", "1.4", "1.3"], Modality="CT")
    wanted = read_retrieval(STUDY_ROOT, asked)
    assert (wanted.level, wanted.wanted) == (SERIES, ("1.3", "1.4"))
    assert wanted.identifier() == dataset(QueryRetrieveLevel="SERIES", StudyInstanceUID="1.2", SeriesInstanceUID=["1.3", "1.4"])


@pytest.mark.parametrize(
    "keys",
    [
        {"QueryRetrieveLevel": "STUDY"},
        {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.*"},
        {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "1.3"},
        {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": [f"1.{n}" for n in range(1001)]},
    ],
)
def test_a_retrieval_that_would_take_everything_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        read_retrieval(STUDY_ROOT, dataset(**keys))


def test_a_retrieval_of_two_patients_is_refused() -> None:
    with pytest.raises(MessageError):
        read_retrieval(PATIENT_ROOT, dataset(QueryRetrieveLevel="PATIENT", PatientID=["1", "2"]))


def test_a_retrieval_narrowed_to_series_keeps_the_keys_above() -> None:
    wanted = read_retrieval(PATIENT_ROOT, dataset(QueryRetrieveLevel="STUDY", PatientID="1", StudyInstanceUID=["1.2", "1.3"]))
    assert wanted.at(SERIES, ["1.9"], STUDY="1.2").identifier() == dataset(
        QueryRetrieveLevel="SERIES", PatientID="1", StudyInstanceUID="1.2", SeriesInstanceUID="1.9"
    )


def test_a_retrieval_of_a_patient_narrowed_to_a_study_keeps_the_patient() -> None:
    wanted = read_retrieval(PATIENT_ROOT, dataset(QueryRetrieveLevel="PATIENT", PatientID="1")).at(STUDY, ["1.2"])
    assert wanted.keys == {PATIENT: ("1",), STUDY: ("1.2",)}
    assert wanted.at(SERIES, ["1.3", "1.4"], STUDY="1.2").keys == {PATIENT: ("1",), STUDY: ("1.2",), SERIES: ("1.3", "1.4")}


def test_of_one_source_every_entry_is_ready_at_once() -> None:
    merging = Merging(STUDY, 1)
    assert merging.take(0, dataset(StudyInstanceUID="1.2")) == [dataset(StudyInstanceUID="1.2")]
    assert merging.take(0, dataset(StudyInstanceUID="1.2")) == []
    assert merging.end(0) == []
    assert merging.count == 1


def test_an_entry_waits_for_the_sources_that_still_answer() -> None:
    merging = Merging(STUDY, 3)
    assert merging.take(1, dataset(StudyInstanceUID="1.2", StudyDescription="second")) == []
    assert merging.take(0, dataset(StudyInstanceUID="1.2", StudyDescription="")) == []
    assert merging.take(0, dataset(StudyInstanceUID="1.3", StudyDescription="first")) == []
    [whole] = merging.end(2)
    assert whole.StudyDescription == "second"
    assert merging.end(0) == []
    assert [one.StudyInstanceUID for one in merging.end(1)] == ["1.3"]


def test_patients_of_two_issuers_are_two() -> None:
    merging = Merging(PATIENT, 1)
    for issuer in ("A", "B"):
        assert len(merging.take(0, dataset(PatientID="1", IssuerOfPatientID=issuer))) == 1


def test_entries_without_the_unique_key_are_never_one() -> None:
    merging = Merging(STUDY, 1)
    assert len(merging.take(0, dataset(StudyID="1"))) == len(merging.take(0, dataset(StudyID="1"))) == 1


def test_the_first_source_counts_and_lists_counts_and_availability_are_made_one() -> None:
    whole = combine(
        [
            dataset(PatientName="DOE^A", AccessionNumber="", ModalitiesInStudy="CT", NumberOfStudyRelatedInstances=3),
            dataset(
                PatientName="DOE^B",
                AccessionNumber="A1",
                ModalitiesInStudy=["CT", "SR"],
                NumberOfStudyRelatedInstances=5,
                InstanceAvailability="NEARLINE",
            ),
            dataset(StudyID="7", InstanceAvailability="ONLINE"),
        ]
    )
    assert (whole.PatientName, whole.AccessionNumber, whole.StudyID) == ("DOE^A", "A1", "7")
    assert values_of(whole, "ModalitiesInStudy") == ["CT", "SR"]
    assert (whole.NumberOfStudyRelatedInstances, whole.InstanceAvailability) == (5, "ONLINE")


def test_making_one_leaves_the_parts_as_they_were() -> None:
    parts = [dataset(StudyID=""), dataset(StudyID="7")]
    combine(parts)
    assert parts[0].StudyID == ""


def test_each_series_comes_from_the_fullest_source_else_from_the_first() -> None:
    assert divide([{"1": 10, "2": 3}, {"1": 10, "2": 4, "3": 0}]) == [["1"], ["2", "3"]]
    assert divide([{}, {"1": 0}]) == [[], ["1"]]
