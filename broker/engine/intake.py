"""What listeners hand over: journaled, routed and answered in one transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from broker.engine.clock import SiteClock
from broker.engine.passage import Passage, Site
from broker.engine.router import Routed, Router
from broker.errors import MessageError, StoreError
from broker.model import Delivery, Journaled, Outgoing, Received, Spooled
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.pipeline.context import AnySubject
from broker.pipeline.fields import DICOM_FIELDS, HL7_FIELDS
from broker.ris.events import Event
from broker.store import audit, journal, objects, outbox
from broker.store.database import Database, Transaction
from broker.store.engine import Row
from broker.store.records import RecordStore

# where a message names its accession number, by the standards; a route may know better, but not of one that it could not read
ACCESSION = {
    "hl7": HL7_FIELDS["order"]["accession"],
    "dicom": ("AccessionNumber", *DICOM_FIELDS["performed"]["accession"]),
}

KIND = re.compile(r"[A-Z]{3}\^[A-Z][0-9A-Z]\d|[CN]-[A-Z]+")  # what messages and requests are called
GATHER = 0.01  # seconds in which what nobody waits for is gathered into one transaction
OTHER = "other"  # the kind of what no channel accepts: a sender must not be able to make labels


_RENAMED = ("patient.updated", "patient.merged")


class Verdict(NamedTuple):
    """What became of one thing received."""

    state: str  # of the journal
    error: MessageError | None = None
    reason: str = ""
    accession: str = ""
    channels: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    outgoing: tuple[Outgoing, ...] = ()
    resolved: tuple[int, ...] = ()  # exams that what had been held belongs to
    patients: tuple[int, ...] = ()  # who are called otherwise now


@dataclass(slots=True)
class Accepted:
    """What one transaction made durable; the effects follow its commit."""

    message_id: int
    answer: bytes
    verdict: Verdict | None  # None: a retransmission, answered as before
    deliveries: tuple[Delivery, ...] = ()


Answer = Callable[[int, Verdict], bytes]
Repeats = Callable[[Journaled, Received], bytes | None]
Sent = Callable[[int, Verdict], tuple[Outgoing, ...]]
Finish = Callable[[bytes, int, Verdict], bytes]


class Arrival(NamedTuple):
    """One thing received: how it is read and answered, and when it came."""

    received: Received
    read: Callable[[], AnySubject]
    answer: Answer
    repeats: Repeats
    now: str
    at: float
    sent: Sent | None = None  # what is delivered beside what the routes send
    keep: bool = False  # route it later
    told: bool = False  # the sender knows that it is accepted


class Intake:
    """Takes in one received thing after the other; HL7 and DICOM differ only in how they are read and answered."""

    def __init__(
        self,
        db: Database,
        router: Router,
        site: Site,
        clock: SiteClock,
        metrics: Metrics,
        log: Log,
        deliver: Callable[[tuple[Delivery, ...]], None],
        unmatched: Mapping[str, str],
    ) -> None:
        self._db, self.router, self.site, self._clock = db, router, site, clock
        self._metrics, self._log, self._deliver, self._unmatched = metrics, log, deliver, unmatched
        self.spool = ""  # the mark of the spool that has the objects
        self.on_resolved: Callable[[int], object] = lambda exam_id: None
        self.on_patient: Callable[[int], object] = lambda patient_id: None
        # the children of a metric cost more to look up than to count
        self._received, self._duplicates = cache(metrics.received.labels), cache(metrics.duplicates.labels)
        self._routed, self._filtered = cache(metrics.routed.labels), cache(metrics.filtered.labels)

    def change(self, router: Router, site: Site, unmatched: Mapping[str, str]) -> None:
        """Judge by these from now on; called between two messages, where their transactions run."""
        self.router, self.site, self._unmatched = router, site, unmatched

    def answering(self, listener: str, subject: AnySubject) -> tuple[str, float]:
        """Return when the sender of a message is answered, and how many seconds it waits for deliveries at most."""
        return self.router.answering(listener, subject)

    def take(
        self,
        received: Received,
        read: Callable[[], AnySubject],
        answer: Answer,
        *,
        repeats: Repeats,
        sent: Sent | None = None,
        keep: bool = False,
        told: bool = False,
    ) -> Deferred[Accepted]:
        """Journal, route and answer in one transaction, and fire after its commit; fails with StoreError.

        `read` makes what the routes look at, raising MessageError. `repeats` gets the latest message under the same sender and
        id: it returns the answer of a retransmission, or None when this is something new; it may raise MessageError. `sent`
        returns what is delivered beside what the routes send. `keep` leaves the routing to `route_kept`. `told`: the sender knows
        that it is accepted, so that what would be refused is parked.
        """
        arrival = Arrival(received, read, answer, repeats, self._clock.text(), self._clock(), sent, keep, told)
        patience = GATHER if told else 0.0
        return self._db.run_each("journal.accept", self._accept_all, arrival, patience).addCallback(self._committed, received)

    def again(self, row: Journaled, received: Received, read: Callable[[], AnySubject]) -> Deferred[Accepted]:
        """Route a parked message once more; what it sends is queued as if it had just arrived.

        Fails with MessageError when it is not parked, by then or any more.
        """
        running = self._db.run("journal.again", self._route_again, row, received, read, self._clock.text(), self._clock())
        return running.addCallback(self._committed, received)

    def route_kept(
        self, message_id: int, received: Received, read: Callable[[], AnySubject], finish: Finish, sent: Sent
    ) -> Deferred[Accepted]:
        """Route a message that is only kept so far; `finish` makes its whole answer from the one that was given.

        What fails is parked, also what would have been refused: the sender knows it accepted. Fails with MessageError when it
        is routed already.
        """
        running = self._db.run(
            "journal.route", self._route_kept, message_id, received, read, finish, sent, self._clock.text(), self._clock()
        )
        return running.addCallback(self._committed, received)

    def answered(self, message_id: int, answer: bytes, sent: tuple[Outgoing, ...] = ()) -> Deferred[None]:
        """Keep an answer that is known only now, and queue what is `sent` with it unless it was before; fails with StoreError."""

        def keep(tx: Transaction) -> list[Delivery]:
            journal.answered(tx, message_id, answer, self._clock())
            before = {row.channel for row in outbox.of_message(tx, message_id)} if sent else ()
            return outbox.enqueue(tx, [(message_id, one) for one in sent if one.channel not in before], self._clock())

        return self._db.run("journal.answered", keep).addCallback(lambda queued: self._deliver(tuple(queued)) if queued else None)

    def _route_kept(
        self,
        tx: Transaction,
        id: int,
        received: Received,
        read: Callable[[], AnySubject],
        finish: Finish,
        sent: Sent,
        now: str,
        at: float,
    ) -> Accepted:
        given = journal.claim(tx, id)
        if given is None:
            raise MessageError("", f"message {id} is routed already")
        verdict = self.judge(tx, received, read, id, now, at)
        if verdict.state == "refused":
            verdict = verdict._replace(state="parked")
        answer = finish(given, id, verdict)
        journal.settle(tx, id, verdict.state, answer, verdict.reason, verdict.accession)
        outgoing = (*verdict.outgoing, *sent(id, verdict))
        return Accepted(id, answer, verdict, tuple(outbox.enqueue(tx, [(id, o) for o in outgoing], at)))

    def _accept_all(self, tx: Transaction, arrivals: Sequence[Arrival]) -> list[Accepted]:
        """Take in what arrived together: one look for retransmissions, and one write of each table, for all of it."""
        page = _Page(tx, arrivals[-1].at, self.spool)
        names = [journal.name(arrival.received) for arrival in arrivals]
        seen = journal.seen(tx, names)
        accepted = []
        for arrival, name in zip(arrivals, names, strict=True):
            prior = None
            if name in seen and arrival.received.control_id:
                page.write()
                prior = journal.find(tx, *name, arrival.received.digest)
            accepted.append(self._accept(tx, page, arrival, prior))
            seen.add(name)
        page.write()
        return accepted

    def _accept(self, tx: Transaction, page: _Page, arrival: Arrival, prior: Journaled | None) -> Accepted:
        received = arrival.received
        clash: MessageError | None = None
        if prior is not None:
            try:
                stored = arrival.repeats(prior, received)
            except MessageError as error:
                stored, clash = None, error
            if stored is not None:
                return Accepted(prior.id, stored, None)
        id = journal.reserve(tx)
        if clash:
            verdict = Verdict("refused", clash, str(clash))
        elif arrival.keep:
            verdict = Verdict("received")
        else:
            verdict = self.judge(tx, received, arrival.read, id, arrival.now, arrival.at, records=page.records)
        if arrival.told and verdict.state == "refused":
            verdict = verdict._replace(state="parked")
        accepted = Accepted(id, arrival.answer(id, verdict), verdict)
        if arrival.sent is not None and not arrival.keep:
            verdict = verdict._replace(outgoing=(*verdict.outgoing, *arrival.sent(id, verdict)))
        return page.add(arrival, accepted, verdict)

    def _route_again(
        self, tx: Transaction, row: Journaled, received: Received, read: Callable[[], AnySubject], now: str, at: float
    ) -> Accepted:
        message_id = row.id
        if (state := journal.get(tx, message_id).state) != "parked":
            raise MessageError("", f"message {message_id} is not parked but {state}")
        verdict = self.judge(tx, received, read, message_id, now, at, outbox.sent_by(tx, message_id))
        if accession := verdict.accession or row.accession:
            audit.note(tx, accession, at, "routed again", row.kind, row.listener, "", message_id, verdict.state)
        journal.settle(tx, message_id, verdict.state, row.answer, verdict.reason, verdict.accession)
        return Accepted(message_id, row.answer, verdict, tuple(outbox.enqueue(tx, [(message_id, o) for o in verdict.outgoing], at)))

    def judge(
        self,
        tx: Transaction,
        received: Received,
        read: Callable[[], AnySubject],
        message_id: int,
        now: str,
        at: float,
        sent: int = 0,
        records: RecordStore | None = None,
    ) -> Verdict:
        """Route the message, which has `sent` so many before; when that fails, nothing of it stays but the reason."""
        subject: AnySubject | None = None
        records = records or RecordStore(tx)
        try:
            with _Undo(tx) as undo:
                passage = Passage(tx, undo.protect, self.site, message_id, now, at, received.spooled, sent, records)
                subject = read()
                routed = self.router.route(received.listener, subject, passage)
        except StoreError:
            raise
        except MessageError as error:
            records.forget()
            return Verdict("refused" if error.reject else "parked", error, str(error), _named(received, subject))
        except Exception as error:
            records.forget()
            self._log.failure("message failed", error, message_id=message_id, listener=received.listener)
            why = f"internal error: {type(error).__name__}"
            return Verdict("parked", MessageError("", "internal error", 207), why, _named(received, subject))
        if routed is None:
            return self._no_channel(received.listener)
        return _verdict(routed, passage.events)

    def _no_channel(self, listener: str) -> Verdict:
        policy = self._unmatched.get(listener, "reject")
        why = "no channel accepts this message"
        if policy == "reject":
            return Verdict("refused", MessageError("MSH-9", why, 200, reject=True), why)
        return Verdict("parked" if policy == "park" else "dropped", None, why)

    def _committed(self, accepted: Accepted, received: Received) -> Accepted:
        verdict, listener = accepted.verdict, received.listener
        if verdict is None:
            self._duplicates(listener).inc()
            return accepted
        if verdict.state == "received":  # counted when it is routed
            return accepted
        self._received(listener, _label(received.kind) if verdict.channels else OTHER).inc()
        for channel in verdict.channels:
            self._routed(channel).inc()
        for channel in verdict.dropped:
            self._filtered(channel).inc()
        if verdict.state in ("parked", "refused"):
            self._set_aside(accepted.message_id, verdict, received)
        if accepted.deliveries:
            self._deliver(accepted.deliveries)
        for exam_id in verdict.resolved:
            self.on_resolved(exam_id)
        for patient_id in verdict.patients:
            self.on_patient(patient_id)
        return accepted

    def _set_aside(self, message_id: int, verdict: Verdict, received: Received) -> None:
        if verdict.state == "parked":
            self._metrics.parked.labels(received.listener).inc()
        path = verdict.error.path if verdict.error else ""
        self._log.warning(
            "message " + verdict.state,
            listener=received.listener,
            message_id=message_id,
            peer=received.peer,
            path=path,
            reason=verdict.reason,
        )


def digest(content: bytes) -> str:
    """Return what tells a retransmission from another message under the same id."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _named(received: Received, subject: AnySubject | None) -> str:
    """Return the accession number that a message names which could not be routed, so that it stands on that timeline; "" without one."""
    if subject is None:
        return ""
    return next((text for path in ACCESSION[received.protocol] if (text := subject.get(path))), "")


