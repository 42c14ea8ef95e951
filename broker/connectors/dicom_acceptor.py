"""One association that a peer opened: who may, for what, and which request goes where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts
from twisted.internet.defer import Deferred, succeed

from broker.connectors.base import Caller, DicomIntake
from broker.connectors.dicom_peers import Peer, Peers
from broker.connectors.dicom_services import Make, Performing, Receiver, Spool, Storing, refuse_reason
from broker.connectors.dicom_transport import UpperLayer
from broker.connectors.dicom_worklist import Finding
from broker.dicom.association import Association
from broker.dicom.dataset import DECODABLE
from broker.dicom.dimse import Field, Status
from broker.dicom.happenings import Aborted, Message
from broker.dicom.negotiation import (
    ABSTRACT_NOT_SUPPORTED,
    APPLICATION_CONTEXT,
    APPLICATION_NOT_SUPPORTED,
    CALLED_NOT_RECOGNISED,
    CALLING_NOT_RECOGNISED,
    LIMIT_EXCEEDED,
    TRANSFER_NOT_SUPPORTED,
    Offer,
    Rejection,
    Request,
)
from broker.dicom.pdus import Limits
from broker.obs.log import Log
from broker.obs.metrics import Metrics

VERIFICATION = "1.2.840.10008.1.1"
WORKLIST = "1.2.840.10008.5.1.4.31"
MPPS = "1.2.840.10008.3.1.2.3.3"
_STORAGE = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."

_NOBODY = Caller("", "", "", "")


@dataclass(slots=True)
class Serving:
    """What all associations of one listener share."""

    name: str
    reactor: Any
    intake: DicomIntake
    spool: Spool
    metrics: Metrics
    log: Log
    peers: Peers
    ae_title: str
    check_called: bool
    services: frozenset[str]
    max_pdu: int  # bytes
    most: int  # associations at the same time
    artim: float  # seconds
    idle: float  # seconds
    buffer: memoryview
    open: set[Acceptor] = field(default_factory=set)
    stopping: bool = False
    waiting: list[Deferred[None]] = field(default_factory=list)

    def drained(self) -> Deferred[None]:
        """Fire when no association is open."""
        if not self.open:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def closed(self, acceptor: Acceptor) -> None:
        """An association is gone."""
        self.open.discard(acceptor)
        if not self.open:
            waiting, self.waiting = self.waiting, []
            for one in waiting:
                one.callback(None)

    def admit(self, request: Request, host: str) -> Peer | Rejection:
        """Return what the caller is granted, or why it is rejected."""
        if request.application != APPLICATION_CONTEXT:
            return APPLICATION_NOT_SUPPORTED
        if self.check_called and request.called != self.ae_title:
            return CALLED_NOT_RECOGNISED
        peer = self.peers.find(request.calling, host)
        if peer is None:
            return CALLING_NOT_RECOGNISED
        established = [a for a in self.open if a.peer_known]
        own = sum(a.caller.ae_title == request.calling for a in established)
        if self.stopping or len(established) >= self.most or (peer.associations is not None and own >= peer.associations):
            return LIMIT_EXCEEDED
        return peer

    def decide(self, offer: Offer, peer: Peer) -> str | int:
        """Return the transfer syntax to take for a proposed context, or the result code of its refusal."""
        service = service_of(offer.abstract, peer.private)
        if service is None or (service != "echo" and service not in self.services):
            return ABSTRACT_NOT_SUPPORTED
        if service in ("echo", "store"):
            return offer.syntaxes[0]
        return next((syntax for syntax in offer.syntaxes if syntax in DECODABLE), TRANSFER_NOT_SUPPORTED)


def service_of(abstract: str, private: bool) -> str | None:
    """Return the service that a SOP class belongs to; None when it is none of ours."""
    known = {VERIFICATION: "echo", WORKLIST: "worklist", MPPS: "mpps"}.get(abstract)
    if known:
        return known
    name = UID(abstract).name
    standard = name != abstract
    if abstract in _STORAGE or (standard and abstract.startswith(_STORAGE_ROOT) and "Storage" in name):
        return "store"
    return "store" if private and not standard else None


_SERVICES: dict[tuple[str, int], Make] = {
    ("echo", Field.C_ECHO): Receiver,
    ("store", Field.C_STORE): Storing,
    ("worklist", Field.C_FIND): Finding,
    ("mpps", Field.N_CREATE): Performing,
    ("mpps", Field.N_SET): Performing,
}


class Acceptor(UpperLayer):
    """The shell of one accepted connection."""

    def __init__(self, serving: Serving, address: Any) -> None:
        core = Association(acceptor=True, limits=Limits(max_pdu=serving.max_pdu))
        super().__init__(core, serving.reactor, serving.log, artim=serving.artim, idle=serving.idle, buffer=serving.buffer)
        self.serving = serving
        self.caller = _NOBODY
        self.peer = Peer()
        self.peer_known = False
        self._host, self._address = str(getattr(address, "host", "")), _address(address)
        self._receiver: Receiver | None = None  # whose dataset is being read
        self._working: Receiver | None = None  # whose answer is due
        self._since = 0.0

    # what the transport layer asks

    @property
    def busy(self) -> bool:
        """Whether an answer is due; during a C-FIND reading goes on for the sake of C-CANCEL."""
        return self._working is not None and not isinstance(self._working, Finding)

    @property
    def waiting(self) -> bool:
        """Whether an answer is due."""
        return self._working is not None

    # the association

    def connectionMade(self) -> None:
        """Count, and begin."""
        self.serving.open.add(self)
        self.serving.metrics.connections.labels(self.serving.name).inc()
        super().connectionMade()

    def on_request(self, request: Request) -> None:
        """Accept or reject."""
        granted = self.serving.admit(request, self._host)
        self.caller = Caller(self.serving.name, request.calling, request.called, self._address)
        if isinstance(granted, Rejection):
            self.serving.metrics.associations_rejected.labels(self.serving.name, granted.text).inc()
            self.log.warning(
                "association rejected", ae_title=request.calling, called=request.called, peer=self._address, reason=granted.text
            )
            self.perform(self.core.reject(granted))
            return
        self.peer, self.peer_known = granted, True
        self.serving.metrics.associations.labels(self.serving.name).inc()
        self.serving.metrics.associations_total.labels(self.serving.name).inc()
        self.perform(self.core.accept(lambda offer: self.serving.decide(offer, granted)))

    def on_fault(self, what: str) -> None:
        """Count and log."""
        self.serving.metrics.rejected_bytes.labels(self.serving.name, what).inc()
        self.log.warning("protocol error", fault=what, ae_title=self.caller.ae_title, peer=self._address)

    def on_aborted(self, aborted: Aborted) -> None:
        """Leave nothing of an unfinished object behind."""
        self._abandon()
        if aborted.by == "peer":
            self.log.info("association aborted", ae_title=self.caller.ae_title, peer=self._address, what="by the peer")

    def _abandon(self) -> None:
        receiver, self._receiver = self._receiver, None
        for at_work in (receiver, self._working):
            if at_work is not None:
                at_work.abandon()

    def connectionLost(self, reason: Any = None) -> None:
        """Count, and leave nothing behind."""
        super().connectionLost(reason)
        self._abandon()
        if self in self.serving.open:
            self.serving.metrics.connections.labels(self.serving.name).dec()
            if self.peer_known:
                self.serving.metrics.associations.labels(self.serving.name).dec()
            self.serving.closed(self)

    def finish(self) -> None:
        """Close as soon as no request is being read or worked on."""
        if self._receiver is None and self._working is None:
            self.abort()
            self._close()

    # its messages

    def on_message(self, message: Message) -> None:
        """Begin a request."""
        command = message.command
        if command.field == Field.C_CANCEL:
            if isinstance(self._working, Finding) and self._working.command.message_id == command.message_id:
                self._working.cancel()
            return
        if command.is_response or self._working is not None or self._receiver is not None:
            self.on_fault("request before the answer to the last one" if not command.is_response else "response without a request")
            self.abort()
            return
        self._receiver = self._receiver_for(message)
        if not command.has_dataset:
            self._complete()

    def _receiver_for(self, message: Message) -> Receiver:
        service = service_of(message.context.abstract, self.peer.private) or ""
        make = _SERVICES.get((service, message.command.field))
        if make is None:
            return Receiver(self, message, Status.UNRECOGNISED_OPERATION)
        wrong = refuse_reason(message)
        return make(self, message) if wrong is None else Receiver(self, message, wrong)

    def on_data(self, view: memoryview, last: bool) -> None:
        """Pass a piece to the request it belongs to."""
        if self._receiver is not None:
            self._receiver.data(view)
            if last:
                self._complete()

    def on_read(self) -> None:
        """The views handed over are about to be overwritten."""
        if self._receiver is not None:
            self._receiver.flush()

    def _complete(self) -> None:
        receiver, self._receiver = self._receiver, None
        assert receiver is not None
        self._working, self._since = receiver, self.clock.seconds()
        receiver.end()

    def answer(self, receiver: Receiver, response: bytes, status: int | None) -> None:
        """Send the last response of a request, and go on to the next; `status` is to be counted if there is one."""
        if self._working is not receiver:
            return
        self._working = None
        name = self.serving.name
        self.serving.metrics.ack_seconds.labels(name).observe(self.clock.seconds() - self._since)
        if status is not None:
            self.serving.metrics.acknowledged.labels(name, f"0x{status:04X}").inc()
        if self.core.can_send:
            self.write(self.core.message(receiver.context.id, response))
        if self.serving.stopping:
            self.finish()
        else:
            self.resume()


def _address(address: Any) -> str:
    return f"{getattr(address, 'host', '')}:{getattr(address, 'port', '')}"
