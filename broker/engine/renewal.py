"""Images that wait to be sent, when their patient is called otherwise: they leave under the name that is right by then."""

from __future__ import annotations

from collections.abc import Callable, Collection

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.engine.clock import SiteClock
from broker.engine.couriers import Couriers
from broker.engine.dicomintake import Dicom
from broker.engine.intake import Intake
from broker.errors import BrokerError
from broker.model import Journaled, Received
from broker.obs.log import Log
from broker.pipeline.context import AnySubject
from broker.store import journal, outbox
from broker.store.database import Database, Transaction


class Renewal:
    """Routes the images of a patient once more whose deliveries still wait; what is sent already is the HL7 side's to correct."""

    def __init__(self, db: Database, clock: SiteClock, intake: Intake, dicom: Dicom, couriers: Couriers, log: Log) -> None:
        self._db, self._clock, self._intake, self._dicom = db, clock, intake, dicom
        self._couriers, self._log = couriers, log

    def patient(self, id: int) -> Deferred[None]:
        """Renew what waits of this patient; a patient of whom nothing can wait costs nothing."""
        renewing: Deferred[None] = Deferred.fromCoroutine(self._renew(id))
        return renewing.addErrback(self._failed)

    async def _renew(self, patient_id: int) -> None:
        if not self._couriers.busy:
            return
        waiting = await self._db.read("outbox.images", outbox.images_of, patient_id)
        queued: dict[str, list[int]] = {}
        for id, destination, _ in waiting:
            queued.setdefault(destination, []).append(id)
        under_way = self._couriers.withdraw(queued)
        try:
            left = {id for id, _, _ in waiting} - under_way
            for message_id in dict.fromkeys(message_id for id, _, message_id in waiting if id in left):
                row = await self._db.read("journal.get", journal.get, message_id)
                await self._db.run("journal.renew", self._route, row, *self._dicom.read_again(row), left)
        finally:
            self._couriers.restore(queued, gone=False)

    def _route(self, tx: Transaction, row: Journaled, received: Received, read: Callable[[], AnySubject], waiting: Collection[int]) -> None:
        """Route a message once more, and let those deliveries of it that wait send what it gives now, in their place."""
        sent = outbox.sent_by(tx, row.id)
        verdict = self._intake.judge(tx, received, read, row.id, self._clock.text(), self._clock(), sent)
        kept = {(one.destination, one.channel): one.id for one in outbox.of_message(tx, row.id) if one.id in waiting}
        for outgoing in verdict.outgoing:
            if (id := kept.get((outgoing.destination, outgoing.channel))) is not None:
                outbox.renew(tx, id, outgoing)

    def _failed(self, failure: Failure) -> None:
        failure.trap(BrokerError)
        self._log.failure("images not renewed", failure)
