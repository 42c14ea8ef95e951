"""Group commit: order, isolation of a failing unit, one commit for many, what a failed commit does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from broker.errors import MessageError, StoreError
from broker.obs.metrics import Metrics
from broker.store.database import MOST_UNITS, Database
from broker.store.engine import Transaction, TransactionLost
from broker.store.sqlite import open_engine

ADD = "insert into number_sequence (name, value) values (?, ?)"


def add(tx: Transaction, name: str, value: int = 0) -> str:
    tx.execute(ADD, (name, value))
    return name


def names(tx: Transaction) -> list[str]:
    return [row[0] for row in tx.all("select name from number_sequence order by name")]


def add_then_fail(tx: Transaction, name: str) -> None:
    add(tx, name)
    raise MessageError("OBR-4.1", "not in table procedures", 103)


def settled(fired: list[Deferred[Any]]) -> list[Any]:
    """Collect results and errors of Deferreds, in the order in which they fire."""
    seen: list[Any] = []
    for one in fired:
        one.addCallbacks(seen.append, lambda failure: seen.append(failure.value))
    return seen


def commits(store: Any) -> float:
    value = store.metrics.registry.get_sample_value("broker_store_commits_total")
    return float(value or 0)


def test_what_waits_shares_one_commit_and_fires_in_order(store: Any) -> None:
    fired = [store.db.run("t", add, f"n{n}") for n in range(20)]
    seen = settled(fired)
    assert seen == []  # nothing fires before its commit
    store.wait(store.db.read("t", names))
    assert seen == [f"n{n}" for n in range(20)]
    assert commits(store) == 1
    assert store.metrics.registry.get_sample_value("broker_store_commit_units_sum") == 21


def test_a_function_sees_what_those_before_it_wrote(store: Any) -> None:
    store.db.run("t", add, "first")
    assert store.wait(store.db.read("t", names)) == ["first"]


def test_a_failing_function_is_undone_alone(store: Any) -> None:
    fired = [store.db.run("t", add, "a"), store.db.run("t", add_then_fail, "b"), store.db.run("t", add, "c")]
    seen = settled(fired)
    assert store.run(names) == ["a", "c"]
    assert seen[0] == "a"
    assert isinstance(seen[1], MessageError)
    assert seen[1].path == "OBR-4.1"
    assert seen[2] == "c"


def test_a_failing_function_that_is_alone_is_undone(store: Any) -> None:
    with pytest.raises(MessageError):
        store.run(add_then_fail, "a")
    assert store.run(names) == []
    assert store.run(add, "b") == "b"


def test_a_failing_read_between_writes_harms_nobody(store: Any) -> None:
    def broken(tx: Transaction) -> None:
        tx.one("select nothing from nowhere")

    fired = [store.db.run("t", add, "a"), store.db.read("t", broken), store.db.run("t", add, "b")]
    seen = settled(fired)
    assert store.run(names) == ["a", "b"]
    assert isinstance(seen[1], StoreError)
    assert store.db.failed is None


def test_a_statement_its_data_makes_impossible_concerns_its_message_only(store: Any) -> None:
    fired = [store.db.run("t", add, "a"), store.db.run("t", add, "a", 2), store.db.run("t", add, "b")]
    seen = settled(fired)
    assert store.run(names) == ["a", "b"]
    assert isinstance(seen[1], MessageError)
    assert "'a'" not in str(seen[1])
    assert "(a)" not in str(seen[1])


def test_a_function_may_go_on_after_a_failed_statement_inside_a_savepoint(store: Any) -> None:
    def careful(tx: Transaction) -> str:
        add(tx, "a")
        try:
            with tx.savepoint():
                add(tx, "b")
                add(tx, "a")
        except MessageError:
            add(tx, "c")
        with tx.savepoint(), tx.savepoint():
            add(tx, "d")
        return "done"

    fired = [store.db.run("t", add, "z"), store.db.run("t", careful)]
    seen = settled(fired)
    assert store.run(names) == ["a", "c", "d", "z"]
    assert seen == ["z", "done"]


def test_nothing_is_lost_silently_when_a_function_swallows_a_failed_statement(store: Any) -> None:
    def careless(tx: Transaction) -> str:
        add(tx, "a")
        try:
            add(tx, "a")
        except MessageError:
            return "went on"
        return "no fault"

    try:
        answer = store.run(careless)
    except StoreError:
        assert store.run(names) == []  # said so, and kept nothing
    else:
        assert answer == "went on"
        assert store.run(names) == ["a"]


def test_what_is_asked_for_while_results_fire_is_done_in_the_next_commit(store: Any) -> None:
    first = store.db.run("t", add, "a")
    second: list[Deferred[str]] = []
    first.addCallback(lambda _: second.append(store.db.run("t", add, "b")))
    store.run(add, "c")
    assert store.wait(second[0]) == "b"
    assert commits(store) == 2


def test_a_commit_is_bounded(store: Any) -> None:
    for n in range(MOST_UNITS + 1):
        store.db.run("t", add, f"n{n:04}")
    assert len(store.run(names)) == MOST_UNITS + 1
    assert commits(store) == 2


def test_reads_alone_are_no_commit(store: Any) -> None:
    assert store.wait(store.db.read("t", names)) == []
    assert commits(store) == 0


def test_close_finishes_what_waits_and_takes_nothing_more(store: Any) -> None:
    fired = store.db.run("t", add, "a")
    seen = settled([fired])
    store.wait(store.db.close())
    assert seen == ["a"]
    with pytest.raises(StoreError, match="closed"):
        store.wait(store.db.run("t", add, "b"))
    store.wait(store.db.close())


def test_text_a_database_cannot_hold_is_kept_with_a_mark_in_its_place(store: Any) -> None:
    kept = store.run(add, "a\udc80b")
    assert kept == "a\udc80b"
    assert store.run(names) == ["a�b"]
    store.run(lambda tx: tx.many(ADD, [("x\udc80", 1), ("y", 2)]))
    assert store.run(names) == ["a�b", "x�", "y"]
    store.run(add, "nul\x00")
    assert store.run(names)[1].startswith("nul")


def test_reserved_ids_are_never_given_twice(store: Any) -> None:
    def some(tx: Transaction) -> list[int]:
        return [tx.reserve("message") for _ in range(100)]

    def fail(tx: Transaction) -> None:
        given.extend(some(tx))
        raise MessageError("", "no")

    given: list[int] = store.run(some)
    with pytest.raises(MessageError):
        store.run(fail)
    given += store.run(some)
    assert len(set(given)) == 300
    assert given == sorted(given)


def test_ids_grow_beyond_all_that_was_committed_and_rows_are_written_under_them(store: Any) -> None:
    sql = "insert into message_patient (message_id, patient_id) values (?, ?)"

    def fill(tx: Transaction, count: int) -> list[int]:
        ids = tx.ids("delivery", count)
        tx.many(sql, [(id, n) for n, id in enumerate(ids)])
        return ids

    given = store.run(fill, 10) + store.run(fill, 1) + store.run(fill, 3)
    assert given == sorted(set(given))
    assert store.run(lambda tx: tx.all("select message_id from message_patient order by message_id")) == [(id,) for id in given]
    store.run(lambda tx: tx.many(sql, []))
    with pytest.raises(MessageError, match="cannot be stored"):
        store.run(lambda tx: tx.many(sql, [(1, 99), (2, 99), (1, 99)]))
    assert store.run(lambda tx: tx.all("select * from message_patient where patient_id = 99")) == []


def test_a_percent_sign_is_no_placeholder(store: Any) -> None:
    store.run(add, "100%")
    assert store.run(lambda tx: tx.all("select name from number_sequence where name like '1%' and name <> ?", ("",))) == [("100%",)]


def add_each(tx: Transaction, items: Sequence[str]) -> list[str]:
    tx.many(ADD, [(name, len(items)) for name in items])
    if "bad" in items:
        raise MessageError("OBR-4.1", "not in table procedures", 103)
    return [name.upper() for name in items]


def test_what_waits_side_by_side_shares_one_call(store: Any) -> None:
    fired = [store.db.run_each("t", add_each, "a"), store.db.run_each("t", add_each, "b"), store.db.run("t", add, "c")]
    fired += [store.db.run_each("t", add_each, "d")]
    seen = settled(fired)
    rows = store.run(lambda tx: tx.all("select name, value from number_sequence order by name"))
    assert seen == ["A", "B", "c", "D"]
    assert rows == [("a", 2), ("b", 2), ("c", 0), ("d", 1)]
    assert commits(store) == 1


@pytest.mark.parametrize("between", [False, True])
def test_one_that_fails_in_a_shared_call_is_undone_alone(store: Any, between: bool) -> None:
    """Alone in its transaction and behind another unit, the call is undone and made again for each."""
    fired = [store.db.run("t", add, "z")] if between else []
    fired += [store.db.run_each("t", add_each, name) for name in ("a", "bad", "c", "a")]
    seen = settled(fired)
    assert store.run(names) == ["a", "c", *(["z"] if between else [])]
    seen = seen[between:]
    assert [seen[0], seen[2]] == ["A", "C"]
    assert [type(seen[1]), type(seen[3])] == [MessageError, MessageError]
    assert (seen[1].path, seen[3].why.startswith("cannot be stored")) == ("OBR-4.1", True)


def test_one_that_fails_alone_in_its_call_fails_once(store: Any) -> None:
    with pytest.raises(MessageError, match="procedures"):
        store.wait(store.db.run_each("t", add_each, "bad"))
    assert store.run(names) == []


class BrokenEngine:
    """SQLite in memory whose next commit fails."""

    def __init__(self, fatal: bool) -> None:
        self._engine = open_engine(":memory:")
        self._fatal = fatal
        self.broken = True

    def commit(self) -> None:
        if self.broken:
            raise TransactionLost("no space left", fatal=self._fatal)
        self._engine.commit()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def broken(fatal: bool) -> tuple[Database, BrokenEngine, Clock, list[StoreError]]:
    engine, clock, failures = BrokenEngine(fatal), Clock(), list[StoreError]()
    on_failure: Callable[[StoreError], None] = failures.append
    return Database(engine, Metrics(), clock.callLater, on_failure), engine, clock, failures


def test_a_failed_commit_fails_all_and_the_store_takes_nothing_further() -> None:
    db, engine, clock, failures = broken(fatal=True)
    seen = settled([db.run("first", add, "a"), db.run("second", add_then_fail, "b")])
    seen_later = settled([db.run("t", add, f"n{n}") for n in range(MOST_UNITS)])  # more than one batch
    clock.advance(0)
    assert [type(error) for error in seen + seen_later] == [StoreError] * (MOST_UNITS + 2)
    assert db.failed is not None
    assert "no space left" in str(seen[0])
    assert [str(error) for error in failures] == [str(db.failed)]
    engine.broken = False
    assert isinstance(settled([db.run("third", add, "c")])[0], StoreError)
    assert clock.getDelayedCalls() == []


def test_a_lost_connection_fails_the_batch_in_flight_only() -> None:
    db, engine, clock, failures = broken(fatal=False)
    seen = settled([db.run("t", add, "a")])
    clock.advance(0)
    assert isinstance(seen[0], StoreError)
    assert db.failed is None
    engine.broken = False
    seen = settled([db.run("t", add, "b"), db.read("t", names)])
    clock.advance(0)
    assert seen == ["b", ["b"]]
    assert failures == []


def test_a_full_disk_fails_the_store(tmp_path: Any, harness: Any) -> None:
    harness.db = harness.open(tmp_path / "broker.db")
    harness.run(add, "kept")
    pages = harness.run(lambda tx: tx.one("pragma page_count"))[0]
    harness.run(lambda tx: tx.all(f"pragma max_page_count = {pages + 2}"))
    fired = [harness.db.run("t", add, "a"), harness.db.run("t", add, "b" * 100_000), harness.db.run("t", add, "c")]
    seen = settled(fired)
    harness.clock.advance(0)
    assert [type(error) for error in seen] == [StoreError] * 3
    assert harness.db.failed is not None
    assert len(harness.failures) == 1
    harness.close()
    harness.db = harness.open(tmp_path / "broker.db")
    assert harness.run(names) == ["kept"]


def test_a_file_that_somebody_else_has_locked_fails_the_batch_only(tmp_path: Any, harness: Any) -> None:
    harness.db = harness.open(tmp_path / "broker.db")
    harness.run(lambda tx: tx.all("pragma busy_timeout = 0"))
    other = sqlite3.connect(tmp_path / "broker.db", isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StoreError, match="locked"):
        harness.run(add, "a")
    other.execute("rollback")
    other.close()
    assert harness.run(add, "b") == "b"


def test_postgres_connection_loss_fails_the_batch_and_later_ones_reconnect(postgres_url: str, harness: Any) -> None:
    def die(tx: Transaction) -> None:
        tx.one("select pg_terminate_backend(pg_backend_pid())")

    harness.db = harness.open(postgres_url)
    harness.run(add, "a")
    seen = settled([harness.db.run("t", add, "b"), harness.db.run("t", die), harness.db.run("t", add, "c")])
    with pytest.raises(StoreError):
        harness.run(add, "d")
    assert [type(error) for error in seen] == [StoreError] * 3
    assert harness.db.failed is None
    assert harness.run(names) == ["a"]


def test_postgres_connection_lost_while_idle_costs_at_most_one_batch(postgres_url: str, harness: Any) -> None:
    harness.db = harness.open(postgres_url)
    harness.run(add, "a")
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'broker'")
    with pytest.raises(StoreError, match="PostgreSQL"):
        harness.run(add, "b")
    assert harness.run(names) == ["a"]


def test_postgres_that_is_not_there_is_an_error_at_once(harness: Any, tmp_path: Any) -> None:
    with pytest.raises(StoreError, match="cannot be reached"):
        harness.open(f"postgresql:///none?host={tmp_path}")


def test_nodes_on_one_postgres_see_ids_in_the_order_of_the_commits(postgres_url: str, harness: Any) -> None:
    """A second writer waits for the first one's commit, so no smaller id can appear after a greater one was read."""
    harness.db = harness.open(postgres_url)
    with psycopg.connect(postgres_url) as other:
        other.execute("select pg_advisory_xact_lock(%s)", (0x42524F4B4552,))
        waiting = harness.db.run("t", add, "a")
        harness.clock.advance(0)
        blocked = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        with psycopg.connect(postgres_url, autocommit=True) as watcher:
            while watcher.execute(blocked).fetchone() != (1,):
                assert not waiting.called
        other.rollback()
    assert harness.wait(waiting) == "a"


