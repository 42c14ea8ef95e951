"""Delivers one destination's queue: in order, settled after the answer, retried or parked by policy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

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
STORE_PAUSE = 1.0  # seconds before a store that could not be reached is asked again

P = ParamSpec("P")
T = TypeVar("T")


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
        self._owned_until = 0.0  # wall clock; beyond it another node may have taken the queue over
        self._running = self._fetching = self._in_flight = False
        self._stale = False  # what is being fetched was asked for before the queue was to be looked at again
        self._stalled = 0  # units that wait for the store to come back
        self._failures, self._failing_since = 0, 0.0
        self._pause: Any = None  # the delayed call that ends the waiting
        self._settled: list[tuple[int, str]] = []
        self._settling: Any = None  # the delayed call that settles them
        self._open: set[int] = set()  # deliveries that have ended, which the store does not say yet
        self._idle: list[Deferred[None]] = []
        self._parked = metrics.parked.labels(self.name)
        self._delivered = metrics.delivered.labels(self.name)
        self._retried = metrics.retried.labels(self.name)
        self._up = metrics.destination_up.labels(self.name)
        self._seconds = metrics.delivery_seconds.labels(self.name)

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
        """Take deliveries that were just committed, sparing a read when the window is up to date with the store.

        Where other nodes write as well, theirs may stand before these, so the store is always asked.
        """
        behind = self._behind or self._fetching or not self._owner or self._db.shared
        if behind or len(self._window) + len(deliveries) > WINDOW:
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
        self._last_id, self._behind, self._stale = 0, True, self._fetching
        self._window = deque(list(self._window)[: 1 if self._in_flight else 0])

    def _next(self) -> None:
        if not self._running or self._in_flight or self._pause or self._stalled:
            return
        if self._window and self._now() >= self._owned_until:
            self._forget_waiting()
        if self._window:
            self._send(self._window[0])
        elif self._behind and not self._fetching:
            self._fetch()

    def _fetch(self) -> None:
        self._fetching, self._behind = True, False
        room = WINDOW - len(self._window)
        self._insist("delivery.claim", self._claim, self._last_id, room).addCallbacks(self._fetched, self._gave_up, (room,))

    def _claim(self, tx: Transaction, after: int, room: int) -> tuple[float, list[Delivery]] | None:
        now = self._now()
        if not outbox.lease(tx, self.name, self._node, now, LEASE):
            return None
        return now + LEASE, outbox.pending(tx, self.name, after, room) if room else []

    def _fetched(self, claimed: tuple[float, list[Delivery]] | None, room: int) -> None:
        stale, self._fetching, self._stale = self._stale, False, False
        self._owner = claimed is not None
        if claimed is None:  # another node delivers this queue
            self._forget_waiting()
            return
        self._owned_until, rows = claimed
        if stale:
            rows = []
        known = self._open.union(delivery.id for delivery in self._window)
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
        self._window.popleft()
        self._open.add(delivery.id)
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
        settling = self._insist("delivery.settle", outbox.delivered, settled, self._now())
        settling.addCallbacks(self._was_settled, self._gave_up, ([id for id, _ in settled],))

    def _was_settled(self, _: None, ids: list[int]) -> None:
        self._open.difference_update(ids)
        self._next()
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
        self._window.popleft()
        self._open.add(delivery.id)
        self._parked.inc()
        self._log.warning("delivery parked", delivery_id=delivery.id, message_id=delivery.message_id, reason=reason)
        parking = self._insist("delivery.park", outbox.park, delivery.id, reason, self._now())
        parking.addCallbacks(self._was_set_aside, self._gave_up, (delivery.id,))

    def _was_set_aside(self, _: None, id: int) -> None:
        self._open.discard(id)
        self._done()

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
        noting.addErrback(lambda failure: failure.trap(StoreError))  # one attempt less is counted, nothing else
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
        return not self._in_flight and not self._open

    def _insist(self, name: str, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return Deferred.fromCoroutine(self._insisting(name, fn, *args, **kwargs))

    async def _insisting(self, name: str, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it in the store, and again until a store that is only out of reach takes it.

        Nothing is sent meanwhile: what is settled nowhere would be sent twice.
        """
        stalled = False
        while True:
            try:
                done = await self._db.run(name, fn, *args, **kwargs)
            except StoreError as error:
                if not self._running or self._db.failed is not None:
                    raise
                if not stalled:
                    stalled = True
                    self._stalled += 1
                    self._log.failure("delivery waits for the store", error)
                pause: Deferred[None] = Deferred()
                self._clock.callLater(STORE_PAUSE, pause.callback, None)
                await pause
            else:
                self._stalled -= stalled
                return done

    def _gave_up(self, failure: Failure) -> None:
        """The store is gone for good."""
        self._fetching = self._in_flight = self._running = False
        self._log.failure("delivery stopped", failure)
        self._settled.clear()
        self._open.clear()
        self._rest()
