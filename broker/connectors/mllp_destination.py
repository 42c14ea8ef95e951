"""The shell that delivers HL7 over MLLP; when to try again is the engine's to decide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from broker.errors import LocalProtocolError, MessageError, Refused, Retry
from broker.hl7.ack import read_answer
from broker.hl7.message import Message
from broker.hl7.mllp import END, VT, Fault, Frame, Framer, frame
from broker.hl7.tables import ACCEPTED, REFUSED
from broker.model import Delivery
from broker.obs.log import Log
from broker.obs.metrics import Metrics

GRACE = 5.0  # seconds in which a closing connection may send what is left


class _Sender(Protocol):
    """The connection of a destination."""

    transport: Any

    def __init__(self, destination: MllpDestination, limit: int) -> None:
        self._destination = destination
        self._framer = Framer(limit)

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)

    def dataReceived(self, data: bytes) -> None:
        self._destination.heard(self, self._framer.receive(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._destination.lost(self, reason)


class _Dialer(Factory):
    noisy = False

    def __init__(self, destination: MllpDestination, limit: int) -> None:
        self._destination = destination
        self._limit = limit

    def buildProtocol(self, addr: IAddress | None) -> _Sender:
        return _Sender(self._destination, self._limit)


class MllpDestination:
    """Delivers over one connection, opened on demand and kept; one message is outstanding at a time."""

    def __init__(self, name: str, settings: Mapping[str, Any], reactor: Any, metrics: Metrics, log: Log) -> None:
        self.name = name
        self._settings = settings
        self._reactor = reactor  # IReactorTCP and IReactorTime
        self._faults = metrics.rejected_bytes
        self._log = log
        self._patience: float = settings["answer_timeout"]
        self._wire: _Sender | None = None
        self._connecting: Deferred[Any] | None = None
        self._waiting: Deferred[str] | None = None
        self._payload = b""
        self._expected = ""  # MSA-2 of the answer that is waited for
        self._sent = 0.0
        self._timer: Any = None
        self._leaving: dict[_Sender, Deferred[None]] = {}

    def send(self, delivery: Delivery) -> Deferred[str]:
        """Fire with MSA-1 ("AA", "CA"); fail with `Retry` when no answer came, with `Refused` when the receiver does not want it."""
        if self._waiting is not None:
            return fail(LocalProtocolError(f"{self.name} is still delivering"))
        if VT in delivery.payload or END in delivery.payload:
            return fail(Refused("the message holds bytes that MLLP frames are made of"))
        waiting: Deferred[str] = Deferred()
        self._waiting = waiting
        self._payload = delivery.payload
        self._expected = delivery.control_id or _control_id(delivery.payload)
        if self._wire:
            self._transmit(self._wire)
        else:
            self._connect()
        return waiting

    def close(self) -> Deferred[None]:
        """Close the connection; a delivery under way fails with `Retry`."""
        wire, self._wire = self._wire, None
        self._fail(Retry("closed while it waited for an answer"))
        if self._connecting:
            self._connecting.cancel()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        closed: Deferred[None] = succeed(None)
        if wire:
            self._leaving[wire] = closed = Deferred()
            wire.transport.loseConnection()
            cut = self._reactor.callLater(GRACE, wire.transport.abortConnection)
            closed.addCallback(lambda _: cut.cancel() if cut.active() else None)
        return closed

    def heard(self, wire: _Sender, items: list[Frame | Fault]) -> None:
        """Take what the receiver sent."""
        for item in items:
            if wire is not self._wire:
                return  # closed meanwhile: what it says now is too late
            if isinstance(item, Frame):
                self._read(item.raw)
            else:
                self._count(item.name, item.detail)
                if item.fatal:
                    self._drop(f"the answer broke the framing: {item.detail}")

    def lost(self, wire: _Sender, reason: Failure) -> None:
        """The connection is gone."""
        leaving = self._leaving.pop(wire, None)
        if leaving:
            leaving.callback(None)
        if wire is self._wire:
            self._wire = None
            self._fail(Retry("the connection was closed before the answer"))

    def _connect(self) -> None:
        host, port = self._settings["host"], self._settings["port"]
        factory: Any = _Dialer(self, self._settings["limit"])
        endpoint = TCP4ClientEndpoint(self._reactor, host, port, self._settings["connect_timeout"])
        self._connecting = endpoint.connect(factory)
        self._connecting.addCallbacks(self._connected, self._not_connected)

    def _connected(self, wire: _Sender) -> None:
        self._connecting, self._wire = None, wire
        if self._waiting is not None:
            self._transmit(wire)

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = None
        self._fail(Retry(f"cannot connect: {failure.getErrorMessage()}"))

    def _transmit(self, wire: _Sender) -> None:
        self._sent = self._reactor.seconds()
        if self._timer is None:
            self._timer = self._reactor.callLater(self._patience, self._expire)
        wire.transport.write(frame(self._payload))

    def _expire(self) -> None:
        """One timer runs on over many messages, so that a message costs none."""
        self._timer = None
        if self._waiting is None or self._wire is None:
            return
        left = self._sent + self._patience - self._reactor.seconds()
        if left > 0:
            self._timer = self._reactor.callLater(left, self._expire)
        else:
            self._drop(f"no answer within {self._patience:g} s")

    def _read(self, raw: bytes) -> None:
        try:
            answer = read_answer(raw)
        except MessageError as error:
            self._count("no_answer", error.why)
            self._drop("what came back is not an HL7 answer")
            return
        if self._waiting is None or (self._expected and answer.control_id != self._expected):
            # an answer to somebody else's message, or to one given up: it settles nothing
            self._count("stranger", "an answer to another message")
        elif answer.code in ACCEPTED:
            waiting, self._waiting = self._waiting, None
            waiting.callback(answer.code)
        else:
            code = answer.code if answer.code in REFUSED else "an answer code that is not in HL7 table 0008"
            self._fail(Refused(f"{code}: {answer.text}" if answer.text else code))

    def _drop(self, why: str) -> None:
        """Cut the connection, so that a late answer cannot be taken for the next one's."""
        wire, self._wire = self._wire, None
        if wire:
            wire.transport.abortConnection()
        self._fail(Retry(why))

    def _fail(self, error: Retry | Refused) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(error)

    def _count(self, fault: str, detail: str) -> None:
        self._faults.labels(self.name, fault).inc()
        self._log.warning("mllp fault", destination=self.name, fault=fault, reason=detail)


def _control_id(payload: bytes) -> str:
    try:
        return Message.parse(payload).control_id
    except MessageError:
        return ""
