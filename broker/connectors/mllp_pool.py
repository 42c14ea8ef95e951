"""Where a destination's messages go: connections of its own, opened on demand and kept, or those of a listener."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IAddress, IHandshakeListener
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.connectors.mllp_exchange import Heard, Line, Switchboard
from broker.connectors.mllp_wire import GRACE, PAUSE, endpoint, tls_failure, tune
from broker.connectors.tls import credentials, secured
from broker.hl7.mllp import Fault, Frame, Framer
from broker.obs.log import Log
from broker.obs.metrics import Metrics


class Pump(Protocol):
    """Sends what waits."""

    def __call__(self) -> None: ...


class GiveUp(Protocol):
    """Fails what waits for a connection: the first of it, or all."""

    def __call__(self, why: str, *, all_of_them: bool = False) -> None: ...


@implementer(IHandshakeListener)
class _Sender(TwistedProtocol):
    """A connection of a destination's own."""

    transport: Any

    def __init__(self, pool: Dialled) -> None:
        self._pool = pool
        self._framer = Framer(pool.settings["limit"])
        self._secure = not pool.has_tls  # or the handshake is over
        self._silence: Any = None
        self._told: set[str] = set()  # faults logged; all are counted
        self.line: Line
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        tune(self.transport, self._pool.settings["keepalive"])
        self.line = Line(self.transport, self._pool.reactor, self._pool.pump)

    def handshakeCompleted(self) -> None:
        """TLS is up."""
        self._secure = True

    def dataReceived(self, data: bytes) -> None:
        self._take(self._framer.receive(data))
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if self._framer.may_be_whole and not self.line.cut:
            self._silence = self._pool.reactor.callLater(PAUSE, self._silent)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        why = tls_failure(reason)
        if not (why or self._secure):
            self._faulty("tls", "the connection ended inside the handshake")
        if self._silence is not None:
            self._silence.cancel()
        self._pool.closed(self)  # nothing more is sent over it, whatever its last words free
        self._take(self._framer.end())
        if why and not self.line.cut:
            self._faulty("tls", why)
        self.line.lost(f"no TLS: {why}" if why else "the connection was closed before the answer")
        self.lost.callback(None)

    def _silent(self) -> None:
        self._silence = None
        self._take(self._framer.pause())

    def _take(self, items: list[Frame | Fault]) -> None:
        for item in items:
            if isinstance(item, Fault):
                self._faulty(item.name, item.detail, item.tail)
                if item.fatal and not self.line.cut:
                    self.line.drop(f"the answer broke the framing: {item.detail}")
            elif not self.line.cut:  # else what it says now is too late
                self._read(item.raw)

    def _read(self, raw: bytes) -> None:
        heard = self.line.hear(raw)
        if heard is Heard.OTHER:
            self._faulty("no_answer", "not an HL7 answer")
            self.line.drop("what came back is not an HL7 answer")
        elif heard is Heard.STRANGER:
            # an answer to somebody else's message, or to one given up: it settles nothing
            self._faulty("stranger", "an answer to another message")

    def _faulty(self, fault: str, detail: str, tail: str = "") -> None:
        """Count it; of a connection that does so again and again, it is logged once."""
        self._pool.faulty(fault, "" if fault in self._told else detail, tail)
        self._told.add(fault)


