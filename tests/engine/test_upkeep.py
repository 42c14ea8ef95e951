"""How full the spool may be, who still gets in, and what goes."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from broker.config.models import SpoolPolicy
from broker.config.options import SPOOL
from broker.engine.room import Level, Room
from broker.engine.rounds import Rounds
from broker.engine.upkeep import Upkeep
from broker.errors import StoreError
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.ris.entities import Exam
from broker.spec import read
from broker.store import journal, outbox
from broker.store.database import Transaction, open_database
from broker.store.records import RecordStore
from broker.store.spool import Spool
from tests.engine.house import now_in_memory
from tests.store.taken import deliver, name_of, take

DAY = 86400.0
WHOLE = 10_000  # bytes of the disk


def policy(**options: Any) -> SpoolPolicy:
    return SpoolPolicy(**read(SPOOL, {"budget": "50%", "low": "50%", "high": "80%", "free": "1000 B", "keep": "7d", **options}))


class House:
    """A spool of objects of 500 bytes, on a disk of 10,000 bytes of which it may have 5,000."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.calls: list[Any] = []
        self.at, self.others = 100 * DAY, 0  # bytes of the disk that others take
        self.clock, self.metrics, self.printed = Clock(), Metrics(), StringIO()
        self.db = open_database(
            ":memory:",
            metrics=self.metrics,
            call_later=lambda _, call: self.calls.append(call),
            call_from_thread=lambda call, *args: call(*args),
        )
        self.spool = Spool(folder / "spool", now_in_memory, lambda: self.at)
        self.room = Room(policy(**options), self.db, self.disk, self.clock)
        log = Log(self.printed, terminal=False)
        self.upkeep = Upkeep(self.db, self.spool, self.room, lambda: ["archive"], lambda: self.at, now_in_memory, self.metrics, log)

    def disk(self) -> tuple[int, int]:
        return WHOLE - self.others - self.room.used, WHOLE

    def wait(self, waiting: Deferred[Any]) -> Any:
        found: list[Any] = []
        waiting.addBoth(found.append)
        while self.calls:
            self.calls.pop(0)()
        if isinstance(found[0], Failure):
            found[0].raiseException()
        return found[0]

    def run(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        return self.wait(self.db.run("test", fn, *args, **kwargs))

    def keep(self, number: int, *, days: float = 0.0, delivered: bool = True) -> None:
        """Keep an object that was taken in, and delivered, so many days ago."""
        path = self.spool.path(name_of(number))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(500))
        id = self.run(take, number, at=self.at - days * DAY)
        if delivered:
            self.run(deliver, id, self.at - days * DAY)

    def work(self) -> None:
        self.wait(self.upkeep.work())

    def left(self) -> list[int]:
        """Return the objects whose files are there, and make sure that the store says the same."""
        names = set(self.spool.names())
        assert names == set(self.run(journal.spooled))
        return sorted(int(name[9:-4], 16) for name in names)

    def admits(self, ae_title: str = "CT1", study_uid: str = "", accession: str = "") -> bool:
        return bool(self.wait(self.room.admits(ae_title, study_uid, accession)))


@pytest.mark.parametrize(
    ("used", "others", "level"),
    [
        (0, 0, Level.OPEN),
        (2499, 0, Level.OPEN),
        (2500, 0, Level.LOW),
        (3999, 0, Level.LOW),
        (4000, 0, Level.HIGH),
        (4999, 0, Level.HIGH),
        (5000, 0, Level.FULL),
        (1000, 6900, Level.OPEN),  # 2,100 are free, of which 1,000 stay free
        (1000, 7500, Level.LOW),
        (1000, 8000, Level.FULL),
        (0, 9500, Level.FULL),
    ],
)
def test_the_level_follows_the_budget_and_the_disk(tmp_path: Path, used: int, others: int, level: Level) -> None:
    house = House(tmp_path)
    house.others = others
    house.room.found(1, used)
    assert house.room.level is level
    assert house.room.has_room() is (level < Level.FULL)


def test_a_budget_may_be_a_size(tmp_path: Path) -> None:
    house = House(tmp_path, budget="2 KB")
    house.room.found(1, 2047)
    assert (house.room.budget, house.room.level) == (2048, Level.HIGH)


