"""The DICOM destination: C-STORE of spooled objects over one association that is kept while there is work."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

from twisted.internet.defer import Deferred, DeferredLock, succeed

from broker.connectors.base import RETRY
from broker.connectors.dicom_peers import check_ae_title
from broker.connectors.dicom_requestor import Requestor, connect, offers
from broker.connectors.dicom_services import Spool
from broker.connectors.dicom_transport import off_core
from broker.dicom import dimse
from broker.dicom.coerce import coerce
from broker.dicom.dataset import encode_header, read_header, silence_libraries
from broker.dicom.dimse import Status
from broker.dicom.files import read_meta
from broker.dicom.negotiation import MOST_CONTEXTS, Request
from broker.dicom.storerequest import decode_request
from broker.errors import MessageError, Refused, Retry
from broker.model import Delivery, StoreRequest
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.spec import Option, Spec

_REJECTED_CONTEXT = {1: "user rejection", 2: "no reason", 3: "SOP class not supported", 4: "transfer syntax not supported"}

DESTINATION = Spec(
    name="dicom",
    kind="destination",
    summary="Stores DICOM objects at a peer over one association, each in the transfer syntax it came in.",
    options=(
        Option("host", "text", "Host name or address of the peer.", example="archive.example.org"),
        Option("port", "integer", "TCP port of the peer.", example=11112),
        Option("ae_title", "text", "AE title of the peer.", example="ARCHIVE"),
        Option("calling_ae_title", "text", "AE title this broker calls itself.", default="BROKER", example="BROKER"),
        Option("max_pdu", "size", "Largest P-DATA-TF this side takes.", default="128 KB", example="128 KB"),
        Option("connect_timeout", "duration", "Give up connecting after so long, and try again later.", default="10s", example="10s"),
        Option("answer_timeout", "duration", "Abort when the peer neither reads nor answers for so long.", default="60s", example="60s"),
        Option("linger", "duration", "Keep the association open so long after the last object.", default="2s", example="2s"),
        RETRY,
    ),
    example="""\
dicom:
  host: archive.example.org
  port: 11112
  ae_title: ARCHIVE
  retry: {first: 1s, most: 5m, park_after: 24h}
