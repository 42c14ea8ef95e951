"""The end of what the spool holds: objects that nobody needs go in the background, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed

from broker.connectors.base import Defer
from broker.engine.room import Level, Room
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.store import objects
from broker.store.database import Database
from broker.store.objects import Kept, Terms
from broker.store.spool import Spool

BITE = 200  # objects looked at in one transaction
BITES = 20  # of one round
EVERYTHING = 1 << 62  # bytes

Plan = tuple[str, Terms, int]  # why objects go, what must hold, how many bytes are to be freed


class Upkeep:
    """Deletes objects while there are too many, or once they are too old.

    The store says first that an object is deleted, then its file goes: what a crash leaves between the two is a file that nothing
    names, which the next start sweeps.
    """

    def __init__(
        self,
        db: Database,
        spool: Spool,
        room: Room,
        archives: Callable[[], Iterable[str]],
        now: Callable[[], float],
        defer: Defer,
        metrics: Metrics,
        log: Log,
    ) -> None:
        """`archives`: the destinations that are asked for commitment; `defer` runs a function on a thread for files."""
        self._db, self._spool, self._room, self._now, self._defer = db, spool, room, now, defer
        self._archives, self._metrics, self._log = archives, metrics, log
        self._after, self._why = 0, ""  # how far the pass has come, and what for it looks
        self._counted = False
        self._level = Level.OPEN

    def work(self) -> Deferred[None]:
        """Count what is there the first time; then delete what may and must go now."""
        counting = succeed(None)
        if not self._counted:
            counting = self._db.read("spool.total", objects.total, self._spool.mark).addCallback(self._count)
        return counting.addCallback(lambda _: self._delete()).addBoth(self._show)

    def _count(self, total: tuple[int, int]) -> None:
        self._counted = True
        self._room.found(*total)

    @inlineCallbacks
    def _delete(self) -> Any:
        for _ in range(BITES):
            plan = self._plan()
            if plan is None:
                self._after, self._why = 0, ""
                return
            why, terms, size = plan
            if why != self._why:
                self._after, self._why = 0, why
            after, gone = yield self._db.run("spool.delete", objects.delete, terms, self._after, BITE, size, self._spool.mark)
            yield self._remove(gone)
            self._after = after or 0
            if after is None:  # all that is old enough was looked at; the next period begins anew
                return

    def _plan(self) -> Plan | None:
        room, policy, now = self._room, self._room.policy, self._now()
        level = room.level

        def delivered(before: float) -> Terms:
            return Terms(before, now - policy.unfinished, tuple(self._archives()))

        if level >= Level.HIGH:  # what can go goes before a new object is refused, and a little more, so that it does not come back at once
            return "high", delivered(now), room.above((policy.low + policy.high) / 2)
        if level >= Level.LOW and (size := room.above(policy.low)) > 0:
            return "low", delivered(now - policy.keep), size
        if policy.age is not None:
            return "age", delivered(now - policy.age), EVERYTHING
        return None

    @inlineCallbacks
    def _remove(self, gone: list[Kept]) -> Any:
        if not gone:
            return
        yield self._defer(self._unlink, [one.name for one in gone])
        self._room.freed(len(gone), sum(one.size for one in gone))
        self._metrics.spool_deleted.inc(len(gone))

    def _unlink(self, names: list[str]) -> None:
        for name in names:
            self._spool.remove(name)

    def _show(self, result: Any) -> Any:
        """Bring the figures up to date, and log once when the spool begins or ends to refuse objects."""
        room, level = self._room, self._room.level
        self._metrics.spool_objects.set(room.objects)
        self._metrics.spool_bytes.set(room.used)
        self._metrics.spool_room.set(room.budget)
        self._metrics.spool_refusing.set(level >= Level.HIGH)
        if (level >= Level.HIGH) != (self._level >= Level.HIGH):
            what = "only objects of urgent exams are taken" if level >= Level.HIGH else "every object is taken again"
            self._log.warning("spool is full" if level >= Level.HIGH else "spool has room", what=what)
        self._level = level
        return result
