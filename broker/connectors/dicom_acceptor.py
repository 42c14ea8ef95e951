"""One association that a peer opened: who may, and which request goes where."""

from __future__ import annotations

from typing import Any

from broker.connectors.base import Caller
from broker.connectors.dicom_exchange import Exchange
from broker.connectors.dicom_peers import Peer
from broker.connectors.dicom_services import Receiver, refuse_reason
from broker.connectors.dicom_serving import REQUESTS, Serving, service_of
from broker.connectors.mllp_wire import tls_failure
from broker.dicom.association import Association
from broker.dicom.dimse import Status
from broker.dicom.happenings import Aborted, Message
from broker.dicom.negotiation import Rejection, Request
from broker.dicom.pdus import Limits
from broker.security.tls import identifiers

_PATIENCE = 60.0  # seconds for the answer to what this side asks over it


class Acceptor(Exchange):
    """The shell of one accepted connection."""

    def __init__(self, serving: Serving, address: Any) -> None:
        core = Association(acceptor=True, limits=Limits(max_pdu=serving.max_pdu))
        times = {"artim": serving.artim, "idle": serving.idle, "patience": _PATIENCE}
        super().__init__(core, serving.reactor, serving.log, **times, buffer=serving.buffer)
        self.serving = serving
        self.peer = Peer()
        self.peer_known = False
        self.host, self._address = str(getattr(address, "host", "")), _address(address)
        self._since = 0.0

    # the association

    def connectionMade(self) -> None:
        """Count, and begin."""
        self.serving.opened(self)
        self.serving.metrics.connections.labels(self.serving.name).inc()
        super().connectionMade()

    def on_request(self, request: Request) -> None:
        """Accept or reject."""
        granted = self.serving.admit(request, self.host, self._certificate())
        self.caller = Caller(self.serving.name, request.calling, request.called, self._address)
        if isinstance(granted, Rejection):
            self.serving.metrics.associations_rejected.labels(self.serving.name, granted.text).inc()
            self.log.warning(
                "association rejected", ae_title=request.calling, called=request.called, peer=self._address, reason=granted.text
            )
            self.perform(self.core.reject(granted))
            return
        self.peer, self.peer_known = granted, True
        self.serving.unassociated.pop(self, None)
        self.serving.metrics.associations.labels(self.serving.name).inc()
        self.serving.metrics.associations_total.labels(self.serving.name).inc()
        self.perform(
            self.core.accept(
                lambda offer: self.serving.decide(offer, granted, request.roles),
                identified=granted.user is not None,
                window=self.serving.window(request, granted),
            )
        )

    def _certificate(self) -> frozenset[str]:
        shown = self.transport.getPeerCertificate() if self.serving.credentials is not None else None
        return identifiers(shown.to_cryptography()) if shown is not None else frozenset()

    def on_fault(self, what: str) -> None:
        """Count and log."""
        self.serving.metrics.rejected_bytes.labels(self.serving.name, what).inc()
        self.log.warning("protocol error", fault=what, ae_title=self.caller.ae_title, peer=self._address)

    def on_aborted(self, aborted: Aborted) -> None:
        """Leave nothing of an unfinished object behind."""
        super().on_aborted(aborted)
        if aborted.by == "peer":
            self.log.info("association aborted", ae_title=self.caller.ae_title, peer=self._address, what="by the peer")

    def on_release_requested(self) -> None:
        """Agree; what this side still waits for will not come."""
        super().on_release_requested()
        self.serving.intake.association_ended(self.caller, True)
        self.give_up("association released by the peer")

    def connectionLost(self, reason: Any = None) -> None:
        """Count, and leave nothing behind."""
        if self.serving.credentials is not None and reason is not None and (why := tls_failure(reason)):
            self.serving.metrics.rejected_bytes.labels(self.serving.name, "tls").inc()
            self.log.warning("protocol error", fault="tls", peer=self._address, reason=why)
        super().connectionLost(reason)
        if self in self.serving.open:
            self.serving.metrics.connections.labels(self.serving.name).dec()
            self.serving.closed(self)
            if self.peer_known:
                self.serving.metrics.associations.labels(self.serving.name).dec()
                self.serving.intake.association_ended(self.caller, False)

    def finish(self) -> None:
        """Close as soon as no request is being read or worked on."""
        if self.idle:
            self.abort()
            self._close()

    # its messages

    def receiver_for(self, message: Message) -> Receiver:
        """Return what takes a request, or refuses it."""
        service = service_of(message.context.abstract, self.peer.private) or ""
        make = REQUESTS.get((service, message.command.field))
        if make is None:
            return Receiver(self, message, Status.UNRECOGNISED_OPERATION)
        wrong = refuse_reason(message)
        return make(self, message) if wrong is None else Receiver(self, message, wrong)

    def on_unexpected(self, message: Message) -> None:
        """A response to nothing."""
        self._break_off("response without a request")

    def on_working(self) -> None:
        """The time until the answer counts from here."""
        self._since = self.clock.seconds()

    def on_answered(self, receiver: Receiver, status: int | None) -> None:
        """Count."""
        name = self.serving.name
        self.serving.metrics.ack_seconds.labels(name).observe(self.clock.seconds() - self._since)
        if status is not None:
            self.serving.metrics.acknowledged.labels(name, f"0x{status:04X}").inc()

    def go_on(self) -> None:
        """Read what came meanwhile, unless the listener stops."""
        if self.serving.stopping:
            self.finish()
        else:
            self.resume()


def _address(address: Any) -> str:
    return f"{getattr(address, 'host', '')}:{getattr(address, 'port', '')}"
