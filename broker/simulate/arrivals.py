"""What a peer has received, and waiting for more of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Arrivals(Generic[T]):
    """A list that grows; `wait_for` fires when there are so many, or when a predicate over all of them holds."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.items: list[T] = []
        self._waiting: list[tuple[Callable[[list[T]], bool], Deferred[list[T]]]] = []

    def add(self, item: T) -> None:
        """Take what arrived, and wake those whose wait is over."""
        self.items.append(item)
        for holds, waiting in list(self._waiting):
            if holds(self.items):
                waiting.callback(list(self.items))

    def wait_for(self, what: int | Callable[[list[T]], bool], timeout: float = 30.0) -> Deferred[list[T]]:
        """Fire with all that has arrived; fails with twisted.internet.defer.TimeoutError after `timeout` seconds."""
        count = what if isinstance(what, int) else 0
        holds: Callable[[list[T]], bool] = (lambda items: len(items) >= count) if isinstance(what, int) else what
        waiting: Deferred[list[T]] = Deferred()
        if holds(self.items):
            waiting.callback(list(self.items))
            return waiting
        entry = (holds, waiting)
        self._waiting.append(entry)

        def over(result: Any) -> Any:
            self._waiting.remove(entry)
            return result

        waiting.addBoth(over)
        return waiting.addTimeout(timeout, self._reactor)
