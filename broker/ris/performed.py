"""Performed procedure steps (MPPS): kept whole, tied to the exams they name, which they move.

A step that names nothing but its study is unscheduled: it makes an exam of its own, which is listed until its order's exam takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from broker.errors import MessageError
from broker.ris import charges, doses, exams, patients, plan, unmatched, withdrawn
from broker.ris.context import RisContext
from broker.ris.entities import Exam, PatientIdentifier, Performed, PerformedDataset, PerformedItem, PerformedSeries, Report, Step
from broker.ris.events import Event, PerformStep, ScheduledItem
from broker.ris.records import Records
from broker.ris.states import EXAM, NEW, PERFORMED, allows, next_state

FINAL = 210  # code of the MessageError of a performed step that may no longer be updated
UNSCHEDULED = "unscheduled"  # why an exam of the modality's own is listed

_UID = "SOPInstanceUID"
_STATUS = "PerformedProcedureStepStatus"


def apply(records: Records, request: PerformStep, context: RisContext) -> list[Event]:
    """Take an N-CREATE or N-SET.

    Raises MessageError 205 for a known uid, 204 for an unknown one, 103 for a status that cannot follow, 210 for a final MPPS.
    """
    return _create(records, request, context) if request.create else _set(records, request, context)


def kept(records: Records, uid: str) -> tuple[Performed, bytes] | None:
    """Return the performed step with this uid and its attributes, b"" when an earlier broker kept none; None when there is none."""
    performed = records.one(Performed, uid=uid)
    if performed is None:
        return None
    dataset = records.one(PerformedDataset, performed_id=performed.id)
    return performed, dataset.attributes if dataset else b""


def _create(records: Records, request: PerformStep, context: RisContext) -> list[Event]:
    if records.one(Performed, uid=request.uid) is not None:
        raise MessageError(_UID, "performed procedure step already known", 205)
    items = request.items or (ScheduledItem(request.accession, request.study_uid, request.sps_id),)
    performed = records.add(
        Performed(
            uid=request.uid,
            accession=items[0].accession,
            study_uid=items[0].study_uid,
            sps_id="\\".join(filter(None, (item.sps_id for item in items))),
            sent_patient_id=request.patient_id,
            sent_issuer=request.issuer,
            status=next_state(PERFORMED, NEW, request.status, _STATUS, code=103),
            station=request.station,
            started_at=request.started_at or context.now,
            series=request.series,
            instances=request.instances,
            message_id=context.message_id,
            modality=request.modality,
        )
    )
    for item in items:
        records.add(
            PerformedItem(
                performed_id=performed.id,
                accession=item.accession,
                study_uid=item.study_uid,
                sps_id=item.sps_id,
                requested_procedure_id=item.requested_procedure_id,
            )
        )
    _keep(records, performed, request)
    return _belongs(records, performed, context)


def _set(records: Records, request: PerformStep, context: RisContext) -> list[Event]:
    before = records.one(Performed, uid=request.uid)
    if before is None:
        raise MessageError(_UID, "no performed procedure step with this uid", 204)
    if before.status != "IN PROGRESS":
        raise MessageError(_STATUS, "performed procedure step object may no longer be updated", FINAL)
    status = next_state(PERFORMED, before.status, request.status or before.status, _STATUS, code=103)
    ended = status != "IN PROGRESS"
    performed = replace(
        before,
        status=status,
        ended_at=(request.ended_at or context.now) if ended else before.ended_at,
        series=max(before.series, request.series),
        instances=max(before.instances, request.instances),
        message_id=context.message_id,
    )
    if status == "DISCONTINUED":
        performed = replace(
            performed,
            reason_code=request.reason_code,
            reason_scheme=request.reason_scheme,
            reason=request.reason,
            outcome=request.outcome or "discontinue",
        )
    records.update(performed)
    _keep(records, performed, request)
    return _end(records, performed, request, context) if ended else []


def _end(records: Records, performed: Performed, request: PerformStep, context: RisContext) -> list[Event]:
    events = []
    for exam in exams_of(records, performed):
        events += exams.perform(records, performed, exam, context)
        if performed.outcome == "reschedule":
            alone = len({one.id for one, _ in exams.performed_of(records, exam)}) == 1
            events += withdrawn.set_apart(records, performed, records.get(Exam, exam.id), alone=alone, context=context)
    return events + doses.of_performed(records, performed, request, context)


def _keep(records: Records, performed: Performed, request: PerformStep) -> None:
    """Write the attributes as they are by now, and the series they name."""
    if request.attributes:
        known = records.one(PerformedDataset, performed_id=performed.id)
        fresh = PerformedDataset(known.id if known else 0, performed.id, request.attributes)
        (records.update if known else records.add)(fresh)
    made = {series.uid: series.instances for series in request.made}
    for known_series in records.find(PerformedSeries, performed_id=performed.id):
        count = made.pop(known_series.series_uid, known_series.instances)
        if count != known_series.instances:
            records.update(replace(known_series, instances=count))
    for uid, count in made.items():
        records.add(PerformedSeries(performed_id=performed.id, series_uid=uid, instances=count))


def exams_of(records: Records, performed: Performed) -> list[Exam]:
    """Return the exams that the performed step is tied to, each once."""
    items = records.find(PerformedItem, performed_id=performed.id)
    return [records.get(Exam, id) for id in dict.fromkeys(item.exam_id for item in items if item.exam_id is not None)]


def _belongs(records: Records, performed: Performed, context: RisContext) -> list[Event]:
    """Tie each item to the exam it names; what names none is listed, and what is unscheduled gets an exam."""
    found: dict[int, list[PerformedItem]] = {}
    listed: list[tuple[str, str]] = []
    for item in records.find(PerformedItem, performed_id=performed.id):
        exam, reason = _exam_of(records, performed, item, context)
        if exam is not None:
            found.setdefault(exam.id, []).append(item)
        if reason:
            listed.append((item.accession, reason))
    events = []
    for exam_id, items in found.items():
        events += _tie(records, performed, records.get(Exam, exam_id), items, context)
    if listed:
        events += unmatched.listed(records, "performed", performed.uid, *listed[0], context)
    return events


def _exam_of(records: Records, performed: Performed, item: PerformedItem, context: RisContext) -> tuple[Exam | None, str]:
    """Return the exam that accession number, else Study Instance UID, else step id name, and why the item is to be listed."""
    exam = _named(records, item)
    if exam is None and not (item.accession or item.sps_id or item.requested_procedure_id) and item.study_uid:
        exam = _unscheduled(records, performed, item, context)
    if exam is None:
        return None, "no such accession number" if item.accession else "no such study or step"
    if reason := refusal(records, performed, exam, context):
        return None, reason
    return exam, UNSCHEDULED if exams.is_unscheduled(records, exam) else ""


def _named(records: Records, item: PerformedItem) -> Exam | None:
    exam = records.one(Exam, accession=item.accession) if item.accession else None
    if exam is None and item.study_uid:
        exam = records.one(Exam, study_uid=item.study_uid)
    if exam is None and item.sps_id:
        step = records.one(Step, sps_id=item.sps_id.split("\\")[0])
        exam = records.get(Exam, step.exam_id) if step else None
    return exam


def _unscheduled(records: Records, performed: Performed, item: PerformedItem, context: RisContext) -> Exam:
    """Add an exam that is known from the modality alone; its accession number is made here, so that it has a timeline."""
    issuer = performed.sent_issuer or context.authority
    known = records.one(PatientIdentifier, value=performed.sent_patient_id, authority=issuer) if performed.sent_patient_id else None
    return records.add(
        Exam(
            patient_id=known.patient_id if known else None,
            accession=plan.fresh_accession(records, context),
            study_uid=item.study_uid,
            modality=performed.modality,
            status="",
        )
    )


def refusal(records: Records, performed: Performed, exam: Exam, context: RisContext) -> str:
    """Return why the MPPS cannot be this exam's, "" when it can."""
    if patients.differs(records, exam, performed.sent_patient_id, performed.sent_issuer, context):
        return "patient differs"
    if not allows(EXAM, exam.status, "start"):
        return f"exam is {exam.status}"
    return ""


