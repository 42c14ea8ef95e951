"""The one way into the RIS: a request changes the records by the rules and says what has happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.ris import exams, images, orders, patients, reconcile, reports
from broker.ris.context import RisContext
from broker.ris.entities import Exam
from broker.ris.events import (
    Event,
    MergePatients,
    PerformStep,
    PlaceOrder,
    ReceiveReport,
    RegisterPatient,
    Request,
    StoreInstance,
)
from broker.ris.records import Records


def apply(records: Records, request: Request, context: RisContext) -> list[Event]:
    """Apply the request and return its events in the order they happened.

    Raises MessageError when the request may not be applied; the caller then rolls back what was written.
    """
    return _RULES[type(request)](records, request, context)


def _register(records: Records, request: RegisterPatient, context: RisContext) -> list[Event]:
    return patients.register(records, request.patient, context)[1]


def _merge(records: Records, request: MergePatients, context: RisContext) -> list[Event]:
    """Merge, then look again at what was listed because its patient seemed to be another one."""
    events = patients.merge(records, request, context)
    for event in [event for event in events if event.name == "patient.merged"]:
        for exam in records.find(Exam, patient_id=event.patient_id):
            events += reconcile.resolve(records, exam, context)
    return events


_RULES: dict[type, Callable[[Records, Any, RisContext], list[Event]]] = {
    RegisterPatient: _register,
    MergePatients: _merge,
    PlaceOrder: orders.apply,
    PerformStep: exams.apply,
    StoreInstance: images.apply,
    ReceiveReport: reports.apply,
}
