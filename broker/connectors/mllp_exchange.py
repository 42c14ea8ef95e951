"""One message on its way over MLLP and its answer; the connections that carry them, of a destination's own or of a listener."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred

from broker.errors import MessageError, Refused, Retry
from broker.hl7.ack import Answer, read_answer
from broker.hl7.mllp import frame
from broker.hl7.tables import ACCEPTED, REFUSED

COMMITTED = "CA"  # an accept acknowledgment, which another answer may follow


class Heard(Enum):
    """What a frame was to the message that is on its way."""

    ANSWER = "answer"  # it settles the message
    COMMIT = "commit"  # the receiver has it, and its application will answer
    STRANGER = "stranger"  # an answer to another message
    OTHER = "other"  # no answer


class Exchange:
    """One message, sent, until it is answered: `result` fires with MSA-1, or fails with Retry or Refused."""

    __slots__ = ("_outcome", "application", "control_id", "payload", "result")

    def __init__(self, payload: bytes, control_id: str, *, application: float | None = None) -> None:
        """`application`: an accept acknowledgment is not enough, so many seconds are left for the application acknowledgment after it."""
        self.payload, self.control_id, self.application = payload, control_id, application
        self.result: Deferred[str] = Deferred()
        self._outcome: Answer | None = None

    def hear(self, raw: bytes) -> Heard:
        """Take a frame that came over the connection."""
        try:
            answer = read_answer(raw)
        except MessageError:
            return Heard.OTHER
        if self.control_id not in ("", answer.control_id, answer.control_id.strip()):
            return Heard.STRANGER
        if self.application is not None and answer.code == COMMITTED:
            return Heard.COMMIT
        self._outcome = answer
        return Heard.ANSWER

    def settle(self) -> None:
        """Tell what the answer was."""
        answer = self._outcome
        assert answer is not None
        if answer.code in ACCEPTED:
            self.result.callback(answer.code)
        else:
            code = answer.code if answer.code in REFUSED else "an answer code that is not in HL7 table 0008"
            self.result.errback(Refused(f"{code}: {answer.text}" if answer.text else code))

    def fail(self, why: str) -> None:
        """Let it be sent again later."""
        self.result.errback(Retry(why))


class Line:
    """One connection that carries a destination's messages, one at a time."""

    __slots__ = ("_clock", "_patience", "_since", "_timer", "_transport", "cut", "exchange", "freed", "used")

    def __init__(self, transport: Any, clock: Any, freed: Callable[[], None]) -> None:
        """`freed` is called when the next message may be sent over it."""
        self._transport, self._clock, self.freed = transport, clock, freed
        self.exchange: Exchange | None = None
        self.cut = False  # given up: what still comes over it is too late
        self.used = clock.seconds()  # when it was last free
        self._since = self._patience = 0.0
        self._timer: Any = None

    @property
    def free(self) -> bool:
        """Whether a message may be sent over it."""
        return self.exchange is None and not self.cut

    def send(self, exchange: Exchange, patience: float) -> None:
        """Send a message and wait so many seconds for its answer; the connection is cut when none comes."""
        self.exchange = exchange
        self.wait(patience)
        self._transport.write(frame(exchange.payload))

    def wait(self, patience: float) -> None:
        """Wait so many seconds, from now."""
        self._since, self._patience = self._clock.seconds(), patience
        if self._timer is not None and self._timer.getTime() > self._since + patience:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._clock.callLater(patience, self._expire)

    def hear(self, raw: bytes) -> Heard:
        """Take a frame; a commit is followed by another wait, for the application's answer."""
        exchange = self.exchange
        if exchange is None:
            return Heard.STRANGER
        heard = exchange.hear(raw)
        if heard is Heard.ANSWER:
            self.exchange, self.used = None, self._clock.seconds()
            exchange.settle()
            if self.exchange is None:
                self.freed()
        elif heard is Heard.COMMIT and exchange.application is not None:
            self.wait(exchange.application)
        return heard

    def drop(self, why: str) -> None:
        """Cut the connection, so that a late answer cannot be taken for the next one's."""
        self.cut = True
        self._transport.abortConnection()
        self.lost(why)

    def lost(self, why: str) -> None:
        """The connection is gone or will be: what waits on it is to be sent again."""
        self.cut = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.fail(why)

    def _expire(self) -> None:
        """One timer runs on over many messages, so that a message costs none."""
        self._timer = None
        if self.exchange is None:
            return
        left = self._since + self._patience - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._expire)
        else:
            self.drop(f"no answer within {self._patience:g} s")


class Switchboard:
    """The open connections of listeners, by listener: where destinations find those that they send `over`."""

    def __init__(self) -> None:
        self._lines: dict[str, list[Line]] = {}
        self._waiting: dict[str, list[Callable[[], None]]] = {}

    def opened(self, listener: str, line: Line) -> None:
        """A connection can carry messages."""
        self._lines.setdefault(listener, []).append(line)
        self.freed(listener)

    def closed(self, listener: str, line: Line) -> None:
        """A connection is gone."""
        if line in self._lines.get(listener, ()):
            self._lines[listener].remove(line)

    def free(self, listener: str) -> Line | None:
        """Return the connection that carries nothing and is open longest, None when there is none."""
        return next((line for line in self._lines.get(listener, ()) if line.free), None)

    def freed(self, listener: str) -> None:
        """Let those who wait for a connection of a listener look again."""
        for look in tuple(self._waiting.get(listener, ())):
            look()

    def watch(self, listener: str, look: Callable[[], None]) -> None:
        """Call `look` whenever a connection of a listener may be free."""
        self._waiting.setdefault(listener, []).append(look)

    def unwatch(self, listener: str, look: Callable[[], None]) -> None:
        """Call it no more."""
        if look in self._waiting.get(listener, ()):
            self._waiting[listener].remove(look)
