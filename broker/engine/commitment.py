"""Storage commitment asked of us: kept, decided as archives answer, told by N-EVENT-REPORT through the outbox (PS3.4 annex J)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from twisted.internet.defer import Deferred

from broker.config import callbacks
from broker.config.models import Config
from broker.connectors.base import Caller
from broker.dicom.commitment import PUSH_INSTANCE, PUSH_MODEL, FailureReason, Report, read_request, report
from broker.dicom.dataset import encode
from broker.dicom.dimse import Status
from broker.dicom.dimserequest import DimseRequest, encode_request
from broker.errors import MessageError
from broker.model import Delivery, Outgoing, Received
from broker.obs.metrics import Metrics
from broker.store import audit, commitments, journal, outbox
from broker.store.commitments import Asked, Policy
from broker.store.database import Database, Transaction

KIND = "N-EVENT-REPORT"
FEW = 20  # requests that are given up in one transaction


@dataclass(frozen=True, slots=True)
class Service:
    """How one listener serves storage commitment."""

    by_archive: bool
    within: float  # seconds after which what is not committed is told as failed
    queues: Mapping[str, str] = field(default_factory=dict)  # calling AE title -> the queue that calls it back
    queue: str = ""  # of everyone else


@dataclass(frozen=True, slots=True)
class Inquiry:
    """When one destination is asked for commitment, and what follows when it does not commit."""

    quiet: float  # seconds after the last object of an exam
    batch: int  # most instances of one request
    within: float  # seconds it has to report
    resend: int  # how often an object that is not committed is sent again


@dataclass(frozen=True, slots=True)
class Terms:
    """What the configuration says of storage commitment, by listener and by destination."""

    services: Mapping[str, Service] = field(default_factory=dict)
    inquiries: Mapping[str, Inquiry] = field(default_factory=dict)

    def policy(self, listener: str) -> Policy:
        """Return what makes an instance ours that a caller of this listener asks about."""
        service = self.services.get(listener)
        return Policy(self.inquiries, service.by_archive if service else True)


def terms_of(config: Config) -> Terms:
    """Return what a configuration says of storage commitment."""
    services = {}
    for one in filter(callbacks.serves, config.listeners):
        settings = one.settings["commitment"]
        queues = {title: callbacks.name_of(one.name, title) for title in callbacks.with_address(one)}
        others = callbacks.name_of(one.name, callbacks.EVERYONE_ELSE)
        services[one.name] = Service(settings["by"] == "archive", settings["within"], queues, others)
    asked = {one.name: settings for one in config.destinations if (settings := one.settings.get("commitment"))}
    return Terms(services, {name: Inquiry(**settings) for name, settings in asked.items()})


@dataclass(slots=True)
class Told:
    """What one transaction has decided: deliveries that leave, by queue and in which state."""

    status: int = Status.SUCCESS
    deliveries: list[Delivery] = field(default_factory=list)
    again: list[str] = field(default_factory=list)  # queues with a delivery that was put back
    reports: list[tuple[str, Report]] = field(default_factory=list)  # by listener


class Commitment:
    """Serves storage commitment."""

    def __init__(
        self,
        db: Database,
        now: Callable[[], float],
        deliver: Callable[[tuple[Delivery, ...]], None],
        rescan: Callable[[str], object],
        soon: Callable[..., object],
        metrics: Metrics,
        terms: Terms,
    ) -> None:
        """`soon` calls something after what runs now: the answer of a request leaves before its report."""
        self.terms, self._soon = terms, soon
        self._db, self._now, self._deliver, self._rescan, self._metrics = db, now, deliver, rescan, metrics

    def request_commitment(self, caller: Caller, dataset: Dataset) -> Deferred[int]:
        """N-ACTION: fire with the status once the request is durable; what it is told comes by the outbox."""
        raw = encode(dataset, ExplicitVRLittleEndian)
        self._metrics.received.labels(caller.listener, "N-ACTION").inc()
        running = self._db.run("commitment.ask", self._ask, caller, dataset, raw)
        return running.addCallback(self._asked)

    def _asked(self, told: Told) -> int:
        self._soon(self.told, told)
        return told.status

    def _ask(self, tx: Transaction, caller: Caller, dataset: Dataset, raw: bytes) -> Told:
        try:
            transaction, references = read_request(dataset)
        except MessageError as error:
            self._journal(tx, caller, str(dataset.get("TransactionUID") or ""), raw, Status.INVALID_ARGUMENT, str(error))
            return Told(Status.INVALID_ARGUMENT)
        known = commitments.find(tx, caller.ae_title, transaction)
        digest = hashlib.sha256(raw).hexdigest()
        if known is not None and known.digest == digest:
            return _repeated(tx, known, self._now())
        message_id = self._journal(tx, caller, transaction, raw, Status.SUCCESS)
        service = self.terms.services.get(caller.listener, Service(True, 0.0))
        queue, due = service.queues.get(caller.ae_title, service.queue), self._now() + service.within
        if known is not None:
            refused = tuple(replace(one, reason=FailureReason.DUPLICATE_TRANSACTION) for one in references)
            return self._tell(tx, replace(known, message_id=message_id, queue=queue), Report(transaction, (), refused))
        asked = commitments.keep(tx, caller.ae_title, transaction, digest, caller.listener, queue, message_id, due, references)
        if asked.accession:
            journal.settle(tx, message_id, "answered", _answer(Status.SUCCESS), "", asked.accession)
        return self.settle(tx, [asked.id])

    def _journal(self, tx: Transaction, caller: Caller, transaction: str, raw: bytes, status: int, reason: str = "") -> int:
        digest = hashlib.sha256(raw).hexdigest()
        received = Received(caller.listener, "dicom", "N-ACTION", caller.ae_title, caller.peer, transaction, raw, digest)
        return journal.insert(tx, received, self._now(), state="refused" if reason else "answered", answer=_answer(status), reason=reason)

    def settle(self, tx: Transaction, ids: Sequence[int]) -> Told:
        """Decide what can be decided of requests by now, and answer those of which nothing is open."""
        told = Told()
        for id in ids:
            asked = commitments.get(tx, id)
            if asked.state == commitments.WAITING and not commitments.decide(tx, id, self.terms.policy(asked.listener)):
                one = self._tell(tx, asked, commitments.answered(tx, asked))
                told.deliveries += one.deliveries
                told.reports += one.reports
        return told

    def _tell(self, tx: Transaction, asked: Asked, said: Report) -> Told:
        event = DimseRequest(KIND, PUSH_MODEL, PUSH_INSTANCE, encode(report(said), ExplicitVRLittleEndian), said.event_type)
        out = Outgoing(asked.queue, asked.sender, asked.listener, KIND, encode_request(event), asked.uid, asked.accession)
        words = f"{len(said.committed)} committed, {len(said.failed)} failed"
        if asked.accession:
            audit.note(tx, asked.accession, self._now(), "commitment answered", KIND, asked.listener, asked.sender, asked.message_id, words)
        queued = outbox.enqueue(tx, [(asked.message_id, out)], self._now())
        return Told(deliveries=queued, reports=[(asked.listener, said)])

    def due(self) -> Deferred[Told]:
        """Answer the requests whose time is over."""
        return self._db.run("commitment.due", self._give_up).addCallback(self.told)

    def _give_up(self, tx: Transaction) -> Told:
        ids = commitments.due(tx, self._now(), FEW)
        for id in ids:
            commitments.decide(tx, id, self.terms.policy(commitments.get(tx, id).listener))
            commitments.give_up(tx, id)
        return self.settle(tx, ids)

    def told(self, told: Told) -> Told:
        """Let what a transaction has decided take effect, after its commit."""
        for listener, said in told.reports:
            self._metrics.commitments.labels(listener, "committed").inc(len(said.committed))
            self._metrics.commitments.labels(listener, "failed").inc(len(said.failed))
        if told.deliveries:
            self._deliver(tuple(told.deliveries))
        for queue in dict.fromkeys(told.again):
            self._rescan(queue)
        return told


def _repeated(tx: Transaction, known: Asked, now: float) -> Told:
    """The same request once more: who has missed the report gets it again."""
    told = Told()
    for row in outbox.of_message(tx, known.message_id):
        if row.kind == KIND and row.state != "waiting":
            told.again.append(outbox.resend(tx, row.id, now))
    return told


def _answer(status: int) -> bytes:
    return f"0x{status:04X}".encode()
