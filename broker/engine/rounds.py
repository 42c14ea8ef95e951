"""Background work that is done again and again, never twice at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from broker.errors import StoreError
from broker.obs.log import Log


class Rounds:
    """Calls `work` at once and then every so many seconds (`connectors.base.Job`); one that fails is logged, and the next one follows."""

    def __init__(self, name: str, work: Callable[[], Deferred[Any]], seconds: float, clock: Any, log: Log) -> None:
        """`clock`: IReactorTime; `name`: of the work, in the log."""
        self._name, self._work, self._seconds, self._log = name, work, seconds, log
        self._call = LoopingCall(self._round)
        self._call.clock = clock
        self._working: Deferred[Any] = succeed(None)

    def start(self) -> None:
        """Begin."""
        self._call.start(self._seconds)

    def stop(self) -> Deferred[None]:
        """Begin no further round, and fire when the one that is under way has ended."""
        if self._call.running:
            self._call.stop()
        done: Deferred[None] = Deferred()
        self._working.addBoth(lambda _: done.callback(None))
        return done

    def _round(self) -> Deferred[Any]:
        self._working = self._work().addErrback(self._failed)
        return self._working

    def _failed(self, failure: Failure) -> None:
        what = "the store cannot be reached" if failure.check(StoreError) else "the next round begins anew"
        self._log.failure(f"{self._name} failed", failure, what=what)
