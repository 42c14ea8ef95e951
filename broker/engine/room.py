"""Is there room in the spool? Urgent exams get in longer than others, and nobody fills the disk."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

from twisted.internet.defer import Deferred, succeed

from broker.config.models import SpoolPolicy
from broker.obs.status import SpoolStatus
from broker.store import objects
from broker.store.database import Database

LOOK = 0.5  # seconds for which the free bytes of the disk are remembered
URGENT = ("STAT",)  # priorities of an exam


class Level(IntEnum):
    """How full the spool is."""

    OPEN = 0
    LOW = 1  # above the low mark: what nobody needs goes
    HIGH = 2  # above the high mark: only urgent exams get in
    FULL = 3  # nothing gets in


class Room:
    """Keeps count of the bytes in the spool, and says who still gets in."""

    def __init__(self, policy: SpoolPolicy, db: Database, disk: Callable[[], tuple[int, int]], clock: Any) -> None:
        """`disk` returns the free and all bytes of the spool's disk; `clock`: IReactorTime."""
        self.policy = policy
        self.used = self.objects = 0  # bytes, and of how many objects
        self._db, self._disk, self._clock = db, disk, clock
        self._looked: tuple[float, int] | None = None  # when, and the bytes that the disk had for the spool then
        self._whole = 0

    def found(self, count: int, size: int) -> None:
        """Begin with what the spool holds."""
        self.objects, self.used, self._looked = count, size, None

    def taken(self, size: int) -> None:
        """An object has come."""
        self.objects += 1
        self.used += size

    def freed(self, count: int, size: int) -> None:
        """Objects have gone."""
        self.objects -= count
        self.used -= size
        self._looked = None

    @property
    def budget(self) -> int:
        """The bytes the spool may hold now: what it is allowed, or less where the disk has less."""
        now = self._clock.seconds()
        if self._looked is None or now - self._looked[0] >= LOOK:
            free, self._whole = self._disk()
            self._looked = now, self.used + free - self.policy.free.of(self._whole)
        return max(0, min(self.policy.budget.of(self._whole), self._looked[1]))

    @property
    def level(self) -> Level:
        """How full the spool is."""
        used, budget, policy = self.used, self.budget, self.policy
        if used >= budget:
            return Level.FULL
        return Level.HIGH if used >= budget * policy.high else Level.LOW if used >= budget * policy.low else Level.OPEN

    def status(self) -> SpoolStatus:
        """Return how full the spool is."""
        return SpoolStatus(self.objects, self.used, self.budget, self.level.name.lower())

    def above(self, share: float) -> int:
        """Return the bytes that are too many for a share of the budget."""
        return self.used - int(self.budget * share)

    def has_room(self) -> bool:
        """Tell whether anybody's object may begin; whose it is shows at its end."""
        return self.level < Level.FULL

    def admits(self, ae_title: str, study_uid: str, accession: str) -> Deferred[bool]:
        """Fire with whether an object that has been read may stay."""
        level = self.level
        if level == Level.FULL:
            return succeed(False)
        if level < Level.HIGH or ae_title in self.policy.urgent:
            return succeed(True)
        return self._db.read("spool.urgent", objects.urgent, study_uid, accession, URGENT)
