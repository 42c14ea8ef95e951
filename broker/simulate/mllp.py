"""Both ends of an MLLP connection: a sender with one message outstanding, and a sink that answers as it is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from broker.errors import RemoteProtocolError
from broker.hl7.mllp import Frame, Framer, frame
from broker.simulate import answers
from broker.simulate.arrivals import Arrivals

ACCEPTED = ("AA", "CA")
LIMIT = 64 * 1024 * 1024  # bytes of one message

AnswerCode = str | None | Callable[[bytes], str | None]  # None: stay silent


class Wire(Protocol):
    """One MLLP connection: frames in, frames out."""

    transport: Any = None

    def __init__(self, received: Callable[[Wire, bytes], None], lost: Callable[[Wire, Failure], None]) -> None:
        self._received, self._lost = received, lost
        self._framer = Framer(LIMIT)
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Send small messages at once."""
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Hand over each message; a broken frame closes the connection."""
        for item in self._framer.receive(data):
            if not isinstance(item, Frame):
                self.abort()
                return
            self._received(self, item.raw)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the owner."""
        self._lost(self, reason)
        self.closed.callback(None)

    def send(self, raw: bytes) -> None:
        """Write one framed message."""
        self.transport.write(frame(raw))

    def abort(self) -> None:
        """Close the connection without waiting for the peer."""
        self.transport.abortConnection()


class MllpSender:
    """Sends messages in order over one connection, each after the answer to the one before; connects when it must."""

    def __init__(self, reactor: Any, host: str, port: int, *, timeout: float = 60.0) -> None:
        self._reactor, self._timeout = reactor, timeout
        self._endpoint = TCP4ClientEndpoint(reactor, host, port)
        self._queue: deque[tuple[bytes, Deferred[bytes]]] = deque()
        self._current: tuple[bytes, Deferred[bytes]] | None = None
        self._timer: Any = None
        self._wire: Wire | None = None
        self._connecting = False

    def send(self, message: bytes) -> Deferred[bytes]:
        """Fire with the unframed answer; fails with ConnectionLost, TimeoutError or another OSError, or RemoteProtocolError."""
        answer: Deferred[bytes] = Deferred()
        self._queue.append((message, answer))
        self._next()
        return answer

    def close(self) -> Deferred[None]:
        """Close the connection; what still waits for an answer fails."""
        if self._wire is None:
            return succeed(None)
        self._wire.transport.loseConnection()
        return self._wire.closed

    def _next(self) -> None:
        if self._current is not None or not self._queue:
            return
        if self._wire is None:
            self._connect()
            return
        self._current = self._queue.popleft()
        self._timer = self._reactor.callLater(self._timeout, self._overdue)
        self._wire.send(self._current[0])

    def _connect(self) -> None:
        if self._connecting:
            return
        self._connecting = True
        connecting: Deferred[Wire] = connectProtocol(self._endpoint, Wire(self._answered, self._lost))
        connecting.addCallbacks(self._connected, self._not_connected)

    def _connected(self, wire: Wire) -> None:
        self._connecting, self._wire = False, wire
        self._next()

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = False
        waiting, self._queue = self._queue, deque()
        for _, answer in waiting:
            answer.errback(failure)

    def _answered(self, wire: Wire, raw: bytes) -> None:
        if self._current is None:
            wire.abort()  # an answer to nothing
            return
        message, asked = self._current[0], answers.control_id(self._current[0])
        if asked and answers.answered(raw) != asked:
            self._settle(RemoteProtocolError(f"the answer to {answers.kind(message)} is for another message"))
            wire.abort()
            return
        self._settle(raw)
        self._next()

    def _overdue(self) -> None:
        self._timer = None
        self._settle(TimeoutError(f"no answer within {self._timeout:g} s"))
        if self._wire is not None:
            self._wire.abort()

    def _lost(self, wire: Wire, reason: Failure) -> None:
        self._wire = None
        if self._current is not None:
            self._settle(ConnectionLost())
        self._next()

    def _settle(self, result: bytes | Exception) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        assert self._current is not None
        (_, answer), self._current = self._current, None
        if isinstance(result, Exception):
            answer.errback(result)
        else:
            answer.callback(result)


class MllpSink:
    """Listens, keeps what it receives, and answers AA, another code, or not at all.

    answer: the code for each message, None to stay silent, or a function of the message that returns either.
    """

    def __init__(self, reactor: Any, port: int = 0, *, host: str = "127.0.0.1", answer: AnswerCode = "AA") -> None:
        self._reactor, self._host = reactor, host
        self.port, self.answer = port, answer
        self.accepted: dict[str, bytes] = {}  # the messages answered AA or CA, once each, by control id
        self._arrivals: Arrivals[bytes] = Arrivals(reactor)
        self._wires: set[Wire] = set()
        self._listening: Any = None

    @property
    def received(self) -> list[bytes]:
        """Return the unframed messages, repeated ones too, in the order they came."""
        return self._arrivals.items

    def of_kind(self, kind: str) -> list[bytes]:
        """Return the accepted messages of a type and event, "ORM^O01"."""
        return [raw for raw in self.accepted.values() if answers.kind(raw) == kind]

    def wait_for(self, what: int | Callable[[list[bytes]], bool], timeout: float = 30.0) -> Deferred[list[bytes]]:
        """Fire when so many messages have come, or a predicate over all of them holds."""
        return self._arrivals.wait_for(what, timeout)

    def start(self) -> Deferred[int]:
        """Bind, and fire with the port; a sink that was stopped binds the same port again."""
        listening: Deferred[Any] = maybeDeferred(self._reactor.listenTCP, self.port, _SinkFactory(self), interface=self._host)
        return listening.addCallback(self._bound)

    def stop(self) -> Deferred[None]:
        """Stop listening and drop every connection."""
        if self._listening is None:
            return succeed(None)
        listening, self._listening = self._listening, None
        waiting = [maybeDeferred(listening.stopListening), *(wire.closed for wire in self._wires)]
        for wire in list(self._wires):
            wire.abort()
        return gatherResults(waiting).addCallback(lambda _: None)

    def connected(self) -> Wire:
        """Return the protocol of a new connection."""
        wire = Wire(self._receive, self._lost)
        self._wires.add(wire)
        return wire

    def _bound(self, listening: Any) -> int:
        self._listening = listening
        self.port = int(listening.getHost().port)
        return self.port

    def _receive(self, wire: Wire, raw: bytes) -> None:
        code = self.answer(raw) if callable(self.answer) else self.answer
        if code is not None:
            wire.send(answers.acknowledge(raw, code, "" if code in ACCEPTED else "told to refuse"))
        if code in ACCEPTED:
            self.accepted.setdefault(answers.control_id(raw), raw)
        self._arrivals.add(raw)

    def _lost(self, wire: Wire, reason: Failure) -> None:
        self._wires.discard(wire)


class _SinkFactory(Factory):
    noisy = False

    def __init__(self, sink: MllpSink) -> None:
        self._sink = sink

    def buildProtocol(self, addr: Any) -> Wire:
        return self._sink.connected()
