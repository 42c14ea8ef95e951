"""What an event is about, gathered for those who build messages from it."""

from __future__ import annotations

from typing import Any

from broker.ris import patients, reports
from broker.ris.entities import Charge, Exam, Order, Patient, Report, Step
from broker.ris.events import Event
from broker.ris.records import Records


def view(records: Records, event: Event, message_id: int) -> dict[str, Any]:
    """Return the records around the event as they stand now; None or an empty list where there is nothing.

    `identifiers` are those in use, the one that stands for the patient first, then those retired by a merge; `steps` are those
    of the plan as it stands, or, of a cancelled exam, as it was; `report` is the event's, else the exam's latest; `message_id`
    is the request that caused the event.
    """
    exam = records.get(Exam, event.exam_id) if event.exam_id is not None else None
    order_id = event.order_id if event.order_id is not None or exam is None else exam.order_id
    patient_id = event.patient_id if event.patient_id is not None or exam is None else exam.patient_id
    return {
        "event": event,
        "message_id": message_id,
        "patient": records.get(Patient, patient_id) if patient_id is not None else None,
        "identifiers": patients.identifiers_of(records, patient_id, retired=True) if patient_id is not None else [],
        "order": records.get(Order, order_id) if order_id is not None else None,
        "exam": exam,
        "steps": _steps(records, exam) if exam else [],
        "report": _report(records, event, exam),
        "charge": records.get(Charge, event.charge_id) if event.charge_id is not None else None,
    }


def _steps(records: Records, exam: Exam) -> list[Step]:
    steps = records.find(Step, exam_id=exam.id)
    return [step for step in steps if step.status != "cancelled"] or steps


def _report(records: Records, event: Event, exam: Exam | None) -> Report | None:
    if event.report_id is not None:
        return records.get(Report, event.report_id)
    return reports.latest(records, exam) if exam else None