def test_the_disk_is_looked_at_again_after_a_while(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert house.room.level is Level.OPEN
    house.others = 9999
    assert house.room.level is Level.OPEN
    house.clock.advance(1)
    assert house.room.level is Level.FULL


def test_from_the_high_mark_only_urgent_exams_get_in(tmp_path: Path) -> None:
    house = House(tmp_path, urgent=["CT_ER"])

    def order(tx: Transaction) -> None:
        RecordStore(tx).add(Exam(accession="A1", study_uid="1.9", priority="STAT"))
        RecordStore(tx).add(Exam(accession="A2", study_uid="1.8", priority="ROUTINE"))

    house.run(order)
    house.room.found(8, 3999)
    assert house.admits(study_uid="1.8")
    house.room.taken(1)
    assert not house.admits(study_uid="1.8")
    assert not house.admits(accession="A2")
    assert house.admits(study_uid="1.9")
    assert house.admits(accession="A1")
    assert house.admits("CT_ER")
    assert not house.admits()
    house.room.taken(1000)
    assert not house.admits("CT_ER", accession="A1")


def test_with_room_enough_everything_stays(tmp_path: Path) -> None:
    house = House(tmp_path)
    for number in (1, 2, 3, 4):
        house.keep(number, days=50)
    house.work()
    assert house.left() == [1, 2, 3, 4]
    assert house.metrics.registry.get_sample_value("broker_spool_bytes") == 2000.0
    assert house.metrics.registry.get_sample_value("broker_spool_objects") == 4.0
    assert house.metrics.registry.get_sample_value("broker_spool_room_bytes") == 5000.0


def test_above_the_low_mark_the_oldest_that_nobody_needs_go(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.keep(1, days=60, delivered=False)
    house.keep(2, days=50)
    house.keep(3, days=40)
    for number in (4, 5, 6, 7):
        house.keep(number, days=1)
    house.work()
    assert house.left() == [1, 4, 5, 6, 7]
    assert (house.room.objects, house.room.used) == (5, 2500)
    assert house.metrics.registry.get_sample_value("broker_spool_objects_deleted_total") == 2.0


def test_what_was_delivered_lately_stays_below_the_high_mark(tmp_path: Path) -> None:
    house = House(tmp_path)
    for number in range(1, 8):
        house.keep(number, days=6)
    house.work()
    assert house.left() == [1, 2, 3, 4, 5, 6, 7]


def test_at_the_high_mark_it_goes_before_a_new_object_is_refused(tmp_path: Path) -> None:
    house = House(tmp_path)
    for number in range(1, 10):
        house.keep(number, days=1)
    house.work()
    assert house.left() == [4, 5, 6, 7, 8, 9]
    assert house.room.level is Level.LOW


def test_a_spool_that_nothing_may_leave_says_so_once_and_when_it_is_over(tmp_path: Path) -> None:
    house = House(tmp_path)
    for number in range(1, 10):
        house.keep(number, days=50, delivered=False)
    house.work()
    house.work()
    assert house.left() == list(range(1, 10))
    assert house.printed.getvalue().count("spool is full") == 1
    assert house.metrics.registry.get_sample_value("broker_spool_refusing") == 1.0
    ids = [row[0] for row in house.run(lambda tx: tx.all("select id from delivery"))]
    house.run(outbox.delivered, [(id, "0x0000") for id in ids], house.at)
    house.work()
    assert house.printed.getvalue().count("spool has room") == 1
    assert house.room.level < Level.HIGH
    assert house.metrics.registry.get_sample_value("broker_spool_refusing") == 0.0


def test_what_is_too_old_goes_also_when_there_is_room(tmp_path: Path) -> None:
    house = House(tmp_path, age="30d")
    house.keep(1, days=31)
    house.keep(2, days=29)
    house.work()
    assert house.left() == [2]


def test_an_object_whose_file_has_gone_already_is_no_obstacle(tmp_path: Path) -> None:
    house = House(tmp_path, age="30d")
    house.keep(1, days=31)
    house.spool.remove(name_of(1))
    house.work()
    assert house.left() == []


def test_a_crash_after_the_commit_leaves_a_file_that_the_next_start_sweeps(tmp_path: Path) -> None:
    house = House(tmp_path, age="30d")
    house.keep(1, days=31)
    house.upkeep._defer = lambda *args: Deferred()  # the process ends before the file goes
    house.upkeep.work()
    while house.calls:
        house.calls.pop(0)()
    used = house.run(journal.spooled)
    assert (list(used), list(house.spool.names())) == ([], [name_of(1)])
    assert house.spool.sweep(used) == 1


# rounds


def rounds(work: Any, clock: Clock, printed: StringIO) -> Rounds:
    return Rounds("work", work, 10.0, clock, Log(printed, terminal=False))


def test_rounds_follow_one_another_and_end() -> None:
    clock, done, printed = Clock(), [], StringIO()

    def work() -> Deferred[None]:
        done.append(clock.seconds())
        return succeed(None)

    job = rounds(work, clock, printed)
    job.start()
    clock.pump([10.0, 10.0])
    stopped: list[Any] = []
    job.stop().addCallback(stopped.append)
    clock.advance(100)
    assert (done, stopped) == ([0.0, 10.0, 20.0], [None])


def test_a_stop_waits_for_the_round_under_way() -> None:
    clock, under_way = Clock(), Deferred[None]()
    job = rounds(lambda: under_way, clock, StringIO())
    job.start()
    stopped: list[Any] = []
    job.stop().addCallback(stopped.append)
    assert stopped == []
    under_way.callback(None)
    assert stopped == [None]


def test_a_round_that_fails_is_logged_and_the_next_one_follows() -> None:
    clock, printed, count = Clock(), StringIO(), []

    def work() -> Deferred[None]:
        count.append(1)
        failed: Deferred[None] = Deferred()
        failed.errback(StoreError("gone"))
        return failed

    job = rounds(work, clock, printed)
    job.start()
    clock.advance(10)
    assert (len(count), printed.getvalue().count("work failed")) == (2, 2)
    job.stop()
