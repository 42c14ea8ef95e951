"""What an event is about, gathered for those who build messages from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from broker.ris import doses, patients, reports
from broker.ris.entities import Charge, Exam, Order, Patient, PatientIdentifier, Performed, Report, Step
from broker.ris.events import Event
from broker.ris.records import Records


def view(records: Records, event: Event, message_id: int) -> dict[str, Any]:
    """Return the records around the event as they stand now; None or an empty list where there is nothing.

    `identifiers` are those in use, the one that stands for the patient first, then those retired by a merge; `steps` are those
    of the plan as it stands, or, of a cancelled exam, as it was; `report` is the event's, else the exam's latest; `message_id`
    is the request that caused the event; `performed` is the MPPS that caused it, `dose` what was recorded.
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
        "performed": records.get(Performed, event.performed_id) if event.performed_id is not None else None,
        "dose": doses.of_exam(records, exam) if exam and event.name == "dose.recorded" else None,
        "charge": records.get(Charge, event.charge_id) if event.charge_id is not None else None,
    }


def _steps(records: Records, exam: Exam) -> list[Step]:
    steps = records.find(Step, exam_id=exam.id)
    return [step for step in steps if step.status != "cancelled"] or steps


def _report(records: Records, event: Event, exam: Exam | None) -> Report | None:
    if event.report_id is not None:
        return records.get(Report, event.report_id)
    return reports.latest(records, exam) if exam else None


class ExamView(Mapping[str, Any]):
    """What `view` gathers around an exam, read from the records only where it is asked for; and its `step`.

    `step` is the scheduled step with the id that the object names, else the only one there is, else None.
    """

    __slots__ = ("_exam", "_known", "_message_id", "_records", "_sps_id")

    def __init__(self, records: Records, exam: Exam, message_id: int, sps_id: str = "") -> None:
        self._records, self._exam, self._message_id, self._sps_id = records, exam, message_id, sps_id
        self._known: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = _AROUND[name](self)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_AROUND)

    def __len__(self) -> int:
        return len(_AROUND)

    def _event(self) -> Event:
        exam = self._exam
        return Event("exam", patient_id=exam.patient_id, order_id=exam.order_id, exam_id=exam.id, accession=exam.accession)

    def _patient(self) -> Patient | None:
        return self._records.get(Patient, self._exam.patient_id) if self._exam.patient_id is not None else None

    def _identifiers(self) -> list[PatientIdentifier]:
        exam = self._exam
        return patients.identifiers_of(self._records, exam.patient_id, retired=True) if exam.patient_id is not None else []

    def _order(self) -> Order | None:
        return self._records.get(Order, self._exam.order_id) if self._exam.order_id is not None else None

    def _step(self) -> Step | None:
        steps: list[Step] = self["steps"]
        return next((step for step in steps if step.sps_id == self._sps_id), steps[0] if len(steps) == 1 else None)


_AROUND: Mapping[str, Callable[[ExamView], Any]] = {
    "event": ExamView._event,
    "message_id": lambda view: view._message_id,
    "patient": ExamView._patient,
    "identifiers": ExamView._identifiers,
    "order": ExamView._order,
    "exam": lambda view: view._exam,
    "steps": lambda view: _steps(view._records, view._exam),
    "report": lambda view: reports.latest(view._records, view._exam),
    "performed": lambda view: None,
    "dose": lambda view: None,
    "charge": lambda view: None,
    "step": ExamView._step,
}
