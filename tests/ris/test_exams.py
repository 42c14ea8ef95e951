"""MPPS."""

from __future__ import annotations

from typing import Any

import pytest

from broker.errors import MessageError
from broker.ris.entities import Exam, Performed, Step
from broker.ris.events import Procedure

TWO = Procedure("CTTWO", "CT head and chest", "CT", duration=30, steps=(("H", "Head"), ("C", "Chest")))


def states(ris: Any) -> tuple[str, str, list[str]]:
    exam = ris.exam()
    return ris.the_order().status, exam.status, [step.status for step in ris.steps(exam)]


def test_from_start_to_end(ris: Any) -> None:
    exam = ris.place()
    (event,) = ris.do(ris.start(exam.accession, station="CT1", started_at="20260302081000"))
    assert (event.name, event.exam_id, event.order_id, event.accession) == ("exam.started", exam.id, exam.order_id, exam.accession)
    assert states(ris) == ("IP", "in_progress", ["started"])
    (event,) = ris.do(ris.end(ended_at="20260302082500", series=2, instances=300))
    assert event.name == "exam.completed"
    assert states(ris) == ("CM", "completed", ["completed"])
    assert (ris.exam().started_at, ris.exam().completed_at) == ("20260302081000", "20260302082500")
    performed = ris.records.one(Performed, uid="2.25.9001")
    assert (performed.status, performed.exam_id, performed.series, performed.instances) == ("COMPLETED", exam.id, 2, 300)


def test_discontinued_and_tried_again(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.start(exam.accession))
    assert ris.told(ris.end("DISCONTINUED")) == ["exam.discontinued"]
    assert states(ris) == ("DC", "discontinued", ["discontinued"])
    assert ris.told(ris.start(exam.accession, "2.25.9002")) == ["exam.started"]
    assert ris.told(ris.end(uid="2.25.9002")) == ["exam.completed"]
    assert states(ris) == ("CM", "completed", ["completed"])


@pytest.mark.parametrize("by", ["study_uid", "sps_id"])
def test_found_without_accession_number(ris: Any, by: str) -> None:
    exam = ris.place()
    value = exam.study_uid if by == "study_uid" else ris.steps(exam)[0].sps_id
    assert ris.told(ris.start("", **{by: value})) == ["exam.started"]


def test_accession_number_comes_first(ris: Any) -> None:
    first, second = ris.place("P1"), ris.place("P2")
    (event,) = ris.do(ris.start(first.accession, study_uid=second.study_uid))
    assert event.exam_id == first.id


def test_an_exam_of_two_steps_ends_with_the_second(ris: Any) -> None:
    exam = ris.place(procedure=TWO)
    head, chest = (step.sps_id for step in ris.steps(exam))
    assert ris.told(ris.start(exam.accession, "2.25.1", sps_id=head)) == ["exam.started"]
    assert ris.told(ris.end(uid="2.25.1")) == []
    assert states(ris) == ("IP", "in_progress", ["completed", "scheduled"])
    assert ris.told(ris.start(exam.accession, "2.25.2", sps_id=chest)) == []
    assert ris.told(ris.end("DISCONTINUED", uid="2.25.2")) == ["exam.completed"]  # one of two was done
    assert states(ris) == ("CM", "completed", ["completed", "discontinued"])


@pytest.mark.parametrize("named", ["", "\\".join(("SPS00000001", "SPS00000002")), "unknown"])
def test_two_steps_under_one_mpps(ris: Any, named: str) -> None:
    exam = ris.place(procedure=TWO)
    assert ris.told(ris.start(exam.accession, sps_id=named)) == ["exam.started"]
    assert ris.told(ris.end()) == ["exam.completed"]


def test_in_progress_again_only_counts(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.start(exam.accession))
    assert ris.told(ris.end("IN PROGRESS", series=1, instances=10)) == []
    performed = ris.records.one(Performed, exam_id=exam.id)
    assert (performed.status, performed.instances, performed.ended_at) == ("IN PROGRESS", 10, "")


def test_more_images_of_a_completed_exam(ris: Any) -> None:
    exam = ris.place()
    ris.perform(exam.accession)
    assert ris.perform(exam.accession, "2.25.9002") == []
    ris.do(ris.start(exam.accession, "2.25.9003"))
    assert ris.told(ris.end("DISCONTINUED", "2.25.9003")) == []
    assert states(ris) == ("CM", "completed", ["completed"])


