"""One connection over which a listener receives, and which may carry a destination's messages the other way."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.connectors.mllp_exchange import Heard, Line
from broker.connectors.mllp_wire import GRACE, PAUSE, shown, tls_failure, tune
from broker.hl7.mllp import Fault, Frame, Framer, frame
from broker.security.tls import names

if TYPE_CHECKING:
    from broker.connectors.mllp_listener import MllpListener

CLOSED = "the connection was closed before the answer"


class _Slot:
    """One received message that waits for its answer."""

    __slots__ = ("_receiver", "answer", "at", "done", "more", "sent")

    def __init__(self, receiver: Receiver, at: float) -> None:
        self._receiver = receiver
        self.at = at  # when its last byte came
        self.done = self.sent = False
        self.answer: bytes | None = None  # None when done: nothing was kept, the connection closes
        self.more = b""  # frames that follow the answer

    def later(self, raw: bytes) -> None:
        """Send a further answer, after the first one."""
        if self.sent:
            self._receiver.say(raw)
        else:
            self.more += frame(raw)


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class Receiver(Protocol):
    """One connection of a listener; several of its messages may be under way, their answers leave in order."""

    transport: Any

    def __init__(self, listener: MllpListener, address: Any, *, accepted: bool = True) -> None:
        """`accepted`: the peer has connected, not this side."""
        self.host: str = address.host
        self.line: Line
        self._listener = listener
        self._peer = shown(address)
        self._accepted = accepted
        self._framer = Framer(listener.settings["limit"])
        self._frames: deque[bytes] = deque()  # cut but not handed over; never more than one read brings
        self._slots: deque[_Slot] = deque()  # handed over
        self._told: set[str] = set()  # faults logged; all are counted
        self._reading = True
        self._choked = self._handing = self._closing = self._gone = self._spoke = False
        self._secure = listener.credentials is None  # or the handshake is over
        self._heard = 0.0
        self._timer: Any = None
        self._silence: Any = None

    def connectionMade(self) -> None:
        listener = self._listener
        tune(self.transport, listener.settings["keepalive"])
        self.transport.registerProducer(self, True)  # a peer that does not read its answers is not read from either
        self._heard = listener.reactor.seconds()
        self.line = Line(self.transport, listener.reactor, listener.freed)
        listener.opened(self)
        if self._secure:
            listener.can_carry(self.line)
        self._watch()

    def handshakeCompleted(self) -> None:
        """TLS is up: the peer's certificate must be one that may connect."""
        self._secure = True
        wanted = self._listener.credentials.names if self._listener.credentials else None
        certificate = self.transport.getPeerCertificate()
        if wanted and not (certificate and wanted & names(certificate.to_cryptography())):
            self._listener.faulty("not_allowed", self._peer, "no certificate that may connect")
            self._spoke = self._closing = self._gone = True
            self.transport.abortConnection()
        else:
            self._listener.can_carry(self.line)

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        self._spoke = True
        self._heard = self._listener.reactor.seconds()
        self._take(self._framer.receive(data))
        if self._framer.may_be_whole:
            self._await_silence()

    def readConnectionLost(self) -> None:
        """The peer sends no more, but may still read: it gets the answers that are due."""
        if self._closing:
            return
        if not self._spoke:
            self._left()
        self._take(self._framer.end())
        self._end(self._listener.settings["stalled"])

    def writeConnectionLost(self) -> None:
        """This side never ends its half alone."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        why = tls_failure(reason)
        if why and not self._closing:
            self._listener.faulty("tls", self._peer, why)
        elif not (self._spoke or self._closing):
            self._left()
        self._gone = True
        rest = self._framer.end()  # what it completes has come whole, though nobody waits for the answer
        self._take([item for item in rest if not self._closing or isinstance(item, Fault)])
        self._closing = True
        self._slots.clear()
        self._frames.clear()
        for timer in (self._timer, self._silence):
            if timer is not None and timer.active():
                timer.cancel()
        self.line.lost(CLOSED)
        self._listener.closed(self)

    def finish(self) -> None:
        """Take nothing new, answer what was handed over, close."""
        if not self._closing:
            self._frames.clear()
            self._end()

    def say(self, raw: bytes) -> None:
        """Send what is due later than an answer, when there still is a connection."""
        if not self._gone:
            self.transport.write(frame(raw))

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

    def _take(self, items: list[Frame | Fault]) -> None:
        for item in items:
            if isinstance(item, Fault):
                self._faulty(item)
            elif self.line.exchange is None or not self._is_answer(item.raw):
                self._frames.append(item.raw)
        self._hand_over()

    def _is_answer(self, raw: bytes) -> bool:
        """Tell whether a frame answers what a destination has sent over this connection; everything else is a message."""
        return self.line.hear(raw) in (Heard.ANSWER, Heard.COMMIT)

    def _left(self) -> None:
        self._spoke = True
        if self._accepted:
            self._listener.probed()

    def _await_silence(self) -> None:
        if self._silence is not None and self._silence.active():
            self._silence.reset(PAUSE)
        else:
            self._silence = self._listener.reactor.callLater(PAUSE, self._silent)

    def _silent(self) -> None:
        if not self._closing:
            self._take(self._framer.pause())

    def _hand_over(self) -> None:
        if self._handing:
            return
        self._handing = True  # an answer that is there at once must not come back in here
        listener = self._listener
        while self._frames and len(self._slots) < listener.outstanding:
            slot = _Slot(self, self._heard)
            self._slots.append(slot)
            receiving = listener.intake.receive_hl7(listener.name, self._peer, self._frames.popleft(), slot.later)
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
            slot.sent = True
            if slot.answer is None:
                slots.clear()
                self._frames.clear()
                self._closing = True
                break
            if slot.answer:
                self.transport.write(frame(slot.answer))
                self._listener.waited.observe(now - slot.at)
            if slot.more:
                self.transport.write(slot.more)
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
        self._listener.faulty(fault.name, self._peer, "" if fault.name in self._told else fault.detail, fault.tail)
        self._told.add(fault.name)
        if fault.fatal and not self._gone:
            self._end()

    def _watch(self) -> None:
        """Close a connection that the peer left hanging; one timer a connection, none a message."""
        settings, now = self._listener.settings, self._listener.reactor.seconds()
        hanging = self._framer.open or self._choked or not self._secure
        patience = settings["stalled"] if hanging else settings["idle"]
        if len(self._slots) or self.line.exchange is not None or patience is None:
            self._timer = self._listener.reactor.callLater(settings["stalled"], self._watch)
        elif now - self._heard < patience:
            self._timer = self._listener.reactor.callLater(min(self._heard + patience - now, settings["stalled"]), self._watch)
        else:
            if hanging:
                self._listener.faulty("stalled", self._peer, f"nothing moved for {patience:g} s")
            self._close()

    def _end(self, patience: float = GRACE) -> None:
        """Take nothing new, and cut the connection when the answers are not gone by then."""
        self._closing = True
        self.line.lost(CLOSED)
        self._timer.cancel()
        self._timer = self._listener.reactor.callLater(patience, self.transport.abortConnection)
        self._hand_over()

    def _close(self) -> None:
        self._closing = self._gone = True
        self.line.lost(CLOSED)
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        if not self._timer.active():
            self._timer = self._listener.reactor.callLater(GRACE, self.transport.abortConnection)
