"""What of one destination's queue does not get through: the destination, single lanes of it, single deliveries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from broker.errors import Aborted, NotYet, Retry
from broker.model import Delivery


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait between attempts, and when to give a delivery to a person."""

    first: float = 1.0  # seconds
    most: float = 300.0  # seconds
    park_after: float | None = None  # seconds after the first failed attempt; None: never
    tries: int = 5  # attempts that were the delivery's own failure, while others got through

    def wait(self, failures: int) -> float:
        """Return the seconds before the attempt that follows `failures` failed ones: doubled each time, bounded."""
        return min(self.first * 2.0 ** min(failures - 1, 30), self.most)

    def gives_up(self, seconds: float) -> bool:
        """Tell whether a delivery whose first attempt failed so long ago is for a person."""
        return self.park_after is not None and seconds > self.park_after


@dataclass(slots=True)
class _Trouble:
    """A destination, or one lane of it, that does not get through."""

    since: float
    failures: int = 0
    pause: Any = None  # the delayed call that ends the waiting


@dataclass(slots=True)
class _Blame:
    """A delivery that may itself be the reason why it fails."""

    answers: int  # that the destination had given before its first attempt
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Setback:
    """What a failed attempt means: its lane waits, the whole destination does, both do, or it is for a person."""

    lane: bool
    whole: bool
    first: bool  # of this trouble, so that it is worth a line in the log
    park: str = ""  # why it is for a person


class Troubles:
    """Judges failed attempts and ends the waiting of lanes and of the destination.

    A destination that cannot be reached waits as a whole, unless others got through meanwhile. An object at which it gives up is
    set aside with its lane and the next one is tried: when that one fares the same, the destination is in trouble. A delivery that
    failed again and again while others got through is for a person, so that none holds a queue for ever.
    """

    def __init__(self, policy: RetryPolicy, clock: Any, resume: Callable[[str | None], None]) -> None:
        """`resume` is called with a lane, or None for the destination, when its waiting is over."""
        self._policy, self._clock, self._resume = policy, clock, resume
        self._found: dict[str | None, _Trouble] = {}  # by lane; None: of the destination
        self._blamed: dict[int, _Blame] = {}  # by the id of the delivery
        self._doubted = False  # the last that was heard of the destination is that it gave up in the midst of something
        self._running = True
        self.answers = 0  # that the destination has given

    @property
    def paused(self) -> bool:
        """Whether nothing may be sent at all."""
        trouble = self._found.get(None)
        return trouble is not None and trouble.pause is not None

    def answered(self, delivery: Delivery | None) -> int:
        """The destination is there, and `delivery` is done with; return how often it failed before, if that is over by now."""
        self.answers += 1
        self._doubted = False
        if delivery is not None:
            self._found.pop(delivery.lane, None)
            self._blamed.pop(delivery.id, None)
        if self.paused:
            return 0
        over = self._found.pop(None, None)
        return over.failures if over is not None else 0

    def met(self, delivery: Delivery, error: Retry, answers: int) -> Setback:
        """An attempt failed that began when so many answers had been given."""
        own = isinstance(error, Aborted | NotYet)
        if own and self._is_to_blame(delivery, answers):
            self._found.pop(delivery.lane, None)  # what follows in its lane starts its own waiting
            return Setback(lane=False, whole=False, first=False, park=f"{self._policy.tries} attempts failed, others did not: {error}")
        lane = own or answers != self.answers
        whole = not lane or (isinstance(error, Aborted) and self._doubted and answers == self.answers)
        self._doubted = self._doubted or isinstance(error, Aborted)
        where = delivery.lane if lane else None
        trouble = self._found.setdefault(where, _Trouble(self._clock.seconds()))
        if trouble.failures and self._policy.gives_up(self._clock.seconds() - trouble.since):
            if trouble.pause is None:
                del self._found[where]  # the next delivery starts its own waiting
            self._blamed.pop(delivery.id, None)
            return Setback(lane=lane, whole=whole, first=False, park=f"not reached in time: {error}")
        first = not trouble.failures
        self._wait(where, trouble)
        if lane and whole:
            self._wait(None, self._found.setdefault(None, _Trouble(self._clock.seconds())))
        return Setback(lane=lane, whole=whole, first=first)

    def _is_to_blame(self, delivery: Delivery, answers: int) -> bool:
        blame = self._blamed.setdefault(delivery.id, _Blame(answers))
        blame.tries += 1
        if blame.tries < self._policy.tries or blame.answers == self.answers:
            return False
        del self._blamed[delivery.id]
        return True

    def _wait(self, lane: str | None, trouble: _Trouble) -> None:
        if trouble.pause is None:  # else what failed now was under way when another one did
            trouble.failures += 1
            if self._running:
                trouble.pause = self._clock.callLater(self._policy.wait(trouble.failures), self._over, lane, trouble)

    def _over(self, lane: str | None, trouble: _Trouble) -> None:
        trouble.pause = None
        self._resume(lane)

    def cut_short(self) -> None:
        """The destination is there again: it waits no longer."""
        trouble = self._found.get(None)
        if trouble is not None and trouble.pause is not None:
            trouble.pause.cancel()
            self._over(None, trouble)

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._running = False
        for trouble in self._found.values():
            if trouble.pause is not None:
                trouble.pause.cancel()
                trouble.pause = None