def test_completed_after_the_placer_gave_it_up(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.start(exam.accession))
    ris.do(ris.control("discontinue"))
    assert ris.told(ris.end()) == ["exam.completed"]
    assert states(ris) == ("CM", "completed", ["completed"])


def test_begun_in_spite_of_a_hold(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.control("hold"))
    assert ris.told(ris.start(exam.accession)) == ["exam.started"]
    assert states(ris) == ("IP", "in_progress", ["started"])


def test_unknown_accession_number_is_kept_and_listed(ris: Any) -> None:
    (event,) = ris.do(ris.start("NONE"))
    assert (event.name, event.accession, event.reason) == ("unmatched.listed", "NONE", "performed: no such accession number")
    assert ris.told(ris.end()) == []
    performed = ris.records.one(Performed, uid="2.25.9001")
    assert (performed.exam_id, performed.status, performed.accession) == (None, "COMPLETED", "NONE")
    (entry,) = ris.open_entries()
    assert (entry.kind, entry.key, entry.accession, entry.first_at) == ("performed", "2.25.9001", "NONE", ris.time.timestamp())


def test_nothing_scheduled_is_listed(ris: Any) -> None:
    ris.place()
    (event,) = ris.do(ris.start("", study_uid="1.2.3", sps_id="NONE"))
    assert (event.name, event.reason) == ("unmatched.listed", "performed: no such study or step")
    assert states(ris) == ("SC", "scheduled", ["scheduled"])


def test_a_cancelled_exam_is_not_begun(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.control("cancel"))
    (event,) = ris.do(ris.start(exam.accession))
    assert (event.name, event.reason) == ("unmatched.listed", "performed: exam is cancelled")
    assert ris.told(ris.end()) == []
    assert states(ris) == ("CA", "cancelled", ["cancelled"])


def test_another_patient_is_listed(ris: Any) -> None:
    exam = ris.place()
    ris.register("other")
    (event,) = ris.do(ris.start(exam.accession, patient_id="other"))
    assert (event.name, event.reason) == ("unmatched.listed", "performed: patient differs")
    assert ris.told(ris.start(exam.accession, "2.25.2", patient_id="other", issuer="CLINIC")) == ["exam.started"]  # nobody we know


@pytest.mark.parametrize(
    ("request_", "path", "code"),
    [
        (lambda ris: ris.end(uid="2.25.404"), "SOPInstanceUID", 204),
        (lambda ris: ris.start("NONE"), "SOPInstanceUID", 205),
        (lambda ris: ris.end("COMPLETED"), "PerformedProcedureStepStatus", 210),
        (lambda ris: ris.end("IN PROGRESS"), "PerformedProcedureStepStatus", 210),
        (lambda ris: ris.end(""), "PerformedProcedureStepStatus", 210),
    ],
)
def test_refused(ris: Any, request_: Any, path: str, code: int) -> None:
    ris.perform(ris.place().accession)
    with pytest.raises(MessageError) as refused:
        ris.do(request_(ris))
    assert (refused.value.path, refused.value.code) == (path, code)


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED", "", "ON FIRE"])
def test_created_only_in_progress(ris: Any, status: str) -> None:
    exam = ris.place()
    request = ris.end(status, accession=exam.accession)
    with pytest.raises(MessageError) as refused:
        ris.do(type(request)(request.uid, True, status, exam.accession))
    assert (refused.value.path, refused.value.code) == ("PerformedProcedureStepStatus", 103)
    assert ris.records.find(Performed) == []


def test_an_early_end_gives_the_slot_back(ris: Any) -> None:
    ris.stations = ris.stations[:1]
    exam = ris.place("P1")
    assert ris.place("P2").scheduled_at[8:] == "0820"
    ris.perform(exam.accession)
    assert ris.place("P3").scheduled_at[8:] == "0800"


def test_order_before_mpps_before_nothing_else(ris: Any) -> None:
    """An exam that belongs to no order is moved all the same."""
    exam = ris.records.add(Exam(accession="X1", status="scheduled"))
    ris.records.add(Step(exam_id=exam.id, sps_id="S", status="scheduled"))
    assert ris.perform("X1") == ["exam.started", "exam.completed"]
