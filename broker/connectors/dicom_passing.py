"""Objects that come back over an association of our own and are not taken in, but passed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.connectors.dicom_services import Receiver, Spool, SpoolFile, refuse_reason
from broker.dicom.dimse import Field, Status
from broker.dicom.files import file_meta
from broker.errors import StoreError
from broker.model import Spooled

if TYPE_CHECKING:
    from broker.connectors.dicom_exchange import Exchange
    from broker.connectors.dicom_requestor import Requestor, Serve
    from broker.dicom.happenings import Message

PassOn = Callable[[Spooled], Deferred[int]]  # fires with the status that the sender gets


class Passing(Receiver):
    """C-STORE of an object that lies in the spool until it is passed on; then nothing of it is left here."""

    def __init__(self, exchange: Exchange, message: Message, spool: Spool, pass_on: PassOn) -> None:
        super().__init__(exchange, message)
        self._meta = file_meta(self.command.sop_class, self.command.sop_instance, self.context.syntax)
        self._pieces: list[bytes | memoryview] = []
        self._pass_on = pass_on
        self._file: SpoolFile | None = None
        self._begin(spool)

    def _begin(self, spool: Spool) -> None:
        try:
            self._file = spool.begin(self._meta)
        except StoreError:
            self._file = None

    def data(self, view: memoryview) -> None:
        """Take a piece."""
        self._pieces.append(view)

    def flush(self) -> None:
        """Write the pieces; when the disk does not take them, the rest of the object is only read off the wire."""
        self.acceptor.requests.heard()
        pieces, self._pieces = self._pieces, []
        if self._file is not None and pieces:
            try:
                self._file.write(pieces)
            except StoreError:
                self._file = None

    def end(self) -> None:
        """Pass the object on, and answer with what became of it there."""
        self.flush()
        file, self._file = self._file, None
        if file is None:
            self.answer(Status.OUT_OF_RESOURCES)
        else:
            file.finish(durable=False).addCallback(self._kept).addCallbacks(self.answer, self.failed)

    def _kept(self, kept: tuple[str, int, str]) -> Deferred[int]:
        name, size, digest = kept
        command = self.command
        return self._pass_on(Spooled(name, command.sop_class, command.sop_instance, self.context.syntax, size, digest))

    def abandon(self) -> None:
        """Leave nothing in the spool."""
        file, self._file = self._file, None
        if file is not None:
            file.abort()

    def _status_of(self, failure: Failure) -> int:
        return Status.OUT_OF_RESOURCES if isinstance(failure.value, StoreError) else Status.PROCESSING_FAILURE


def passing(spool: Spool, pass_on: PassOn) -> Serve:
    """Return what takes the requests of a peer that sends objects back: C-STORE, and nothing else."""

    def serve(requestor: Requestor, message: Message) -> Receiver | None:
        if message.command.field != Field.C_STORE:
            return None
        wrong = refuse_reason(message)
        return Passing(requestor, message, spool, pass_on) if wrong is None else Receiver(requestor, message, wrong)

    return serve
