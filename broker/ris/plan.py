"""The plan of an order: its exam with accession number, Study Instance UID and scheduled procedure steps."""

from __future__ import annotations

import re
from dataclasses import replace

from broker.errors import MessageError
from broker.ris import schedule, times
from broker.ris.changes import NULL, text
from broker.ris.context import RisContext
from broker.ris.entities import Exam, Order, Step
from broker.ris.events import PlaceOrder, Procedure
from broker.ris.records import Records
from broker.ris.states import EXAM, NEW, STEP, allows, next_state

ACCESSION = "OBR-18"  # where a sender names the accession number (IPC-1 in an OMI)
STUDY = "ZDS-1"  # where it names the study (IPC-3 in an OMI)
_LONGEST = 16  # characters of a DICOM SH
_UID = re.compile(r"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)+")
_WAITING = frozenset({"scheduled", "arrived"})  # steps whose slot may still be moved


def accession(records: Records, request: PlaceOrder, context: RisContext) -> str:
    """Return the accession number asked for, or a new one; raises MessageError when it is taken or too long."""
    asked = text(request.accession.strip())
    if not asked:
        return fresh_accession(records, context)
    if len(asked) > _LONGEST:
        raise MessageError(ACCESSION, f"an accession number has at most {_LONGEST} characters", 102)
    if records.one(Exam, accession=asked) is not None:
        raise MessageError(ACCESSION, "accession number belongs to another order", 205)
    return asked


def exam(records: Records, order: Order, procedure: Procedure, request: PlaceOrder, accession: str, context: RisContext) -> Exam:
    """Add the exam of a new order with its steps in their slot; raises MessageError when the study belongs to another patient."""
    study = _study(request)
    shared = records.one(Exam, study_uid=study) if study else None
    if shared is not None and shared.patient_id not in (order.patient_id, None):  # None: unscheduled, of somebody not known here
        raise MessageError(STUDY, "the study belongs to another patient", 205)
    planned = _planned(procedure)
    minutes = max(procedure.duration, len(planned))
    slot = _slot(records, procedure.modality, minutes, order, request.station, context)
    added = records.add(
        Exam(
            order_id=order.id,
            patient_id=order.patient_id,
            accession=accession,
            accession_issuer=text(request.accession_issuer) if request.accession else "",
            requested_procedure_id=_procedure_id(request) or _number(records, "requested_procedure", context),
            study_uid=study or context.new_uid(),
            procedure_code=procedure.code,
            procedure_name=procedure.name,
            modality=procedure.modality,
            cpt=procedure.cpt,
            modifiers=procedure.modifiers,
            status=next_state(EXAM, NEW, "schedule", "ORC-1"),
            priority=order.priority,
            scheduled_at=slot.start,
        )
    )
    _lay_out(records, added, [], planned, minutes, slot, context)
    return added


def change(records: Records, before: Exam, was: Order, order: Order, request: PlaceOrder, context: RisContext) -> Exam:
    """Bring the exam in line with its changed order: procedure, priority, and, when they bear on it, its slot."""
    after = replace(before, priority=order.priority, status=next_state(EXAM, before.status, "change", "ORC-1"))
    procedure = request.procedure if request.procedure and request.procedure.code != before.procedure_code else None
    if procedure is not None:
        after = replace(
            after,
            procedure_code=procedure.code,
            procedure_name=procedure.name,
            modality=procedure.modality,
            cpt=procedure.cpt,
            modifiers=procedure.modifiers,
        )
    if after != before:
        records.update(after)
    urgent = context.slots.urgent
    hastened = order.priority != was.priority and (order.priority in urgent) != (was.priority in urgent)
    if procedure or hastened or order.requested_at != was.requested_at or _elsewhere(records, before, request.station, context):
        return move(records, after, order, request.station, context, procedure)
    return after


def move(records: Records, exam: Exam, order: Order, station: str, context: RisContext, procedure: Procedure | None = None) -> Exam:
    """Seek a new slot for the steps that wait (for those of `procedure`, when given); an exam that has begun keeps its steps."""
    steps = records.find(Step, exam_id=exam.id)
    waiting = [step for step in steps if step.status in _WAITING]
    if not waiting or len(waiting) != sum(step.status != "cancelled" for step in steps):
        return exam
    for step in waiting:  # out of the way while a slot is sought: they do not stand in their own light
        records.update(replace(step, status="cancelled"))
        schedule.freed(records, step)
    planned = _planned(procedure) if procedure else [(step.protocol_code, step.protocol_name) for step in waiting]
    minutes = max(procedure.duration if procedure else sum(step.duration for step in waiting), len(planned))
    slot = _slot(records, exam.modality, minutes, order, station, context)
    _lay_out(records, exam, waiting, planned, minutes, slot, context)
    moved = replace(exam, scheduled_at=slot.start)
    records.update(moved)
    return moved


