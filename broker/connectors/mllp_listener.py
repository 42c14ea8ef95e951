"""The shell that receives HL7 over MLLP; framing is `broker.hl7.mllp`, everything else the intake's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from broker.connectors.base import Hl7Intake, not_bound
from broker.connectors.mllp_exchange import Line, Switchboard
from broker.connectors.mllp_receiver import Receiver
from broker.connectors.mllp_wire import endpoint, read_address, shown
from broker.connectors.tls import credentials, secured
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.security.addresses import Addresses

BACKLOG = 512  # connections the kernel may hold before they are accepted
TOLD = 256  # addresses remembered that were turned away and logged
CONNECT_TIMEOUT = 10.0  # seconds
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds between two attempts to connect


class _Dialler(Factory):
    """Makes the receiver of the connection that a listener has opened itself."""

    noisy = False

    def __init__(self, listener: MllpListener) -> None:
        self._listener = listener

    def buildProtocol(self, addr: IAddress | None) -> Receiver:
        return Receiver(self._listener, addr, accepted=False)


class MllpListener(Factory):
    """Accepts MLLP connections, or opens one itself and keeps it open, and hands their messages to the intake."""

    noisy = False

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        reactor: Any,
        intake: Hl7Intake,
        metrics: Metrics,
        log: Log,
        switchboard: Switchboard | None = None,
    ) -> None:
        """`switchboard` gets the open connections, for destinations that send over them."""
        self.name = name
        self.settings = settings
        self.reactor = reactor  # IReactorTCP and IReactorTime
        self.intake = intake
        self.log = log
        self.outstanding: int = settings["outstanding"]
        self.waited = metrics.ack_seconds.labels(name)
        self._host, self._peer_port = read_address(settings["connect"]) if settings["connect"] else ("", 0)
        self.credentials = credentials(name, settings["tls"], metrics, log, self._host)
        self._allowed = Addresses.parse(settings["from"]) if settings["from"] else None
        self._connections = metrics.connections.labels(name)
        self._probes = metrics.probes.labels(name)
        self._faults = metrics.rejected_bytes
        self._switchboard = switchboard or Switchboard()
        self._receivers: set[Receiver] = set()
        self._by_host: Counter[str] = Counter()
        self._told: set[str] = set()
        self._port: Any = None
        self._service: Any = None
        self._drained: Deferred[None] | None = None

    def start(self) -> Deferred[str]:
        """Bind, and fire with "mllp 127.0.0.1:2575"; fails with OSError. One that connects itself goes on trying until it is stopped."""
        if self._host:
            return self._dial()
        settings, factory = self.settings, secured(self, self.credentials)
        try:
            self._port = self.reactor.listenTCP(settings["port"], factory, backlog=BACKLOG, interface=settings["bind"])
        except CannotListenError as error:
            return fail(not_bound(error))
        return succeed(f"mllp {shown(self._port.getHost())}")

    def stop(self) -> Deferred[None]:
        """Accept nothing new, answer what is being worked on, close; after a grace whatever is still open is cut."""
        port, self._port = self._port, None
        closing = maybeDeferred(port.stopListening) if port else succeed(None)
        drained: Deferred[None] = Deferred()
        self._drained = drained
        for receiver in list(self._receivers):
            receiver.finish()
        self._settle()
        return closing.addCallback(lambda _: drained).addCallback(self._hang_up)

    def buildProtocol(self, addr: IAddress | None) -> Receiver | None:
        """Return the receiver of a new connection, or None, which closes it: from somebody else, or one too many."""
        host = getattr(addr, "host", "")
        if self._allowed is not None and not self._allowed.allows(host):
            self._turn_away("not_allowed", addr, "no address that may connect")
            return None
        if len(self._receivers) >= self.settings["connections"]:
            self._turn_away("too_many_connections", addr, f"{len(self._receivers)} connections are open")
            return None
        most = self.settings["connections_per_peer"]
        if most is not None and self._by_host[host] >= most:
            self._turn_away("too_many_connections", addr, f"{most} connections of this peer are open")
            return None
        return Receiver(self, addr)

    def opened(self, receiver: Receiver) -> None:
        """A connection was made."""
        self._receivers.add(receiver)
        self._by_host[receiver.host] += 1
        self._connections.inc()

    def closed(self, receiver: Receiver) -> None:
        """A connection is gone."""
        self._receivers.discard(receiver)
        self._by_host[receiver.host] -= 1
        if not self._by_host[receiver.host]:
            del self._by_host[receiver.host]
        self._connections.dec()
        self._switchboard.closed(self.name, receiver.line)
        self._settle()

    def can_carry(self, line: Line) -> None:
        """A connection may carry messages the other way."""
        self._switchboard.opened(self.name, line)

    def freed(self) -> None:
        """A connection may carry the next message the other way."""
        self._switchboard.freed(self.name)

    def probed(self) -> None:
        """A connection came and left without a byte."""
        self._probes.inc()

    def faulty(self, fault: str, peer: str, detail: str, tail: str = "") -> None:
        """Count a fault, and log it when it has a detail."""
        self._faults.labels(self.name, fault).inc()
        if detail:
            self.log.warning("mllp fault", listener=self.name, peer=peer, fault=fault, reason=detail, tail=tail or None)

    def _turn_away(self, fault: str, addr: Any, detail: str) -> None:
        """Count it; a peer that comes again and again is logged once."""
        told = f"{fault} {addr.host}"
        known = told in self._told
        if len(self._told) >= TOLD:
            self._told.clear()
        self._told.add(told)
        self.faulty(fault, shown(addr), "" if known else detail)

    def _dial(self) -> Deferred[str]:
        where = endpoint(self.reactor, self._host, self._peer_port, CONNECT_TIMEOUT)
        factory = secured(_Dialler(self), self.credentials, client=True)
        wait = backoffPolicy(FIRST_WAIT, LONGEST_WAIT)

        def waiting(failures: int) -> float:
            if failures == 1:
                self.log.warning("peer not connected", listener=self.name, address=self.settings["connect"])
            return wait(failures)

        self._service = ClientService(where, factory, waiting, self.reactor)
        self._service.startService()
        return succeed(f"mllp to {self.settings['connect']}")

    def _hang_up(self, _: None) -> Any:
        service, self._service = self._service, None
        return maybeDeferred(service.stopService) if service is not None else None

    def _settle(self) -> None:
        if self._drained and not self._receivers:
            drained, self._drained = self._drained, None
            drained.callback(None)
