"""Runs the cases of a route through the whole configuration: intake, router and RIS over a store in memory, no socket, no delivery."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.config.models import Config
from broker.dicom.storerequest import encode_request
from broker.engine.clock import SiteClock
from broker.engine.dicomintake import performed_status, status_answer, stored_status
from broker.engine.hl7intake import code_of
from broker.engine.intake import Accepted, Intake, Verdict, digest
from broker.engine.passage import Site
from broker.engine.router import Router
from broker.hl7.message import Message
from broker.model import Delivery, Outgoing, Received, Spooled, StoreRequest
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.pipeline.cases import Case, Given, Happened
from broker.pipeline.context import AnySubject
from broker.pipeline.header import Header
from broker.ris.context import SlotRules
from broker.ris.entities import Charge, Exam, Patient
from broker.ris.events import Event
from broker.ris.view import view
from broker.store.database import Database, Transaction, open_database
from broker.store.records import RecordStore

NOW = 1772438400.0  # 2026-03-02 08:00 UTC: cases see the same morning every time

T = TypeVar("T")


class Rehearsal:
    """A broker without sockets for one case: a store in memory, and a list in place of the deliveries."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._calls: deque[Callable[[], object]] = deque()
        self._sent: list[Delivery] = []
        self._metrics = Metrics()
        self._db: Database = open_database(
            ":memory:",
            metrics=self._metrics,
            call_later=lambda _, call: self._calls.append(call),
            call_from_thread=lambda call, *args: call(*args),
        )
        router = Router(config.channels)
        site = Site(config.site.authority, generate_uid, config.site.accession, config.stations, SlotRules())
        clock = SiteClock(lambda: NOW, config.site.timezone)
        unmatched = {listener.name: listener.unmatched for listener in config.listeners}
        self._intake = Intake(self._db, router, site, clock, self._metrics, Log(StringIO()), self._sent.extend, unmatched)

    def run(self, case: Case, listener: str, folder: Path) -> Happened:
        """Return what became of the case's message. `listener`: of the channel under test; `folder`: of channels.yaml, where samples are.

        Raises OSError when a sample cannot be read, MessageError when it is no HL7.
        """
        for number, given in enumerate(case.before):
            self._take(given, self._listener(given, listener), folder, {}, number)
        self._sent.clear()
        accepted = self._take(case.given, self._listener(case.given, listener), folder, case.changes, len(case.before))
        happened = self._happened(accepted, case.given)
        self._wait(self._db.close())
        return happened

    def _listener(self, given: Given, usual: str) -> str:
        """Return the listener that a message of this kind comes by: the one under test when it fits, else the first that does."""
        protocol = "hl7" if given.kind == "hl7" else "dicom"
        sources = [channel.source for channel in self._config.channels if channel.protocol == protocol]
        return usual if usual in sources else sources[0] if sources else usual

    def _take(self, given: Given, listener: str, folder: Path, changes: Any, number: int) -> Accepted:
        received, subject, answer = self._read(given, listener, folder, changes, number)
        return self._wait(self._intake.take(received, lambda: subject, answer, repeats=lambda prior, again: None))

    def _read(
        self, given: Given, listener: str, folder: Path, changes: Any, number: int
    ) -> tuple[Received, AnySubject, Callable[[int, Verdict], bytes]]:
        if given.kind == "hl7":
            message = Message.parse((folder / given.file).read_bytes().replace(b"\r\n", b"\r").replace(b"\n", b"\r"))
            for path, text in changes.items():
                message.set(path, text)
            raw = message.encode()
            received = Received(listener, "hl7", message.type, message.sender, "", f"{message.control_id}/{number}", raw, digest(raw))
            return received, message, lambda _, verdict: code_of(verdict).encode()
        values = {**given.attributes, **changes}
        if given.kind == "image":
            spooled = _spooled(values, number)
            raw = encode_request(StoreRequest(spooled))
            received = Received(listener, "dicom", "C-STORE", given.sender, "", spooled.sop_instance, raw, spooled.digest, spooled)
            header = Header(values, kind="C-STORE", sender=given.sender, uid=spooled.sop_instance)
            return received, header, status_answer(stored_status)
        kind = "N-CREATE" if given.create else "N-SET"
        received = Received(listener, "dicom", kind, given.sender, "", given.uid, b"", str(number))
        header = Header({}, dataset_of(values), kind=kind, sender=given.sender, uid=given.uid)
        return received, header, status_answer(performed_status)

    def _happened(self, accepted: Accepted, given: Given) -> Happened:
        verdict = accepted.verdict
        assert verdict is not None  # nothing is a retransmission here
        error = verdict.error
        outgoing = [Outgoing(d.destination, d.lane, d.channel, d.kind, d.payload, d.control_id, d.accession) for d in self._sent]
        return Happened(
            answer=accepted.answer.decode(),
            error_at=error.path if error else "",
            error_says=error.why if error else "",
            message=verdict.state,
            view=self._wait(self._db.read("case.view", _view, verdict.accession)),
            sent=outgoing,
        )

    def _wait(self, waiting: Deferred[T]) -> T:
        found: list[Any] = []
        waiting.addBoth(found.append)
        while self._calls:
            self._calls.popleft()()
        if isinstance(found[0], Failure):
            found[0].raiseException()
        result: T = found[0]
        return result


def dataset_of(attributes: Mapping[str, str]) -> Dataset:
    """Return the dataset of keywords and texts; a dotted keyword stands in the first item of its sequence."""
    dataset = Dataset()
    for path, text in attributes.items():
        *sequences, keyword = path.split(".")
        inner = dataset
        for sequence in sequences:
            if sequence not in inner:
                setattr(inner, sequence, Sequence([Dataset()]))
            inner = getattr(inner, sequence)[0]
        setattr(inner, keyword, text)
    return dataset


def _spooled(values: dict[str, str], number: int) -> Spooled:
    """Return what the spool would say of the object; its attributes make the digest, as the content does."""
    content = hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()
    instance = values.get("SOPInstanceUID") or f"1.2.3.{number + 1}"
    return Spooled(f"case/{number}", values.get("SOPClassUID", ""), instance, "1.2.840.10008.1.2.1", 1, content)


def _view(tx: Transaction, accession: str) -> dict[str, Any]:
    """Return the view of the exam the message was about, else of the last one, else of the last patient."""
    records = RecordStore(tx)
    exams = (records.find(Exam, accession=accession) if accession else []) or records.find(Exam)
    if exams:
        exam = exams[-1]
        charge = records.one(Charge, exam_id=exam.id)
        event = Event("case", patient_id=exam.patient_id, order_id=exam.order_id, exam_id=exam.id, charge_id=charge.id if charge else None)
        return view(records, event, 0)
    patients = records.find(Patient)
    return view(records, Event("case", patient_id=patients[-1].id), 0) if patients else {}