""",
)


class _Ready:
    """An object ready to be sent: what stands for its header, and the open file at the rest."""

    __slots__ = ("file", "head", "sop_class", "sop_instance", "syntax")

    def __init__(self, sop_class: str, sop_instance: str, syntax: str, head: bytes, file: BinaryIO) -> None:
        self.sop_class, self.sop_instance, self.syntax = sop_class, sop_instance, syntax
        self.head, self.file = head, file


class DicomDestination:
    """Sends C-STORE deliveries, one after the other; raises ValueError when an AE title makes no sense."""

    width = 1

    def __init__(self, name: str, settings: Mapping[str, Any], reactor: Any, spool: Spool, metrics: Metrics, log: Log) -> None:
        self.name = name
        for title in ("ae_title", "calling_ae_title"):
            if wrong := check_ae_title(settings[title]):
                raise ValueError(f"{title}: {wrong}")
        self._settings, self._reactor, self._spool = settings, reactor, spool
        self._faults, self._log = metrics.rejected_bytes, log.bind(destination=name)
        self._link: Requestor | None = None
        self._wanted: OrderedDict[tuple[str, str], None] = OrderedDict()  # contexts to ask for, the latest last
        self._turn = DeferredLock()
        self._lingering: Any = None
        silence_libraries()

    def send(self, delivery: Delivery) -> Deferred[str]:
        """Fire with the status as "0x0000"; fail with `Retry` or `Refused`."""
        return self._turn.run(lambda: Deferred.fromCoroutine(self._send(delivery)))

    def close(self) -> Deferred[None]:
        """Release the association; a later `send` opens a new one."""
        self._cancel_linger()
        link, self._link = self._link, None
        return succeed(None) if link is None else _when_closed(link)

    async def _send(self, delivery: Delivery) -> str:
        self._cancel_linger()
        try:
            request = decode_request(delivery.payload)
            now = datetime.now(UTC).strftime("%Y%m%d%H%M%S.%f+0000")
            work = (_prepare, self._path(request), request, self._settings["calling_ae_title"], now)
            ready: _Ready = await off_core(self._reactor, *work) if request.changes else _as_it_is(work[1], request)
        except MessageError as error:
            raise Refused(str(error)) from error
        except OSError as error:
            raise Refused(f"the object cannot be read from the spool: {type(error).__name__}") from error
        try:
            return _verdict(await self._store(ready))
        finally:
            ready.file.close()
            self._linger()

    def _path(self, request: StoreRequest) -> str:
        try:
            return str(self._spool.path(request.spooled.name))
        except ValueError as error:
            raise Refused("the delivery names no object of the spool") from error

    async def _store(self, ready: _Ready) -> int:
        reused = self._link is not None
        start = ready.file.tell()
        try:
            return await self._store_once(ready)
        except Retry:
            if not reused:
                raise
        ready.file.seek(start)  # an association that was idle may have ended unseen; a fresh one tells what is the matter
        return await self._store_once(ready)

    async def _store_once(self, ready: _Ready) -> int:
        link = await self._open(ready.sop_class, ready.syntax)
        context = link.context_for(ready.sop_class, ready.syntax)
        if context is None:
            raise Refused(f"context refused: SOP class {ready.sop_class}, transfer syntax {ready.syntax}: {self._why(link, ready)}")
        try:
            return (await link.store(context, ready.sop_instance, ready.head, ready.file)).status
        except Retry:
            self._link = None
            link.abandon()
            raise

    def _why(self, link: Requestor, ready: _Ready) -> str:
        refused = link.answer.refused if link.answer else {}
        for offer in link.request.offers:
            if (offer.abstract, offer.syntaxes[0]) == (ready.sop_class, ready.syntax):
                return _REJECTED_CONTEXT.get(refused.get(offer.id, 2), "no reason")
        return "not proposed"

    async def _open(self, sop_class: str, syntax: str) -> Requestor:
        """Return an open association on which that context was proposed."""
        link = self._link
        if link is not None and link.is_open and link.proposed(sop_class, syntax):
            return link
        if link is not None:
            await self.close()
        self._wanted[sop_class, syntax] = None
        self._wanted.move_to_end((sop_class, syntax))
        while len(self._wanted) > MOST_CONTEXTS:
            self._wanted.popitem(last=False)
        settings = self._settings
        request = Request(settings["calling_ae_title"], settings["ae_title"], offers(list(self._wanted)), settings["max_pdu"])
        fresh = Requestor(request, self._reactor, self._log, patience=settings["answer_timeout"], on_fault=self._faulty)
        self._link = await connect(self._reactor, settings["host"], settings["port"], fresh, settings["connect_timeout"])
        fresh.closed.addCallback(lambda _: self._gone(fresh))
        return fresh

    def _gone(self, link: Requestor) -> None:
        if self._link is link:
            self._link = None

    def _faulty(self, what: str) -> None:
        self._faults.labels(self.name, what).inc()
        self._log.warning("protocol error", fault=what)

    def _linger(self) -> None:
        if self._link is not None:
            self._lingering = self._reactor.callLater(self._settings["linger"], self._rest)

    def _rest(self) -> None:
        self._lingering = None
        self.close()

    def _cancel_linger(self) -> None:
        lingering, self._lingering = self._lingering, None
        if lingering is not None and lingering.active():
            lingering.cancel()


def _when_closed(link: Requestor) -> Deferred[None]:
    """Release, and return a Deferred of one's own for the end of the connection."""
    done: Deferred[None] = Deferred()
    link.closed.addCallback(lambda _: done.callback(None))
    link.release()
    return done


def _verdict(status: int) -> str:
    """Return the answer of a status that means stored; raise what the others mean."""
    text = f"0x{status:04X}"
    if status == Status.SUCCESS or dimse.is_warning(status):
        return text
    if dimse.is_refusal_for_now(status):
        raise Retry(f"status {text}: out of resources")
    raise Refused(f"status {text}")


def _as_it_is(path: str, request: StoreRequest) -> _Ready:
    file = open(path, "rb")  # noqa: SIM115 - closed by who sends it
    try:
        meta = read_meta(file)
        file.seek(meta.offset)
    except BaseException:
        file.close()
        raise
    return _Ready(request.spooled.sop_class, request.spooled.sop_instance, request.spooled.transfer_syntax, b"", file)


def _prepare(path: str, request: StoreRequest, system: str, now: str) -> _Ready:
    """Read, change and encode the header; the rest stays in the file."""
    spooled = request.spooled
    header, offset = read_header(path)
    header = coerce(header, request.changes, reason=request.reason, system=system, now=now, removals=request.removals)
    head = encode_header(header, spooled.transfer_syntax)
    instance = str(header.get("SOPInstanceUID") or spooled.sop_instance)
    file = open(path, "rb")  # noqa: SIM115 - closed by who sends it
    file.seek(offset)
    return _Ready(spooled.sop_class, instance, spooled.transfer_syntax, head, file)
