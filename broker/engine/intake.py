"""What listeners hand over: journaled, routed and answered in one transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from broker.engine.clock import SiteClock
from broker.engine.passage import Passage, Site
from broker.engine.router import Routed, Router
from broker.errors import MessageError, StoreError
from broker.model import Delivery, Journaled, Outgoing, Received
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.pipeline.context import AnySubject
from broker.pipeline.fields import DICOM_FIELDS, HL7_FIELDS
from broker.store import audit, journal, outbox
from broker.store.database import Database, Transaction

# where a message names its accession number, by the standards; a route may know better, but not of one that it could not read
ACCESSION = {
    "hl7": HL7_FIELDS["order"]["accession"],
    "dicom": ("AccessionNumber", *DICOM_FIELDS["performed"]["accession"]),
}

KIND = re.compile(r"[A-Z]{3}\^[A-Z][0-9A-Z]\d|[CN]-[A-Z]+")  # what messages and requests are called
OTHER = "other"  # the kind of what no channel accepts: a sender must not be able to make labels


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one thing received."""

    state: str  # of the journal
    error: MessageError | None = None
    reason: str = ""
    accession: str = ""
    channels: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    outgoing: tuple[Outgoing, ...] = ()
    resolved: tuple[int, ...] = ()  # exams that what had been held belongs to


@dataclass(frozen=True, slots=True)
class Accepted:
    """What one transaction made durable; the effects follow its commit."""

    message_id: int
    answer: bytes
    verdict: Verdict | None  # None: a retransmission, answered as before
    deliveries: tuple[Delivery, ...] = ()


