"""The Twisted shell of the association core: socket, timers, back-pressure; used by listener and destination."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import main, tcp
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IPushProducer, IReactorThreads, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.connectors.tls import Wire
from broker.dicom.association import Association
from broker.dicom.happenings import (
    Aborted,
    Accepted,
    Close,
    Connect,
    Data,
    Fault,
    Happening,
    Message,
    Rejected,
    Released,
    ReleaseRequested,
    Requested,
    StartTimer,
    StopTimer,
    Timer,
    Write,
)
from broker.dicom.negotiation import Answer, Rejection, Request
from broker.dicom.states import State
from broker.obs.log import Log

READ_SIZE = 1 << 20
_FLUSH = 5.0  # seconds a closing connection has to take what is still to be sent
_LEAST_RATE = 100  # bytes a second; who sends a message more slowly holds a place for nothing
_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)  # only where the system has it


def read_buffer() -> memoryview:
    """Return a buffer that all connections of one listener may read into, one after the other."""
    return memoryview(bytearray(READ_SIZE))


def off_core(reactor: Any, work: Callable[..., Any], *args: Any) -> Deferred[Any]:
    """Run a function in the reactor's thread pool; in place when there is none, as on a test clock."""
    if IReactorThreads.providedBy(reactor):
        return deferToThreadPool(reactor, reactor.getThreadPool(), work, *args)
    return maybeDeferred(work, *args)


@implementer(IPushProducer)
class Flow:
    """Tells whether the transport wants more, and when it does again."""

    def __init__(self) -> None:
        self._waiting: Deferred[None] | None = None
        self._paused = self._stopped = False

    def ready(self) -> Deferred[None]:
        """Fire when the transport takes more; at once after it is lost, so that the writer finds out."""
        if not self._paused or self._stopped:
            return succeed(None)
        if self._waiting is None:
            self._waiting = Deferred()
        return self._waiting

    def pauseProducing(self) -> None:
        """Called by the transport when its buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Called by the transport when its buffer is empty."""
        self._paused = False
        self._wake()

    def stopProducing(self) -> None:
        """Called by the transport when it is lost."""
        self._stopped = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


