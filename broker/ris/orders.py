"""Orders: placed, cancelled, discontinued, changed, held, released, and the patient's arrival."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from broker.errors import MessageError
from broker.ris import exams, numbers, patients, plan, reconcile
from broker.ris.changes import text, updated
from broker.ris.context import RisContext
from broker.ris.entities import Exam, Order
from broker.ris.events import Event, OrderAction, PlaceOrder
from broker.ris.records import Records
from broker.ris.states import NEW, ORDER, next_state


def apply(records: Records, request: PlaceOrder, context: RisContext) -> list[Event]:
    """Do what the order control asks; raises MessageError at the field that is to blame."""
    if request.action == "new":
        return _place(records, request, context)
    order = _known(records, request)
    events = _same_patient(records, request, order, context)
    return events + _ACTIONS[request.action](records, request, order, context)


def _known(records: Records, request: PlaceOrder) -> Order:
    if not request.placer_number and not request.filler_number:
        raise MessageError("ORC-2", "neither placer nor filler order number", 101)
    order = numbers.find(records, request.placer_number, request.placer_authority, request.filler_number)
    if order is None:
        raise MessageError("ORC-2" if request.placer_number else "ORC-3", "no order with this number", 204)
    return order


def _same_patient(records: Records, request: PlaceOrder, order: Order, context: RisContext) -> list[Event]:
    """Bring the order's patient up to date; raises MessageError at PID-3 when the message is about another one."""
    if not request.patient.identifiers:
        return []
    patient = patients.find(records, request.patient.identifiers, context)
    if patient is None or patient.id != order.patient_id:
        raise MessageError("PID-3", "names another patient than the order's", 204)
    return patients.register(records, request.patient, context)[1]


def _place(records: Records, request: PlaceOrder, context: RisContext) -> list[Event]:
    procedure = request.procedure
    if procedure is None:
        raise MessageError("OBR-4", "no procedure", 101)
    if not request.placer_number and not request.filler_number:
        raise MessageError("ORC-2", "neither placer nor filler order number", 101)
    _refuse_known(records, request)
    patient, events = patients.register(records, request.patient, context)
    accession = plan.accession(records, request, context)
    order = _described(Order(patient_id=patient.id), request, context)
    order = records.add(
        replace(
            order,
            placer_number=request.placer_number,
            placer_authority=request.placer_authority,
            filler_number=request.filler_number or accession,
            filler_authority=request.filler_authority if request.filler_number else context.authority,
            status=next_state(ORDER, NEW, "place", "ORC-1"),
            ordered_at=text(request.ordered_at) or context.now,
            procedure_code=procedure.code,
            account=order.account or patient.account,
        )
    )
    exam = plan.exam(records, order, procedure, request, accession, context)
    events += [_told("order.placed", order, exam), _told("exam.scheduled", order, exam)]
    return events + reconcile.resolve(records, exam, context)


def _refuse_known(records: Records, request: PlaceOrder) -> None:
    placer = {"placer_number": request.placer_number, "placer_authority": request.placer_authority}
    filler = {"filler_number": request.filler_number, "filler_authority": request.filler_authority}
    for path, number, match in (("ORC-2", request.placer_number, placer), ("ORC-3", request.filler_number, filler)):
        if number and records.one(Order, **match) is not None:
            raise MessageError(path, "order already known", 205)


def _cancel(records: Records, request: PlaceOrder, order: Order, context: RisContext) -> list[Event]:
    """Cancel or discontinue; a repetition is harmless and says nothing."""
    status = next_state(ORDER, order.status, request.action, "ORC-1")
    if status == order.status:
        return []
    order = _moved(records, order, status)
    events = []
    for exam in records.find(Exam, order_id=order.id):
        events.append(_told("order.cancelled", order, exam, request.action))
        events += exams.stop(records, exam, request.action, "ORC-1")
    return events


def _change(records: Records, request: PlaceOrder, order: Order, context: RisContext) -> list[Event]:
    status = next_state(ORDER, order.status, "change", "ORC-1")
    after = _described(order, request, context)
    if request.procedure is not None:
        after = replace(after, procedure_code=request.procedure.code)
    if not order.placer_number:  # raised here; the placer now tells its number
        after = replace(after, placer_number=request.placer_number, placer_authority=request.placer_authority)
    after = replace(after, status=status)
    if after != order:
        records.update(after)
    events = []
    for exam in records.find(Exam, order_id=order.id):
        plan.check_names(exam, request)
        replanned = plan.change(records, exam, order, after, request, context)
        events += [_told("order.changed", after, replanned), _told("exam.changed", after, replanned)]
    return events


def _hold(records: Records, request: PlaceOrder, order: Order, context: RisContext) -> list[Event]:
    return _simple(records, order, "hold", "order.held")


def _release(records: Records, request: PlaceOrder, order: Order, context: RisContext) -> list[Event]:
    """Put the exam back on the worklist, with a new slot when its own has passed."""
    events = _simple(records, order, "release", "order.released")
    for exam in records.find(Exam, order_id=order.id):
        if plan.has_passed(exam, context):
            replanned = plan.move(records, exam, order, "", context)
            events.append(_told("exam.changed", order, replanned, "new slot"))
    return events


def _arrive(records: Records, request: PlaceOrder, order: Order, context: RisContext) -> list[Event]:
    return _simple(records, order, "arrive", "exam.arrived")


def _simple(records: Records, order: Order, action: str, name: str) -> list[Event]:
    """Move order and exams by one event; the same state again says nothing."""
    order = _moved(records, order, next_state(ORDER, order.status, action, "ORC-1"))
    events = []
    for exam in records.find(Exam, order_id=order.id):
        moved = exams.move(records, exam, action, "ORC-1")
        if moved.status != exam.status:
            events.append(_told(name, order, moved))
    return events


_ACTIONS: dict[OrderAction, Callable[[Records, PlaceOrder, Order, RisContext], list[Event]]] = {
    "cancel": _cancel,
    "discontinue": _cancel,
    "change": _change,
    "hold": _hold,
    "release": _release,
    "arrive": _arrive,
}


def _moved(records: Records, order: Order, status: str) -> Order:
    """Write the order's new status, if it is one, and return the order."""
    if status == order.status:
        return order
    moved = replace(order, status=status)
    records.update(moved)
    return moved


def _described(order: Order, request: PlaceOrder, context: RisContext) -> Order:
    """Return the order with what the request says of it; numbers, status and procedure are not among that."""
    return updated(
        order,
        group_number=request.group_number,
        priority=request.priority,
        ordered_at=request.ordered_at,
        requested_at=request.requested_at,
        provider=request.provider,
        copies_to=request.copies_to,
        reason=request.reason,
        diagnoses=request.diagnoses,
        patient_class=request.patient_class,
        location=request.location,
        visit=request.visit,
        account=request.patient.account,
        weight=request.weight,
        size=request.size,
        pregnancy=request.pregnancy,
        patient_state=request.patient_state,
        special_needs=request.special_needs,
        transport=request.transport,
        contrast=request.contrast or (request.procedure.contrast if request.procedure else ""),
        confidentiality=request.confidentiality,
        vip=request.vip,
        history=request.history,
        performer=request.performer,
    )


def _told(name: str, order: Order, exam: Exam, reason: str = "") -> Event:
    return Event(name, patient_id=order.patient_id, order_id=order.id, exam_id=exam.id, accession=exam.accession, reason=reason)
