"""An archive as a user of its Query/Retrieve services sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from pydicom import uid
from pydicom.dataset import Dataset
from pynetdicom import StoragePresentationContexts
from twisted.internet.defer import Deferred

from broker.connectors.dicom_identity import identity_of
from broker.connectors.dicom_requestor import Requestor, Serve, connect, serve_nothing
from broker.connectors.dicom_requests import Reply
from broker.connectors.dicom_retrieval import Progress, Task
from broker.connectors.dicom_transport import off_core
from broker.dicom.dataset import EXPLICIT_LITTLE, IMPLICIT_LITTLE, decode, encode
from broker.dicom.dimse import Counts, Field
from broker.dicom.negotiation import MOST_CONTEXTS, Context, Offer, Request, Role
from broker.dicom.query import Model, Retrieval, values_of
from broker.errors import MessageError, Refused, Retry
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.security.tls import Credentials

_SYNTAXES = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
_GRACE = 5.0  # seconds an archive has to end what was cancelled
_BATCH = 32  # answers decoded at a time
MOST_WAITING = 256  # answers that nobody has taken yet; with more of them the archive is not listened to
# What an archive may send in: its own syntax first, where it looks at the order.
_STORED = (
    uid.HTJ2KLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLossless,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.RLELossless,
    uid.MPEG2MPML,
    uid.MPEG4HP41,
    uid.DeflatedExplicitVRLittleEndian,
    *_SYNTAXES,
)

Take = Callable[[Sequence[Dataset]], Awaitable[None]]
Moved = tuple[int, Counts, list[str]]  # the last status, the counts, the SOP Instance UIDs that failed


class Archive:
    """One association with an archive for each use, as an asynchronous context manager.

    Raises Retry when the archive cannot be reached or gives up, Refused when it does not offer what is asked for.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], reactor: Any, metrics: Metrics, log: Log, patience: float) -> None:
        self.name, self.ae_title = name, settings["ae_title"]
        self._settings, self._reactor, self._patience = settings, reactor, patience
        self._metrics, self._log = metrics, log.bind(destination=name)
        self._credentials = Credentials(settings["tls"], settings["host"]) if settings["tls"] else None
        self._link: Requestor | None = None

    async def open(self, *sop_classes: str, serve: Serve | None = None, stored: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """Ask for an association for these services; with `serve` also for one over which objects may come back.

        `stored`: the SOP classes of these with the transfer syntaxes they may come in; by default what is common.
        """
        wanted = [Offer(2 * at + 1, one, _SYNTAXES) for at, one in enumerate(sop_classes)]
        roles: dict[str, Role] = {}
        if serve is not None:
            usual = {str(context.abstract_syntax): _STORED for context in StoragePresentationContexts}
            objects = list((usual if stored is None else stored).items())[: MOST_CONTEXTS - len(wanted)]
            wanted += [Offer(2 * at + 1, one, syntaxes) for at, (one, syntaxes) in enumerate(objects, len(wanted))]
            roles = dict.fromkeys((one for one, _ in objects), Role(scu=False, scp=True))
        settings = self._settings
        titles, identity = (settings["calling_ae_title"], settings["ae_title"]), identity_of(settings)
        request = Request(*titles, tuple(wanted), settings["max_pdu"], roles=roles, identity=identity)
        link = Requestor(request, self._reactor, self._log, patience=self._patience, serve=serve or serve_nothing)
        timeout = min(settings["connect_timeout"], self._patience)
        where = settings["host"], settings["port"], link, timeout
        self._link = await connect(self._reactor, *where, credentials=self._credentials)

    async def __aenter__(self) -> Archive:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.release()

    def offers(self, sop_class: str) -> bool:
        """Whether the archive has granted a service."""
        return self._link is not None and any(one.abstract == sop_class for one in self._link.core.contexts.values())

    def _granted(self, *sop_classes: str) -> tuple[Requestor, Context]:
        """Return the context of the first of these that the archive has granted; raises Refused."""
        link = self._link
        if link is None or not link.is_open:
            raise Retry("the association has ended")
        for sop_class in sop_classes:
            for context in link.core.contexts.values():
                if context.abstract == sop_class:
                    return link, context
        raise Refused("it does not offer this service")

    async def find(self, model: Model, identifier: Dataset, take: Take, task: Task) -> int:
        """Ask C-FIND, hand over the answers in batches as they come, and return the last status."""
        link, context = self._granted(model.find)
        answers = _Answers(self._reactor, link, context.syntax, take)
        stop = task.watch(lambda: self._cancel(link))
        try:
            asking = link.requests.ask(context, Field.C_FIND, dataset=encode(identifier, context.syntax), on_pending=answers.add)
            reply = await asking
        finally:
            stop()
        await answers.all_taken()
        return reply.command.status

    async def move(self, wanted: Retrieval, destination: str, task: Task, progress: Progress) -> Moved:
        """Ask C-MOVE to an AE title; return the last status, the counts, and the SOP Instance UIDs that failed."""
        return await self._retrieve(wanted.model.move, Field.C_MOVE, wanted, destination, task, progress)

    async def get(self, wanted: Retrieval, task: Task, progress: Progress) -> Moved:
        """Ask C-GET; what comes back goes to whom the association serves."""
        return await self._retrieve(wanted.model.get, Field.C_GET, wanted, "", task, progress)

    async def _retrieve(self, sop_class: str, field: Field, wanted: Retrieval, destination: str, task: Task, progress: Progress) -> Moved:
        link, context = self._granted(sop_class)
        dataset = encode(wanted.identifier(), context.syntax)
        stop = task.watch(lambda: self._cancel(link))
        try:
            reply = await link.requests.ask(
                context, field, dataset=dataset, destination=destination, on_pending=lambda pending: progress(pending.command.counts)
            )
        finally:
            stop()
        failed = values_of(decode(reply.dataset, context.syntax), "FailedSOPInstanceUIDList") if reply.dataset else []
        return reply.command.status, reply.command.counts, failed

    def _cancel(self, link: Requestor) -> None:
        """Pass a cancel on; an archive that does not mind it is left."""
        link.requests.cancel()
        cut = self._reactor.callLater(_GRACE, link.abandon)
        link.closed.addBoth(lambda _: cut.cancel() if cut.active() else None)


class _Answers:
    """Decodes the answers of one C-FIND off the reactor's thread, in their order, and hands them over, at the pace of who takes them."""

    def __init__(self, reactor: Any, link: Requestor, syntax: str, take: Take) -> None:
        self._reactor, self._link, self._syntax, self._take = reactor, link, syntax, take
        self._waiting: list[bytes] = []
        self._held = False  # whether the archive must wait
        self._working: Deferred[None] | None = None

    def add(self, reply: Reply) -> None:
        """Take one answer."""
        if reply.dataset:
            self._waiting.append(reply.dataset)
            if len(self._waiting) >= MOST_WAITING and not self._held:
                self._held = True
                self._link.transport.pauseProducing()
            if self._working is None or self._working.called:
                self._working = Deferred.fromCoroutine(self._work())

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            with suppress(MessageError):  # one that cannot be passed on does not keep the others back
                await self._take(await off_core(self._reactor, _decoded, batch, self._syntax))
            self._go_on()

    def _go_on(self) -> None:
        if self._held and len(self._waiting) < MOST_WAITING:
            self._held = False
            self._link.requests.heard()
            self._link.transport.resumeProducing()

    async def all_taken(self) -> None:
        """Wait until every answer was handed over."""
        if self._working is not None:
            await self._working


def _decoded(batch: Iterable[bytes], syntax: str) -> list[Dataset]:
    found = []
    for data in batch:
        try:
            found.append(decode(data, syntax))
        except MessageError:  # one damaged answer does not take the others with it
            continue
    return found