class Dialled:
    """Connections of a destination's own: as many as messages are under way, up to its width."""

    def __init__(
        self, name: str, settings: Mapping[str, Any], reactor: Any, metrics: Metrics, log: Log, pump: Pump, give_up: GiveUp
    ) -> None:
        self.settings, self.reactor, self.pump = settings, reactor, pump
        self._name, self._give_up, self._log = name, give_up, log
        self._faults = metrics.rejected_bytes
        self._credentials = credentials(name, settings["tls"], metrics, log, settings["host"])
        self._open: list[_Sender] = []
        self._connecting: set[Deferred[Any]] = set()
        self._sweeping: Any = None

    @property
    def has_tls(self) -> bool:
        """Whether it speaks TLS."""
        return self._credentials is not None

    def free(self) -> Line | None:
        """Return a connection that carries nothing."""
        return next((one.line for one in self._open if one.line.free), None)

    def want(self, count: int) -> None:
        """Open connections for so many messages, as far as the width allows."""
        room = self.settings["connections"] - sum(not one.line.cut for one in self._open)
        while len(self._connecting) < min(count, room):
            self._connect()

    def close(self) -> Deferred[None]:
        """Close them all; what the peer does not let go of is cut."""
        for connecting in tuple(self._connecting):
            connecting.cancel()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        closing = [self._leave(one) for one in tuple(self._open)]
        return DeferredList(closing).addCallback(lambda _: None) if closing else succeed(None)

    def closed(self, one: _Sender) -> None:
        """A connection is gone."""
        if one in self._open:
            self._open.remove(one)
            self.pump()

    def faulty(self, fault: str, detail: str, tail: str = "") -> None:
        """Count what the receiver did wrong, and log it when it has a detail."""
        self._faults.labels(self._name, fault).inc()
        if detail:
            self._log.warning("mllp fault", destination=self._name, fault=fault, reason=detail, tail=tail or None)

    def _connect(self) -> None:
        settings = self.settings
        factory = secured(_Dialler(self), self._credentials, client=True)
        connecting = endpoint(self.reactor, settings["host"], settings["port"], settings["connect_timeout"]).connect(factory)
        self._connecting.add(connecting)
        connecting.addBoth(self._forget, connecting)
        connecting.addCallbacks(self._connected, self._not_connected)

    def _forget(self, result: Any, connecting: Deferred[Any]) -> Any:
        self._connecting.discard(connecting)
        return result

    def _connected(self, wire: Any) -> None:
        sender: _Sender = getattr(wire, "wrappedProtocol", wire)
        if sender.line.cut:
            self._give_up("no TLS")
            return
        self._open.append(sender)
        if self._sweeping is None:
            self._sweep()
        self.pump()

    def _not_connected(self, failure: Failure) -> None:
        self._give_up(f"cannot connect: {failure.getErrorMessage()}")

    def _leave(self, one: _Sender) -> Deferred[None]:
        """Close a connection; what waits on it is to be sent again."""
        self._open.remove(one)
        one.line.lost("closed while it waited for an answer")
        one.transport.loseConnection()
        cut = self.reactor.callLater(GRACE, one.transport.abortConnection)
        return one.lost.addCallback(lambda _: cut.cancel() if cut.active() else None)

    def _sweep(self) -> None:
        """Close what has been idle for too long, when that is wanted."""
        self._sweeping = None
        idle, now = self.settings["idle"], self.reactor.seconds()
        if idle is None or not self._open:
            return
        for one in tuple(self._open):
            if one.line.free and now - one.line.used >= idle:
                self._leave(one)
        self._sweeping = self.reactor.callLater(idle / 2, self._sweep)


class _Dialler(Factory):
    noisy = False

    def __init__(self, pool: Dialled) -> None:
        self._pool = pool

    def buildProtocol(self, addr: IAddress | None) -> _Sender:
        return _Sender(self._pool)


class Shared:
    """The connections of a listener, for peers that keep one for both directions, or that connect to us to be sent to."""

    def __init__(self, settings: Mapping[str, Any], reactor: Any, switchboard: Switchboard, pump: Pump, give_up: GiveUp) -> None:
        self._listener, self._patience = settings["over"], settings["connect_timeout"]
        self._reactor, self._switchboard, self._pump, self._give_up = reactor, switchboard, pump, give_up
        self._timer: Any = None

    def free(self) -> Line | None:
        """Return a connection that carries nothing."""
        line = self._switchboard.free(self._listener)
        if line is not None and self._timer is not None:
            self._stop_waiting()
        return line

    def want(self, count: int) -> None:
        """Wait for the peer to connect, or for another destination's message to be answered."""
        if self._timer is None:
            self._timer = self._reactor.callLater(self._patience, self._expire)
            self._switchboard.watch(self._listener, self._pump)

    def close(self) -> Deferred[None]:
        """Wait no longer; the connections stay the listener's."""
        if self._timer is not None:
            self._stop_waiting()
        return succeed(None)

    def _stop_waiting(self) -> None:
        if self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._switchboard.unwatch(self._listener, self._pump)

    def _expire(self) -> None:
        self._stop_waiting()
        self._give_up(f"no connection of listener {self._listener} is free", all_of_them=True)
