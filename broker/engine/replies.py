"""What the sender of one HL7 message is told: in the original mode one answer, in the enhanced mode up to two."""

from __future__ import annotations

from broker.engine.intake import Verdict
from broker.hl7 import ack
from broker.hl7.ack import Asked
from broker.hl7.message import Message
from broker.model import Outgoing

_LAST = frozenset({"AA", "AE", "AR", "CE", "CR"})  # codes that no other acknowledgment follows
DURABLE = Asked("AL", "NE")  # what an application acknowledgment asks for that is a delivery: to know that it has arrived


class Replies:
    """Makes the answers to one message; the accept acknowledgment comes first, the application acknowledgment last."""

    __slots__ = ("_asked", "_message", "_now", "_sender", "_to")

    def __init__(self, message: Message, sender: str, now: str, *, as_asked: bool = True, to: str | None = None) -> None:
        """`now`: MSH-7 of the answers; `as_asked`: obey MSH-15 and MSH-16; `to`: the destination of application acknowledgments."""
        self._message, self._sender, self._now = message, sender, now
        self._asked = ack.asked(message) if as_asked else None
        self._to = to if self._asked else None

    @property
    def enhanced(self) -> bool:
        """Whether the message asks for its acknowledgments itself."""
        return self._asked is not None

    def both(self, id: int, verdict: Verdict) -> bytes:
        """Return all that is due when it is known what became of the message."""
        if self._asked is None:
            return self._last(id, verdict)
        return ack.together(self.first(id, verdict), self.last(id, verdict))

    def first(self, id: int, verdict: Verdict) -> bytes:
        """Return the accept acknowledgment, b"" when none is due; in the original mode there is none."""
        if self._asked is None:
            return b""
        refused = verdict.state == "refused"
        if not ack.is_due(self._asked.accept, good=not refused):
            return b""
        code = ("CR" if verdict.error and verdict.error.reject else "CE") if refused else "CA"
        return ack.answer(self._message, code, verdict.error if refused else None, now=self._now, control_id=f"C{id}")

    def last(self, id: int, verdict: Verdict) -> bytes:
        """Return the application acknowledgment, b"" when none is due over this connection."""
        return b"" if self._to else self._application(id, verdict, None)

    def until_delivered(self, id: int, verdict: Verdict) -> bytes:
        """Return what is said while the deliveries are not yet made; all that is due when there are none."""
        return self.first(id, verdict) if verdict.outgoing else self.both(id, verdict)

    def sent_at_once(self, id: int, verdict: Verdict) -> tuple[Outgoing, ...]:
        """Return what `sent` returns, when there are no deliveries to wait for."""
        return () if verdict.outgoing else self.sent(id, verdict)

    def is_open(self, given: bytes) -> bool:
        """Tell whether more than what was given is due, once the deliveries have ended."""
        codes = {ack.code_in(one) for one in ack.apart(given)}
        return not codes & _LAST and (self._asked is None or self._asked.application not in ("", "NE"))

    def kept(self, id: int, verdict: Verdict) -> bytes:
        """Return what is said of a message that is durable and not yet routed."""
        if self._asked is None or verdict.state == "refused":
            return self.both(id, verdict)
        return self.first(id, verdict)

    def sent(self, id: int, verdict: Verdict) -> tuple[Outgoing, ...]:
        """Return the application acknowledgment as a delivery, where it has a destination."""
        raw = self._application(id, verdict, DURABLE) if self._to else b""
        if not raw:
            return ()
        return (Outgoing(str(self._to), self._sender, "", "ACK", raw, f"A{id}", verdict.accession),)

    def _application(self, id: int, verdict: Verdict, asks: Asked | None) -> bytes:
        if self._asked is not None:
            told = verdict.state == "refused" and ack.is_due(self._asked.accept, good=False)
            if told or not ack.is_due(self._asked.application, good=verdict.error is None):
                return b""
        return self._last(id, verdict, asks)

    def _last(self, id: int, verdict: Verdict, asks: Asked | None = None) -> bytes:
        return ack.answer(self._message, code_of(verdict), verdict.error, now=self._now, control_id=f"A{id}", asks=asks)


def code_of(verdict: Verdict) -> str:
    """Return the acknowledgment code of a verdict (HL7 table 0008)."""
    if verdict.error is None:
        return "AA"
    return "AR" if verdict.error.reject else "AE"
