"""Exams and their steps, moved by the modality's performed procedure steps (MPPS) and by orders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from broker.errors import MessageError
from broker.ris import charges, patients, schedule, unmatched
from broker.ris.context import RisContext
from broker.ris.entities import Exam, Order, Performed, Step
from broker.ris.events import Event, PerformStep
from broker.ris.records import Records
from broker.ris.states import EXAM, NEW, ORDER, PERFORMED, STEP, allows, next_state

_UID = "SOPInstanceUID"
_STATUS = "PerformedProcedureStepStatus"
_BY = {"IN PROGRESS": "start", "COMPLETED": "complete", "DISCONTINUED": "discontinue"}  # MPPS status -> event of step and exam
_TOLD = {"in_progress": "exam.started", "completed": "exam.completed", "discontinued": "exam.discontinued", "cancelled": "exam.cancelled"}


def apply(records: Records, request: PerformStep, context: RisContext) -> list[Event]:
    """Take an N-CREATE or N-SET; raises MessageError 205 for a known uid, 204 for an unknown one, 207 for a closed MPPS."""
    return _create(records, request, context) if request.create else _set(records, request, context)


def _create(records: Records, request: PerformStep, context: RisContext) -> list[Event]:
    if records.one(Performed, uid=request.uid) is not None:
        raise MessageError(_UID, "performed procedure step already known", 205)
    performed = records.add(
        Performed(
            uid=request.uid,
            accession=request.accession,
            study_uid=request.study_uid,
            sps_id=request.sps_id,
            sent_patient_id=request.patient_id,
            sent_issuer=request.issuer,
            status=next_state(PERFORMED, NEW, request.status, _STATUS, code=103),
            station=request.station,
            started_at=request.started_at or context.now,
            series=request.series,
            instances=request.instances,
            message_id=context.message_id,
        )
    )
    exam, reason = _belongs(records, performed, context)
    if exam is None:
        return unmatched.listed(records, "performed", request.uid, request.accession, reason, context)
    return link(records, performed, exam, context)


def _set(records: Records, request: PerformStep, context: RisContext) -> list[Event]:
    before = records.one(Performed, uid=request.uid)
    if before is None:
        raise MessageError(_UID, "no performed procedure step with this uid", 204)
    status = next_state(PERFORMED, before.status, request.status or before.status, _STATUS)
    ended = status != "IN PROGRESS"
    performed = replace(
        before,
        status=status,
        ended_at=(request.ended_at or context.now) if ended else before.ended_at,
        series=max(before.series, request.series),
        instances=max(before.instances, request.instances),
        message_id=context.message_id,
    )
    records.update(performed)
    if performed.exam_id is None or not ended:
        return []
    return _perform(records, performed, records.get(Exam, performed.exam_id), _BY[status], context)


def _belongs(records: Records, performed: Performed, context: RisContext) -> tuple[Exam | None, str]:
    """Return the exam that accession number, else Study Instance UID, else step id name, or why there is none."""
    exam = _named(records, performed)
    if exam is None:
        return None, "no such accession number" if performed.accession else "no such study or step"
    return (None, reason) if (reason := refusal(records, performed, exam, context)) else (exam, "")


def _named(records: Records, performed: Performed) -> Exam | None:
    exam = records.one(Exam, accession=performed.accession) if performed.accession else None
    if exam is None and performed.study_uid:
        exam = records.one(Exam, study_uid=performed.study_uid)
    if exam is None and performed.sps_id:
        step = records.one(Step, sps_id=performed.sps_id.split("\\")[0])
        exam = records.get(Exam, step.exam_id) if step else None
    return exam


def refusal(records: Records, performed: Performed, exam: Exam, context: RisContext) -> str:
    """Return why the MPPS cannot be this exam's, "" when it can."""
    if patients.differs(records, exam, performed.sent_patient_id, performed.sent_issuer, context):
        return "patient differs"
    if not allows(EXAM, exam.status, "start"):
        return f"exam is {exam.status}"
    return ""


def link(records: Records, performed: Performed, exam: Exam, context: RisContext) -> list[Event]:
    """Tie the MPPS to the exam and let the exam go through what the MPPS went through."""
    performed = replace(performed, exam_id=exam.id)
    records.update(performed)
    events = _perform(records, performed, exam, "start", context)
    if performed.status != "IN PROGRESS":
        events += _perform(records, performed, records.get(Exam, exam.id), _BY[performed.status], context)
    return events


def _perform(records: Records, performed: Performed, exam: Exam, event: str, context: RisContext) -> list[Event]:
    """Move the steps that the MPPS covers, then the exam and its order; an exam ends when no step of it is left open."""
    steps = records.find(Step, exam_id=exam.id)
    named = set(filter(None, performed.sps_id.split("\\"))) & {step.sps_id for step in steps}
    covered = [step for step in steps if step.sps_id in named] if named else steps
    move_steps(records, covered, event)
    moved = exam
    if event == "start":
        moved = _begun(exam, performed)
    else:
        states = [step.status for step in records.find(Step, exam_id=exam.id)]
        if not schedule.BUSY & set(states):
            moved = _ended(exam, performed, "complete" if "completed" in states else "discontinue")
    if moved != exam:
        records.update(moved)
    if moved.status == exam.status:
        return []
    _follow(records, moved)
    return [_told(moved), *charges.settle(records, moved, context)]


def _begun(exam: Exam, performed: Performed) -> Exam:
    return replace(exam, status=next_state(EXAM, exam.status, "start", _STATUS), started_at=exam.started_at or performed.started_at)


def _ended(exam: Exam, performed: Performed, event: str) -> Exam:
    if not allows(EXAM, exam.status, event):  # a further attempt was given up, what was completed stays so
        return exam
    status = next_state(EXAM, exam.status, event)
    return replace(exam, status=status, completed_at=performed.ended_at if status == "completed" else exam.completed_at)


def _follow(records: Records, exam: Exam) -> None:
    """Give the order the status of its exam, when it has one and the law allows."""
    event = {"in_progress": "start", "completed": "complete", "discontinued": "discontinue"}[exam.status]
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
    """Move those of the steps that the event may move; one that ends gives its slot back."""
    for step in steps:
        if not allows(STEP, step.status, event):
            continue
        status = next_state(STEP, step.status, event)
        if status != step.status:
            records.update(replace(step, status=status))
            if step.status in schedule.BUSY and status not in schedule.BUSY:
                schedule.freed(records, step)


def _told(exam: Exam, reason: str = "") -> Event:
    return Event(
        _TOLD[exam.status], patient_id=exam.patient_id, order_id=exam.order_id, exam_id=exam.id, accession=exam.accession, reason=reason
    )
