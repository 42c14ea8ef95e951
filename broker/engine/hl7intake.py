"""HL7 messages from a listener: read, taken in, acknowledged when their routes want it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from broker.connectors.base import Later
from broker.engine.clock import SiteClock
from broker.engine.intake import Accepted, Intake, Verdict, digest
from broker.engine.outcomes import Late, Outcomes
from broker.engine.replies import Replies
from broker.errors import BrokerError, MessageError, StoreError
from broker.hl7 import ack
from broker.hl7.message import Message
from broker.model import Journaled, Received
from broker.obs.log import Log
from broker.obs.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Manner:
    """How a listener's messages are read, and answered."""

    default: str | None = None  # character set where MSH-18 names none
    fallback: str = "windows-1252"  # of bytes that are not what MSH-18 says
    as_asked: bool = True  # whether MSH-15 and MSH-16 are obeyed
    to: str | None = None  # the destination of application acknowledgments; None: the same connection


def manner_of(settings: Mapping[str, Any]) -> Manner:
    """Return how the messages of a listener with these settings are read and answered."""
    asked = settings.get("acknowledge", "asked") == "asked"
    return Manner(settings["charset"], settings["fallback"], asked, settings.get("acknowledge_to"))


class _Talk(NamedTuple):
    """One message that is being answered."""

    received: Received
    message: Message
    replies: Replies
    later: Later  # sends a further answer over the same connection
    patience: float = 0.0  # seconds that the sender waits for deliveries

    def read(self) -> Message:
        """Return what the routes look at."""
        return _checked(self.message)


class Hl7:
    """The HL7 side of the intake (`connectors.base.Hl7Intake`)."""

    def __init__(
        self, intake: Intake, clock: SiteClock, metrics: Metrics, manners: Mapping[str, Manner], outcomes: Outcomes, log: Log
    ) -> None:
        self._intake, self._clock, self._outcomes, self._log = intake, clock, outcomes, log
        self._acknowledged = cache(metrics.acknowledged.labels)
        self._charset_doubts = metrics.charset_doubts
        self.manners = manners  # by listener
        self._waiting: list[tuple[int, _Talk]] = []  # answered, and not routed, since the store was out of reach

    def receive_hl7(self, listener: str, peer: str, raw: bytes, later: Later = None) -> Deferred[bytes]:
        """Fire with the answer once the message is durable: AA, AE with the place and the reason, or AR; CA, CE or CR when asked for.

        `later` sends an application acknowledgment that is known only afterwards.
        """
        manner = self.manners.get(listener, _PLAIN)
        try:
            message = Message.parse(raw, manner.default, manner.fallback)
        except MessageError as error:
            return self._unreadable(listener, peer, raw, error)
        if doubt := message.charset_doubt:
            self._charset_doubts.labels(listener, doubt).inc()
        received = _received(listener, peer, raw, message)
        replies = Replies(message, received.sender, self._clock.text(), as_asked=manner.as_asked, to=manner.to)
        when, patience = self._intake.answering(listener, message)
        talk = _Talk(received, message, replies, later, patience)
        answering = _WHEN[when](self, talk)
        if replies.enhanced and later is None:  # who has no connection to say two things on wants the one that counts
            answering.addCallback(lambda answer: (ack.apart(answer) or [b""])[-1])
        return answering

    def again(self, row: Journaled) -> Deferred[Accepted]:
        """Route a parked message once more; raises MessageError when it cannot be read."""
        manner = self.manners.get(row.listener, _PLAIN)
        message = Message.parse(row.raw, manner.default, manner.fallback)
        return self._intake.again(row, _received(row.listener, row.peer, row.raw, message), lambda: _checked(message))

    def route_kept(self, row: Journaled) -> Deferred[Accepted]:
        """Route a message that a stop left answered and not routed; fails with MessageError when somebody else has."""
        manner = self.manners.get(row.listener, _PLAIN)
        try:
            message = Message.parse(row.raw, manner.default, manner.fallback)
        except MessageError as error:  # no longer readable, as its listener is configured now
            received = Received(row.listener, "hl7", row.kind, row.sender, row.peer, row.control_id, row.raw, row.digest)
            return self._intake.route_kept(row.id, received, _raiser(error), lambda given, id, verdict: given, lambda id, verdict: ())
        received = _received(row.listener, row.peer, row.raw, message)
        replies = Replies(message, received.sender, self._clock.text(), as_asked=manner.as_asked, to=manner.to)
        return self._route(row.id, _Talk(received, message, replies, None))

    def route_waiting(self) -> None:
        """Route what was answered and could not be routed while the store was out of reach, in the order in which it came."""
        waiting, self._waiting = self._waiting, []
        for message_id, talk in waiting:
            self._route_soon(message_id, talk)

    def _unreadable(self, listener: str, peer: str, raw: bytes, error: MessageError) -> Deferred[bytes]:
        received = Received(listener, "hl7", "", "", peer, "", raw, digest(raw))
        now = self._clock.text()

        def answer(message_id: int, verdict: Verdict) -> bytes:
            return ack.answer_raw(raw, error, now=now, control_id=f"A{message_id}")

        taking = self._intake.take(received, _raiser(error), answer, repeats=lambda prior, again: None)
        return taking.addCallback(self._counted, listener)

    def _once_processed(self, talk: _Talk) -> Deferred[bytes]:
        taking = self._intake.take(talk.received, talk.read, talk.replies.both, repeats=_by_now(talk.replies), sent=talk.replies.sent)
        return taking.addCallback(self._counted, talk.received.listener)

    def _once_received(self, talk: _Talk) -> Deferred[bytes]:
        taking = self._intake.take(talk.received, talk.read, talk.replies.kept, repeats=_by_now(talk.replies), keep=True)
        return taking.addCallback(self._kept, talk)

    def _kept(self, accepted: Accepted, talk: _Talk) -> bytes:
        """Answer, and route."""
        verdict = accepted.verdict
        if verdict is not None and verdict.state == "received":
            self._route_soon(accepted.message_id, talk)
        return self._counted(accepted, talk.received.listener)

    def _route_soon(self, message_id: int, talk: _Talk) -> None:
        """Route what is kept: now, or, while others wait for the store to come back, behind them; at the latest at the next start."""
        if self._waiting:
            self._waiting.append((message_id, talk))
        else:
            self._route(message_id, talk).addErrback(self._not_routed, message_id, talk)

    def _not_routed(self, failure: Failure, message_id: int, talk: _Talk) -> None:
        if not self._waiting:
            self._failed(failure)
        if failure.check(StoreError):
            self._waiting.append((message_id, talk))

    def _route(self, message_id: int, talk: _Talk) -> Deferred[Accepted]:
        replies = talk.replies

        def finish(given: bytes, id: int, verdict: Verdict) -> bytes:
            return ack.together(given, replies.last(id, verdict)) if replies.enhanced else given

        routing = self._intake.route_kept(message_id, talk.received, talk.read, finish, replies.sent)
        return routing.addCallback(self._said_later, talk)

    def _said_later(self, accepted: Accepted, talk: _Talk) -> Accepted:
        if talk.replies.enhanced and accepted.verdict is not None:
            self._say(talk.replies.last(accepted.message_id, accepted.verdict), talk)
        return accepted

    def _failed(self, failure: Failure) -> None:
        failure.trap(BrokerError)
        self._log.failure("message not answered to its end", failure)

    def _once_delivered(self, talk: _Talk) -> Deferred[bytes]:
        replies = talk.replies
        taking = self._intake.take(talk.received, talk.read, replies.until_delivered, repeats=repeats, sent=replies.sent_at_once)
        return taking.addCallback(self._await_deliveries, talk)

    def _await_deliveries(self, accepted: Accepted, talk: _Talk) -> bytes | Deferred[bytes]:
        """Answer what is known by now; the rest when the deliveries have ended."""
        id, verdict = accepted.message_id, accepted.verdict
        if not (talk.replies.is_open(accepted.answer) if verdict is None else verdict.outgoing):
            return self._counted(accepted, talk.received.listener)
        if verdict is None:
            ending = self._outcomes.recall(id, talk.patience)
        else:
            ending = self._outcomes.wait(id, [one.id for one in accepted.deliveries], talk.patience)
        saying = ending.addCallback(self._ended, accepted, talk)
        if not talk.replies.enhanced:
            return saying
        saying.addCallbacks(self._say, self._failed, (talk,))
        return self._counted(accepted, talk.received.listener)

    def _ended(self, error: MessageError | None, accepted: Accepted, talk: _Talk) -> Deferred[bytes]:
        """Return what is said of deliveries that have ended, once it is kept for a retransmission; one that is late may still end well."""
        verdict = Verdict("routed", error)
        said = talk.replies.last(accepted.message_id, verdict)
        if not talk.replies.enhanced:
            self._count(talk.received.listener, said)
        if isinstance(error, Late):
            return succeed(said)
        whole = ack.together(accepted.answer, said)
        sent = talk.replies.sent(accepted.message_id, verdict)
        return self._intake.answered(accepted.message_id, whole, sent).addCallback(lambda _: said)

    def _say(self, raw: bytes, talk: _Talk) -> None:
        if raw and talk.later is not None:
            self._count(talk.received.listener, raw)
            talk.later(raw)

    def _counted(self, accepted: Accepted, listener: str) -> bytes:
        self._count(listener, accepted.answer)
        return accepted.answer

    def _count(self, listener: str, answers: bytes) -> None:
        for answer in ack.apart(answers):
            self._acknowledged(listener, ack.code_in(answer)).inc()


