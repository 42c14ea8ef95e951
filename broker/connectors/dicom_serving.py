"""What a DICOM listener offers: services by SOP class, requests by service, and who may have them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts
from twisted.internet.defer import Deferred, succeed

from broker.connectors.base import DicomIntake, Transcoder
from broker.connectors.dicom_availability import Notifying
from broker.connectors.dicom_commitment import Lines, Reporting, Requesting
from broker.connectors.dicom_peers import Peer, Peers
from broker.connectors.dicom_performing import performing
from broker.connectors.dicom_query import Retrieving, Searching
from broker.connectors.dicom_services import Make, Receiver, Spool, Storing
from broker.connectors.dicom_worklist import Finding
from broker.dicom.dataset import DECODABLE, EXPLICIT_LITTLE
from broker.dicom.dimse import Field
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
    Role,
    Window,
)
from broker.dicom.query import PATIENT_ROOT, STUDY_ROOT
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.security.tls import Credentials

if TYPE_CHECKING:
    from broker.connectors.dicom_acceptor import Acceptor

NO_ROLES: Mapping[str, Role] = {}
HALF_OPEN = 128  # connections without an association; one more and the oldest is cut
CERTIFICATE_NOT_RECOGNISED = replace(CALLING_NOT_RECOGNISED, why="certificate not that of the calling AE title")

# The service of each SOP class that is no storage; one the listener's `services` may name, but for the echo.
SOP_CLASSES = {
    "1.2.840.10008.1.1": "echo",
    "1.2.840.10008.5.1.4.31": "worklist",
    "1.2.840.10008.3.1.2.3.3": "mpps",
    "1.2.840.10008.3.1.2.3.4": "mpps",
    "1.2.840.10008.1.20.1": "commitment",
    "1.2.840.10008.5.1.4.33": "availability",
}
for _model in (PATIENT_ROOT, STUDY_ROOT):
    SOP_CLASSES |= {_model.find: "query", _model.move: "retrieve", _model.get: "retrieve"}
# What takes each request of a service.
REQUESTS: dict[tuple[str, int], Make] = {
    ("echo", Field.C_ECHO): Receiver,
    ("store", Field.C_STORE): Storing,
    ("worklist", Field.C_FIND): Finding,
    ("mpps", Field.N_CREATE): performing,
    ("mpps", Field.N_SET): performing,
    ("mpps", Field.N_GET): performing,
    ("availability", Field.N_CREATE): Notifying,
    ("commitment", Field.N_ACTION): Requesting,
    ("commitment", Field.N_EVENT_REPORT): Reporting,
    ("query", Field.C_FIND): Searching,
    ("retrieve", Field.C_MOVE): Retrieving,
    ("retrieve", Field.C_GET): Retrieving,
}
SERVICES = ("store", *dict.fromkeys(service for service in SOP_CLASSES.values() if service != "echo"))
USUAL = ("store", "worklist", "mpps")  # what is offered when nothing is said
OPERATIONS = 8  # objects that a peer may send before the first is answered, PS3.7 D.3.3.3
_IN_TURN = ("echo", "store", None)  # while these are worked on, nothing is read; None has no context
_AS_PROPOSED = ("echo", "store")  # these take whatever transfer syntax comes first: no dataset of theirs is decoded
_STORAGE = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."


def service_of(abstract: str, private: bool) -> str | None:
    """Return the service that a SOP class belongs to; None when it is none of ours."""
    known = SOP_CLASSES.get(abstract)
    if known:
        return known
    name = UID(abstract).name
    standard = name != abstract
    if abstract in _STORAGE or (standard and abstract.startswith(_STORAGE_ROOT) and "Storage" in name):
        return "store"
    return "store" if private and not standard else None


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
    share: int  # of these, what one peer, or everyone else together, may have
    artim: float  # seconds
    idle: float  # seconds
    buffer: memoryview
    max_object: int = 1 << 32  # bytes
    transcoder: Transcoder | None = None
    durable: bool = True  # whether an object is synced and journaled before its answer
    taking: int = 0  # objects that were answered and are not yet journaled
    credentials: Credentials | None = None
    worklist: Mapping[str, Any] = field(default_factory=dict)  # terms of its answers
    lines: Lines = field(default_factory=Lines)  # who has asked for storage commitment over which association
    open: set[Acceptor] = field(default_factory=set)
    unassociated: dict[Acceptor, None] = field(default_factory=dict)  # of these, the ones without an association, the oldest first
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
        self.unassociated.pop(acceptor, None)
        if not self.open:
            waiting, self.waiting = self.waiting, []
            for one in waiting:
                one.callback(None)

    def opened(self, acceptor: Acceptor) -> None:
        """A connection is there. When too many have no association, the oldest of the address that has most of these is cut."""
        self.open.add(acceptor)
        self.unassociated[acceptor] = None
        if len(self.unassociated) > HALF_OPEN:
            [(host, _)] = Counter(one.host for one in self.unassociated).most_common(1)
            oldest = next(one for one in self.unassociated if one.host == host)
            del self.unassociated[oldest]
            self.metrics.rejected_bytes.labels(self.name, "too many connections without an association").inc()
            oldest.transport.abortConnection()

    def admit(self, request: Request, host: str, certificate: frozenset[str] = frozenset()) -> Peer | Rejection:
        """Return what the caller is granted, or why it is rejected; `certificate` is all that the one it has shown may be named by."""
        if request.application != APPLICATION_CONTEXT:
            return APPLICATION_NOT_SUPPORTED
        if self.check_called and request.called != self.ae_title:
            return CALLED_NOT_RECOGNISED
        peer = self.peers.find(request.calling, host)
        if peer is None:
            return CALLING_NOT_RECOGNISED
        allowed = self.credentials.names if self.credentials is not None else frozenset[str]()
        if any(wanted and not wanted & certificate for wanted in (allowed, peer.certificate)):
            return CERTIFICATE_NOT_RECOGNISED
        if peer.user is not None and (refusal := peer.user.refuses(request.identity)):
            return refusal
        return LIMIT_EXCEEDED if self.stopping or self._is_full(request.calling, peer) else peer

    def _is_full(self, calling: str, peer: Peer) -> bool:
        established = [one for one in self.open if one.peer_known]
        if peer.associations is not None:
            taken, most = sum(one.caller.ae_title == calling for one in established), peer.associations
        else:
            taken, most = sum(one.peer is peer for one in established), self.share
        return len(established) >= self.most or taken >= most

    def window(self, request: Request, peer: Peer) -> Window:
        """Return how many operations may be outstanding: several where all contexts are of storage, whose requests wait their turn."""
        if any(service_of(offer.abstract, peer.private) not in _IN_TURN for offer in request.offers):
            return Window()
        return Window(min(request.window.invoked or OPERATIONS, OPERATIONS))

    def decide(self, offer: Offer, peer: Peer, roles: Mapping[str, Role] = NO_ROLES) -> str | int:
        """Return the transfer syntax to take for a proposed context, or the result code of its refusal."""
        service = service_of(offer.abstract, peer.private)
        if service == "store" and "retrieve" in self.services and offer.abstract in roles and roles[offer.abstract].scp:
            return EXPLICIT_LITTLE if EXPLICIT_LITTLE in offer.syntaxes else offer.syntaxes[0]  # for what a C-GET brings back
        if service is None or (service != "echo" and service not in self.services):
            return ABSTRACT_NOT_SUPPORTED
        if service in _AS_PROPOSED:
            return offer.syntaxes[0]
        return next((syntax for syntax in offer.syntaxes if syntax in DECODABLE), TRANSFER_NOT_SUPPORTED)
