"""Images and the attributes they are given."""

from __future__ import annotations

from typing import Any

import pytest

from broker.errors import MessageError
from broker.ris.entities import Instance


def test_counted_once_and_told_once(ris: Any) -> None:
    exam = ris.place()
    (event,) = ris.do(ris.image("1", exam.study_uid, patient="4711"))
    assert (event.name, event.reason, event.exam_id) == ("study.stored", "first image", exam.id)
    assert ris.do(ris.image("2", exam.study_uid)) == []
    assert ris.do(ris.image("1", exam.study_uid)) == []  # sent again
    assert ris.exam().images == 2
    kept = ris.records.one(Instance, uid="1")
    assert (kept.exam_id, kept.spool, kept.sent_patient_id, kept.message_id) == (exam.id, "spool-1", "4711", 2)


def test_same_uid_other_content_is_refused(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.image("1", exam.study_uid))
    with pytest.raises(MessageError) as refused:
        ris.do(ris.image("1", exam.study_uid, digest="other"))
    assert (refused.value.path, refused.value.code) == ("SOPInstanceUID", 205)
    assert ris.exam().images == 1


def test_matched_by_accession_number_when_the_study_is_unknown(ris: Any) -> None:
    exam = ris.place()
    assert ris.told(ris.image("1", "9.9.9", exam.accession)) == ["study.stored"]
    assert ris.exam().study_uid == exam.study_uid  # the modality's own UID is the object's, not the exam's


def test_study_comes_before_accession_number(ris: Any) -> None:
    first, second = ris.place("P1"), ris.place("P2")
    ris.do(ris.image("1", first.study_uid, second.accession))
    assert (ris.exam("P1").images, ris.exam("P2").images) == (1, 0)


def test_two_exams_of_one_study_are_told_apart_by_accession_number(ris: Any) -> None:
    ris.place("P1", study_uid="1.2.3")
    second = ris.place("P2", study_uid="1.2.3")
    ris.do(ris.image("1", "1.2.3", second.accession))
    assert (ris.exam("P1").images, ris.exam("P2").images) == (0, 1)


def test_unknown_is_listed_once_per_study(ris: Any) -> None:
    assert ris.told(ris.image("1")) == ["unmatched.listed"]
    assert ris.told(ris.image("2", accession="NONE")) == []
    assert ris.told(ris.image("3", "2.25.777")) == ["unmatched.listed"]
    assert [(entry.kind, entry.key, entry.accession, entry.reason) for entry in ris.open_entries()] == [
        ("images", "2.25.555", "NONE", "no such study"),
        ("images", "2.25.777", "", "no such study"),
    ]
    assert {instance.exam_id for instance in ris.records.find(Instance)} == {None}


@pytest.mark.parametrize("patient", ["other", "nobody"], ids=["known", "unknown"])
def test_of_another_patient_is_not_linked(ris: Any, patient: str) -> None:
    exam = ris.place()
    ris.register("other")
    (event,) = ris.do(ris.image("1", exam.study_uid, exam.accession, patient=patient))
    assert (event.name, event.reason, event.exam_id) == ("unmatched.listed", "images: patient differs", None)
    assert ris.exam().images == 0


@pytest.mark.parametrize(("patient", "issuer"), [("4711", "HOSP"), ("other", "ELSEWHERE"), ("", "")])
def test_of_the_same_patient_or_one_of_an_unknown_issuer_is_linked(ris: Any, patient: str, issuer: str) -> None:
    exam = ris.place()
    ris.register("other")
    assert ris.told(ris.image("1", exam.study_uid, patient=patient, issuer=issuer)) == ["study.stored"]
