"""Registration and merge."""

from __future__ import annotations

from typing import Any

import pytest

from broker.errors import MessageError
from broker.ris import patients
from broker.ris.entities import Composite, Patient, PatientIdentifier
from broker.ris.events import Identifier, MergePatients, PatientData, RegisterPatient


def test_created_once_then_updated(ris: Any) -> None:
    assert ris.register("4711", family="DOE", given="JANE", birth_date="19700101120000", sex="F") == ["patient.created"]
    assert ris.register("4711", family="ROE") == ["patient.updated"]
    assert ris.register("4711", family="ROE") == []
    patient = ris.holder("4711")
    assert (patient.family, patient.given, patient.birth_date, patient.sex) == ("ROE", "JANE", "19700101", "F")


def test_empty_says_nothing_and_null_clears(ris: Any) -> None:
    ris.register("4711", middle="A", phone=Composite("123^PRN"), prefix='""')
    ris.register("4711", middle="", phone=Composite('""'))
    patient = ris.holder("4711")
    assert (patient.middle, patient.phone, patient.prefix) == ("A", "", "")
    assert isinstance(patient.phone, Composite)


def test_authorities_are_never_mixed(ris: Any) -> None:
    ris.register("4711@HOSP", family="DOE")
    ris.register("4711@CLINIC", family="ROE")
    assert ris.holder("4711@HOSP").family == "DOE"
    assert ris.holder("4711@CLINIC").family == "ROE"


def test_no_authority_means_the_default_one(ris: Any) -> None:
    ris.register("4711")
    assert ris.register("4711@HOSP", family="DOE") == ["patient.updated"]
    assert len(ris.records.find(Patient)) == 1


def test_found_by_any_identifier_and_learns_the_others(ris: Any) -> None:
    ris.register("4711")
    assert ris.register("4711", "999@NATION", family="DOE") == ["patient.updated"]
    assert ris.register("999@NATION", given="JANE") == ["patient.updated"]
    assert ris.holder("4711") == ris.holder("999@NATION")


def test_type_is_learned(ris: Any) -> None:
    ris.register("4711")
    sent = PatientData((Identifier("4711", "HOSP", "MR"),))
    assert ris.told(RegisterPatient(sent)) == ["patient.updated"]
    assert ris.told(RegisterPatient(sent)) == []
    assert ris.records.find(PatientIdentifier)[0].type == "MR"


def test_identifiers_of_two_patients_are_refused(ris: Any) -> None:
    ris.register("1")
    ris.register("2")
    with pytest.raises(MessageError) as refused:
        ris.register("1", "2")
    assert (refused.value.path, refused.value.code) == ("PID-3", 205)


@pytest.mark.parametrize("value", ["", "  ", '""'])
def test_an_identifier_is_required(ris: Any, value: str) -> None:
    with pytest.raises(MessageError) as refused:
        ris.register(value)
    assert (refused.value.path, refused.value.code) == ("PID-3", 101)


def test_the_medical_record_number_stands_for_the_patient(ris: Any) -> None:
    sent = PatientData((Identifier("S", "STATE", "SS"), Identifier("N", "NATION", ""), Identifier("M", "HOSP", "MR")))
    ris.do(RegisterPatient(sent))
    assert [row.value for row in patients.identifiers_of(ris.records, ris.holder("M").id)] == ["M", "N", "S"]


def test_merge_moves_identifiers_orders_and_exams(ris: Any) -> None:
    retired = ris.place("P1", patient="old").patient_id
    ris.register("new", family="DOE")
    assert ris.merge("new", "old", given="JANE") == ["patient.updated", "patient.merged"]
    survivor = ris.holder("new")
    assert ris.the_order("P1").patient_id == ris.exam("P1").patient_id == survivor.id
    assert ris.records.get(Patient, retired).merged_into == survivor.id
    moved = ris.records.one(PatientIdentifier, value="old")
    assert (moved.patient_id, moved.merged_from) == (survivor.id, retired)
    assert [row.value for row in patients.identifiers_of(ris.records, survivor.id)] == ["new"]