def test_postgres_commits_to_disk_even_where_the_server_does_not(postgres_url: str, harness: Any) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as other:
        database = postgres_url.removeprefix("postgresql:///").split("?")[0]
        other.execute(f"alter database {database} set synchronous_commit = off")  # type: ignore[arg-type]
    harness.db = harness.open(postgres_url)
    assert harness.run(lambda tx: tx.one("show synchronous_commit")) == ("on",)


def test_a_postgresql_that_vanished_is_found_out_soon_unless_the_address_says_otherwise(harness: Any, postgres_url: str) -> None:
    def told(db: Database) -> dict[str, str]:
        found: dict[str, str] = harness.wait(db.run("test", lambda tx: tx._db.info.get_parameters()))  # type: ignore[attr-defined]
        return found

    assert told(harness.open(postgres_url))["tcp_user_timeout"] == "30000"
    chosen = told(harness.open(f"{postgres_url}&tcp_user_timeout=5000&application_name=node-1"))
    assert (chosen["tcp_user_timeout"], chosen["application_name"], chosen["keepalives_idle"]) == ("5000", "node-1", "10")


def test_what_nobody_waits_for_gathers_its_neighbours_and_is_not_synced() -> None:
    engine, clock = Recording(), Clock()
    db = Database(engine, Metrics(), clock.callLater)
    seen = settled([db.run_each("t", add_each, name, 0.01) for name in ("a", "b")])
    clock.advance(0.005)
    seen += settled([db.run_each("t", add_each, "c", 0.01)])
    assert seen == []
    clock.advance(0.005)
    clock.advance(0)
    assert engine.synced == [False]
    assert db.run("t", add, "d").called is False
    clock.advance(0)
    assert engine.synced == [False, True]