def link(records: Records, performed: Performed, exam: Exam, context: RisContext) -> list[Event]:
    """Tie what of the MPPS is open to the exam, and let that go through what the MPPS went through.

    Of several open items those that name the exam, else all of them. The modality's own exam gives way to it.
    """
    open_ = open_items(records, performed)
    named = [item for item in open_ if exam.accession == item.accession or exam.study_uid == item.study_uid]
    return _tie(records, performed, exam, named or open_, context)


def open_items(records: Records, performed: Performed) -> list[PerformedItem]:
    """Return the items that are tied to no exam, or to one of the modality's own."""
    items = records.find(PerformedItem, performed_id=performed.id)
    return [item for item in items if item.exam_id is None or exams.is_unscheduled(records, records.get(Exam, item.exam_id))]


def _tie(records: Records, performed: Performed, exam: Exam, items: Iterable[PerformedItem], context: RisContext) -> list[Event]:
    before = dict.fromkeys(item.exam_id for item in items if item.exam_id is not None)
    for item in items:
        records.update(replace(item, exam_id=exam.id))
    performed = replace(performed, exam_id=exam.id if performed.exam_id in (None, *before) else performed.exam_id)
    records.update(performed)
    events = exams.perform(records, replace(performed, status="IN PROGRESS"), exam, context)
    if performed.status != "IN PROGRESS":
        events += exams.perform(records, performed, records.get(Exam, exam.id), context)
    for own in before:
        events += _replace(records, records.get(Exam, own), records.get(Exam, exam.id), context)
    return events


def _replace(records: Records, own: Exam, exam: Exam, context: RisContext) -> list[Event]:
    """Let an exam of the modality's own give way to the one of the order, when nothing is tied to it any more."""
    doses.move(records, own, exam)
    if records.find(PerformedItem, exam_id=own.id) or own.id == exam.id:
        return []
    records.update(replace(own, status=next_state(EXAM, own.status, "replace"), study_uid=""))
    missed = unmatched.find_open(records, "charge", own.accession)
    return [
        Event("exam.replaced", patient_id=exam.patient_id, exam_id=own.id, accession=own.accession, reason=exam.accession),
        *([unmatched.close(records, missed, exam, context)] if missed else []),
        *_reported(records, own, exam, context),
    ]


def _reported(records: Records, own: Exam, exam: Exam, context: RisContext) -> list[Event]:
    """Let the reports of the one become those of the other, which has none yet, and charge what is due by them."""
    if exam.report_status:
        return []
    for report in records.find(Report, exam_id=own.id):
        records.update(replace(report, exam_id=exam.id))
    exam = replace(exam, report_status=own.report_status)
    records.update(exam)
    return charges.settle(records, exam, context)
