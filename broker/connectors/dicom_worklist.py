"""C-FIND of the Modality Worklist: decoded and encoded off the reactor thread, sent at the peer's pace, cancellable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.connectors.dicom_services import Gathering
from broker.connectors.dicom_transport import Flow, off_core
from broker.dicom import dimse
from broker.dicom.charset import UNICODE, charset_of, is_known, write_in
from broker.dicom.dataset import encode
from broker.dicom.dimse import Status
from broker.errors import MessageError, StoreError

_BATCH = 16  # entries encoded at a time


class Finding(Gathering):
    """One worklist query until its last response."""

    too_large = int(Status.OUT_OF_RESOURCES)
    cancelled = False
    gone = False

    def cancel(self) -> None:
        """The peer wants no more."""
        self.cancelled = True

    def abandon(self) -> None:
        """The peer is gone."""
        self.gone = True

    def work(self, dataset: Dataset) -> Deferred[None]:
        """Ask, then send an entry for each match."""
        return Deferred.fromCoroutine(self._work(dataset))

    async def _work(self, identifier: Dataset) -> None:
        serving = self.acceptor.serving
        peer = self.acceptor.peer
        charsets = answer_charsets(identifier, peer.charset)
        entries = await serving.intake.find_worklist(self.acceptor.caller, identifier)
        flow = Flow()
        transport = self.acceptor.transport
        transport.registerProducer(flow, True)
        try:
            for at in range(0, len(entries), _BATCH):
                if self.cancelled or self.gone:
                    break
                batch = await off_core(serving.reactor, _encode, entries[at : at + _BATCH], charsets, peer.unencodable, self.context.syntax)
                await self._send(batch, flow)
        finally:
            transport.unregisterProducer()
        if not self.gone:
            self.answer(Status.CANCELLED if self.cancelled else Status.SUCCESS)

    async def _send(self, batch: list[bytes], flow: Flow) -> None:
        pending = dimse.response(self.command, Status.PENDING, with_dataset=True)
        for dataset in batch:
            await flow.ready()
            if self.cancelled or not self.acceptor.core.can_send:
                return
            self.acceptor.write(self.acceptor.core.message(self.context.id, pending, dataset))

    def failed(self, failure: Failure) -> None:
        """Answer, unless there is nobody to answer to."""
        if not self.gone:
            super().failed(failure)

    def _status_of(self, failure: Failure) -> int:
        if isinstance(failure.value, StoreError):
            return Status.OUT_OF_RESOURCES
        return Status.MISMATCH if isinstance(failure.value, MessageError) else Status.CANNOT_UNDERSTAND


def answer_charsets(identifier: Dataset, configured: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the character sets of the answers, best first: the one the query asks for, the peer's, and Unicode where there is neither."""
    asked = tuple(charset_of(identifier))
    known = [asked] if any(asked) and is_known(asked) else []
    return [*known, *([tuple(configured)] if configured else [])] or [(UNICODE,)]


def _encode(entries: list[Dataset], charsets: list[tuple[str, ...]], unencodable: str, syntax: str) -> list[bytes]:
    encoded: list[Any] = []
    for entry in entries:
        write_in(entry, charsets, unencodable)
        encoded.append(encode(entry, syntax))
    return encoded