@lru_cache(maxsize=256)
def _label(kind: str) -> str:
    return kind if KIND.fullmatch(kind) else OTHER


def _verdict(routed: Routed, events: Sequence[Event]) -> Verdict:
    return Verdict(
        "parked" if routed.held else "dropped" if len(routed.dropped) == len(routed.channels) else "routed",
        None,
        routed.reason,
        routed.accession,
        tuple(routed.channels),
        tuple(routed.dropped),
        tuple(routed.outgoing),
        tuple([e.exam_id for e in events if e.name == "unmatched.resolved" and e.exam_id is not None]) if events else (),
        tuple([e.patient_id for e in events if e.name in _RENAMED and e.patient_id is not None]) if events else (),
    )


class _Undo:
    """A savepoint around the block, made when `protect` is called: what only passes through needs none."""

    __slots__ = ("_savepoint", "_tx")

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._savepoint: AbstractContextManager[None] | None = None

    def protect(self) -> None:
        """Let what follows be undone when the block raises."""
        self._savepoint = self._tx.savepoint()
        self._savepoint.__enter__()

    def __enter__(self) -> _Undo:
        return self

    def __exit__(self, *raised: Any) -> bool | None:
        return self._savepoint.__exit__(*raised) if self._savepoint is not None else None


class _Page:
    """Messages that were judged, and not yet written: nothing that judges the next one looks at them but by their names."""

    def __init__(self, tx: Transaction, at: float, spool: str) -> None:
        self._tx, self._at, self._spool = tx, at, spool
        self.records = RecordStore(tx)
        self._rows: list[Row] = []
        self._objects: list[tuple[int, Spooled]] = []
        self._sending: list[tuple[Accepted, tuple[Outgoing, ...]]] = []

    def add(self, arrival: Arrival, accepted: Accepted, verdict: Verdict) -> Accepted:
        """Take a message to be written, and return what became of it; its deliveries are known when it is."""
        self._rows.append(
            journal.row_of(
                arrival.received, arrival.at, accepted.message_id, verdict.state, accepted.answer, verdict.reason, verdict.accession
            )
        )
        if arrival.received.spooled is not None and verdict.state != "refused":
            self._objects.append((accepted.message_id, arrival.received.spooled))
        if verdict.outgoing:
            self._sending.append((accepted, verdict.outgoing))
        return accepted

    def write(self) -> None:
        """Write the messages and their deliveries."""
        if self._rows:
            journal.write(self._tx, self._rows)
        if self._objects:
            objects.keep(self._tx, self._objects, self._spool)
        queued = outbox.enqueue(self._tx, [(accepted.message_id, o) for accepted, outgoing in self._sending for o in outgoing], self._at)
        deliveries = iter(queued)
        for accepted, outgoing in self._sending:
            accepted.deliveries = tuple(islice(deliveries, len(outgoing)))
        self._rows, self._objects, self._sending = [], [], []
