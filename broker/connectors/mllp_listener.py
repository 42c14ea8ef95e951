"""The shell that receives HL7 over MLLP; framing is `broker.hl7.mllp`, everything else the intake's."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from broker.connectors.base import Hl7Intake
from broker.hl7.mllp import Fault, Frame, Framer, frame
from broker.obs.log import Log
from broker.obs.metrics import Metrics

BACKLOG = 512  # connections the kernel may hold before they are accepted
GRACE = 5.0  # seconds in which a closing connection may send what is left


class _Slot:
    """One received message that waits for its answer."""

    __slots__ = ("answer", "at", "done")

    def __init__(self, at: float) -> None:
        self.at = at  # when its last byte came
        self.done = False
        self.answer: bytes | None = None  # None when done: nothing was kept, the connection closes


class _Receiver(Protocol):
    """One connection of a listener; several of its messages may be under way, their answers leave in order."""

    transport: Any

    def __init__(self, listener: MllpListener, peer: str) -> None:
        self._listener = listener
        self._peer = peer
        self._framer = Framer(listener.settings["limit"])
        self._frames: deque[bytes] = deque()  # cut but not handed over; never more than one read brings
        self._slots: deque[_Slot] = deque()  # handed over
        self._told: set[str] = set()  # faults logged; all are counted
        self._reading = True
        self._choked = self._handing = self._closing = self._gone = False
        self._heard = 0.0
        self._timer: Any = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        self.transport.registerProducer(self, True)  # a peer that does not read its answers is not read from either
        self._heard = self._listener.reactor.seconds()
        self._listener.opened(self)
        self._watch()

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        self._heard = self._listener.reactor.seconds()
        for item in self._framer.receive(data):
            if isinstance(item, Frame):
                self._frames.append(item.raw)
            else:
                self._faulty(item)
        self._hand_over()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = self._closing = True
        self._slots.clear()
        self._frames.clear()
        for fault in self._framer.end():
            self._faulty(fault)
        if self._timer.active():
            self._timer.cancel()
        self._listener.closed(self)

    def finish(self) -> None:
        """Take nothing new, answer what was handed over, close."""
        if not self._closing:
            self._frames.clear()
            self._end()

    # the transport calls these when its send buffer is full, and empty again

    def pauseProducing(self) -> None:
        self._choked = True
        self._pace()

    def resumeProducing(self) -> None:
        self._choked = False
        self._pace()

    def stopProducing(self) -> None:
        self._choked = True

    # inside

    def _hand_over(self) -> None:
        if self._handing:
            return
        self._handing = True  # an answer that is there at once must not come back in here
        listener = self._listener
        while self._frames and len(self._slots) < listener.outstanding:
            slot = _Slot(self._heard)
            self._slots.append(slot)
            receiving = listener.intake.receive_hl7(listener.name, self._peer, self._frames.popleft())
            receiving.addCallbacks(self._answered, self._failed, (slot,), {}, (slot,), {})
        self._handing = False
        self._pace()
        if self._closing and not self._slots and not self._frames and not self._gone:
            self._close()

    def _answered(self, answer: bytes, slot: _Slot) -> None:
        slot.done, slot.answer = True, answer
        self._flush()

    def _failed(self, failure: Failure, slot: _Slot) -> None:
        slot.done = True
        if "failed" not in self._told:
            self._told.add("failed")
            self._listener.log.failure("mllp closes without an answer", failure, listener=self._listener.name, peer=self._peer)
        self._flush()

    def _flush(self) -> None:
        """Send the answers that are due, in the order of their messages."""
        slots, now = self._slots, self._listener.reactor.seconds()
        while slots and slots[0].done:
            slot = slots.popleft()
            if slot.answer is None:
                slots.clear()
                self._frames.clear()
                self._closing = True
                break
            if slot.answer:
                self.transport.write(frame(slot.answer))
                self._listener.waited.observe(now - slot.at)
        if self._frames or self._closing or not self._reading:
            self._hand_over()

    def _pace(self) -> None:
        """Read on only while answers go out and few messages wait."""
        reading = not (self._choked or self._closing or len(self._slots) >= self._listener.outstanding)
        if reading != self._reading and not self._gone:
            self._reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def _faulty(self, fault: Fault) -> None:
        self._listener.faulty(fault.name, self._peer, "" if fault.name in self._told else fault.detail)
        self._told.add(fault.name)
        if fault.fatal and not self._gone:
            self._end()

    def _watch(self) -> None:
        """Close a connection that the peer left hanging; one timer a connection, none a message."""
        settings, now = self._listener.settings, self._listener.reactor.seconds()
        hanging = self._framer.open or self._choked
        patience = settings["stalled"] if hanging else settings["idle"]
        if len(self._slots) or patience is None:
            self._timer = self._listener.reactor.callLater(settings["stalled"], self._watch)
        elif now - self._heard < patience:
            self._timer = self._listener.reactor.callLater(min(self._heard + patience - now, settings["stalled"]), self._watch)
        else:
            if hanging:
                self._listener.faulty("stalled", self._peer, f"nothing moved for {patience:g} s")
            self._close()

    def _end(self) -> None:
        self._closing = True
        self._timer.cancel()
        self._timer = self._listener.reactor.callLater(GRACE, self.transport.abortConnection)
        self._hand_over()

    def _close(self) -> None:
        self._closing = self._gone = True
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        if not self._timer.active():
            self._timer = self._listener.reactor.callLater(GRACE, self.transport.abortConnection)


class MllpListener(Factory):
    """Accepts MLLP connections and hands their messages to the intake."""

    noisy = False

    def __init__(self, name: str, settings: Mapping[str, Any], reactor: Any, intake: Hl7Intake, metrics: Metrics, log: Log) -> None:
        self.name = name
        self.settings = settings
        self.reactor = reactor  # IReactorTCP and IReactorTime
        self.intake = intake
        self.log = log
        self.outstanding: int = settings["outstanding"]
        self.waited = metrics.ack_seconds.labels(name)
        self._connections = metrics.connections.labels(name)
        self._faults = metrics.rejected_bytes
        self._receivers: set[_Receiver] = set()
        self._port: Any = None
        self._drained: Deferred[None] | None = None

    def start(self) -> Deferred[str]:
        """Bind, and fire with "mllp 127.0.0.1:2575"; fails with OSError."""
        try:
            self._port = self.reactor.listenTCP(self.settings["port"], self, backlog=BACKLOG, interface=self.settings["bind"])
        except CannotListenError as error:
            why = error.socketError
            return fail(OSError(getattr(why, "errno", None) or errno.EADDRINUSE, f"{error.interface}:{error.port}: {why}"))
        return succeed(f"mllp {_shown(self._port.getHost())}")

    def stop(self) -> Deferred[None]:
        """Accept nothing new, answer what is being worked on, close; after a grace whatever is still open is cut."""
        port, self._port = self._port, None
        closing = maybeDeferred(port.stopListening) if port else succeed(None)
        drained: Deferred[None] = Deferred()
        self._drained = drained
        for receiver in list(self._receivers):
            receiver.finish()
        self._settle()
        return closing.addCallback(lambda _: drained)

    def buildProtocol(self, addr: IAddress | None) -> _Receiver | None:
        """Return the receiver of a new connection, or None, which closes it, when there are too many."""
        if len(self._receivers) >= self.settings["connections"]:
            self.faulty("too_many_connections", _shown(addr), f"{len(self._receivers)} connections are open")
            return None
        return _Receiver(self, _shown(addr))

    def opened(self, receiver: _Receiver) -> None:
        """A connection was made."""
        self._receivers.add(receiver)
        self._connections.inc()

    def closed(self, receiver: _Receiver) -> None:
        """A connection is gone."""
        self._receivers.discard(receiver)
        self._connections.dec()
        self._settle()

    def faulty(self, fault: str, peer: str, detail: str) -> None:
        """Count a fault, and log it when it has a detail."""
        self._faults.labels(self.name, fault).inc()
        if detail:
            self.log.warning("mllp fault", listener=self.name, peer=peer, fault=fault, reason=detail)

    def _settle(self) -> None:
        if self._drained and not self._receivers:
            drained, self._drained = self._drained, None
            drained.callback(None)


def _shown(address: Any) -> str:
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