def test_merge_of_an_unknown_patient_keeps_its_identifier(ris: Any) -> None:
    assert ris.merge("new", "never-seen", family="DOE") == ["patient.created", "patient.merged"]
    assert ris.holder("never-seen") == ris.holder("new")
    assert ris.register("never-seen", family="LATE") == []  # its registration comes late, and is older than the merge
    assert ris.holder("new").family == "DOE"


def test_merge_again_is_harmless(ris: Any) -> None:
    ris.register("old")
    ris.merge("new", "old")
    before = ris.records.find(PatientIdentifier)
    assert ris.merge("new", "old") == []
    assert ris.records.find(PatientIdentifier) == before


def test_chain_of_merges(ris: Any) -> None:
    for name in ("a", "b", "c"):
        ris.register(name, family=name)
    first = ris.holder("a").id
    ris.merge("b", "a")
    ris.merge("c", "b")
    assert {ris.holder(name).family for name in ("a", "b", "c")} == {"c"}
    assert patients.survivor_of(ris.records, first) == ris.holder("c")
    assert ris.records.one(PatientIdentifier, value="a").merged_from == first  # where it came from at first


def test_chain_told_the_other_way_round(ris: Any) -> None:
    for name in ("a", "b", "c"):
        ris.register(name, family=name)
    ris.merge("c", "b")
    ris.merge("b", "a")  # b is c by now
    assert {ris.holder(name).family for name in ("a", "b", "c")} == {"c"}


def test_several_retired_patients(ris: Any) -> None:
    for name in ("a", "b"):
        ris.register(name)
    assert ris.merge("c", "a", "b") == ["patient.created", "patient.merged"]
    assert ris.holder("a") == ris.holder("b") == ris.holder("c")


def test_merge_into_itself_is_refused(ris: Any) -> None:
    ris.register("a", "other@X")
    for retired in ("a", "other@X"):
        with pytest.raises(MessageError) as refused:
            ris.merge("a", retired)
        assert refused.value.path == "MRG-1"
    assert ris.holder("a").merged_into is None


def test_merge_needs_a_retired_identifier(ris: Any) -> None:
    with pytest.raises(MessageError) as refused:
        ris.do(MergePatients(ris.person("a"), ()))
    assert (refused.value.path, refused.value.code) == ("MRG-1", 101)


def test_a_retired_identifier_changes_nothing_of_the_survivor(ris: Any) -> None:
    ris.register("old", family="OLD")
    ris.merge("new", "old", family="NEW")
    assert ris.register("old", family="OLD") == []
    assert ris.holder("new").family == "NEW"


def test_an_identifier_that_moves_to_the_survivor_says_who_is_merged(ris: Any) -> None:
    ris.register("4711", family="DOE")
    ris.register("4812", "N1@NATION", family="DOE")
    survivor = ris.person("4711", "N1@NATION")
    assert ris.told(MergePatients(survivor, ris.person("4812").identifiers))[-1] == "patient.merged"
    assert ris.holder("N1@NATION") == ris.holder("4812") == ris.holder("4711")
    in_use = patients.identifiers_of(ris.records, ris.holder("4711").id)
    assert [row.value for row in in_use] == ["4711", "N1"]


def test_an_identifier_that_both_sides_name_stays(ris: Any) -> None:
    ris.register("4711", family="DOE")
    ris.register("4812", "N1@NATION", family="DOE")
    assert "patient.merged" in ris.told(
        MergePatients(ris.person("4711", "N1@NATION"), ris.person("4812", "N1@NATION").identifiers),
    )
    assert ris.holder("4812") == ris.holder("4711")
    assert {row.value for row in patients.identifiers_of(ris.records, ris.holder("4711").id)} == {"4711", "N1"}


def test_the_survivor_of_a_merge_is_one_patient(ris: Any) -> None:
    for name in ("1", "2", "3"):
        ris.register(name)
    with pytest.raises(MessageError) as refused:
        ris.told(MergePatients(ris.person("1", "2"), ris.person("3").identifiers))
    assert (refused.value.path, refused.value.code) == ("PID-3", 205)
