"""MPPS: several steps and exams in one, several for one exam, unscheduled, begun by mistake."""

from __future__ import annotations

from typing import Any

import pytest

from broker.errors import MessageError
from broker.ris.entities import Exam, Instance, Performed, PerformedDataset, PerformedItem, PerformedSeries
from broker.ris.events import Procedure, ScheduledItem, SeriesMade
from broker.ris.states import PERFORMED

TWO = Procedure("CTTWO", "CT head and chest", "CT", duration=30, steps=(("H", "Head"), ("C", "Chest")))
STATUSES = ("IN PROGRESS", "COMPLETED", "DISCONTINUED")


def states(ris: Any, placer: str = "P1") -> tuple[str, str, list[str]]:
    exam = ris.exam(placer)
    return ris.the_order(placer).status, exam.status, [step.status for step in ris.steps(exam)]


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("status", [*STATUSES, "", "ON FIRE"])
def test_every_pair_of_status_and_n_set(ris: Any, before: str, status: str) -> None:
    ris.do(ris.start("NONE"))
    if before != "IN PROGRESS":
        ris.do(ris.end(before))
    request = ris.end(status, series=2)
    if (before, status or before) in PERFORMED:
        ris.do(request)
        assert ris.records.one(Performed, uid="2.25.9001").status == (status or before)
        return
    with pytest.raises(MessageError) as refused:
        ris.do(request)
    assert refused.value.code == (103 if before == "IN PROGRESS" else 210)
    assert ris.records.one(Performed, uid="2.25.9001").series == 0


def test_the_attributes_and_the_series_are_kept_with_it(ris: Any) -> None:
    ris.do(ris.start("NONE", attributes=b"one", made=(SeriesMade("1.7.1", 3),)))
    ris.do(ris.end("IN PROGRESS", attributes=b"two", made=(SeriesMade("1.7.1", 5), SeriesMade("1.7.2", 1))))
    assert [one.attributes for one in ris.records.find(PerformedDataset)] == [b"two"]
    assert [(one.series_uid, one.instances) for one in ris.records.find(PerformedSeries)] == [("1.7.1", 5), ("1.7.2", 1)]


# several in one


def test_one_mpps_performs_two_exams(ris: Any) -> None:
    first, second = ris.place("P1"), ris.place("P2")
    items = (ScheduledItem(first.accession), ScheduledItem(second.accession))
    assert ris.told(ris.start(items=items)) == ["exam.started", "exam.started"]
    assert ris.told(ris.end()) == ["exam.completed", "exam.completed"]
    assert states(ris, "P1") == states(ris, "P2") == ("CM", "completed", ["completed"])
    assert [one.exam_id for one in ris.records.find(PerformedItem)] == [first.id, second.id]


def test_of_two_exams_the_one_that_is_not_known_is_listed(ris: Any) -> None:
    exam = ris.place()
    items = (ScheduledItem(exam.accession), ScheduledItem("LATE"))
    assert ris.told(ris.start(items=items)) == ["exam.started", "unmatched.listed"]
    assert ris.told(ris.end()) == ["exam.completed"]
    assert [(entry.kind, entry.accession) for entry in ris.open_entries()] == [("performed", "LATE")]
    told = ris.told(ris.order("P2", accession="LATE"))
    assert told[-3:] == ["unmatched.resolved", "exam.started", "exam.completed"]
    assert ris.open_entries() == []
    assert states(ris, "P2") == ("CM", "completed", ["completed"])


def test_an_entry_stays_until_every_item_has_its_exam(ris: Any) -> None:
    ris.do(ris.start(items=(ScheduledItem("L1"), ScheduledItem("L2"))))
    assert "unmatched.resolved" not in ris.told(ris.order("P1", accession="L1"))
    assert states(ris) == ("IP", "in_progress", ["started"])
    assert "unmatched.resolved" in ris.told(ris.order("P2", accession="L2"))


def test_of_two_steps_of_an_exam_each_item_names_one(ris: Any) -> None:
    exam = ris.place(procedure=TWO)
    items = tuple(ScheduledItem(exam.accession, sps_id=step.sps_id) for step in ris.steps(exam))
    ris.do(ris.start(items=items[:1]))
    assert states(ris) == ("IP", "in_progress", ["started", "scheduled"])
    ris.do(ris.start(uid="2.25.2", items=items[1:]))
    ris.do(ris.end())
    assert states(ris) == ("IP", "in_progress", ["completed", "started"])
    assert ris.told(ris.end(uid="2.25.2")) == ["exam.completed"]