def test_what_somebody_waits_for_takes_along_what_nobody_does() -> None:
    engine, clock = Recording(), Clock()
    db = Database(engine, Metrics(), clock.callLater)
    seen = settled([db.run_each("t", add_each, "a", 0.01), db.run("t", add, "b")])
    clock.advance(0)
    assert seen == ["A", "b"]
    assert engine.synced == [True]
    clock.advance(1)
    assert clock.getDelayedCalls() == []


def test_close_waits_for_what_is_still_gathered() -> None:
    engine, clock = Recording(), Clock()
    db = Database(engine, Metrics(), clock.callLater)
    seen = settled([db.run_each("t", add_each, "a", 0.01), db.close()])
    clock.advance(0.01)
    clock.advance(0)
    assert seen == ["A", None]


class Recording(BrokenEngine):
    """SQLite in memory that notes which transactions are synced."""

    def __init__(self) -> None:
        super().__init__(fatal=False)
        self.broken = False
        self.synced: list[bool] = []

    def begin(self, write: bool, *, synced: bool = True) -> Transaction:
        self.synced.append(synced)
        return self._engine.begin(write, synced=synced)


def test_a_transaction_that_is_not_synced_is_one_of_many(store: Any) -> None:
    fired = [store.db.run_each("t", add_each, name, 1e-9) for name in ("a", "b")]
    store.clock.advance(1)
    assert [store.wait(one) for one in fired] == ["A", "B"]
    assert store.run(names) == ["a", "b"]
