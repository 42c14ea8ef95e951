"""C-FIND of the Modality Worklist: answered a page at a time, at the peer's pace, cancellable."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.connectors.dicom_services import Gathering
from broker.connectors.dicom_terms import terms_of
from broker.connectors.dicom_transport import Flow
from broker.dicom import dimse
from broker.dicom.dimse import Status
from broker.errors import MessageError, StoreError


class Finding(Gathering):
    """One worklist query until its last response."""

    too_large = int(Status.OUT_OF_RESOURCES)
    reads_on = True
    cancelled = False
    gone = False

    def cancel(self) -> None:
        """The peer wants no more."""
        self.cancelled = True

    def abandon(self) -> None:
        """The peer is gone."""
        self.gone = True

    def end(self) -> None:
        """Ask, then send an entry for each match."""
        if self._overflown:
            self.answer(self.too_large)
        else:
            Deferred.fromCoroutine(self._work()).addErrback(self.failed)

    async def _work(self) -> None:
        acceptor = self.acceptor
        peer = acceptor.peer
        terms = terms_of(acceptor.serving.worklist, peer.charset, peer.unencodable, peer.worklist)
        search = acceptor.serving.intake.find_worklist(acceptor.caller, bytes(self._gathered), self.context.syntax, terms)
        flow = Flow()
        acceptor.transport.registerProducer(flow, True)
        try:
            while not self._ended and (entries := await search.page()):
                await flow.ready()
                self._send(entries)
        finally:
            acceptor.transport.unregisterProducer()
        if not self.gone:
            refused = Status.OUT_OF_RESOURCES if search.exceeded else Status.SUCCESS
            more = "more entries match than are told" if search.exceeded else ""
            self.answer(Status.CANCELLED if self.cancelled else refused, comment=more)

    @property
    def _ended(self) -> bool:
        return self.cancelled or self.gone or not self.acceptor.core.can_send

    def _send(self, entries: list[bytes]) -> None:
        if not self._ended:
            core, context = self.acceptor.core, self.context.id
            pending = dimse.response(self.command, Status.PENDING, with_dataset=True)
            self.acceptor.write(b"".join([core.message(context, pending, entry) for entry in entries]))

    def failed(self, failure: Failure) -> None:
        """Answer, unless there is nobody to answer to."""
        if not self.gone:
            super().failed(failure)

    def _status_of(self, failure: Failure) -> int:
        if isinstance(failure.value, StoreError):
            return Status.OUT_OF_RESOURCES
        return Status.MISMATCH if isinstance(failure.value, MessageError) else Status.CANNOT_UNDERSTAND
