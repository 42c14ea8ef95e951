"""What became of all deliveries of a message, for senders that are answered only then."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from broker.errors import MessageError
from broker.store import outbox
from broker.store.database import Database, Transaction
from broker.store.outbox import DeliveryRow

# "AE: OBR-4.1: 103 Table value not found", as a destination has refused it
_REFUSED = re.compile(r"[AC][ER]: (?:(?P<path>[A-Z][A-Z0-9]{2}[\[\]\d.-]*): )?(?P<code>\d{3}) ")


class Late(MessageError):
    """Deliveries have not ended in time; they go on."""


class Outcomes:
    """Holds who waits for the end of which deliveries."""

    def __init__(self, db: Database, clock: Any) -> None:
        """`clock`: IReactorTime."""
        self._db, self._clock = db, clock
        self._waiting: dict[int, list[_Wait]] = {}  # by delivery

    def ended(self, deliveries: Iterable[int]) -> None:
        """Deliveries have ended, delivered or parked, and the store says so."""
        if not self._waiting:
            return
        for id in deliveries:
            for wait in self._waiting.pop(id, ()):
                wait.end(id)

    def wait(self, message_id: int, deliveries: Sequence[int], patience: float) -> Deferred[MessageError | None]:
        """Fire with None when all deliveries of a message are delivered, with the reason when one is not or after `patience` seconds."""
        found: Deferred[MessageError | None] = self._wait(message_id, deliveries, patience)
        return found

    def recall(self, message_id: int, patience: float) -> Deferred[MessageError | None]:
        """The same for a message taken in before."""
        found: Deferred[MessageError | None] = self._recall(message_id, patience)
        return found

    @inlineCallbacks
    def _recall(self, message_id: int, patience: float):  # type: ignore[no-untyped-def]
        rows = yield self._rows(message_id)
        open_ones = [row.id for row in rows if row.state == "waiting"]
        if not open_ones:
            return outcome(rows)
        waiting = self._wait(message_id, open_ones, patience)
        # one that has ended before it was waited for is heard of by nobody
        rows = yield self._rows(message_id)
        self.ended([row.id for row in rows if row.id in open_ones and row.state != "waiting"])
        found = yield waiting
        return found

    @inlineCallbacks
    def _wait(self, message_id: int, deliveries: Sequence[int], patience: float):  # type: ignore[no-untyped-def]
        wait = _Wait(deliveries)
        for id in deliveries:
            self._waiting.setdefault(id, []).append(wait)
        timer = self._clock.callLater(patience, wait.give_up)
        yield wait.over
        if timer.active():
            timer.cancel()
        for id in wait.open:
            self._forget(id, wait)
        rows = yield self._rows(message_id)
        return outcome(rows)

    def _forget(self, id: int, wait: _Wait) -> None:
        waiting = self._waiting.get(id, [])
        if wait in waiting:
            waiting.remove(wait)
        if not waiting:
            self._waiting.pop(id, None)

    def _rows(self, message_id: int) -> Deferred[list[DeliveryRow]]:
        return self._db.read("outbox.of_message", _of_channels, message_id)


def _of_channels(tx: Transaction, message_id: int) -> list[DeliveryRow]:
    """Return what channels have sent because of a message; its acknowledgment may be a delivery, too."""
    return [row for row in outbox.of_message(tx, message_id) if row.channel]


class _Wait:
    """Somebody who waits for the last of some deliveries."""

    __slots__ = ("open", "over")

    def __init__(self, deliveries: Iterable[int]) -> None:
        self.open = set(deliveries)
        self.over: Deferred[None] = Deferred()

    def end(self, id: int) -> None:
        """One has ended."""
        self.open.discard(id)
        if not self.open:
            self.give_up()

    def give_up(self) -> None:
        """Wait no longer."""
        if not self.over.called:
            self.over.callback(None)


def outcome(rows: Sequence[DeliveryRow]) -> MessageError | None:
    """Return None when all are delivered, else why not, with the place where a destination has named it."""
    for row in rows:
        if row.state == "parked":
            match = _REFUSED.match(row.reason)
            path, code = (match["path"] or "", int(match["code"])) if match else ("", 207)
            return MessageError(path, f"not taken by {row.destination}: {row.reason}", code)
    late = next((row.destination for row in rows if row.state == "waiting"), "")
    return Late("", f"not delivered in time to {late}", 207) if late else None