def has_passed(exam: Exam, context: RisContext) -> bool:
    """Return whether the scheduled time of an exam that waits lies before now."""
    return exam.status in {"scheduled", "arrived", "on_hold"} and exam.scheduled_at < context.now[:12]


def check_names(exam: Exam, request: PlaceOrder) -> None:
    """Raise MessageError when a change names another accession number or study than the exam has: those never change."""
    if request.accession not in ("", NULL, exam.accession):
        raise MessageError(ACCESSION, "names another exam than the order's", 204)
    if request.study_uid not in ("", NULL, exam.study_uid):
        raise MessageError(STUDY, "names another study than the order's", 204)


def fresh_accession(records: Records, context: RisContext) -> str:
    """Return the next accession number that no exam has; raises MessageError when it would be too long."""
    while True:
        made = context.accession_format.format(number=records.number("accession"))
        if len(made) > _LONGEST:
            raise MessageError(ACCESSION, f"accession_format gives more than {_LONGEST} characters", 207)
        if records.one(Exam, accession=made) is None:  # a sender may have used it on its own
            return made


def _study(request: PlaceOrder) -> str:
    study = text(request.study_uid.strip())
    if study and not _UID.fullmatch(study):
        raise MessageError(STUDY, "a Study Instance UID has digits and dots, at most 64", 102)
    return study


def _procedure_id(request: PlaceOrder) -> str:
    asked = text(request.requested_procedure_id.strip())
    if len(asked) > _LONGEST:
        raise MessageError("OBR-19", f"a requested procedure id has at most {_LONGEST} characters", 102)
    return asked


def _number(records: Records, sequence: str, context: RisContext) -> str:
    form = context.step_format if sequence == "step" else context.procedure_format
    made = form.format(number=records.number(sequence))
    if len(made) > _LONGEST:
        raise MessageError("", f"the format of {sequence} ids gives more than {_LONGEST} characters", 207)
    return made


def _planned(procedure: Procedure) -> list[tuple[str, str]]:
    return list(procedure.steps) or [(procedure.code, procedure.name)]


def _slot(records: Records, modality: str, minutes: int, order: Order, station: str, context: RisContext) -> schedule.Slot:
    return schedule.find_slot(
        records,
        context,
        modality=modality,
        minutes=minutes,
        requested=order.requested_at,
        priority=order.priority,
        station=text(station),
    )


def _elsewhere(records: Records, exam: Exam, asked: str, context: RisContext) -> bool:
    known = any(station.aet == asked for station in context.stations)
    return known and any(step.station != asked for step in records.find(Step, exam_id=exam.id))


def _lay_out(
    records: Records, exam: Exam, old: list[Step], planned: list[tuple[str, str]], minutes: int, slot: schedule.Slot, context: RisContext
) -> None:
    """Put the planned steps one after the other into the slot, which they share evenly; `old` steps keep their ids, surplus ones end."""
    start = times.read(slot.start)
    if start is None:
        raise ValueError("a slot without a time")
    for position, (code, name) in enumerate(planned):
        begins, ends = (minutes * edge // len(planned) for edge in (position, position + 1))
        kept = old[position] if position < len(old) else None
        step = Step(
            id=kept.id if kept else 0,
            exam_id=exam.id,
            sps_id=kept.sps_id if kept else _number(records, "step", context),
            status=next_state(STEP, kept.status, "change") if kept else next_state(STEP, NEW, "schedule"),
            modality=exam.modality,
            station=slot.station,
            room=slot.room,
            start=times.write(start + times.minutes(begins)),
            duration=ends - begins,
            protocol_code=code,
            protocol_name=name,
            ends=times.write(start + times.minutes(max(ends, begins + 1))),
        )
        if kept:
            records.update(step)
        else:
            records.add(step)
    for surplus in old[len(planned) :]:
        if allows(STEP, surplus.status, "cancel"):
            records.update(replace(surplus, status=next_state(STEP, surplus.status, "cancel")))
