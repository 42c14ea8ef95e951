"""Storage commitment asked of archives: what they took is asked about, what they do not commit is sent again, then a person's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from twisted.internet.defer import Deferred, inlineCallbacks

from broker.connectors.base import Caller
from broker.dicom.commitment import PUSH_INSTANCE, PUSH_MODEL, REQUEST, Report, read_report, request
from broker.dicom.dataset import encode
from broker.dicom.dimse import Status
from broker.dicom.dimserequest import DimseRequest, encode_request
from broker.engine.commitment import KIND, Commitment, Inquiry, Told
from broker.errors import MessageError
from broker.model import Outgoing, Received
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.store import commitments, journal, outbox, receipts
from broker.store.database import Database, Transaction
from broker.store.receipts import Receipt

CHANNEL = "commitment"  # what the requests stand under in the outbox
MOST_REQUESTS = 5  # of one transaction
LATE = 30.0  # seconds between two looks for answers that did not come

Outcome = tuple[str, str, int]  # destination, outcome, instances


class Receipts:
    """Asks the destinations that are to commit, and keeps what they say."""

    def __init__(
        self,
        db: Database,
        now: Callable[[], float],
        commitment: Commitment,
        new_uid: Callable[[], str],
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._db, self._now, self._commitment, self._new_uid = db, now, commitment, new_uid
        self._metrics, self._log = metrics, log
        self._looked: dict[str, float] = {}  # for late answers, by destination

    def report_commitment(self, caller: Caller, dataset: Dataset) -> Deferred[int]:
        """N-EVENT-REPORT: fire with the status once what it says is durable."""
        raw = encode(dataset, ExplicitVRLittleEndian)
        self._metrics.received.labels(caller.listener, KIND).inc()
        return self._db.run("receipts.take", self._take, caller, dataset, raw).addCallback(self._taken)

    def _take(self, tx: Transaction, caller: Caller, dataset: Dataset, raw: bytes) -> tuple[Told, list[Outcome]]:
        digest = hashlib.sha256(raw).hexdigest()
        uid = str(dataset.get("TransactionUID") or "")
        received = Received(caller.listener, "dicom", KIND, caller.ae_title, caller.peer, uid, raw, digest)
        try:
            said = read_report(dataset)
            named = receipts.named(tx, said.transaction)
            if not named:
                raise MessageError("TransactionUID", "no transaction of ours", 204)
        except MessageError as error:
            self._keep(tx, received, Status.INVALID_ARGUMENT, str(error))
            return Told(Status.INVALID_ARGUMENT), []
        accession = next((one.accession for one in named if one.accession), "")
        self._keep(tx, received, Status.SUCCESS, accession=accession)
        return self._heard(tx, said)

    def _keep(self, tx: Transaction, received: Received, status: int, reason: str = "", accession: str = "") -> None:
        state, answer = "refused" if reason else "answered", f"0x{status:04X}".encode()
        journal.insert(tx, received, self._now(), state=state, answer=answer, reason=reason, accession=accession)

    def _heard(self, tx: Transaction, said: Report) -> tuple[Told, list[Outcome]]:
        now = self._now()
        good, bad = receipts.take(tx, said, now)
        receipts.note(tx, good, "committed", "", now)
        told = self._commitment.settle(tx, commitments.touched(tx, [one.message_id for one in good]))
        outcomes = [(good[0].destination, "committed", len(good))] if good else []
        return told, outcomes + self._fell_short(tx, bad, told)

    def _fell_short(self, tx: Transaction, bad: Sequence[tuple[Receipt, str]], told: Told) -> list[Outcome]:
        """Send once more what was not committed, or give it to a person."""
        now, outcomes = self._now(), []
        for one, reason in bad:
            inquiry = self._commitment.terms.inquiries.get(one.destination)
            if inquiry is not None and one.resent < inquiry.resend:
                receipts.resend(tx, one, reason, now)
                told.again.append(one.destination)
                outcome = "resent"
            else:
                receipts.fail(tx, one, reason, now)
                outcome = "failed"
            outcomes.append((one.destination, outcome, 1))
        for reason in dict.fromkeys(reason for _, reason in bad):
            receipts.note(tx, [one for one, why in bad if why == reason], "not committed", reason, now)
        return outcomes

    def _taken(self, taken: tuple[Told, list[Outcome]]) -> int:
        told, outcomes = taken
        for destination, outcome, count in outcomes:
            self._metrics.commitments.labels(destination, outcome).inc(count)
            if outcome == "failed":
                self._metrics.parked.labels(destination).inc(count)
        if missing := [outcome for outcome in outcomes if outcome[1] != "committed"]:
            failed = sum(count for _, outcome, count in missing if outcome == "failed")
            what = f"{failed} given to a person, the others are sent again"
            self._log.warning("objects not committed", destination=missing[0][0], count=len(missing), what=what)
        self._commitment.told(told)
        return told.status

    @inlineCallbacks
    def work(self) -> Any:
        """Ask what is to be asked, follow up what was not answered, answer what can wait no longer; fires when all is done."""
        for name, inquiry in tuple(self._commitment.terms.inquiries.items()):
            lanes, late = yield self._db.read("receipts.look", self._look, name, inquiry)
            if lanes:
                told = yield self._db.run("receipts.ask", self._ask, name, lanes, inquiry.batch)
                self._commitment.told(told)
            if late:
                taken = yield self._db.run("receipts.overdue", self._overdue, name, inquiry)
                self._taken(taken)
        due = yield self._db.read("commitment.look", commitments.due, self._now(), 1)
        if due:
            yield self._commitment.due()

    def show(self) -> Deferred[None]:
        """Bring the figures of what is open up to date."""
        counting = self._db.read("receipts.counts", lambda tx: (receipts.counts(tx), commitments.waiting_count(tx)))
        return counting.addCallback(lambda counted: self._show(*counted))

    def _show(self, counts: Mapping[tuple[str, str], int], waiting: int) -> None:
        self._metrics.commitments_waiting.set(waiting)
        self._metrics.commitments_open.clear()
        for (destination, state), count in counts.items():
            self._metrics.commitments_open.labels(destination, state).set(count)

    def _look(self, tx: Transaction, name: str, inquiry: Inquiry) -> tuple[list[str], bool]:
        now = self._now()
        ripe = [one.lane for one in receipts.groups(tx, name) if one.count >= inquiry.batch or one.latest + inquiry.quiet <= now]
        late = False
        if now - self._looked.get(name, 0.0) >= min(LATE, inquiry.within / 10):
            self._looked[name] = now
            late = bool(receipts.overdue(tx, name, now - inquiry.within))
        return ripe[:MOST_REQUESTS], late

    def _ask(self, tx: Transaction, name: str, lanes: Sequence[str], batch: int) -> Told:
        told, now = Told(), self._now()
        for lane in lanes:
            asked = receipts.wanted(tx, name, lane, batch)
            transaction = self._new_uid()
            dataset = encode(request(transaction, [one.reference for one in asked]), ExplicitVRLittleEndian)
            action = encode_request(DimseRequest("N-ACTION", PUSH_MODEL, PUSH_INSTANCE, dataset, REQUEST))
            accession = next((one.accession for one in asked if one.accession), "")
            out = Outgoing(name, transaction, CHANNEL, "N-ACTION", action, transaction, accession)
            queued = outbox.enqueue(tx, [(asked[0].message_id, out)], now)
            receipts.requested(tx, asked, transaction, queued[0].id, now)
            told.deliveries += queued
        return told

    def _overdue(self, tx: Transaction, name: str, inquiry: Inquiry) -> tuple[Told, list[Outcome]]:
        told, late = Told(), receipts.overdue(tx, name, self._now() - inquiry.within)
        reason = f"no answer in {inquiry.within:g} s"
        return told, self._fell_short(tx, [(one, reason) for one in late], told)
