"""HL7 messages from an MLLP listener: read, taken in, acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from broker.engine.clock import SiteClock
from broker.engine.intake import Accepted, Intake, Verdict, digest
from broker.errors import MessageError
from broker.hl7 import ack
from broker.hl7.message import Message
from broker.model import Journaled, Received
from broker.obs.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Charset:
    """What to read a listener's messages with when MSH-18 is empty, and when the bytes are not what it says."""

    default: str | None = None
    fallback: str = "windows-1252"


class Hl7:
    """The HL7 side of the intake (`connectors.base.Hl7Intake`)."""

    def __init__(self, intake: Intake, clock: SiteClock, metrics: Metrics, charsets: Mapping[str, Charset]) -> None:
        self._intake, self._clock, self._metrics, self._charsets = intake, clock, metrics, charsets

    def receive_hl7(self, listener: str, peer: str, raw: bytes) -> Deferred[bytes]:
        """Fire with the ACK once the message is durable: AA, AE with the place and the reason, or AR."""
        charset = self._charsets.get(listener, Charset())
        try:
            message = Message.parse(raw, charset.default, charset.fallback)
        except MessageError as error:
            return self._unreadable(listener, peer, raw, error)
        received = _received(listener, peer, raw, message)
        taking = self._intake.take(received, lambda: _checked(message), self._answer(message), repeats=_repeats)
        return taking.addCallback(self._counted, listener)

    def again(self, row: Journaled) -> Deferred[Accepted]:
        """Route a parked message once more; raises MessageError when it cannot be read."""
        charset = self._charsets.get(row.listener, Charset())
        message = Message.parse(row.raw, charset.default, charset.fallback)
        return self._intake.again(row, _received(row.listener, row.peer, row.raw, message), lambda: _checked(message))

    def _unreadable(self, listener: str, peer: str, raw: bytes, error: MessageError) -> Deferred[bytes]:
        received = Received(listener, "hl7", "", "", peer, "", raw, digest(raw))
        now = self._clock.text()

        def answer(message_id: int, verdict: Verdict) -> bytes:
            return ack.answer_raw(raw, error, now=now, control_id=f"A{message_id}")

        taking = self._intake.take(received, _raiser(error), answer, repeats=lambda prior, again: None)
        return taking.addCallback(self._counted, listener)

    def _answer(self, message: Message) -> Callable[[int, Verdict], bytes]:
        now = self._clock.text()

        def answer(message_id: int, verdict: Verdict) -> bytes:
            return ack.answer(message, code_of(verdict), verdict.error, now=now, control_id=f"A{message_id}")

        return answer

    def _counted(self, accepted: Accepted, listener: str) -> bytes:
        verdict = accepted.verdict
        code = code_of(verdict) if verdict else ack.read_answer(accepted.answer).code
        self._metrics.acknowledged.labels(listener, code).inc()
        return accepted.answer


def code_of(verdict: Verdict) -> str:
    """Return the acknowledgement code of a verdict (HL7 table 0008)."""
    if verdict.error is None:
        return "AA"
    return "AR" if verdict.error.reject else "AE"


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


def _repeats(prior: Journaled, received: Received) -> bytes | None:
    if prior.digest == received.digest:
        return prior.answer
    raise MessageError("MSH-10", "this control id was used for another message", 205)
