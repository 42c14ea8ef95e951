"""Delivers one destination's queue: in order within each lane, settled after the answer, retried or parked by policy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.connectors.base import Destination
from broker.connectors.hours import Hours
from broker.engine.breaker import Event
from broker.engine.heartbeat import Heartbeat
from broker.engine.lanes import Lanes
from broker.engine.troubles import RetryPolicy, Setback, Troubles
from broker.errors import NotYet, Refused, Retry, StoreError
from broker.model import Delivery
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.store import outbox
from broker.store.database import Database, Transaction

WINDOW = 4_000_000  # bytes of one destination's deliveries held in memory
OVERHEAD = 1000  # bytes that a delivery takes besides its payload
FETCH = 200  # deliveries read from the store at once, so that reading is short
FEW = 50  # deliveries left in memory when more are read
LEASE = 30.0  # seconds a node owns a queue without renewing
# Answers wait this long for company before they are settled: a commit each would cost more than the delivery itself.
# What is answered and not settled is sent once more after a crash, under the same MSH-10.
SETTLE_SECONDS = 0.005
SETTLE_MOST = 64
LOOK_AGAIN = 900.0  # seconds after which the clock is looked at again before a destination's hours: summer time moves them
STORE_PAUSE = 1.0  # seconds before a store that could not be reached is asked again

P = ParamSpec("P")
T = TypeVar("T")


class Now(Protocol):
    """The wall clock, in seconds since the epoch."""

    def __call__(self) -> float: ...


class Courier:
    """One destination's queue. Only the node that holds the queue's lease delivers it.

    Deliveries leave in the order of their ids, as many at a time as the destination is wide, one of a lane. A peer that cannot be
    reached (`Retry`) holds the queue, or only the lane when it took other deliveries meanwhile; one that refuses a delivery gets
    the next, and the refused one waits for a person.
    """

    def __init__(
        self,
        destination: Destination,
        db: Database,
        clock: Any,
        now: Now,
        policy: RetryPolicy,
        node: str,
        metrics: Metrics,
        log: Log,
        hours: Hours | None = None,
        *,
        settles: Callable[[Transaction, Sequence[tuple[int, str]], float], None] = outbox.delivered,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        """`clock` is the reactor or a Clock; `now` the wall clock that rows and leases are stamped with; `hours` when it may be sent to.

        `settles` writes down what was delivered; `heartbeat` tells when a peer that was not there is again.
        """
        self.name = destination.name
        self._destination, self._db, self._clock, self._now = destination, db, clock, now
        self._node, self._metrics, self._log = node, metrics, log.bind(destination=destination.name)
        self._hours, self._settles = hours, settles
        self._opening: Any = None  # the delayed call at the beginning of the next hours
        self._lanes = Lanes(destination.width)
        self._last_id = 0  # the highest id ever taken into the window
        self._behind = True  # the store may hold rows that the window has not seen
        self._owner = False
        self._owned_until = 0.0  # wall clock; beyond it another node may have taken the queue over
        self._running = self._fetching = self._sending = self._lost = False
        self._stale = False  # what is being fetched was asked for before the queue was to be looked at again
        self._stalled = 0  # units that wait for the store to come back
        self._troubles = Troubles(policy, clock, self._resume)
        self._heartbeat = heartbeat
        if heartbeat is not None:
            heartbeat.on_back = self._troubles.cut_short
        self._settled: list[tuple[int, str]] = []
        self._settling: Any = None  # the delayed call that settles them
        self._open: set[int] = set()  # deliveries that have ended, which the store does not say yet
        self._withdrawn: set[int] = set()  # deliveries that somebody takes back
        self._idle: list[Deferred[None]] = []
        self.on_ended: Callable[[Iterable[int]], None] = lambda ids: None  # hears of deliveries that the store knows to have ended
        self._parked = metrics.parked.labels(self.name)
        self._delivered = metrics.delivered.labels(self.name)
        self._retried = metrics.retried.labels(self.name)
        self._up = metrics.destination_up.labels(self.name)
        self._seconds = metrics.delivery_seconds.labels(self.name)

    def start(self) -> None:
        """Begin with whatever the store still holds unsettled."""
        self._running = True
        if self._heartbeat is not None:
            self._heartbeat.start()
        self.poll()

    def stop(self) -> Deferred[None]:
        """Let the deliveries that are under way end and be settled; fires when nothing is."""
        self._running = False
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self._troubles.stop()
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
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
        if behind or self._lanes.size + len(self._lanes) * OVERHEAD > WINDOW:
            self._behind = True
        else:
            self._lanes.put(deliveries)
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

    def withdraw(self, ids: Collection[int]) -> set[int]:
        """Send none of these from now on, until `restore`; return those that are under way, or have ended and the store does not say so."""
        self._withdrawn.update(ids)
        return self._withdrawn & ({one.id for one in self._lanes.under_way.values()} | self._open)

    def restore(self, ids: Collection[int], *, gone: bool) -> None:
        """Send what the store still has of these. `gone`: it has none, so what is under way is not sent a second time when it fails."""
        under_way = {one.id for one in self._lanes.under_way.values()} if gone else set()
        self._withdrawn.difference_update(set(ids) - under_way)
        self.rescan()

    @property
    def busy(self) -> bool:
        """Whether anything waits or is under way, as far as it knows."""
        return bool(self._behind or self._lanes or self._lanes.under_way)

    def _forget_waiting(self) -> None:
        self._last_id, self._behind, self._stale = 0, True, self._fetching
        self._lanes.forget()

    def _next(self) -> None:
        if self._sending:  # a delivery that is answered at once must not come back in here
            return
        self._sending = True
        self._lanes.width = self._destination.width
        while self._may_send() and (delivery := self._lanes.take()) is not None:
            if delivery.id in self._withdrawn:
                self._lanes.end(delivery)
            else:
                self._send(delivery)
        self._sending = False
        if self._may_send() and self._behind and not self._fetching and len(self._lanes) <= FEW:
            self._fetch()

    def _may_send(self) -> bool:
        if not self._running or self._stalled or self._troubles.paused or (self._hours is not None and not self._is_open(self._hours)):
            return False
        if self._lanes and self._now() >= self._owned_until:
            self._forget_waiting()
        return True

    def _is_open(self, hours: Hours) -> bool:
        """Whether it may be sent to at this time; else it is looked again when it may be."""
        wait = hours.wait(self._now())
        if wait and self._opening is None:
            self._opening = self._clock.callLater(min(wait, LOOK_AGAIN), self._open_again)
        return not wait

    def _open_again(self) -> None:
        self._opening = None
        self._next()

    def _fetch(self) -> None:
        self._fetching, self._behind = True, False
        room = 0 if self._lanes.size > WINDOW else FETCH
        self._insist("delivery.claim", self._claim, self._last_id, room).addCallbacks(self._fetched, self._gave_up)

    def _claim(self, tx: Transaction, after: int, room: int) -> tuple[float, bool, list[Delivery]] | None:
        now = self._now()
        if not outbox.lease(tx, self.name, self._node, now, LEASE):
            return None
        return now + LEASE, *outbox.pending(tx, self.name, after, room, WINDOW)

    def _fetched(self, claimed: tuple[float, bool, list[Delivery]] | None) -> None:
        stale, self._fetching, self._stale = self._stale, False, False
        self._owner = claimed is not None
        if claimed is None:  # another node delivers this queue
            self._forget_waiting()
            return
        self._owned_until, more, rows = claimed
        if stale:
            more, rows = True, []
        known = self._open | self._lanes.ids()
        self._lanes.put(row for row in rows if row.id not in known)
        self._behind = self._behind or more
        if rows:
            self._last_id = rows[-1].id
        if rows or self._behind:
            self._next()

    def _send(self, delivery: Delivery) -> None:
        began, answers = self._clock.seconds(), self._troubles.answers
        self._destination.send(delivery).addCallbacks(self._taken, self._not_taken, (delivery, began), {}, (delivery, answers), {})

    def _taken(self, answer: str, delivery: Delivery, began: float) -> None:
        self._seconds.observe(self._clock.seconds() - began)
        self._delivered.inc()
        self._reached(delivery)
        self._lanes.end(delivery)
        self._open.add(delivery.id)
        self._settled.append((delivery.id, answer))
        if self._settling is None:
            self._settling = self._clock.callLater(SETTLE_SECONDS, self._settle)
        if len(self._settled) >= SETTLE_MOST or not self._running:
            self._settling.cancel()
            self._settle()
        self._go_on()

    def _reached(self, delivery: Delivery | None) -> None:
        """The destination has answered; `delivery`: what is done with, for good or ill."""
        self._up.set(1)
        if self._heartbeat is not None:
            self._heartbeat.happened(Event.DELIVERED)
        if failures := self._troubles.answered(delivery):
            self._log.info("destination reached again", count=failures)

    def _settle(self) -> None:
        self._settling = None
        settled, self._settled = self._settled, []
        settling = self._insist("delivery.settle", self._settles, settled, self._now())
        settling.addCallbacks(self._was_settled, self._gave_up, ([id for id, _ in settled],))

    def _was_settled(self, _: None, ids: list[int]) -> None:
        self._open.difference_update(ids)
        self.on_ended(ids)
        self._next()
        self._rest()

    def _not_taken(self, failure: Failure, delivery: Delivery, answers: int) -> None:
        if isinstance(error := failure.value, Retry):
            if isinstance(error, NotYet):
                self._reached(None)
            setback = self._troubles.met(delivery, error, answers)
            if not setback.park:
                self._hold(delivery, setback, str(error))
                return
            reason = setback.park
        elif failure.check(Refused):
            self._reached(delivery)
            reason = str(failure.value)
        else:
            self._log.failure("delivery failed", failure, delivery_id=delivery.id)
            reason = f"internal error: {type(failure.value).__name__}"
        self._open.add(delivery.id)
        self._parked.inc()
        self._log.warning("delivery parked", delivery_id=delivery.id, message_id=delivery.message_id, reason=reason)
        parking = self._insist("delivery.park", outbox.park, delivery.id, reason, self._now())
        parking.addCallbacks(self._was_set_aside, self._gave_up, (delivery,))

    def _was_set_aside(self, _: None, delivery: Delivery) -> None:
        self._open.discard(delivery.id)
        self.on_ended((delivery.id,))
        self._lanes.end(delivery)
        self._go_on()

    def _hold(self, delivery: Delivery, setback: Setback, reason: str) -> None:
        self._retried.inc()
        if setback.first:
            what = "a lane does not get through" if setback.lane else "destination does not take deliveries"
            self._log.warning(what, reason=reason, delivery_id=delivery.id)
        if setback.whole:
            self._up.set(0)
            if self._heartbeat is not None:
                self._heartbeat.happened(Event.FAILED)
        if setback.lane:
            self._lanes.hold(delivery)
        else:
            self._lanes.put_back(delivery)
        noting = self._db.run("delivery.attempted", outbox.attempted, delivery.id, reason)
        noting.addErrback(lambda failure: failure.trap(StoreError))  # one attempt less is counted, nothing else
        self._go_on()

    def _resume(self, lane: str | None) -> None:
        if lane is None:
            self._next()
        else:
            self._lanes.release(lane)
            self.rescan()

    def _go_on(self) -> None:
        self._next()
        self._rest()

    def _rest(self) -> None:
        if self._is_at_rest():
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)

    def _is_at_rest(self) -> bool:
        return self._lost or (not self._lanes.under_way and not self._open)

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
        self._lost, self._running = True, False
        self._log.failure("delivery stopped", failure)
        self._rest()