# several for one


@pytest.mark.parametrize("last", ["COMPLETED", "DISCONTINUED"])
def test_an_exam_ends_with_the_last_that_is_performed_for_it(ris: Any, last: str) -> None:
    exam = ris.place()
    ris.do(ris.start(exam.accession, "2.25.1"))
    ris.do(ris.start(exam.accession, "2.25.2"))
    assert ris.told(ris.end("COMPLETED", "2.25.1")) == []
    assert states(ris) == ("IP", "in_progress", ["started"])
    assert ris.told(ris.end(last, "2.25.2")) == ["exam.completed"]
    assert states(ris) == ("CM", "completed", ["completed"])


def test_a_later_one_is_an_append(ris: Any) -> None:
    exam = ris.place()
    ris.perform(exam.accession)
    assert ris.told(ris.start(exam.accession, "2.25.2")) == []
    assert states(ris) == ("CM", "completed", ["completed"])
    assert ris.told(ris.end(uid="2.25.2")) == []
    assert len(ris.records.find(Performed, exam_id=exam.id)) == 2


# unscheduled


def unscheduled(ris: Any, uid: str = "2.25.9001", study: str = "1.2.77", **fields: Any) -> list[str]:
    told: list[str] = ris.told(ris.start(uid=uid, study_uid=study, modality="CT", **fields))
    return told


def test_what_nobody_has_planned_is_an_exam_of_its_own(ris: Any) -> None:
    ris.register("4711")
    assert unscheduled(ris, patient_id="4711") == ["exam.started", "unmatched.listed"]
    [exam] = ris.records.find(Exam)
    assert (exam.order_id, exam.status, exam.study_uid, exam.modality) == (None, "in_progress", "1.2.77", "CT")
    assert exam.patient_id == ris.holder("4711").id
    assert exam.accession
    assert [(entry.kind, entry.reason) for entry in ris.open_entries()] == [("performed", "unscheduled")]
    assert ris.told(ris.end()) == ["exam.completed"]
    assert unscheduled(ris, "2.25.2") == ["unmatched.listed"]  # more of it
    assert len(ris.records.find(Exam)) == 1


def test_its_order_takes_its_place(ris: Any) -> None:
    unscheduled(ris)
    ris.do(ris.end())
    own = ris.records.one(Exam)
    told = ris.told(ris.order(study_uid="1.2.77"))
    assert told[-4:] == ["unmatched.resolved", "exam.started", "exam.completed", "exam.replaced"]
    assert states(ris) == ("CM", "completed", ["completed"])
    assert ris.records.get(Exam, own.id).status == "replaced"
    assert ris.open_entries() == []
    assert ris.records.one(Exam, study_uid="1.2.77").id == ris.exam().id


def test_its_images_wait_for_the_order(ris: Any) -> None:
    unscheduled(ris)
    assert ris.told(ris.image("1.5.1", "1.2.77")) == ["unmatched.listed"]
    assert ris.open_entries()[-1].reason == "unscheduled"
    ris.do(ris.order(study_uid="1.2.77"))
    assert ris.records.one(Instance).exam_id == ris.exam().id
    assert ris.exam().images == 1
    assert ris.open_entries() == []


def test_a_step_with_a_name_that_is_not_known_is_not_unscheduled(ris: Any) -> None:
    for uid, fields in (("2.25.1", {"sps_id": "S"}), ("2.25.2", {"items": (ScheduledItem("", "1.2.77", "", "RP1"),)})):
        assert ris.told(ris.start("", uid, **fields)) == ["unmatched.listed"]
    assert ris.records.find(Exam) == []


# begun by mistake

MISTAKE: dict[str, Any] = {
    "reason_code": "110514",
    "reason_scheme": "DCM",
    "reason": "Incorrect worklist entry selected",
    "outcome": "reschedule",
}


def test_begun_by_mistake_is_scheduled_again(ris: Any) -> None:
    ris.stations = ris.stations[:1]
    exam = ris.place()
    ris.do(ris.start(exam.accession))
    (event,) = ris.do(ris.end("DISCONTINUED", **MISTAKE))
    performed = ris.records.one(Performed)
    assert (event.name, event.performed_id, event.reason) == ("exam.reopened", performed.id, "Incorrect worklist entry selected")
    assert states(ris) == ("SC", "scheduled", ["scheduled"])
    assert ris.exam().started_at == ""
    assert (performed.reason_code, performed.reason_scheme, performed.outcome) == ("110514", "DCM", "reschedule")
    assert ris.place("P2").scheduled_at > exam.scheduled_at  # it has its slot
    assert ris.perform(exam.accession, "2.25.2") == ["exam.started", "exam.completed"]


