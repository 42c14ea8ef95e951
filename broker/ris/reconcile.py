"""What came before its order: images, performed steps and reports that are tied to an exam once it is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from broker.ris import charges, exams, images, patients, reports, unmatched
from broker.ris.context import RisContext
from broker.ris.entities import Exam, Instance, Order, Performed, Report, Unmatched
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
    for performed in records.find(Performed, study_uid=exam.study_uid, exam_id=None):
        found += records.find(Unmatched, key=performed.uid, resolved_at=None)
    return [entry for _, entry in sorted({entry.id: entry for entry in found}.items())]


def _reported(records: Records, name: str, value: str) -> list[Unmatched]:
    match = {name: value}
    keys = dict.fromkeys(reports.key(report) for report in records.find(Report, exam_id=None, **match))
    return [entry for key in keys if (entry := unmatched.find_open(records, "report", key))]


def _images(records: Records, entry: Unmatched, exam: Exam, context: RisContext) -> list[Event]:
    waiting = records.find(Instance, study_uid=entry.key, exam_id=None) or records.find(Instance, uid=entry.key, exam_id=None)
    mine = [one for one in waiting if one.study_uid == exam.study_uid or one.accession in ("", exam.accession)]
    fitting = [one for one in mine if not patients.differs(records, exam, one.sent_patient_id, one.sent_issuer, context)]
    for instance in fitting:
        records.update(replace(instance, exam_id=exam.id))
    told = images.count(records, exam, len(fitting))
    if len(fitting) < len(waiting):  # a person must look at the rest
        if len(fitting) < len(mine):
            records.update(replace(entry, reason="patient differs"))
        return told
    return [unmatched.close(records, entry, exam, context), *told]


def _performed(records: Records, entry: Unmatched, exam: Exam, context: RisContext) -> list[Event]:
    performed = records.one(Performed, uid=entry.key)
    if performed is None or exams.refusal(records, performed, exam, context):
        return []
    return [unmatched.close(records, entry, exam, context), *exams.link(records, performed, exam, context)]


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


_RESOLVE: dict[str, Callable[[Records, Unmatched, Exam, RisContext], list[Event]]] = {
    "images": _images,
    "performed": _performed,
    "report": _report,
    "charge": _charge,
}