Answer = Callable[[int, Verdict], bytes]


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
        self._db, self._router, self._site, self._clock = db, router, site, clock
        self._metrics, self._log, self._deliver, self._unmatched = metrics, log, deliver, unmatched
        self.on_resolved: Callable[[int], object] = lambda exam_id: None

    def take(
        self, received: Received, read: Callable[[], AnySubject], answer: Answer, *, repeats: Callable[[Journaled, Received], bytes | None]
    ) -> Deferred[Accepted]:
        """Journal, route and answer in one transaction, and fire after its commit; fails with StoreError.

        `read` makes what the routes look at, raising MessageError. `repeats` gets the latest message under the same sender and
        id: it returns the answer of a retransmission, or None when this is something new; it may raise MessageError.
        """
        accepting = self._db.run("journal.accept", self._accept, received, read, answer, repeats, self._clock.text(), self._clock())
        return accepting.addCallback(self._committed, received)

    def again(self, row: Journaled, received: Received, read: Callable[[], AnySubject]) -> Deferred[Accepted]:
        """Route a parked message once more; what it sends is queued as if it had just arrived.

        Fails with MessageError when it is not parked, by then or any more.
        """
        running = self._db.run("journal.again", self._route_again, row, received, read, self._clock.text(), self._clock())
        return running.addCallback(self._committed, received)

    def _accept(
        self,
        tx: Transaction,
        received: Received,
        read: Callable[[], AnySubject],
        answer: Answer,
        repeats: Callable[[Journaled, Received], bytes | None],
        now: str,
        at: float,
    ) -> Accepted:
        clash: MessageError | None = None
        prior = journal.find(tx, received.sender, received.control_id, received.digest) if received.control_id else None
        if prior is not None:
            try:
                stored = repeats(prior, received)
            except MessageError as error:
                stored, clash = None, error
            if stored is not None:
                return Accepted(prior.id, stored, None)
        message_id = journal.reserve(tx)
        verdict = Verdict("refused", clash, str(clash)) if clash else self._judge(tx, received, read, message_id, now, at)
        given = answer(message_id, verdict)
        journal.insert(
            tx, received, at, id=message_id, state=verdict.state, answer=given, reason=verdict.reason, accession=verdict.accession
        )
        return Accepted(message_id, given, verdict, _enqueue(tx, message_id, verdict.outgoing, at))

    def _route_again(
        self, tx: Transaction, row: Journaled, received: Received, read: Callable[[], AnySubject], now: str, at: float
    ) -> Accepted:
        message_id = row.id
        if (state := journal.get(tx, message_id).state) != "parked":
            raise MessageError("", f"message {message_id} is not parked but {state}")
        verdict = self._judge(tx, received, read, message_id, now, at, outbox.sent_by(tx, message_id))
        if accession := verdict.accession or row.accession:
            audit.note(tx, accession, at, "routed again", row.kind, row.listener, "", message_id, verdict.state)
        journal.settle(tx, message_id, verdict.state, row.answer, verdict.reason, verdict.accession)
        return Accepted(message_id, row.answer, verdict, _enqueue(tx, message_id, verdict.outgoing, at))

    def _judge(
        self, tx: Transaction, received: Received, read: Callable[[], AnySubject], message_id: int, now: str, at: float, sent: int = 0
    ) -> Verdict:
        """Route the message, which has `sent` so many before; when that fails, nothing of it stays but the reason."""
        subject: AnySubject | None = None
        try:
            with ExitStack() as undo:
                passage = Passage(tx, lambda: undo.enter_context(tx.savepoint()), self._site, message_id, now, at, received.spooled, sent)
                subject = read()
                routed = self._router.route(received.listener, subject, passage)
        except StoreError:
            raise
        except MessageError as error:
            return Verdict("refused" if error.reject else "parked", error, str(error), _named(received, subject))
        except Exception as error:
            self._log.failure("message failed", error, message_id=message_id, listener=received.listener)
            why = f"internal error: {type(error).__name__}"
            return Verdict("parked", MessageError("", "internal error", 207), why, _named(received, subject))
        if routed is None:
            return self._no_channel(received.listener)
        resolved = tuple(event.exam_id for event in passage.events if event.name == "unmatched.resolved" and event.exam_id is not None)
        return _verdict(routed, resolved)

    def _no_channel(self, listener: str) -> Verdict:
        policy = self._unmatched.get(listener, "reject")
        why = "no channel accepts this message"
        if policy == "reject":
            return Verdict("refused", MessageError("MSH-9", why, 200, reject=True), why)
        return Verdict("parked" if policy == "park" else "dropped", None, why)

    def _committed(self, accepted: Accepted, received: Received) -> Accepted:
        verdict = accepted.verdict
        if verdict is None:
            self._metrics.duplicates.labels(received.listener).inc()
            return accepted
        known = verdict.channels and KIND.fullmatch(received.kind)
        self._metrics.received.labels(received.listener, received.kind if known else OTHER).inc()
        for channel in verdict.channels:
            self._metrics.routed.labels(channel).inc()
        for channel in verdict.dropped:
            self._metrics.filtered.labels(channel).inc()
        if verdict.state in ("parked", "refused"):
            self._set_aside(accepted.message_id, verdict, received)
        if accepted.deliveries:
            self._deliver(accepted.deliveries)
        for exam_id in verdict.resolved:
            self.on_resolved(exam_id)
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


def _verdict(routed: Routed, resolved: tuple[int, ...]) -> Verdict:
    state = "parked" if routed.held else "dropped" if len(routed.dropped) == len(routed.channels) else "routed"
    return Verdict(
        state,
        reason=routed.reason,
        accession=routed.accession,
        channels=tuple(routed.channels),
        dropped=tuple(routed.dropped),
        outgoing=tuple(routed.outgoing),
        resolved=resolved,
    )


def _enqueue(tx: Transaction, message_id: int, outgoing: tuple[Outgoing, ...], at: float) -> tuple[Delivery, ...]:
    ids = outbox.enqueue(tx, message_id, outgoing, at) if outgoing else []
    return tuple(
        Delivery(id, message_id, o.destination, o.lane, o.channel, o.kind, o.payload, o.control_id, o.accession, 0)
        for id, o in zip(ids, outgoing, strict=True)
    )