def test_given_up_for_another_reason_is_told_with_it(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.start(exam.accession))
    (event,) = ris.do(ris.end("DISCONTINUED", reason_code="110501", reason_scheme="DCM", reason="Equipment failure", outcome="discontinue"))
    assert (event.name, event.reason) == ("exam.discontinued", "Equipment failure")
    assert states(ris) == ("DC", "discontinued", ["discontinued"])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ("IN PROGRESS", ("IP", "in_progress", ["started"])),
        ("COMPLETED", ("CM", "completed", ["completed"])),
        ("DISCONTINUED", ("DC", "discontinued", ["discontinued"])),
    ],
)
@pytest.mark.parametrize("first", ["mistake", "other"])
def test_what_else_is_performed_counts(ris: Any, other: str, expected: Any, first: str) -> None:
    exam = ris.place()
    ris.do(ris.start(exam.accession, "2.25.1"))
    ris.do(ris.start(exam.accession, "2.25.2"))
    ends = [ris.end("DISCONTINUED", "2.25.1", **MISTAKE), ris.end(other, "2.25.2")]
    for end in ends if first == "mistake" else reversed(ends):
        ris.do(end)
    assert states(ris) == expected


def test_one_step_of_two_was_begun_by_mistake(ris: Any) -> None:
    exam = ris.place(procedure=TWO)
    head, chest = (step.sps_id for step in ris.steps(exam))
    ris.do(ris.start(exam.accession, "2.25.1", sps_id=head))
    assert ris.told(ris.end(uid="2.25.1")) == []
    ris.do(ris.start(exam.accession, "2.25.2", sps_id=chest))
    assert ris.told(ris.end("DISCONTINUED", "2.25.2", **MISTAKE)) == []
    assert states(ris) == ("IP", "in_progress", ["completed", "scheduled"])


def test_its_images_are_taken_from_the_exam(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.start(exam.accession, "2.25.1"))
    ris.do(ris.start(exam.accession, "2.25.2"))
    for number in range(4):
        ris.do(ris.image(f"1.5.{number}", exam.study_uid, exam.accession, series_uid=f"1.7.{number % 2}"))
    told = ris.told(ris.end("DISCONTINUED", "2.25.1", made=(SeriesMade("1.7.1", 2),), **MISTAKE))
    assert told == ["unmatched.listed"]
    assert ris.exam().images == 2
    assert {one.series_uid for one in ris.records.find(Instance, exam_id=None)} == {"1.7.1"}
    assert [(entry.key, entry.reason) for entry in ris.open_entries()] == [(exam.study_uid, "incorrect worklist entry")]
    ris.do(ris.image("1.5.9", exam.study_uid, exam.accession, series_uid="1.7.1"))  # late
    assert ris.exam().images == 2
    ris.merge("4711", "4712")  # what looks at the list again does not bring them back
    assert ris.exam().images == 2


def test_a_mistake_that_names_no_series_has_made_all_there_is_when_it_is_alone(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.start(exam.accession))
    ris.do(ris.image("1.5.1", exam.study_uid, exam.accession, series_uid="1.7.1"))
    ris.do(ris.end("DISCONTINUED", **MISTAKE))
    assert ris.exam().images == 0
    ris.do(ris.image("1.5.2", exam.study_uid, exam.accession, series_uid="1.7.1"))
    assert ris.exam().images == 0
    ris.do(ris.image("1.5.3", exam.study_uid, exam.accession, series_uid="1.7.2"))  # of the right patient now
    assert ris.exam().images == 1


def test_a_mistake_whose_exam_the_placer_gave_up_meanwhile(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.start(exam.accession))
    ris.do(ris.control("discontinue"))
    assert ris.told(ris.end("DISCONTINUED", **MISTAKE)) == []
    assert states(ris) == ("DC", "discontinued", ["discontinued"])


def test_an_unscheduled_mistake_is_given_up(ris: Any) -> None:
    unscheduled(ris)
    assert ris.told(ris.end("DISCONTINUED", **MISTAKE)) == ["exam.discontinued"]
