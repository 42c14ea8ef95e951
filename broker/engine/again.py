"""Parked messages routed once more: by a person, or because what they waited for has come."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.python.failure import Failure

from broker.engine.dicomintake import Dicom
from broker.engine.hl7intake import Hl7
from broker.engine.intake import Accepted
from broker.errors import BrokerError
from broker.model import Journaled
from broker.obs.log import Log
from broker.store import journal
from broker.store.database import Database

PAGE = 100  # messages read at a time


class Again:
    """Routes parked messages once more, each in a transaction of its own."""

    def __init__(self, db: Database, hl7: Hl7, dicom: Dicom, log: Log) -> None:
        self._db, self._hl7, self._dicom, self._log = db, hl7, dicom, log

    def route(self, message_id: int) -> Deferred[Accepted]:
        """Fire with what became of it.

        Fails with LookupError when there is no such message, MessageError when it is not parked, StoreError when its object is gone.
        """
        return self._db.read("journal.get", journal.get, message_id).addCallback(self._route)

    def release(self, exam_id: int | None = None) -> Deferred[None]:
        """Route the objects that were held until their exam was known: those of one exam, or whatever a stop left behind."""
        return self._release(exam_id).addErrback(self._failed)

    @inlineCallbacks
    def _release(self, exam_id: int | None):  # type: ignore[no-untyped-def]
        held = yield self._db.read("journal.held", journal.held, exam_id)
        for message_id in held:
            yield self.route(message_id).addErrback(self._failed)

    @inlineCallbacks
    def route_all(self, ids: Iterable[int]):  # type: ignore[no-untyped-def]
        """Route these, one after the other; what cannot be routed stays where it is."""
        for message_id in ids:
            yield self.route(message_id).addErrback(self._failed)

    def resume(self) -> Deferred[None]:
        """Route what was answered and not routed when the broker stopped, in the order in which it came."""
        resuming: Deferred[None] = self._resume()
        return resuming.addErrback(self._failed)

    @inlineCallbacks
    def _resume(self):  # type: ignore[no-untyped-def]
        last = 0
        while rows := (yield self._db.read("journal.kept", journal.kept, last, PAGE)):
            for row in rows:
                yield self._hl7.route_kept(row).addErrback(self._failed)
            last = rows[-1].id

    def _route(self, row: Journaled) -> Deferred[Accepted]:
        return self._hl7.again(row) if row.protocol == "hl7" else self._dicom.again(row)

    def _failed(self, failure: Failure) -> None:
        failure.trap(BrokerError)
        self._log.failure("held message not routed", failure)
