"""Query/Retrieve as a peer asks for it: C-FIND, C-MOVE and C-GET, answered at the peer's pace and cancellable (PS3.4 C.4)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred, DeferredLock
from twisted.python.failure import Failure

from broker.connectors.dicom_preparing import made_of
from broker.connectors.dicom_retrieval import Retrieved, Return, Task
from broker.connectors.dicom_services import Gathering
from broker.connectors.dicom_suboperation import PLAIN, Ready, accepted, opened
from broker.connectors.dicom_transport import Flow, off_core
from broker.dicom import dimse
from broker.dicom.answers import charsets_of
from broker.dicom.charset import write_in
from broker.dicom.dataset import encode
from broker.dicom.dimse import Counts, Field, Status
from broker.dicom.negotiation import Context
from broker.dicom.query import MODELS, read_query, read_retrieval
from broker.errors import MessageError, StoreError
from broker.model import StoreRequest
from broker.spec import Option

if TYPE_CHECKING:
    from broker.connectors.dicom_exchange import Exchange
    from broker.dicom.happenings import Message

# What a listener's services `query` and `retrieve` answer from.
RETRIEVE = Option(
    "retrieve",
    "mapping",
    "What the services `query` and `retrieve` answer from.",
    default={},
    example={"from": ["archive", "vna"], "limit": 500},
    options=(
        Option(
            "from",
            "texts",
            "DICOM destinations that are asked as archives; of what two of them say about the same study, the first one's word counts.",
            default=(),
            example=["archive", "vna"],
        ),
        Option(
            "spool",
            "boolean",
            "Whether what is still in the spool is found and sent as well, in the form in which it goes to those archives.",
            default=True,
            example=True,
        ),
        Option(
            "to",
            "texts",
            "DICOM destinations that a C-MOVE may name by their AE titles; all of them when absent. Peers with `host` and `port` it may "
            "always name.",
            default=(),
            example=["reading"],
        ),
        Option("limit", "integer", "Most matches of a query; one that more of them match ends with 0xA700.", default=1000, example=500),
        Option(
            "absent",
            "text",
            "When an archive cannot be asked: `warn` answers from the others, `fail` says so in the last status.",
            default="warn",
            choices=("warn", "fail"),
        ),
        Option("patience", "duration", "Do without an archive from which nothing is heard for so long.", default="60s", example="30s"),
        Option(
            "through",
            "text",
            "How what is in an archive gets to the destination of a C-MOVE: `archive` sends it there itself, or to us when it does not "
            "know that AE title; `broker` fetches it by C-GET, else by C-MOVE to this listener's AE title, and passes it on.",
            default="archive",
            choices=("archive", "broker"),
        ),
    ),
)
_MOST_LISTED = 500  # UIDs of a Failed SOP Instance UID List


class _Asked(Gathering):
    """A request of Query/Retrieve until its last response."""

    too_large = int(Status.OUT_OF_RESOURCES)
    reads_on = True

    def __init__(self, acceptor: Exchange, message: Message) -> None:
        super().__init__(acceptor, message)
        self.task = Task(message.command.message_id)
        self.gone = False
        self.model = MODELS[message.context.abstract]

    def cancel(self) -> None:
        """The peer wants no more."""
        self.task.cancel()

    def abandon(self) -> None:
        """The peer is gone."""
        self.gone = True
        self.task.cancel()

    def work(self, dataset: Dataset) -> Deferred[None]:
        """Work until the last response."""
        return Deferred.fromCoroutine(self._work(dataset))

    async def _work(self, identifier: Dataset) -> None:
        raise NotImplementedError

    def failed(self, failure: Failure) -> None:
        """Answer, unless there is nobody to answer to; what breaks the rules of the hierarchy with the key at fault."""
        if self.gone:
            return
        if isinstance(failure.value, MessageError):
            self.answer(Status.MISMATCH, comment=str(failure.value))
        else:
            super().failed(failure)

    def _status_of(self, failure: Failure) -> int:
        return Status.OUT_OF_RESOURCES if isinstance(failure.value, StoreError) else Status.CANNOT_UNDERSTAND


class Searching(_Asked):
    """One C-FIND."""

    async def _work(self, identifier: Dataset) -> None:
        query = read_query(self.model, identifier)
        self._charsets = charsets_of(identifier, self.acceptor.peer.charset)
        self._flow, self._turn, self._over = Flow(), DeferredLock(), False
        transport = self.acceptor.transport
        transport.registerProducer(self._flow, True)
        try:
            searched = await self.acceptor.serving.intake.search(self.acceptor.caller, query, self.task, self._send)
        finally:
            self._over = True
            transport.unregisterProducer()
        if not self.gone:
            status = Status.CANCELLED if self.task.cancelled else searched.status
            self.answer(status, comment="" if self.task.cancelled else searched.comment)

    async def _send(self, entries: Sequence[Dataset]) -> None:
        """Send matches, at the pace of the peer and one batch after the other."""
        await self._turn.acquire()
        try:
            work = (_encode, entries, self._charsets, self.acceptor.peer.unencodable, self.context.syntax)
            pending = dimse.response(self.command, Status.PENDING, with_dataset=True)
            for dataset in await off_core(self.acceptor.serving.reactor, *work):
                await self._flow.ready()
                if self._over or self.task.cancelled or not self.acceptor.core.can_send:
                    return
                self.acceptor.write(self.acceptor.core.message(self.context.id, pending, dataset))
        finally:
            self._turn.release()


def _encode(entries: Sequence[Dataset], charsets: list[tuple[str, ...]], unencodable: str, syntax: str) -> list[bytes]:
    encoded = []
    for entry in entries:
        write_in(entry, charsets, unencodable)
        encoded.append(encode(entry, syntax))
    return encoded


class Retrieving(_Asked):
    """One C-MOVE or C-GET."""

    async def _work(self, identifier: Dataset) -> None:
        wanted = read_retrieval(self.model, identifier)
        intake, caller = self.acceptor.serving.intake, self.acceptor.caller
        if self.command.field == Field.C_MOVE:
            done = await intake.move(caller, wanted, self.command.destination, self.task, self._progress)
        else:
            back = Return(self._store, accepted(self.acceptor.core.contexts.values()))
            done = await intake.get(caller, wanted, self.task, self._progress, back)
        if not self.gone:
            self._finish(done)

    def _progress(self, counts: Counts) -> None:
        """Tell how far the sub-operations are."""
        if not self.task.cancelled:
            self.acceptor.requests.say(self.context, dimse.response(self.command, Status.PENDING, counts=counts))

    def _finish(self, done: Retrieved) -> None:
        failures = b""
        if done.failed and done.status != Status.SUCCESS:
            listed = Dataset()
            listed.FailedSOPInstanceUIDList = list(done.failed[:_MOST_LISTED])
            failures = encode(listed, self.context.syntax)
        status = Status.CANCELLED if self.task.cancelled else done.status
        response = dimse.response(self.command, status, with_dataset=bool(failures), comment=done.comment, counts=done.counts)
        self.acceptor.answer(self, response, status, failures)

    async def _store(self, request: StoreRequest) -> int:
        """Send one object back over the association that asked for it."""
        acceptor = self.acceptor
        contexts = [one for one in acceptor.core.contexts.values() if one.abstract == request.spooled.sop_class]
        if not contexts:
            return Status.SOP_CLASS_NOT_SUPPORTED
        path = acceptor.serving.spool.path(request.spooled.name)
        ready: Ready | None = await off_core(acceptor.serving.reactor, opened, path, request, contexts)
        if ready is None:
            ready = await self._transcoded(path, request, contexts)
        if ready is None:
            return Status.SOP_CLASS_NOT_SUPPORTED
        context, instance, head, file = ready
        with file:
            return (await acceptor.requests.store(context, instance, head, file)).status

    async def _transcoded(self, path: Path, request: StoreRequest, contexts: Sequence[Context]) -> Ready | None:
        """Return the object without its compression, None where the peer does not take it so or it cannot be made."""
        serving = self.acceptor.serving
        syntax = next((context.syntax for context in contexts if context.syntax in PLAIN), None)
        if serving.transcoder is None or syntax is None:
            return None
        try:
            made = await serving.transcoder.transcode(str(path), syntax)
        except MessageError:
            return None
        try:
            other = replace(request, spooled=made_of(request.spooled, made, syntax))
            found: Ready | None = await off_core(serving.reactor, opened, Path(made), other, contexts)
        finally:
            os.unlink(made)  # the open file is all that is needed
        return found
