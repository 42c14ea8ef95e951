"""Exams and their steps, moved by what is performed and by orders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from broker.ris import charges, schedule
from broker.ris.context import RisContext
from broker.ris.entities import Exam, Order, Performed, PerformedItem, Step
from broker.ris.events import Event
from broker.ris.records import Records
from broker.ris.states import EXAM, ORDER, STEP, allows, next_state

_STATUS = "PerformedProcedureStepStatus"
_TOLD = {
    "scheduled": "exam.reopened",
    "in_progress": "exam.started",
    "completed": "exam.completed",
    "discontinued": "exam.discontinued",
    "cancelled": "exam.cancelled",
}
_ORDER = {
    "scheduled": "reschedule",
    "in_progress": "start",
    "completed": "complete",
    "discontinued": "discontinue",
}  # exam -> order
_STRONGEST = ("start", "complete", "discontinue", "reschedule")  # of several performed steps the first of these counts


def performed_of(records: Records, exam: Exam) -> list[tuple[Performed, PerformedItem]]:
    """Return what was or is performed for the exam, with the item that says so."""
    items = records.find(PerformedItem, exam_id=exam.id)
    return [(records.get(Performed, item.performed_id), item) for item in items]


def perform(records: Records, performed: Performed, exam: Exam, context: RisContext) -> list[Event]:
    """Move the steps that the performed step covers by all that is performed on them, then the exam and its order.

    A step ends when nothing on it is in progress any more, an exam when no step of it is left open; when all that was begun was
    begun by mistake, they go back to what is scheduled.
    """
    done = [(performed if one.id == performed.id else one, item) for one, item in performed_of(records, exam)]
    steps = records.find(Step, exam_id=exam.id)
    mine = [item for one, item in done if one.id == performed.id]
    for step in _covered(steps, mine):
        event = _strongest(one for one, item in done if step in _covered(steps, [item]))
        if event != "start" or performed.status == "IN PROGRESS":  # what goes on has begun before
            move_steps(records, [step], event)
    moved = _moved(exam, performed, [one for one, _ in done], records.find(Step, exam_id=exam.id))
    if moved != exam:
        records.update(moved)
    if moved.status == exam.status:
        return []
    _follow(records, moved)
    return [_told(moved, performed.reason if performed.outcome else "", performed.id), *charges.settle(records, moved, context)]


def is_unscheduled(records: Records, exam: Exam) -> bool:
    """Return whether the exam is known from the modality alone: nobody has ordered or planned it."""
    return exam.order_id is None and records.one(Step, exam_id=exam.id) is None


def event_of(performed: Performed) -> str:
    """Return what the performed step means to a step of the plan, or to the exam."""
    if performed.status == "DISCONTINUED":
        return performed.outcome or "discontinue"
    return "start" if performed.status == "IN PROGRESS" else "complete"


def _strongest(performed: Iterable[Performed]) -> str:
    return min(map(event_of, performed), key=_STRONGEST.index)


def _covered(steps: list[Step], items: list[PerformedItem]) -> list[Step]:
    """Return the steps that the items name; an item that names none of them means all."""
    covered = []
    for item in items:
        named = set(filter(None, item.sps_id.split("\\")))
        mine = [step for step in steps if step.sps_id in named]
        covered += mine or steps
    return [step for step in steps if step in covered]


def _moved(exam: Exam, performed: Performed, done: list[Performed], steps: list[Step]) -> Exam:
    """Return the exam as it stands after the performed step has become what it is."""
    if performed.status == "IN PROGRESS":
        status = next_state(EXAM, exam.status, "start", _STATUS)
        return replace(exam, status=status, started_at=exam.started_at or performed.started_at)
    if any(one.status == "IN PROGRESS" for one in done):
        return exam
    states = {step.status for step in steps}
    if not schedule.BUSY & states:
        completed = "completed" in states or (not states and _strongest(done) == "complete")
        return _ended(exam, performed, "complete" if completed else "discontinue")
    if _strongest(done) == "reschedule" and allows(EXAM, exam.status, "reschedule"):
        return replace(exam, status=next_state(EXAM, exam.status, "reschedule"), started_at="")
    return exam


def _ended(exam: Exam, performed: Performed, event: str) -> Exam:
    if not allows(EXAM, exam.status, event):  # a further attempt was given up, what was completed stays so
        return exam
    status = next_state(EXAM, exam.status, event)
    return replace(exam, status=status, completed_at=performed.ended_at if status == "completed" else exam.completed_at)


def _follow(records: Records, exam: Exam) -> None:
    """Give the order the status of its exam, when it has one and the law allows."""
    event = _ORDER[exam.status]
    order = records.get(Order, exam.order_id) if exam.order_id is not None else None
    if order is not None and allows(ORDER, order.status, event):
        status = next_state(ORDER, order.status, event)
        if status != order.status:
            records.update(replace(order, status=status))


def move(records: Records, exam: Exam, event: str, path: str) -> Exam:
    """Move the exam by an event of its order (arrive, hold, release), its steps too where that concerns them."""
    status = next_state(EXAM, exam.status, event, path)
    if event == "arrive":
        move_steps(records, records.find(Step, exam_id=exam.id), event)
    if status == exam.status:
        return exam
    moved = replace(exam, status=status)
    records.update(moved)
    return moved


def stop(records: Records, exam: Exam, event: str, path: str) -> list[Event]:
    """Cancel or discontinue the exam on the placer's word: what was begun is discontinued, the rest cancelled."""
    status = next_state(EXAM, exam.status, event, path)
    if status == exam.status:
        return []
    steps = records.find(Step, exam_id=exam.id)
    move_steps(records, [step for step in steps if step.status == "started"], "discontinue")
    move_steps(records, [step for step in steps if step.status != "started"], "cancel")
    moved = replace(exam, status=status)
    records.update(moved)
    return [_told(moved, event)]


def move_steps(records: Records, steps: Iterable[Step], event: str) -> None:
    """Move those of the steps that the event may move; one that ends gives its slot back, and may not find it free when it begins anew."""
    for step in steps:
        if not allows(STEP, step.status, event):
            continue
        status = next_state(STEP, step.status, event)
        if status != step.status:
            taken = status in schedule.BUSY and step.status not in schedule.BUSY and schedule.is_taken(records, step)
            records.update(replace(step, status=status, station="", room="") if taken else replace(step, status=status))
            if step.status in schedule.BUSY and status not in schedule.BUSY:
                schedule.freed(records, step)


def _told(exam: Exam, reason: str = "", performed_id: int | None = None) -> Event:
    return Event(
        _TOLD[exam.status],
        patient_id=exam.patient_id,
        order_id=exam.order_id,
        exam_id=exam.id,
        performed_id=performed_id,
        accession=exam.accession,
        reason=reason,
    )
