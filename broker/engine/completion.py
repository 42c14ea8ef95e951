"""Are an exam's images all here, and where: evidence from outside and the passing of time, told to the channels that listen to the RIS."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore, inlineCallbacks, succeed
from twisted.python.failure import Failure

from broker.connectors.base import Caller
from broker.dicom import availability, commitment
from broker.dicom.dataset import encode
from broker.dicom.dimse import Status
from broker.engine.clock import SiteClock
from broker.engine.couriers import Couriers
from broker.engine.intake import Intake, digest
from broker.engine.passage import Passage
from broker.engine.router import Routed
from broker.errors import MessageError
from broker.model import Delivery, Received
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.ris import apply as ris
from broker.ris.completeness import COMPLETE, OPEN
from broker.ris.events import Available, CountImages, Deliver, EndSending, LookForImages, Request
from broker.store import completeness, journal, outbox
from broker.store.database import Database, Transaction
from broker.store.records import RecordStore

FEW = 100  # exams of one round
AT_ONCE = 10  # of these
MOST_STUDIES = 100  # that one association is remembered with

_STATUS = {101: Status.MISSING_ATTRIBUTE, 102: Status.INVALID_ATTRIBUTE_VALUE}


Ask = Callable[[str, str], Deferred[int | None]]  # calling AE title, study -> how many instances it has; None: it does not say


class Completion:
    """Hears what is evidence, and looks at open exams from time to time; what it knows is in the store, so a restart loses nothing."""

    def __init__(self, intake: Intake, db: Database, clock: SiteClock, couriers: Couriers, metrics: Metrics, log: Log) -> None:
        self._intake, self._db, self._clock, self._couriers, self._metrics, self._log = intake, db, clock, couriers, metrics, log
        self._sent: dict[str, set[str]] = {}  # peer of an open association -> studies it has stored images of

        self.ask: Ask = lambda station, study: succeed(None)

    # evidence

    def watching(self, request: Callable[[Caller, Dataset], Deferred[int]]) -> Callable[[Caller, Dataset], Deferred[int]]:
        """Return a service of storage commitment that also tells what the request names."""

        def watched(caller: Caller, dataset: Dataset) -> Deferred[int]:
            return request(caller, dataset).addCallback(self._named, dataset)

        return watched

    def _named(self, status: int, dataset: Dataset) -> int:
        if status == Status.SUCCESS:
            transaction, references = commitment.read_request(dataset)
            named = tuple(dict.fromkeys(one.uid for one in references))
            self.hear(CountImages("commitment", transaction, instances=named))
        return status

    def hear(self, request: CountImages | EndSending) -> Deferred[None]:
        """Take in evidence; nobody waits for what follows from it."""
        kind = "images counted" if isinstance(request, CountImages) else "association closed"
        raw = json.dumps(asdict(request)).encode()
        received = Received(
            "ris", "ris", kind, getattr(request, "source", "modality"), "", getattr(request, "subject", ""), raw, digest(raw)
        )
        return self._take(request, received).addErrback(self._failed)

    def stored(self, peer: str, study_uid: str) -> None:
        """An image of the study was stored over the association of this peer ("127.0.0.1:50112")."""
        if study_uid and "closed" in self._intake.site.completion.by:
            studies = self._sent.setdefault(peer, set())
            if len(studies) < MOST_STUDIES:
                studies.add(study_uid)

    def released(self, peer: str) -> None:
        """The association of this peer has been released in order."""
        studies = self._sent.pop(peer, None)
        if studies:
            self.hear(EndSending(tuple(sorted(studies))))

    def lost(self, peer: str) -> None:
        """The association of this peer is gone; if it was not released, that is no evidence."""
        self._sent.pop(peer, None)

    # time

    @inlineCallbacks
    def work(self) -> Any:
        """Look at the exams whose time has come; a sender that is away holds up none but its own."""
        due = yield self._db.read("ris.images_due", completeness.due, self._clock(), FEW)
        turns = DeferredSemaphore(AT_ONCE)
        yield DeferredList([turns.run(self._look, *one).addErrback(self._failed) for one in due])

    @inlineCallbacks
    def _look(self, exam_id: int, state: str) -> Any:
        if state == OPEN:
            yield self._query(exam_id).addErrback(self._failed)
        request: Request = LookForImages(exam_id)
        if state == COMPLETE:
            taken = yield self._db.read("ris.images_delivered", completeness.deliveries, exam_id)
            request = Deliver(exam_id, taken)
        raw = json.dumps(asdict(request)).encode()
        received = Received("ris", "ris", "images due", "timer", "", str(exam_id), raw, digest(raw))
        yield self._take(request, received)

    @inlineCallbacks
    def _query(self, exam_id: int) -> Any:
        """Ask the sender of an exam's images how many it has, where it can be asked."""
        station, study = yield self._db.read("ris.images_sender", completeness.sender, exam_id)
        count = yield self.ask(station, study)
        if count:
            yield self.hear(CountImages("query", station, study, count=count))

    # availability

    def receive_availability(self, caller: Caller, uid: str, dataset: Dataset) -> Deferred[int]:
        """Instance Availability Notification from an archive: fire with the status once it is applied."""
        self._metrics.received.labels(caller.listener, "N-CREATE").inc()
        taking = self._availability(caller, uid, dataset)
        return taking.addCallback(self._answered, caller.listener)

    def _availability(self, caller: Caller, uid: str, dataset: Dataset) -> Deferred[int]:
        try:
            said = availability.read(dataset)
        except MessageError as error:
            return succeed(int(_STATUS.get(error.code, Status.PROCESSING_FAILURE)))
        raw = encode(dataset, ExplicitVRLittleEndian)
        received = Received(caller.listener, "dicom", "N-CREATE", caller.ae_title, caller.peer, uid, raw, digest(raw))
        instances = tuple((one.sop_instance, one.availability) for one in said.instances)
        request = Available(said.study_uid, instances, said.instances[0].retrieve_ae, uid)
        return self._take(request, received, always=True).addCallback(lambda _: int(Status.SUCCESS))

    def _answered(self, status: int, listener: str) -> int:
        self._metrics.acknowledged.labels(listener, f"0x{status:04X}").inc()
        return status

    # all of them

    def _take(self, request: Request, received: Received, *, always: bool = False) -> Deferred[None]:
        """Apply in one transaction with what follows from it, then send. `always`: journal it also when nothing happened."""
        running = self._db.run("ris.images", self._apply, request, received, self._clock.text(), self._clock(), always)
        return running.addCallback(lambda queued: self._couriers.deliver(queued) if queued else None)

    def _apply(self, tx: Transaction, request: Request, received: Received, now: str, at: float, always: bool) -> tuple[Delivery, ...]:
        message_id, site = journal.reserve(tx), self._intake.site
        events = ris.apply(RecordStore(tx), request, site.ris(now, at, message_id))
        if not events and not always:
            return ()
        passage = Passage(tx, lambda: None, site, message_id, now, at)
        passage.told(events)
        routed, state, reason = Routed(), "routed", ", ".join(dict.fromkeys(event.name for event in events))
        try:
            with tx.savepoint():
                self._intake.router.tell(passage, routed)
        except MessageError as error:  # what has happened stays; what was to be told of it is for a person
            routed, state, reason = Routed(), "refused", str(error)
            self._log.warning("message refused", listener=received.listener, message_id=message_id, reason=reason)
        accession = next((event.accession for event in events if event.accession), "")
        journal.insert(tx, received, at, id=message_id, state=state, reason=reason, accession=accession)
        return tuple(outbox.enqueue(tx, [(message_id, one) for one in routed.outgoing], at))

    def _failed(self, failure: Failure) -> None:
        self._log.failure("evidence of images was not kept", failure)
