"""The modality worklist."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydicom.datadict import dictionary_VR

from broker.errors import MessageError
from broker.ris.entities import Composite
from broker.ris.events import Identifier, PatientData, Procedure
from broker.ris.matching import matches, matches_dates, matches_list, matches_name
from broker.ris.names import fitted
from broker.ris.worklist import LISTED, WorklistQuery, filters, for_stations, from_keys
from broker.ris.worklist_entry import ATTRIBUTES, WorklistEntry, attributes
from broker.store import worklist as rows

STEP = "ScheduledProcedureStepSequence."
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


def query(ris: Any, wanted: WorklistQuery, page: int = 2) -> list[WorklistEntry]:
    """What a query finds, a page at a time."""
    entries: list[WorklistEntry] = []
    after, more = rows.BEGINNING, True
    while more:
        read = rows.page(ris.tx, wanted, after, page)
        entries += [rows.entry(*row) for row in read]
        after, more = rows.place_of(read[-1][0]) if read else after, len(read) == page
    fits = filters(wanted)
    return [entry for entry in entries if all(fit(entry) for fit in fits)]


def found(ris: Any, **keys: Any) -> list[str]:
    """The placer numbers of what a query finds."""
    return [entry.order.placer_number for entry in query(ris, WorklistQuery(**keys))]


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
    first, second = query(day, WorklistQuery(modality="MR"))
    assert [entry.step.protocol_code for entry in (first, second)] == ["MRK1", "MRK2"]
    assert (first.exam, first.order, first.patient) == (day.exam("P2"), day.the_order("P2"), day.holder("2"))
    assert [row.value for row in first.identifiers] == ["2"]


def test_only_what_waits(day: Any) -> None:
    accession = day.exam("P1").accession
    day.do(day.control("arrive", "P1", "1"))
    assert found(day, modality="CT") == ["P1", "P3"]
    day.do(day.start(accession))
    assert found(day, modality="CT") == ["P3"]
    assert found(day, modality="CT", states=LISTED) == ["P1", "P3"]
    assert found(day, station="CT1", states=LISTED) == ["P1"]
    day.do(day.end())
    assert found(day, modality="CT", states=LISTED) == ["P3"]


def test_what_is_on_hold_or_cancelled_is_left_out(day: Any) -> None:
    day.do(day.control("hold", "P1", "1"))
    day.do(day.control("cancel", "P3", "33"))
    assert found(day, modality="CT") == []
    day.do(day.control("release", "P1", "1"))
    assert found(day, modality="CT") == ["P1"]


def test_follows_a_merge(day: Any) -> None:
    day.merge("2", "1")
    assert found(day, patient_id="2") == found(day, patient_id="1") == ["P1", "P2", "P2"]
    (entry,) = query(day, WorklistQuery(accession="A00000001"))
    assert (entry.patient.given, [row.value for row in entry.identifiers]) == ("Johann", ["2"])


def test_from_keys() -> None:
    keys = {
        STEP + "ScheduledStationAETitle": "CT1 ",
        STEP + "Modality": "CT",
        STEP + "ScheduledProcedureStepStartDate": "20260302-20260305",
        STEP + "ScheduledProcedureStepStartTime": "080000.00-1200",
        "PatientName": "DOE*",
        "PatientID": "1",
        "IssuerOfPatientID": "HOSP",
        "AccessionNumber": "A1",
        "RequestedProcedureID": "R1",
        STEP + "ScheduledProcedureStepID": "S1",
        "StudyInstanceUID": "1.2",
        "PatientWeight": "80",
    }
    assert from_keys(keys, LISTED) == WorklistQuery(
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
        states=LISTED,
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
    wanted = from_keys({STEP + "ScheduledProcedureStepStartDate": text})
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
    (entry,) = query(day, WorklistQuery(sps_id="SPS00000005"))
    known = attributes(entry)
    assert {key: known[key] for key in ("PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID", "RequestingPhysician")} == {
        "PatientName": "DOE^JANE",
        "PatientID": "1",
        "AccessionNumber": "A00000004",
        "StudyInstanceUID": "2.25.4",
        "RequestingPhysician": "GREY^MEREDITH",
    }
    assert known[STEP + "ScheduledStationAETitle"] == "CT1"
    assert known[STEP + "ScheduledProcedureStepStartDate"] == "20260302"
    assert known[STEP + "ScheduledProcedureStepStartTime"] == "080000"
    assert known[STEP + "ScheduledProcedureStepStatus"] == "SCHEDULED"
    assert known[STEP + "ScheduledProtocolCodeSequence.CodeValue"] == "CTCHEST"


def test_attributes_fit_their_vr(ris: Any) -> None:
    procedure = Procedure("CTCHEST", "CT " + "chest " * 20, "CT")
    reason = "cough since\nJanuary, " + "very " * 20
    person = PatientData((Identifier("4711"),), family="DOE", birth_date="1961")
    ris.do(replace(ris.order(procedure=procedure, reason=reason, priority="ASAP"), patient=person))
    known = attributes(query(ris, WorklistQuery())[0])
    assert known["ReasonForTheRequestedProcedure"].startswith("cough since January, very")
    assert known["RequestedProcedurePriority"] == "HIGH"
    assert known["PatientBirthDate"] == ""
    for keyword, value in known.items():
        name = keyword.rpartition(".")[2]
        assert len(value) <= {"SH": 16, "LO": 64, "CS": 16}.get(dictionary_VR(name), 64), name
        assert value.isprintable(), name


def test_a_code_names_its_scheme(day: Any) -> None:
    known = attributes(query(day, WorklistQuery(station="CT1"))[0])
    for sequence in ("RequestedProcedureCodeSequence", "ScheduledProcedureStepSequence.ScheduledProtocolCodeSequence"):
        assert known[f"{sequence}.CodeValue"] == "CTCHEST"
        assert known[f"{sequence}.CodingSchemeDesignator"] == "L"  # private to the site, PS3.3 8.2 and HL7 table 0396
        assert known[f"{sequence}.CodeMeaning"] == "CT chest"


def test_every_attribute_is_one_of_the_standard_and_fits(ris: Any) -> None:
    """Also where everything is said, and too much of it."""
    long = "very long, " * 30
    person = PatientData((Identifier("4711"), Identifier("4712")), family="DOE", sex="F", allergies=("Nuts", long), alerts=("Pacemaker",))
    said = dict.fromkeys(("patient_state", "special_needs", "transport", "contrast", "confidentiality", "vip", "history"), long)
    people = Composite("7^GREY^MEREDITH~8^BAILEY^MIRANDA")
    order = replace(
        ris.order(**said), patient=person, weight="72.5", size="1.75", pregnancy="3", copies_to=people, visit=Composite("V1^^^HOSP")
    )
    ris.do(replace(order, performer=Composite("9&STEVENS&IZZIE^20260302"), ordered_at="20260301101500"))
    known = attributes(query(ris, WorklistQuery())[0])
    assert known.keys() == ATTRIBUTES.keys()
    for path, text in known.items():
        keyword = path.rpartition(".")[2]
        most = {"SH": 16, "LO": 64, "CS": 16, "PN": 64, "LT": 10240}.get(dictionary_VR(keyword), 64)
        assert all(len(value) <= most for value in text.split("\\")), path
        assert text.isprintable(), path
    expected = {
        "Allergies": "Nuts\\" + fitted(long),
        "MedicalAlerts": "Pacemaker",
        "PatientWeight": "72.5",
        "PatientSize": "1.75",
        "PregnancyStatus": "3",
        "OtherPatientIDs": "4712",
        "AdmissionID": "V1",
        "IssuerOfAdmissionID": "HOSP",
        "NamesOfIntendedRecipientsOfResults": "GREY^MEREDITH\\BAILEY^MIRANDA",
        "IssueDateOfImagingServiceRequest": "20260301",
        "IssueTimeOfImagingServiceRequest": "101500",
        "ReferencedStudySequence.ReferencedSOPInstanceUID": known["StudyInstanceUID"],
        STEP + "ScheduledPerformingPhysicianName": "STEVENS^IZZIE",
        STEP + "ScheduledProcedureStepEndTime": "082000",
    }
    assert {path: known[path] for path in expected} == expected


@pytest.mark.parametrize(
    ("path", "key", "fits"),
    [
        ("PatientSex", "F", True),
        ("PatientSex", "M", False),
        ("PatientBirthDate", "19610101-19611231", True),
        ("PatientBirthDate", "1962-", False),
        ("PatientBirthDate", "-19601231", False),
        ("ReferringPhysicianName", "grey*", True),
        ("ReferringPhysicianName", "GREY", False),
        ("RequestedProcedureDescription", "CT*", True),
        ("RequestedProcedureCodeSequence.CodeValue", "CTCHEST", True),
        ("RequestedProcedureCodeSequence.CodeValue", "MRKNEE", False),
        (STEP + "ScheduledProtocolCodeSequence.CodeValue", "MR*", False),
        (STEP + "ScheduledProtocolCodeSequence.CodeValue", "CTCHEST\\MRKNEE", True),
        (STEP + "ScheduledProcedureStepStatus", "ARRIVED", False),
        (STEP + "ScheduledProcedureStepStatus", "SCHEDULED", True),
        (STEP + "ScheduledProcedureStepEndDate", "20260301", False),
        (STEP + "ScheduledPerformingPhysicianName", "*", True),
        ("AdmissionID", "", True),
        ("PatientWeight", "80", True),  # told, and no key
        ("PatientComments", "x", True),  # not known here, so no key either
    ],
)
def test_every_other_attribute_of_the_entry_is_a_key(ris: Any, path: str, key: str, fits: bool) -> None:
    person = PatientData((Identifier("4711"),), family="DOE", sex="F", birth_date="19610101")
    ris.do(replace(ris.order(provider=Composite("7^GREY^MEREDITH")), patient=person))
    assert len(query(ris, from_keys({path: key}))) == fits


def test_a_modality_is_shown_its_stations() -> None:
    def shown(station: str, stations: str, modality: str = "") -> tuple[str, str]:
        wanted = for_stations(WorklistQuery(station=station), tuple(stations.split()), modality)
        return wanted.station, wanted.modality

    assert shown("", "CT1 CT2") == ("CT1\\CT2", "")
    assert shown("CT2", "CT1 CT2") == ("CT2", "")
    assert shown("CTROOM7", "CT1 CT2") == ("CT1\\CT2", "")
    assert shown("CT*", "CT1 MR1") == ("CT1", "")
    assert shown("CTROOM7", "") == ("CTROOM7", "")
    assert shown("", "", "MR") == ("", "MR")
    assert for_stations(WorklistQuery(modality="CT"), (), "MR").modality == "CT"


@pytest.mark.parametrize(
    ("key", "name", "fits"),
    [
        ("MULLER*", "MÜLLER^ÉVA", True),  # a modality of ASCII asks as it was told
        ("müller^eva", "MÜLLER^ÉVA", True),
        ("YAMADA^TARO=山田^太郎", "YAMADA^TARO", True),
        ("=山田^*", "YAMADA^TARO=山田^太郎", True),
        ("SUZUKI^TARO=鈴木^太郎", "YAMADA^TARO", False),
        ("ハ゛ッハ", "ハッハ", False),
        ("", "DOE", True),
        ("*", "", True),
    ],
)
def test_names_with_accents_and_groups(key: str, name: str, fits: bool) -> None:
    assert matches_name(key, name) is fits


def test_lists_and_dates() -> None:
    assert matches_list("1.2\\1.3", "1.3")
    assert not matches_list("1.2\\1.3", "1.4")
    assert matches_list("a*", "b\\ab")
    assert matches_dates("20260302", "20260302")
    assert not matches_dates("20260302", "")
    assert matches_dates("*", "")


def test_a_pattern_cannot_run_away() -> None:
    assert not matches("*a" * 150 + "b", "a" * 64)
    assert matches("*a" * 20 + "*", "a" * 64)
    assert matches("a*?b", "axyb")
    assert not matches("a*?b", "ab")
    assert matches("a***", "a")
    assert not matches("a?", "a")


@pytest.mark.parametrize("key", ["1.2\\" * 500, "*a" * 201])
def test_a_key_beyond_measure_is_refused(key: str) -> None:
    with pytest.raises(MessageError) as refused:
        from_keys({"StudyInstanceUID": key})
    assert (refused.value.path, refused.value.code) == ("StudyInstanceUID", 102)
