"""A scheduled echo to a destination's peer: whether it is there, and deliveries as soon as it is again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.engine.breaker import TABLE, Act, Event, State
from broker.errors import DeliveryError
from broker.obs.log import Log
from broker.obs.metrics import Metrics

SOON = 1.0  # seconds until a peer is asked after a failure; each further wait is twice as long, up to the interval


class Heartbeat:
    """Asks one peer at an interval, more often while it is not there.

    `on_back` is called when it is there again; whoever delivers tells `happened` how its deliveries fare.
    """

    def __init__(self, name: str, ask: Callable[[], Deferred[Any]], interval: float, clock: Any, metrics: Metrics, log: Log) -> None:
        """`ask` sends an echo; it fails with DeliveryError when the peer is not there. `interval` is in seconds."""
        self._ask, self._interval, self._clock = ask, interval, clock
        self._up, self._log = metrics.peer_up.labels(name), log.bind(destination=name)
        self.on_back: Callable[[], None] = lambda: None
        self.state = State.CLOSED
        self._wait = SOON
        self._due: Any = None  # the delayed call that asks next
        self._asking: Deferred[Any] | None = None
        self._running = False

    def start(self) -> None:
        """Go on asking until it is stopped."""
        self._running = True
        self._next(min(SOON, self._interval))

    def stop(self) -> None:
        """Ask no more."""
        self._running = False
        due, self._due = self._due, None
        if due is not None:
            due.cancel()

    def happened(self, event: Event) -> None:
        """Take note of what was found out."""
        before = self.state
        self.state, act = TABLE[before, event]
        if self.state is State.OPEN is not before:
            self._wait = SOON
            self._log.warning("peer does not answer")
        elif before is State.OPEN is not self.state:
            self._log.info("peer answers again")
        if act is Act.ASK and self._asking is None and self._running:
            self._next(SOON)
        elif act is Act.DELIVER:
            self.on_back()

    def _next(self, seconds: float) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = self._clock.callLater(seconds, self._ask_now)

    def _ask_now(self) -> None:
        self._due = None
        self._asking = self._ask()
        self._asking.addCallbacks(self._answered, self._silent).addErrback(self._failed).addBoth(self._asked)

    def _answered(self, _: Any) -> None:
        self._up.set(1)
        self.happened(Event.ECHOED)

    def _silent(self, failure: Failure) -> None:
        failure.trap(DeliveryError)
        self._up.set(0)
        self.happened(Event.SILENT)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("echo failed", failure)

    def _asked(self, _: Any) -> None:
        self._asking = None
        if not self._running:
            return
        if self.state is State.OPEN:
            self._next(min(self._wait, self._interval))
            self._wait *= 2
        else:
            self._next(self._interval)