_PLAIN = Manner()
_WHEN: Mapping[str, Callable[[Hl7, _Talk], Deferred[bytes]]] = {
    "received": Hl7._once_received,
    "processed": Hl7._once_processed,
    "delivered": Hl7._once_delivered,
}


def _by_now(replies: Replies) -> Callable[[Journaled, Received], bytes | None]:
    """Return what answers a retransmission: the same as before, but for what has been routed since it was refused or left open.

    A person has taken it up again, or its route does not wait for the deliveries any more.
    """

    def answer(prior: Journaled, received: Received) -> bytes | None:
        given = repeats(prior, received)
        if given is None or prior.state not in ("routed", "dropped"):
            return given
        mended = "AE" in map(ack.code_in, ack.apart(given)) or replies.is_open(given)
        return replies.both(prior.id, Verdict(prior.state)) if mended else given

    return answer


def _received(listener: str, peer: str, raw: bytes, message: Message) -> Received:
    return Received(listener, "hl7", message.type, message.sender, peer, message.control_id, raw, digest(raw))


def _checked(message: Message) -> Message:
    if not message.control_id:
        raise MessageError("MSH-10", "required, and empty", 101)
    return message


def _raiser(error: MessageError) -> Callable[[], Message]:
    def read() -> Message:
        raise error

    return read


def repeats(prior: Journaled, received: Received) -> bytes | None:
    """Return what the sender of a retransmission is answered: the same as before; raises MessageError when the content is another."""
    if prior.digest == received.digest:
        return prior.answer
    raise MessageError("MSH-10", "this control id was used for another message", 205)
