"""A RIS over the real record store, SQLite in memory, and short ways to write what peers send."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from broker.errors import MessageError
from broker.ris.apply import apply
from broker.ris.context import RisContext, SlotRules, Station
from broker.ris.entities import Exam, Order, Patient, PatientIdentifier, Report, Step, Unmatched
from broker.ris.events import (
    Event,
    Identifier,
    MergePatients,
    PatientData,
    PerformStep,
    PlaceOrder,
    Procedure,
    ReceiveReport,
    RegisterPatient,
    Request,
    StoreInstance,
)
from broker.store import sqlite
from broker.store.records import RecordStore

STATIONS = (
    Station("CT1", "CT", "Room 1"),
    Station("CT2", "CT", "Room 2"),
    Station("MR1", "MR", "Room 3", opens="0700", closes="2000"),
)
CHEST = Procedure("CTCHEST", "CT chest", "CT", duration=20, cpt="71260", modifiers=("TC",))
KNEE = Procedure("MRKNEE", "MR knee", "MR", duration=30, cpt="73721", steps=(("MRK1", "Knee plain"), ("MRK2", "Knee contrast")))


def ids(*values: str) -> tuple[Identifier, ...]:
    """Identifiers written `value` or `value@authority`."""
    return tuple(Identifier(value, authority) for value, _, authority in (text.partition("@") for text in values))


class World:
    """One department: its records, its clock, and what its peers may say."""

    def __init__(self, stations: tuple[Station, ...] = STATIONS, slots: SlotRules | None = None) -> None:
        self.engine = sqlite.open_engine(":memory:")
        self.tx = self.engine.begin(True)
        self.records = RecordStore(self.tx)
        self.time = datetime(2026, 3, 2, 8, 0)
        self.stations = stations
        self.slots = slots or SlotRules()
        self.messages = 0
        self.uids = 0

    def close(self) -> None:
        self.engine.rollback()
        self.engine.close()

    def new_uid(self) -> str:
        self.uids += 1
        return f"2.25.{self.uids}"

    @property
    def context(self) -> RisContext:
        now = self.time.strftime("%Y%m%d%H%M%S")
        return RisContext(now, self.time.timestamp(), self.messages, "HOSP", self.new_uid, stations=self.stations, slots=self.slots)

    def do(self, request: Request) -> list[Event]:
        """Apply one request as the store does: what fails leaves nothing behind."""
        self.messages += 1
        try:
            with self.tx.savepoint():
                return apply(self.records, request, self.context)
        except MessageError:
            self.records.forget()
            raise

    def told(self, request: Request) -> list[str]:
        return [event.name for event in self.do(request)]

    def later(self, **time: int) -> None:
        self.time += timedelta(**time)

    # what peers send

    def person(self, *identifiers: str, **fields: Any) -> PatientData:
        return PatientData(ids(*(identifiers or ("4711",))), **fields)

    def register(self, *identifiers: str, **fields: Any) -> list[str]:
        return self.told(RegisterPatient(self.person(*identifiers, **fields)))

    def merge(self, survivor: str, *retired: str, **fields: Any) -> list[str]:
        return self.told(MergePatients(self.person(survivor, **fields), ids(*retired)))

    def order(self, placer: str = "P1", patient: str = "4711", procedure: Procedure | None = CHEST, **fields: Any) -> PlaceOrder:
        return PlaceOrder("new", self.person(patient), placer, procedure=procedure, **fields)

    def place(self, placer: str = "P1", patient: str = "4711", procedure: Procedure = CHEST, **fields: Any) -> Exam:
        """Place an order and return its exam."""
        self.do(self.order(placer, patient, procedure, **fields))
        return self.exam(placer)

    def control(self, action: Any, placer: str = "P1", patient: str = "4711", **fields: Any) -> PlaceOrder:
        return PlaceOrder(action, self.person(patient), placer, **fields)

    def start(self, accession: str = "", uid: str = "2.25.9001", **fields: Any) -> PerformStep:
        return PerformStep(uid, True, "IN PROGRESS", accession, **fields)

    def end(self, status: str = "COMPLETED", uid: str = "2.25.9001", **fields: Any) -> PerformStep:
        return PerformStep(uid, False, status, **fields)

    def perform(self, accession: str, uid: str = "2.25.9001") -> list[str]:
        return self.told(self.start(accession, uid)) + self.told(self.end(uid=uid))

    def image(self, uid: str, study: str = "2.25.555", accession: str = "", patient: str = "", **fields: Any) -> StoreInstance:
        sent: dict[str, Any] = {"series_uid": "2.25.556", "sop_class": "1.2.840.10008.5.1.4.1.1.2", "modality": "CT", "station": "CT1"}
        sent |= {"spool": f"spool-{uid}", "size": 100, "digest": f"digest-{uid}", "patient_id": patient}
        return StoreInstance(uid=uid, study_uid=study, accession=accession, **(sent | fields))

    def report(self, status: str, accession: str = "", **fields: Any) -> ReceiveReport:
        return ReceiveReport(status, accession, **fields)

    # what is known

    def exam(self, placer: str = "P1") -> Exam:
        order = self.the_order(placer)
        found = self.records.one(Exam, order_id=order.id)
        assert found is not None
        return found

    def the_order(self, placer: str = "P1") -> Order:
        found = self.records.one(Order, placer_number=placer)
        assert found is not None
        return found

    def steps(self, exam: Exam) -> list[Step]:
        return self.records.find(Step, exam_id=exam.id)

    def reports(self, exam: Exam) -> list[Report]:
        return self.records.find(Report, exam_id=exam.id)

    def holder(self, identifier: str) -> Patient:
        (named,) = ids(identifier)
        row = self.records.one(PatientIdentifier, value=named.value, authority=named.authority or "HOSP")
        assert row is not None
        return self.records.get(Patient, row.patient_id)

    def open_entries(self) -> list[Unmatched]:
        return self.records.find(Unmatched, resolved_at=None)


@pytest.fixture
def ris() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.fixture(scope="session")
def new_world() -> type[World]:
    """Makes a world for each example of a property test, which closes it."""
    return World
