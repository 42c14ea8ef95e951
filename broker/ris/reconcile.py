"""What came before its order: images, performed steps and reports that are tied to an exam once it is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from broker.ris import charges, completeness, doses, exams, images, patients, performed, reports, unmatched, withdrawn
from broker.ris.context import RisContext
from broker.ris.entities import Exam, Instance, Order, Performed, PerformedItem, Report, Unmatched
from broker.ris.events import Event
from broker.ris.records import Records


def resolve(records: Records, exam: Exam, context: RisContext) -> list[Event]:
    """Close the open entries that belong to the exam, in the order they were listed, and tell what follows from each."""
    events = []
    for entry in _candidates(records, exam):
        events += _RESOLVE[entry.kind](records, entry, records.get(Exam, exam.id), context)
    return events


def _candidates(records: Records, exam: Exam) -> list[Unmatched]:
    """Return the open entries that name the exam's accession number, study or placer number."""
    order = records.get(Order, exam.order_id) if exam.order_id is not None else Order()
    found = records.find(Unmatched, accession=exam.accession, resolved_at=None)
    found += records.find(Unmatched, key=exam.study_uid, resolved_at=None)
    found += _reported(records, "study_uid", exam.study_uid)
    if order.placer_number:
        found += _reported(records, "placer_number", order.placer_number)
    items = records.find(PerformedItem, study_uid=exam.study_uid) + records.find(PerformedItem, accession=exam.accession)
    for id in dict.fromkeys(item.performed_id for item in items if item.exam_id != exam.id):
        found += records.find(Unmatched, key=records.get(Performed, id).uid, resolved_at=None)
    found += _of_patient(records, exam)
    return [entry for _, entry in sorted({entry.id: entry for entry in found}.items())]


def _of_patient(records: Records, exam: Exam) -> list[Unmatched]:
    """Return the open entries of images whose patient may name their exam, and is the exam's."""
    known = patients.identifiers_of(records, exam.patient_id) if exam.patient_id is not None else []
    return [entry for one in known for entry in records.find(Unmatched, patient_id=one.value, resolved_at=None) if entry.window]


def _reported(records: Records, name: str, value: str) -> list[Unmatched]:
    match = {name: value}
    keys = dict.fromkeys(reports.key(report) for report in records.find(Report, exam_id=None, **match))
    return [entry for key in keys if (entry := unmatched.find_open(records, "report", key))]


def _images(records: Records, entry: Unmatched, exam: Exam, context: RisContext) -> list[Event]:
    waiting = unmatched.waiting(records, entry)
    mine = [one for one in waiting if one.study_uid == exam.study_uid or _accession(entry, one) == exam.accession]
    mine = [one for one in mine if entry.corrected or not withdrawn.is_withdrawn(records, one.series_uid)]
    if not mine and [one.id for one in images.of_patient(records, entry, context)] == [exam.id]:
        mine = waiting
    fitting = [one for one in mine if not patients.differs(records, exam, *_patient(entry, one), context)]
    for instance in fitting:
        records.update(replace(instance, exam_id=exam.id))
    told = images.count(records, exam, len(fitting)) + doses.follow(records, fitting, exam)
    if fitting:
        told += completeness.stored(records, records.get(Exam, exam.id), context)
    if len(fitting) < len(waiting):  # a person must look at the rest
        if len(fitting) < len(mine):
            records.update(replace(entry, reason="patient differs"))
        return told
    return [unmatched.close(records, entry, exam, context), *told]


def _accession(entry: Unmatched, instance: Instance) -> str:
    return entry.accession if entry.corrected or not instance.accession else instance.accession


def _patient(entry: Unmatched, instance: Instance) -> tuple[str, str]:
    if entry.corrected and entry.patient_id:
        return entry.patient_id, entry.issuer
    return instance.sent_patient_id, instance.sent_issuer


def _performed(records: Records, entry: Unmatched, exam: Exam, context: RisContext) -> list[Event]:
    step = records.one(Performed, uid=entry.key)
    if step is None or exams.is_unscheduled(records, exam) or performed.refusal(records, step, exam, context):
        return []
    events = performed.link(records, step, exam, context)
    return events if performed.open_items(records, step) else [unmatched.close(records, entry, exam, context), *events]


def _report(records: Records, entry: Unmatched, exam: Exam, context: RisContext) -> list[Event]:
    waiting = reports.versions(records, entry.key)
    if any(patients.differs(records, exam, one.sent_patient_id, one.sent_issuer, context) for one in waiting):
        return []
    events = [unmatched.close(records, entry, exam, context)]
    for report in waiting:
        events += reports.link(records, report, records.get(Exam, exam.id), context)
    return events


def _charge(records: Records, entry: Unmatched, exam: Exam, context: RisContext) -> list[Event]:
    return charges.settle(records, exam, context)


def _nothing(records: Records, entry: Unmatched, exam: Exam, context: RisContext) -> list[Event]:
    """A report that could not be read stays so, whoever it belongs to."""
    return []


def _available(records: Records, entry: Unmatched, exam: Exam, context: RisContext) -> list[Event]:
    """What an archive has said of the study is no longer open; it will say so again when it changes."""
    return [unmatched.close(records, entry, exam, context)]


_RESOLVE: dict[str, Callable[[Records, Unmatched, Exam, RisContext], list[Event]]] = {
    "images": _images,
    "performed": _performed,
    "report": _report,
    "charge": _charge,
    "available": _available,
    "dose": _nothing,
}
