"""What is to be fetched ahead of exams, on every engine."""

from __future__ import annotations

from broker.store import prefetches
from tests.store.conftest import Harness


def states(store: Harness) -> list[tuple[object, ...]]:
    return [tuple(row) for row in store.run(lambda tx: tx.all("select exam_id, rule, starts, state from prefetch order by id"))]


def due(store: Harness, until: str, now: float = 100.0) -> list[int]:
    return [one.exam_id for one in store.run(prefetches.due, until, now, 10)]


def test_the_next_exam_is_worked_for_first(store: Harness) -> None:
    for exam, starts in ((1, "202603021000"), (2, "202603020900"), (3, "202603050900")):
        store.run(prefetches.plan, exam, f"A{exam}", "chest", starts)
    assert due(store, "202603022359") == [2, 1]
    assert store.run(prefetches.waiting) == 3


def test_one_that_failed_waits_for_its_next_attempt(store: Harness) -> None:
    store.run(prefetches.plan, 1, "A1", "chest", "202603021000")
    [one] = store.run(prefetches.due, "202603021000", 100.0, 10)
    store.run(prefetches.failed, one.id, "no answer", 130.0)
    assert due(store, "202603021000", 129.0) == []
    [again] = store.run(prefetches.due, "202603021000", 130.0, 10)
    assert again.attempts == 1


def test_what_is_there_is_remembered_once(store: Harness) -> None:
    store.run(prefetches.plan, 1, "A1", "chest", "202603021000")
    [one] = store.run(prefetches.due, "202603021000", 100.0, 10)
    for study in ("1.2", "1.3", "1.2"):
        store.run(prefetches.is_there, one.id, study)
    [one] = store.run(prefetches.due, "202603021000", 100.0, 10)
    assert one.moved == ("1.2", "1.3")


def test_a_new_time_is_followed_and_what_is_done_stays_done(store: Harness) -> None:
    for exam in (1, 2, 3):
        store.run(prefetches.plan, exam, f"A{exam}", "chest", "202603021000")
    first, second, _ = store.run(prefetches.due, "202603021000", 100.0, 10)
    assert store.run(prefetches.end, first.id, "done")
    assert not store.run(prefetches.end, first.id, "late")
    store.run(prefetches.cancel, second.exam_id)
    store.run(prefetches.postpone, 3, "202603031000")
    assert states(store) == [
        (1, "chest", "202603021000", "done"),
        (2, "chest", "202603021000", "cancelled"),
        (3, "chest", "202603031000", "waiting"),
    ]
    for exam in (1, 2):
        store.run(prefetches.plan, exam, f"A{exam}", "chest", "202603041000")
    assert [row[3] for row in states(store)] == ["done", "waiting", "waiting"]
