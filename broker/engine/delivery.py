"""Delivers one destination's queue: in order, settled after the answer, retried or parked by policy."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.connectors.base import Destination
from broker.errors import Refused, Retry, StoreError
from broker.model import Delivery
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.store import outbox
from broker.store.database import Database, Transaction

WINDOW = 200  # deliveries of one destination held in memory
LEASE = 30.0  # seconds a node owns a queue without renewing
# Answers wait this long for company before they are settled: a commit each would cost more than the delivery itself.
# What is answered and not settled is sent once more after a crash, under the same MSH-10.
SETTLE_SECONDS = 0.005
SETTLE_MOST = 32


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait between attempts, and when to give a delivery to a person."""

    first: float = 1.0  # seconds
    most: float = 300.0  # seconds
    park_after: float | None = None  # seconds after the first failed attempt; None: never

    def wait(self, failures: int) -> float:
        """Return the seconds before the attempt that follows `failures` failed ones: doubled each time, bounded."""
        return min(self.first * 2.0 ** min(failures - 1, 30), self.most)


class Now(Protocol):
    """The wall clock, in seconds since the epoch."""

    def __call__(self) -> float: ...


class Courier:
    """One destination's queue. Only the node that holds the queue's lease delivers it.

    Deliveries leave strictly in the order of their ids, one at a time. A peer that cannot be reached (`Retry`) holds the
    queue; one that refuses a delivery gets the next, and the refused one waits for a person.
    """

    def __init__(
        self, destination: Destination, db: Database, clock: Any, now: Now, policy: RetryPolicy, node: str, metrics: Metrics, log: Log
    ) -> None:
        """`clock` is the reactor or a Clock; `now` the wall clock that rows and leases are stamped with."""
        self.name = destination.name
        self._destination, self._db, self._clock, self._now = destination, db, clock, now
        self._policy, self._node, self._metrics, self._log = policy, node, metrics, log.bind(destination=destination.name)
        self._window: deque[Delivery] = deque()
        self._last_id = 0  # the highest id ever taken into the window
        self._behind = True  # the store may hold rows that the window has not seen
        self._owner = False
        self._running = self._fetching = self._in_flight = False
        self._failures, self._failing_since = 0, 0.0
        self._pause: Any = None  # the delayed call that ends the waiting
        self._settled: list[tuple[int, str]] = []
        self._settling: Any = None  # the delayed call that settles them
        self._unsettled = 0  # batches on their way into the store
        self._ended: set[int] = set()  # deliveries that ended since the store was last asked for rows
        self._idle: list[Deferred[None]] = []
        self._parked = metrics.parked.labels(self.name)
        self._delivered = metrics.delivered.labels(self.name)
        self._retried = metrics.retried.labels(self.name)
        self._up = metrics.destination_up.labels(self.name)
        self._seconds = metrics.delivery_seconds.labels(self.name)

    @property
    def held(self) -> bool:
        """True while the queue waits because the peer could not be reached."""
        return self._failures > 0

    def start(self) -> None:
        """Begin with whatever the store still holds unsettled."""
        self._running = True
        self.poll()

    def stop(self) -> Deferred[None]:
        """Let the delivery that is under way end and be settled; fires when nothing is."""
        self._running = False
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._settling is not None:
            self._settling.cancel()
            self._settle()
        if self._is_at_rest():
            return self._destination.close()
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        return done.addCallback(lambda _: self._destination.close())

    def offer(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries that were just committed, sparing a read when the window is up to date with the store."""
        if self._behind or self._fetching or not self._owner or len(self._window) + len(deliveries) > WINDOW:
            self._behind = True
        else:
            self._window.extend(deliveries)
            self._last_id = deliveries[-1].id
        self._next()

    def poll(self) -> None:
        """Renew the lease and look for rows that came by another way, such as another node."""
        if self._running and not self._fetching:
            self._fetch()

    def rescan(self) -> None:
        """Look again at the whole queue: a parked delivery older than the window was put back."""
        self._forget_waiting()
        self.poll()

    def _forget_waiting(self) -> None:
        self._last_id, self._behind = 0, True
        self._window = deque(list(self._window)[: 1 if self._in_flight else 0])

    def _next(self) -> None:
        if not self._running or self._in_flight or self._pause:
            return
        if self._window:
            self._send(self._window[0])
        elif self._behind and not self._fetching:
            self._fetch()

    def _fetch(self) -> None:
        self._fetching, self._behind = True, False
        self._ended = {id for id, _ in self._settled}
        room = WINDOW - len(self._window)
        self._db.run("delivery.claim", self._claim, self._last_id, room).addCallbacks(self._fetched, self._store_failed, (room,))

    def _claim(self, tx: Transaction, after: int, room: int) -> list[Delivery] | None:
        if not outbox.lease(tx, self.name, self._node, self._now(), LEASE):
            return None
        return outbox.pending(tx, self.name, after, room) if room else []

    def _fetched(self, rows: list[Delivery] | None, room: int) -> None:
        self._fetching = False
        self._owner = rows is not None
        if rows is None:  # another node delivers this queue
            self._forget_waiting()
            return
        known = self._ended.union(delivery.id for delivery in self._window)
        self._window.extend(row for row in rows if row.id not in known)
        self._behind = self._behind or len(rows) == room
        if rows:
            self._last_id = rows[-1].id
        if rows or self._behind:
            self._next()

    def _send(self, delivery: Delivery) -> None:
        self._in_flight = True
        began = self._clock.seconds()
        self._destination.send(delivery).addCallbacks(self._taken, self._not_taken, (delivery, began), {}, (delivery,), {})

    def _taken(self, answer: str, delivery: Delivery, began: float) -> None:
        self._seconds.observe(self._clock.seconds() - began)
        self._delivered.inc()
        self._reached()
        self._ended.add(self._window.popleft().id)
        self._settled.append((delivery.id, answer))
        if self._settling is None:
            self._settling = self._clock.callLater(SETTLE_SECONDS, self._settle)
        if len(self._settled) >= SETTLE_MOST or not self._running:
            self._settling.cancel()
            self._settle()
        self._done()

    def _reached(self) -> None:
        if self._failures:
            self._log.info("destination reached again", count=self._failures)
        self._failures = 0
        self._up.set(1)

    def _settle(self) -> None:
        self._settling = None
        settled, self._settled = self._settled, []
        self._unsettled += 1
        self._db.run("delivery.settle", outbox.delivered, settled, self._now()).addCallbacks(self._was_settled, self._store_failed)

    def _was_settled(self, _: None) -> None:
        self._unsettled -= 1
        self._rest()

    def _not_taken(self, failure: Failure, delivery: Delivery) -> None:
        if failure.check(Retry) and not self._overdue():
            self._hold(delivery, str(failure.value))
            return
        if failure.check(Retry):
            reason = f"not reached in time: {failure.value}"
            self._failures = 0  # the next delivery starts its own waiting
        elif failure.check(Refused):
            self._reached()
            reason = str(failure.value)
        else:
            self._log.failure("delivery failed", failure, delivery_id=delivery.id)
            reason = f"internal error: {type(failure.value).__name__}"
        self._ended.add(self._window.popleft().id)
        self._parked.inc()
        self._log.warning("delivery parked", delivery_id=delivery.id, message_id=delivery.message_id, reason=reason)
        parking = self._db.run("delivery.park", outbox.park, delivery.id, reason, self._now())
        parking.addCallbacks(lambda _: self._done(), self._store_failed)

    def _overdue(self) -> bool:
        limit = self._policy.park_after
        return limit is not None and self._failures > 0 and self._clock.seconds() - self._failing_since > limit

    def _hold(self, delivery: Delivery, reason: str) -> None:
        self._up.set(0)
        self._retried.inc()
        if not self._failures:
            self._failing_since = self._clock.seconds()
            self._log.warning("destination does not take deliveries", reason=reason, delivery_id=delivery.id)
        self._failures += 1
        noting = self._db.run("delivery.attempted", outbox.attempted, delivery.id, reason)
        noting.addErrback(self._store_failed)
        if self._running:
            self._pause = self._clock.callLater(self._policy.wait(self._failures), self._resume)
        self._done()

    def _resume(self) -> None:
        self._pause = None
        self._next()

    def _done(self) -> None:
        self._in_flight = False
        self._next()
        self._rest()

    def _rest(self) -> None:
        if self._is_at_rest():
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)

    def _is_at_rest(self) -> bool:
        return not self._in_flight and not self._settled and not self._unsettled

    def _store_failed(self, failure: Failure) -> None:
        """Without a store nothing may be sent: what is settled nowhere would be sent twice."""
        self._fetching = self._in_flight = self._running = False
        failure.trap(StoreError)
        self._log.error("store failed, delivery stopped")
        self._settled.clear()
        self._unsettled = 0
        self._rest()
