"""The shell that delivers HL7 over MLLP; when to try again is the engine's to decide."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail

from broker.connectors.mllp_exchange import Exchange, Switchboard
from broker.connectors.mllp_pool import Dialled, Shared
from broker.errors import LocalProtocolError, MessageError, Refused
from broker.hl7.message import Message
from broker.hl7.mllp import END, VT
from broker.model import Delivery
from broker.obs.log import Log
from broker.obs.metrics import Metrics

# What MSH-15 and MSH-16 ask the receiver for, by the option `answer`; the original mode leaves them as the route made them.
ASKED = {"accept": ("AL", "NE"), "application": ("AL", "AL")}


class MllpDestination:
    """Delivers over connections opened on demand and kept, or over those of a listener; each carries one message at a time."""

    def __init__(
        self, name: str, settings: Mapping[str, Any], reactor: Any, metrics: Metrics, log: Log, switchboard: Switchboard | None = None
    ) -> None:
        """`switchboard` holds the connections of the listener that `over` names."""
        self.name = name
        self.width: int = settings["connections"]  # deliveries that may be under way at once
        self._patience: float = settings["answer_timeout"]
        self._asked = ASKED.get(settings["answer"])
        self._application: float | None = settings["application_timeout"] if settings["answer"] == "application" else None
        self._under_way = 0
        self._queue: deque[Exchange] = deque()  # what waits for a connection
        if settings["over"]:
            self._lines: Shared | Dialled = Shared(settings, reactor, switchboard or Switchboard(), self._pump, self._give_up)
        else:
            self._lines = Dialled(name, settings, reactor, metrics, log, self._pump, self._give_up)

    def send(self, delivery: Delivery) -> Deferred[str]:
        """Fire with MSA-1 ("AA", "CA"); fail with `Retry` when no answer came, with `Refused` when the receiver does not want it."""
        if self._under_way >= self.width:
            return fail(LocalProtocolError(f"{self.name} is still delivering"))
        if VT in delivery.payload or END in delivery.payload:
            return fail(Refused("the message holds bytes that MLLP frames are made of"))
        payload, control_id = delivery.payload, delivery.control_id
        if self._asked or not control_id:
            payload, control_id = self._prepared(payload, control_id)
        exchange = Exchange(payload, control_id, application=self._application)
        self._under_way += 1
        exchange.result.addBoth(self._ended)
        self._queue.append(exchange)
        self._pump()
        return exchange.result

    def close(self) -> Deferred[None]:
        """Close the connections; a delivery under way fails with `Retry`."""
        self._give_up("closed while it waited for an answer", all_of_them=True)
        return self._lines.close()

    def _prepared(self, payload: bytes, control_id: str) -> tuple[bytes, str]:
        """Return the message with the answers it asks for, and its MSH-10; what is no HL7 message stays as it is."""
        try:
            message = Message.parse(payload)
            if self._asked:
                for path, value in zip(("MSH-15", "MSH-16"), self._asked, strict=True):
                    message.set(path, value)
                payload = message.encode()
            return payload, control_id or message.control_id
        except MessageError:
            return payload, control_id

    def _pump(self) -> None:
        """Send what waits, as far as there are connections for it."""
        while self._queue:
            line = self._lines.free()
            if line is None:
                self._lines.want(len(self._queue))
                return
            line.send(self._queue.popleft(), self._patience)

    def _give_up(self, why: str, *, all_of_them: bool = False) -> None:
        """Let what waits for a connection be sent again later: the first of it, or all."""
        for _ in range(len(self._queue) if all_of_them else min(1, len(self._queue))):
            self._queue.popleft().fail(why)

    def _ended(self, result: Any) -> Any:
        self._under_way -= 1
        return result
