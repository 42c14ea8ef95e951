"""The modality worklist."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydicom.datadict import dictionary_VR

from broker.ris import worklist
from broker.ris.entities import Composite
from broker.ris.events import Identifier, PatientData, Procedure
from broker.ris.worklist import WorklistQuery, from_keys, matches, matches_name, query

KNEE = Procedure("MRKNEE", "MR knee", "MR", duration=30, cpt="73721", steps=(("MRK1", "Knee plain"), ("MRK2", "Knee contrast")))


@pytest.fixture
def day(ris: Any) -> Any:
    """Three patients: P1 today 10:00 on CT1, P2 (two MR steps) today 14:00, P3 tomorrow 09:00 on CT2."""
    ris.register("1", family="DOE", given="JANE")
    ris.register("2", family="Doe", given="Johann", middle="Q")
    ris.register("3@CLINIC", "33", family="MÜLLER", given="ÉVA")
    ris.do(ris.order("P1", "1", requested_at="202603021000"))
    ris.do(ris.order("P2", "2", KNEE, requested_at="202603021400"))
    ris.do(ris.order("P3", "33", requested_at="202603030900", station="CT2"))
    return ris


def found(ris: Any, **keys: Any) -> list[str]:
    """The placer numbers of what a query finds."""
    return [entry.order.placer_number for entry in query(ris.records, WorklistQuery(**keys))]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ["P1", "P2", "P2", "P3"]),
        ({"station": "CT1"}, ["P1"]),
        ({"station": "CT?"}, ["P1", "P3"]),
        ({"station": "ct1"}, []),
        ({"modality": "MR"}, ["P2", "P2"]),
        ({"modality": "CT", "station": "CT2"}, ["P3"]),
        ({"date_low": "20260302", "date_high": "20260302"}, ["P1", "P2", "P2"]),
        ({"date_low": "20260303"}, ["P3"]),
        ({"date_high": "20260302"}, ["P1", "P2", "P2"]),
        ({"date_low": "20260303", "date_high": "20260302"}, []),
        ({"date_low": "20260302", "time_low": "1001", "date_high": "20260303", "time_high": "0859"}, ["P2", "P2"]),
        ({"date_low": "20260302", "time_low": "1000", "date_high": "20260303", "time_high": "090000"}, ["P1", "P2", "P2", "P3"]),
        ({"time_low": "0900", "time_high": "10"}, ["P1", "P3"]),
        ({"time_low": "1410"}, ["P2"]),
        ({"patient_id": "1"}, ["P1"]),
        ({"patient_id": "3"}, ["P3"]),
        ({"patient_id": "3", "issuer": "CLINIC"}, ["P3"]),
        ({"patient_id": "3", "issuer": "HOSP"}, []),
        ({"patient_id": "3*", "issuer": "HOSP"}, ["P3"]),
        ({"patient_id": "nobody"}, []),
        ({"issuer": "CLINIC"}, ["P3"]),
        ({"patient_name": "doe*"}, ["P1", "P2", "P2"]),
        ({"patient_name": "DOE^J?NE"}, ["P1"]),
        ({"patient_name": "DOE^JANE^^"}, ["P1"]),
        ({"patient_name": "DOE"}, []),
        ({"patient_name": "müll*^é*"}, ["P3"]),
        ({"accession": "A00000002"}, ["P2", "P2"]),
        ({"accession": "A0000000?"}, ["P1", "P2", "P2", "P3"]),
        ({"accession": "A00000002", "patient_id": "1"}, []),
        ({"accession": "NONE"}, []),
        ({"requested_procedure_id": "RP00000003"}, ["P3"]),
        ({"sps_id": "SPS00000003"}, ["P2"]),
        ({"sps_id": "SPS00000003", "station": "CT1"}, []),
        ({"study_uid": "2.25.1"}, ["P1"]),
        ({"study_uid": "2.25.1", "date_low": "20260303"}, []),
    ],
)
def test_keys(day: Any, keys: dict[str, str], expected: list[str]) -> None:
    assert found(day, **keys) == expected


def test_entry_has_all_that_surrounds_the_step(day: Any) -> None:
    first, second = query(day.records, WorklistQuery(modality="MR"))
    assert [entry.step.protocol_code for entry in (first, second)] == ["MRK1", "MRK2"]
    assert (first.exam, first.order, first.patient) == (day.exam("P2"), day.the_order("P2"), day.holder("2"))
    assert [row.value for row in first.identifiers] == ["2"]


def test_only_what_waits(day: Any) -> None:
    accession = day.exam("P1").accession
    day.do(day.control("arrive", "P1", "1"))
    assert found(day, modality="CT") == ["P1", "P3"]
    day.do(day.start(accession))
    assert found(day, modality="CT") == ["P3"]
    assert found(day, modality="CT", in_progress=True) == ["P1", "P3"]
    assert found(day, station="CT1", in_progress=True) == ["P1"]
    day.do(day.end())
    assert found(day, modality="CT", in_progress=True) == ["P3"]


def test_what_is_on_hold_or_cancelled_is_left_out(day: Any) -> None:
    day.do(day.control("hold", "P1", "1"))
    day.do(day.control("cancel", "P3", "33"))
    assert found(day, modality="CT") == []
    day.do(day.control("release", "P1", "1"))
    assert found(day, modality="CT") == ["P1"]


def test_follows_a_merge(day: Any) -> None:
    day.merge("2", "1")
    assert found(day, patient_id="2") == found(day, patient_id="1") == ["P1", "P2", "P2"]
    (entry,) = query(day.records, WorklistQuery(accession="A00000001"))
    assert (entry.patient.given, [row.value for row in entry.identifiers]) == ("Johann", ["2"])


def test_from_keys() -> None:
    keys = {
        "ScheduledStationAETitle": "CT1 ",
        "Modality": "CT",
        "ScheduledProcedureStepStartDate": "20260302-20260305",
        "ScheduledProcedureStepStartTime": "080000.00-1200",
        "PatientName": "DOE*",
        "PatientID": "1",
        "IssuerOfPatientID": "HOSP",
        "AccessionNumber": "A1",
        "RequestedProcedureID": "R1",
        "ScheduledProcedureStepID": "S1",
        "StudyInstanceUID": "1.2",
        "PatientWeight": "80",
    }
    assert from_keys(keys, in_progress=True) == WorklistQuery(
        station="CT1",
        modality="CT",
        date_low="20260302",
        date_high="20260305",
        time_low="080000",
        time_high="1200",
        patient_id="1",
        issuer="HOSP",
        patient_name="DOE*",
        accession="A1",
        requested_procedure_id="R1",
        sps_id="S1",
        study_uid="1.2",
        in_progress=True,
    )


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", "", ""),
        ("*", "", ""),
        ("20260302", "20260302", "20260302"),
        ("2026.03.02", "20260302", "20260302"),
        ("20260302-", "20260302", ""),
        ("-20260302", "", "20260302"),
    ],
)
def test_date_keys(text: str, low: str, high: str) -> None:
    wanted = from_keys({"ScheduledProcedureStepStartDate": text})
    assert (wanted.date_low, wanted.date_high) == (low, high)


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("", "", True),
        ("*", "", True),
        ("a*c", "abbc", True),
        ("a**c", "ac", True),
        ("a?c", "ac", False),
        ("a.c", "abc", False),
        ("[a]*", "[a]b", True),
        ("a", "A", False),
        ("*\n", "x\n", True),
    ],
)
def test_wildcards(pattern: str, value: str, fits: bool) -> None:
    assert matches(pattern, value) is fits


def test_names_without_case_or_empty_components() -> None:
    assert matches_name("doe^jane", "DOE^JANE^^")
    assert matches_name("STRASSE*", "straße^x")
    assert not matches_name("doe^j", "DOE^JANE")


def test_attributes(day: Any) -> None:
    day.do(day.order("P4", "1", provider=Composite("7^GREY^MEREDITH"), requested_at="202603021100", station="CT1", priority="STAT"))
    (entry,) = query(day.records, WorklistQuery(sps_id="SPS00000005"))
    known = worklist.attributes(day.records, entry)
    step = "ScheduledProcedureStepSequence."
    assert {key: known[key] for key in ("PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID", "RequestingPhysician")} == {
        "PatientName": "DOE^JANE",
        "PatientID": "1",
        "AccessionNumber": "A00000004",
        "StudyInstanceUID": "2.25.4",
        "RequestingPhysician": "GREY^MEREDITH",
    }
    assert known[step + "ScheduledStationAETitle"] == "CT1"
    assert known[step + "ScheduledProcedureStepStartDate"] == "20260302"
    assert known[step + "ScheduledProcedureStepStartTime"] == "080000"
    assert known[step + "ScheduledProcedureStepStatus"] == "SCHEDULED"
    assert known[step + "ScheduledProtocolCodeSequence.CodeValue"] == "CTCHEST"


def test_attributes_fit_their_vr(ris: Any) -> None:
    procedure = Procedure("CTCHEST", "CT " + "chest " * 20, "CT")
    reason = "cough since\nJanuary, " + "very " * 20
    person = PatientData((Identifier("4711"),), family="DOE", birth_date="1961")
    ris.do(replace(ris.order(procedure=procedure, reason=reason, priority="ASAP"), patient=person))
    known = worklist.attributes(ris.records, query(ris.records, WorklistQuery())[0])
    assert known["ReasonForTheRequestedProcedure"].startswith("cough since January, very")
    assert known["RequestedProcedurePriority"] == "HIGH"
    assert known["PatientBirthDate"] == ""
    for keyword, value in known.items():
        name = keyword.rpartition(".")[2]
        assert len(value) <= {"SH": 16, "LO": 64, "CS": 16}.get(dictionary_VR(name), 64), name
        assert value.isprintable(), name


def test_a_code_names_its_scheme(day: Any) -> None:
    known = worklist.attributes(day.records, query(day.records, WorklistQuery(station="CT1"))[0])
    for sequence in ("RequestedProcedureCodeSequence", "ScheduledProcedureStepSequence.ScheduledProtocolCodeSequence"):
        assert known[f"{sequence}.CodeValue"] == "CTCHEST"
        assert known[f"{sequence}.CodingSchemeDesignator"] == "L"  # private to the site, PS3.3 8.2 and HL7 table 0396
        assert known[f"{sequence}.CodeMeaning"] == "CT chest"


def test_a_day_of_one_station_does_not_read_the_rest(day: Any) -> None:
    asked: list[tuple[str, ...]] = []
    between = day.records.between
    day.records.between = lambda kind, field, *span, **match: asked.append((*span, *match.values())) or between(kind, field, *span, **match)
    found(day, station="CT1", date_low="20260302", date_high="20260302", modality="CT")
    assert asked == [("202603020000", "202603022359", "CT1")]


def test_each_record_is_read_once_for_a_query(day: Any) -> None:
    for number in range(10):
        day.do(replace(day.order(f"Q{number}", "1"), requested_at="202603021500"))
    read: list[tuple[type, int]] = []
    get = day.records.get
    day.records.get = lambda kind, id: read.append((kind, id)) or get(kind, id)
    assert len(found(day, patient_id="1")) == 11
    assert len(read) == len(set(read)) == 11 + 11 + 1  # exams, orders, the patient
