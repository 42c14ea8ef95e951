"""What an accepted association does with each request: echo, store, worklist, performed procedure steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydicom.uid import generate_uid
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.connectors.dicom_transport import off_core
from broker.dicom import dimse
from broker.dicom.dataset import decode
from broker.dicom.dimse import Field, Status
from broker.dicom.files import file_meta
from broker.dicom.happenings import Message
from broker.errors import MessageError, StoreError
from broker.model import Spooled

if TYPE_CHECKING:
    from broker.connectors.dicom_acceptor import Acceptor

MOST_DATASET = 1 << 20  # bytes of an identifier or attribute list


class SpoolFile(Protocol):
    """One file of the spool being written."""

    def write(self, pieces: Sequence[Any]) -> None:
        """Append; raises StoreError."""

    def finish(self, skip: int = 0) -> Deferred[tuple[str, int, str]]:
        """Fire with name, size in bytes and digest (without the first `skip` bytes) once all is durable; fails with StoreError."""

    def abort(self) -> None:
        """Leave nothing behind."""


class Spool(Protocol):
    """Where objects are kept."""

    def begin(self) -> Any:
        """Open a new file; raises StoreError."""

    def path(self, name: str) -> Path:
        """Return where a finished file lies."""


class Receiver:
    """Takes the dataset of one request; this one needs none of it and answers with a given status."""

    def __init__(self, acceptor: Acceptor, message: Message, status: int = Status.SUCCESS) -> None:
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

    def answer(self, status: int, *, instance: str = "", counted: bool = False) -> None:
        """Send the response; the association is then free for the next request. counted: the intake has counted it."""
        self.acceptor.answer(self, dimse.response(self.command, status, instance=instance), None if counted else status)

    def failed(self, failure: Failure) -> None:
        """Answer what went wrong, and log what was not foreseen."""
        if not isinstance(failure.value, MessageError):
            self.acceptor.log.failure("request failed", failure, ae_title=self.acceptor.caller.ae_title)
        self.answer(self._status_of(failure))

    def _status_of(self, failure: Failure) -> int:
        return Status.PROCESSING_FAILURE


class Storing(Receiver):
    """C-STORE: the dataset streams into a spool file behind the file meta information."""

    def __init__(self, acceptor: Acceptor, message: Message) -> None:
        super().__init__(acceptor, message)
        meta = file_meta(self.command.sop_class or self.context.abstract, self.command.sop_instance, self.context.syntax)
        self._pieces: list[Any] = [meta]
        self._skip = len(meta)
        self._file: SpoolFile | None = None
        try:
            self._file = acceptor.serving.spool.begin()
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
        try:
            self._file.write(pieces)
        except StoreError as error:
            self._cannot(error)

    def end(self) -> None:
        """Make the object durable, hand it over, answer."""
        self.flush()
        file, self._file = self._file, None
        if file is None:
            self.answer(Status.OUT_OF_RESOURCES)
        else:
            file.finish(self._skip).addCallback(self._durable).addCallbacks(self._kept, self.failed)

    def _durable(self, kept: tuple[str, int, str]) -> Deferred[int]:
        name, size, digest = kept
        serving, command = self.acceptor.serving, self.command
        spooled = Spooled(name, command.sop_class or self.context.abstract, command.sop_instance, self.context.syntax, size, digest)
        return serving.intake.receive_instance(self.acceptor.caller, spooled)

    def _kept(self, status: int) -> None:
        self.answer(status, counted=True)

    def abandon(self) -> None:
        """Leave nothing in the spool."""
        file, self._file = self._file, None
        if file is not None:
            file.abort()

    def _status_of(self, failure: Failure) -> int:
        return Status.OUT_OF_RESOURCES if isinstance(failure.value, StoreError) else Status.PROCESSING_FAILURE


class Gathering(Receiver):
    """Keeps a dataset of bounded size, to be decoded off the reactor thread."""

    too_large = int(Status.RESOURCE_LIMITATION)

    def __init__(self, acceptor: Acceptor, message: Message) -> None:
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


class Performing(Gathering):
    """MPPS N-CREATE and N-SET."""

    def work(self, dataset: Any) -> Deferred[None]:
        """Hand over, then answer with the status and, for a creation, the UID of what was created."""
        create = self.command.field == Field.N_CREATE
        uid = self.command.sop_instance or (str(generate_uid()) if create else "")
        done = self.acceptor.serving.intake.receive_performed(self.acceptor.caller, create, uid, dataset)
        return done.addCallback(lambda status: self.answer(status, instance=uid, counted=True))


def uid_is_valid(uid: str) -> bool:
    """Whether a text is a UID as PS3.5 chapter 9 has it, leading zeros of a component tolerated."""
    return 0 < len(uid) <= 64 and all(part.isascii() and part.isdigit() for part in uid.split("."))


def refuse_reason(message: Message) -> int | None:
    """Return the status of a request that cannot be worked on as it stands, else None."""
    command, context = message.command, message.context
    if command.sop_class and command.sop_class != context.abstract:
        return Status.NO_SUCH_SOP_CLASS if command.field in (Field.N_CREATE, Field.N_SET) else Status.SOP_CLASS_NOT_SUPPORTED
    needs_instance = command.field in (Field.C_STORE, Field.N_SET)
    if (needs_instance or command.sop_instance) and not uid_is_valid(command.sop_instance):
        return Status.INVALID_INSTANCE
    if command.field != Field.C_ECHO and not command.has_dataset:
        return Status.MISTYPED_ARGUMENT if command.field in (Field.N_CREATE, Field.N_SET) else Status.CANNOT_UNDERSTAND
    return None


Make = Callable[["Acceptor", Message], Receiver]
