"""Which exam something belongs to most likely: the evidence, its weight, and the words for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.ris import likely
from broker.ris.entities import Exam, Patient, PatientIdentifier, Step
from broker.ris.likely import EVIDENCE, Planned, Seen, is_slip, likeliest, plain, planned, slips

EXAM = Exam(id=7, patient_id=3, accession="A00000012", study_uid="1.2.3", modality="CT", status="scheduled")
PATIENT = Patient(id=3, family="DOE", given="JANE", birth_date="19700412", sex="F")
ONE = Planned(EXAM, PATIENT, (PatientIdentifier(1, 3, "4711", "HOSP"),), (Step(station="CT1"),), ("202603020830",))
ALL = Seen("1.2.3", "A00000012", "4711", "HOSP", "DOE^JANE", "19700412", "F", "CT", "CT1", "20260302083500")


def reasons(seen: Seen, one: Planned = ONE, holder: int | None = None) -> set[str]:
    """Return the evidence by its key."""
    words = {text: name for name, (_, text) in EVIDENCE.items()}
    [found] = likeliest(seen, [one], holder) or [None]
    return {words[reason] for reason in found.reasons} if found else set()


def test_all_that_fits_is_evidence() -> None:
    assert reasons(ALL) == {"study", "accession", "patient", "name", "birth_date", "modality", "station", "hour"}


BASE = Seen(accession="A00000012", at="20260302083500")


@pytest.mark.parametrize(
    ("said", "evidence"),
    [
        ({"accession": "A00000021"}, "accession_near"),
        ({"accession": "A0000012"}, "accession_near"),
        ({"patient_id": "4712"}, "patient_near"),
        ({"name": "DOE^JANET"}, "name_near"),
        ({"name": "jane^doe"}, "name"),
        ({"name": "MUELLER^HANS"}, "name_other"),
        ({"birth_date": "19701204"}, "birth_date_near"),
        ({"birth_date": "19700413"}, "birth_date_near"),
        ({"birth_date": "19550101"}, "birth_date_other"),
        ({"sex": "M"}, "sex_other"),
        ({"modality": "MR"}, "modality_other"),
        ({"at": "202603021700"}, "half_day"),
        ({"at": "202603041700"}, "days"),
        ({"at": "202604011700"}, "far"),
    ],
)
def test_evidence(said: dict[str, str], evidence: str) -> None:
    assert evidence in reasons(BASE._replace(study_uid="1.2.3", **said))


def test_the_patient_who_has_the_identifier_counts_more_than_its_spelling() -> None:
    seen = BASE._replace(patient_id="4711")
    assert "patient" in reasons(seen, holder=3)
    assert "patient_other" in reasons(seen._replace(study_uid="1.2.3"), holder=99)


def test_a_cancelled_exam_and_one_with_images_are_less_likely() -> None:
    ended = replace(ONE, exam=replace(EXAM, status="cancelled", images=3))
    [best, less] = likeliest(ALL, [ended, ONE])
    assert (best.exam, less.exam) == (ONE.exam, ended.exam)
    assert best.score - less.score == -(EVIDENCE["ended"][0] + EVIDENCE["filled"][0])


def test_what_fits_too_little_is_left_out() -> None:
    assert likeliest(Seen(modality="CT", at="202603020830"), [replace(ONE, steps=())]) != []
    assert likeliest(Seen(modality="CT"), [replace(ONE, steps=(), starts=())]) == []


def test_the_reasons_name_no_value() -> None:
    words = " ".join(text for _, text in EVIDENCE.values())
    assert not any(char.isdigit() for char in words)


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("A123", "A124", True),
        ("A123", "A132", True),
        ("A123", "A12", True),
        ("A123", "A0123", True),
        ("A123", "A123", False),
        ("A123", "A231", False),
        ("A123", "B124", False),
        ("", "A", True),
        ("A", "AB1", False),
    ],
)
def test_slips(one: str, other: str, near: bool) -> None:
    assert is_slip(one, other) is near
    assert is_slip(other, one) is near


def test_each_slip_that_is_looked_up_is_one() -> None:
    found = slips("A0012")
    assert {"A0021", "A0013", "A012", "A00012", "0A012"} <= found
    assert all(is_slip("A0012", text) for text in found)


def test_names_are_compared_without_their_order() -> None:
    assert plain("Doe^Jane^^Dr") == plain("JANE^DOE DR") == "DOE DR JANE"
    assert plain("Yamada^Tarou=山田^太郎") == "TAROU YAMADA"


def test_the_exams_that_may_be_meant_are_looked_up(ris: Any) -> None:
    ris.register("4711", family="DOE")
    ris.register("9999")
    exam = ris.place("P1", "4711")
    near = ris.place("P2", "9999")
    [one] = planned(ris.records, Seen(accession=exam.accession), wide=False)[:1]
    assert (one.exam.id, one.patient.family) == (exam.id, "DOE")
    assert {one.exam.id for one in planned(ris.records, Seen(accession=exam.accession))} == {exam.id, near.id}  # one digit apart
    assert [one.exam.id for one in planned(ris.records, Seen(patient_id="4712"))] == [exam.id]
    by_time = planned(ris.records, Seen(modality="CT", station="CT1", at="202603020900"))
    assert {one.exam.id for one in by_time} >= {exam.id}
    assert planned(ris.records, Seen(modality="CT", station="CT1", at="202603020900"), wide=False) == []
    assert likely.holder(ris.records, Seen(patient_id="4711"), "HOSP") == exam.patient_id
