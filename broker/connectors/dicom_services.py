"""What an accepted association does with each request: echo, store, worklist, performed procedure steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.connectors.dicom_transport import off_core
from broker.dicom import dimse
from broker.dicom.dataset import decode
from broker.dicom.dimse import Field, Status
from broker.dicom.files import file_meta
from broker.dicom.happenings import Message
from broker.dicom.negotiation import is_uid
from broker.errors import MessageError, StoreError
from broker.model import Spooled

if TYPE_CHECKING:
    from broker.connectors.dicom_exchange import Exchange

HEADER = 1 << 13  # bytes of a dataset that are handed over with it
MOST_TAKING = 64  # objects of a listener that is not durable, answered and not yet journaled
_TOO_LARGE = "object larger than max_object"
MOST_DATASET = 1 << 20  # bytes of an identifier or attribute list


class SpoolFile(Protocol):
    """One file of the spool being written."""

    def write(self, pieces: Sequence[Any]) -> None:
        """Append; raises StoreError."""

    def finish(self, *, durable: bool = True) -> Deferred[tuple[str, int, str]]:
        """Fire with name, size in bytes and digest (of what was written after the head) once all is durable; fails with StoreError.

        Not `durable`: at once, and the file may be lost when the power fails.
        """

    def abort(self) -> None:
        """Leave nothing behind."""


class Spool(Protocol):
    """Where objects are kept."""

    def begin(self, head: bytes = b"") -> Any:
        """Open a new file that begins with these bytes; raises StoreError."""

    def path(self, name: str) -> Path:
        """Return where a finished file lies."""


class Receiver:
    """Takes the dataset of one request; this one needs none of it and answers with a given status."""

    reads_on = False  # whether the association is read while this works: for a cancel, or for answers that it needs

    def __init__(self, acceptor: Exchange, message: Message, status: int = Status.SUCCESS) -> None:
        self.acceptor, self.context, self.command = acceptor, message.context, message.command
        self.status = status

    def data(self, view: memoryview) -> None:
        """Take a piece; it must be used up when `flush` returns."""

    def flush(self) -> None:
        """Use up all pieces."""

    def end(self) -> None:
        """The dataset is complete: work, then answer."""
        self.answer(self.status)

    def abandon(self) -> None:
        """The association is gone before the dataset was complete."""

    def cancel(self) -> None:
        """The peer wants no more of it."""

    def answer(self, status: int, *, instance: str = "", counted: bool = False, comment: str = "", dataset: bytes = b"") -> None:
        """Send the response; the association is then free for the next request. counted: the intake has counted it."""
        response = dimse.response(self.command, status, instance=instance, comment=comment, with_dataset=bool(dataset))
        self.acceptor.answer(self, response, None if counted else status, dataset)

    def failed(self, failure: Failure) -> None:
        """Answer what went wrong, and log what was not foreseen."""
        if not isinstance(failure.value, MessageError):
            self.acceptor.log.failure("request failed", failure, ae_title=self.acceptor.caller.ae_title)
        self.answer(self._status_of(failure))

    def _status_of(self, failure: Failure) -> int:
        return Status.PROCESSING_FAILURE


class Filing(Receiver):
    """C-STORE: the dataset streams into a spool file behind the file meta information."""

    def __init__(self, acceptor: Exchange, message: Message, spool: Spool, most: float = math.inf) -> None:
        """`most`: bytes of its dataset; of a larger one nothing is kept."""
        super().__init__(acceptor, message)
        self._room = most
        self._sop_class = self.command.sop_class or self.context.abstract
        self._pieces: list[Any] = []
        self._file: SpoolFile | None = None
        try:
            self._file = spool.begin(file_meta(self._sop_class, self.command.sop_instance, self.context.syntax))
        except StoreError as error:
            self._cannot(error)

    def _cannot(self, error: Exception) -> None:
        self.acceptor.log.failure("object cannot be kept", error, ae_title=self.acceptor.caller.ae_title)
        self.abandon()

    def data(self, view: memoryview) -> None:
        """Take a piece."""
        self._pieces.append(view)

    def flush(self) -> None:
        """Write the pieces; after a failure the rest of the object is only read off the wire."""
        pieces, self._pieces = self._pieces, []
        if self._file is None or not pieces:
            return
        self._room -= sum(map(len, pieces))
        if self._room < 0:
            self.acceptor.log.warning("object too large", ae_title=self.acceptor.caller.ae_title)
            self.abandon()
            return
        try:
            self._file.write(pieces)
        except StoreError as error:
            self._cannot(error)

    def end(self) -> None:
        """Hand the object over, unless there is none."""
        self.flush()
        file, self._file = self._file, None
        if file is None:
            self.answer(Status.OUT_OF_RESOURCES, comment=_TOO_LARGE if self._room < 0 else "")
        else:
            self.finish(file)

    def finish(self, file: SpoolFile) -> None:
        """All of it is written: hand it over, then answer."""
        raise NotImplementedError

    def spooled(self, kept: tuple[str, int, str]) -> Spooled:
        """Return what the finished file is."""
        name, size, digest = kept
        return Spooled(name, self._sop_class, self.command.sop_instance, self.context.syntax, size, digest)

    def abandon(self) -> None:
        """Leave nothing in the spool."""
        file, self._file = self._file, None
        if file is not None:
            file.abort()

    def _status_of(self, failure: Failure) -> int:
        return Status.OUT_OF_RESOURCES if isinstance(failure.value, StoreError) else Status.PROCESSING_FAILURE


class Storing(Filing):
    """C-STORE of an object that is taken in."""

    def __init__(self, acceptor: Exchange, message: Message) -> None:
        super().__init__(acceptor, message, acceptor.serving.spool, acceptor.serving.max_object)
        self._header = bytearray()  # where the dataset begins, so that no file must be read for it
        self._told = False  # whether the sender has its answer

    def data(self, view: memoryview) -> None:
        """Take a piece."""
        self._pieces.append(view)
        if (more := HEADER - len(self._header)) > 0:
            self._header += view[:more]

    def finish(self, file: SpoolFile) -> None:
        """Make the object durable where that is asked for, hand it over, answer."""
        file.finish(durable=self.acceptor.serving.durable).addCallback(self._take).addCallbacks(self._kept, self.failed)

    def _take(self, kept: tuple[str, int, str]) -> Deferred[int]:
        serving = self.acceptor.serving
        early = None if serving.durable or serving.taking >= MOST_TAKING else self._tell
        return serving.intake.receive_instance(self.acceptor.caller, self.spooled(kept), bytes(self._header), early)

    def _tell(self) -> None:
        """Answer before the object is journaled."""
        self.acceptor.serving.taking += 1
        self._told = True
        self.answer(Status.SUCCESS, counted=True)

    def _kept(self, status: int) -> None:
        self._taken()
        self.answer(status, counted=True)

    def _taken(self) -> None:
        self.acceptor.serving.taking -= self._told

    def failed(self, failure: Failure) -> None:
        """Answer what went wrong; who has its answer already is past hearing it, and the log says so."""
        self._taken()
        super().failed(failure)


class Gathering(Receiver):
    """Keeps a dataset of bounded size, to be decoded off the reactor thread."""

    too_large = int(Status.RESOURCE_LIMITATION)

    def __init__(self, acceptor: Exchange, message: Message) -> None:
        super().__init__(acceptor, message)
        self._gathered = bytearray()
        self._overflown = False

    def data(self, view: memoryview) -> None:
        """Take a piece, unless the dataset is too large already."""
        self._overflown = self._overflown or len(self._gathered) + len(view) > MOST_DATASET
        if not self._overflown:
            self._gathered += view

    def end(self) -> None:
        """Decode, then work."""
        if self._overflown:
            self.answer(self.too_large)
            return
        decoded = off_core(self.acceptor.serving.reactor, decode, bytes(self._gathered), self.context.syntax)
        decoded.addCallback(self.work).addErrback(self.failed)

    def work(self, dataset: Any) -> Any:
        """Handle the decoded dataset and answer; may return a Deferred."""
        raise NotImplementedError


_NORMALIZED = frozenset({Field.N_EVENT_REPORT, Field.N_GET, Field.N_SET, Field.N_ACTION, Field.N_CREATE, Field.N_DELETE})
_NEEDS_INSTANCE = frozenset({Field.C_STORE, *_NORMALIZED}) - {Field.N_CREATE}
_NEEDS_NO_DATASET = frozenset({Field.C_ECHO, Field.N_GET, Field.N_DELETE, Field.N_EVENT_REPORT, Field.N_ACTION})


def refuse_reason(message: Message) -> int | None:
    """Return the status of a request that cannot be worked on as it stands, else None."""
    command, context = message.command, message.context
    normalized = command.field in _NORMALIZED
    if command.sop_class and command.sop_class != context.abstract:
        return Status.NO_SUCH_SOP_CLASS if normalized else Status.SOP_CLASS_NOT_SUPPORTED
    if (command.field in _NEEDS_INSTANCE or command.sop_instance) and not is_uid(command.sop_instance):
        return Status.INVALID_INSTANCE
    if not command.has_dataset and command.field not in _NEEDS_NO_DATASET:
        return Status.MISTYPED_ARGUMENT if normalized else Status.CANNOT_UNDERSTAND
    return None


Make = Callable[["Exchange", Message], Receiver]
