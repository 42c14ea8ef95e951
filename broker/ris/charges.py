"""Charges: one per exam, when the exam is completed and its report final, in whichever order these come."""

from __future__ import annotations

from broker.ris import unmatched
from broker.ris.context import RisContext
from broker.ris.entities import Charge, Exam, Order, Report
from broker.ris.events import Event
from broker.ris.records import Records

SIGNED = frozenset({"final", "corrected"})  # report states that may be charged


def settle(records: Records, exam: Exam, context: RisContext) -> list[Event]:
    """Post the charge of the exam if it is due and was not posted before; one that cannot be coded is listed as done and not charged."""
    if exam.status != "completed" or exam.report_status not in SIGNED or records.one(Charge, exam_id=exam.id) is not None:
        return []
    if not exam.cpt:
        return unmatched.listed(records, "charge", exam.accession, exam.accession, "the procedure has no CPT code", context)
    missed = unmatched.find_open(records, "charge", exam.accession)
    charge = records.add(
        Charge(exam_id=exam.id, cpt=exam.cpt, modifiers=exam.modifiers, diagnoses=_diagnoses(records, exam), charged_at=context.now)
    )
    return [
        Event(
            "charge.posted",
            patient_id=exam.patient_id,
            order_id=exam.order_id,
            exam_id=exam.id,
            charge_id=charge.id,
            accession=exam.accession,
        ),
        *([unmatched.close(records, missed, exam, context)] if missed else []),
    ]


def _diagnoses(records: Records, exam: Exam) -> tuple[str, ...]:
    """Return the diagnoses of the latest signed report that gives any, else the order's."""
    for report in reversed(records.find(Report, exam_id=exam.id)):
        if report.status in SIGNED and report.diagnoses:
            return report.diagnoses
    return records.get(Order, exam.order_id).diagnoses if exam.order_id is not None else ()
