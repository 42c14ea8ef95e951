"""The one way into the RIS: a request changes the records by the rules and says what has happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.ris import availability, completeness, doses, images, orders, patients, performed, reconcile, reports
from broker.ris.context import RisContext
from broker.ris.entities import Exam, Instance, Performed
from broker.ris.events import (
    Available,
    CountImages,
    Deliver,
    EndSending,
    Event,
    LookForImages,
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


def _perform(records: Records, request: PerformStep, context: RisContext) -> list[Event]:
    """Apply an MPPS, then look whether the images that it names are here."""
    events = performed.apply(records, request, context)
    step = records.one(Performed, uid=request.uid)
    for exam in performed.exams_of(records, step) if step is not None else ():
        events += completeness.look(records, exam, context)
    return events


def _register(records: Records, request: RegisterPatient, context: RisContext) -> list[Event]:
    return patients.register(records, request.patient, context)[1]


def _merge(records: Records, request: MergePatients, context: RisContext) -> list[Event]:
    """Merge, then look again at what was listed because its patient seemed to be another one."""
    events = patients.merge(records, request, context)
    for event in [event for event in events if event.name == "patient.merged"]:
        for exam in records.find(Exam, patient_id=event.patient_id):
            events += reconcile.resolve(records, exam, context)
    return events


def store(records: Records, request: StoreInstance, context: RisContext) -> tuple[Instance, list[Event]]:
    """Apply a received object; return its record, which says where it belongs, and what has happened. Raises MessageError."""
    instance, events = images.place(records, request, context)
    if instance.exam_id is not None and instance.message_id == context.message_id:  # else it came before
        events = events + completeness.stored(records, records.get(Exam, instance.exam_id), context)
    return instance, events + doses.of_instance(records, request, context)


def _store(records: Records, request: StoreInstance, context: RisContext) -> list[Event]:
    return store(records, request, context)[1]


_RULES: dict[type, Callable[[Records, Any, RisContext], list[Event]]] = {
    RegisterPatient: _register,
    MergePatients: _merge,
    PlaceOrder: orders.apply,
    PerformStep: _perform,
    StoreInstance: _store,
    ReceiveReport: reports.apply,
    CountImages: completeness.count,
    EndSending: completeness.ended,
    LookForImages: completeness.again,
    Available: availability.apply,
    Deliver: completeness.deliver,
}