class UpperLayer(Protocol):
    """One association over one transport; subclasses say what its messages mean by overriding the `on_` methods."""

    transport: Any = None  # zope's interfaces mean nothing to a type checker

    def __init__(self, core: Association, clock: Any, log: Log, *, artim: float, idle: float, buffer: memoryview | None = None) -> None:
        self.core, self.clock, self.log = core, clock, log
        self._seconds = {Timer.ARTIM: artim, Timer.IDLE: idle}
        self._timers: dict[Timer, Any] = {}
        self._buffer = buffer
        self._heard = self._looked = 0.0
        self._volume = 0  # bytes heard since `_looked`
        self._slow = False  # whether it was too slow then
        self._held = b""
        self._socket: Any = None  # below TLS
        self._records: list[bytes] = []  # of the read that goes on
        self._cut: Any = None
        self._gone = False
        self._orders: dict[type, Callable[[Any], None]] = {
            Data: lambda h: self.on_data(h.view, h.last),
            Message: self.on_message,
            Write: lambda h: self.write(h.data),
            Close: lambda h: self._close(),
            Connect: lambda h: None,  # the transport is what made this object
            StartTimer: lambda h: self._start(h.timer),
            StopTimer: lambda h: self._stop(h.timer),
            Requested: lambda h: self.on_request(h.request),
            Accepted: lambda h: self.on_accepted(h.answer),
            Rejected: lambda h: self.on_rejected(h.rejection),
            ReleaseRequested: lambda h: self.on_release_requested(),
            Released: lambda h: self.on_released(),
            Aborted: self.on_aborted,
            Fault: lambda h: self.on_fault(h.what),
        }

    # what subclasses override

    @property
    def busy(self) -> bool:
        """Whether the next message must wait: reading then stops as soon as something comes."""
        return False

    @property
    def waiting(self) -> bool:
        """Whether work goes on, so that silence of the peer is no reason to abort."""
        return self.busy

    def on_message(self, message: Message) -> None:
        """Handle a whole command set."""

    def on_data(self, view: memoryview, last: bool) -> None:
        """Take a piece of a dataset; the view is valid until `on_read` returns."""

    def on_read(self) -> None:
        """Use up all views handed over since the last call."""

    def on_request(self, request: Request) -> None:
        """Accept or reject."""

    def on_accepted(self, answer: Answer) -> None:
        """Go on: the association is there."""

    def on_rejected(self, rejection: Rejection) -> None:
        """Go on without an association."""

    def on_release_requested(self) -> None:
        """Agree to the peer's release."""
        self.perform(self.core.release_answer())

    def on_released(self) -> None:
        """Go on: the association is released; after a collision the peer's own release is still to be answered."""
        if self.core.state is State.COLLISION_ACCEPTOR_LOCAL:
            self.perform(self.core.release_answer())

    def on_aborted(self, aborted: Aborted) -> None:
        """Clean up: the association ended without a release."""

    def on_fault(self, what: str) -> None:
        """Note that the peer broke the protocol."""

    # towards the transport

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self.transport is not None:
            self.transport.write(data)

    def abort(self) -> None:
        """Abort the association if there is one, else just close."""
        if self.core.state in (State.IDLE, State.AWAIT_REQUEST, State.AWAIT_CLOSE):
            self._close()
        else:
            self.perform(self.core.abort())

    def _close(self) -> None:
        """Close once all is written; a peer that does not read is not waited for."""
        if self.transport is not None and self._cut is None and not self._gone:
            self._cut = self.clock.callLater(_FLUSH, self.transport.abortConnection)
            self.transport.loseConnection()

    # from the transport

    def connectionMade(self) -> None:
        """Tune the connection and begin."""
        self._heard = self._looked = self.clock.seconds()
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        if self._buffer is not None and isinstance(self.transport, tcp.Connection):
            self.transport.doRead = self._read  # type: ignore[method-assign]
        if isinstance(self.transport, Wire) and isinstance(self.transport.transport, tcp.Connection):
            self._socket = self.transport.transport.socket
        self.perform(self.core.connected())

    def _read(self) -> Any:
        """Stand in for the transport's doRead: one large read into the shared buffer instead of 64 KB copies."""
        assert self._buffer is not None
        assert isinstance(self.transport, tcp.Connection)
        peer = self.transport.socket
        try:
            size = peer.recv_into(self._buffer)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not size:
            return main.CONNECTION_DONE
        if _QUICK_ACK is not None:  # senders with Nagle on wait for this ACK before each next write
            peer.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        self._take(self._buffer[:size])
        return None

    def dataReceived(self, data: bytes) -> None:
        """Take what came through TLS, or a transport without a socket of its own."""
        if self._socket is None:
            self._take(memoryview(data))
        else:
            self._records.append(data)

    def on_read_done(self) -> None:
        """Take all records of a read at once."""
        records, self._records = self._records, []
        if records and not self._gone:
            if _QUICK_ACK is not None:
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
            self._take(memoryview(b"".join(records)))

    def connectionLost(self, reason: Failure = main.CONNECTION_DONE) -> None:  # type: ignore[assignment]
        """Tell the core, and stop all timers."""
        self._held, self._gone = b"", True
        self.perform(self.core.lost())
        for timer in tuple(self._timers):
            self._stop(timer)
        if self._cut is not None and self._cut.active():
            self._cut.cancel()

    def _take(self, view: memoryview) -> None:
        self._heard = self.clock.seconds()
        self._volume += len(view)
        try:
            while len(view):
                if self.busy:
                    self._hold(view)
                    return
                self.perform(self.core.receive(view))
                self.on_read()
                view = self.core.rest
        except Exception as error:  # a fault of this side must not take other connections down
            self.log.failure("association failed", error)
            self.abort()

    def _hold(self, view: memoryview) -> None:
        """Keep what came too early, at most one read, and read no more until `resume`."""
        self._held += bytes(view)
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Go on reading after a message is done with."""
        if not self._held or self.busy:
            return
        held, self._held = self._held, b""
        self._take(memoryview(held))
        if not self._held:
            self.transport.resumeProducing()

    def perform(self, happenings: list[Happening]) -> None:
        """Carry out what the core says, in order."""
        for happening in happenings:
            self._orders[type(happening)](happening)

    # timers

    def _start(self, timer: Timer) -> None:
        self._stop(timer)
        self._timers[timer] = self.clock.callLater(self._seconds[timer], self._expired, timer)

    def _stop(self, timer: Timer) -> None:
        call = self._timers.pop(timer, None)
        if call is not None and call.active():
            call.cancel()

    def _expired(self, timer: Timer) -> None:
        """Let the core know, unless there was enough traffic since the idle timer was set."""
        self._timers.pop(timer, None)
        left = self._heard + self._seconds[timer] - self.clock.seconds() if timer is Timer.IDLE else 0.0
        if timer is Timer.IDLE and (self.waiting or (left > 0.0 and not self._is_too_slow())):
            self._timers[timer] = self.clock.callLater(left if left > 0.0 else self._seconds[timer], self._expired, timer)
            return
        if left > 0.0:
            self.on_fault(f"slower than {_LEAST_RATE} bytes a second")
        self.perform(self.core.expired(timer))

    def _is_too_slow(self) -> bool:
        """Whether a message was under way twice in a row, and next to nothing of it came in between."""
        now = self.clock.seconds()
        slow = self.core.is_inside and self._volume < _LEAST_RATE * (now - self._looked)
        again, self._slow, self._looked, self._volume = slow and self._slow, slow, now, 0
        return again
