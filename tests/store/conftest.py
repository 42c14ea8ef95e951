"""One store suite, every engine: `store` is SQLite in memory, SQLite in a file and PostgreSQL in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from broker.errors import StoreError
from broker.obs.metrics import Metrics
from broker.store.database import Database, open_database

ENGINES = ("memory", "file", "postgres")


class Harness:
    """A database with the test as its reactor: nothing happens but inside `wait` and `turn`."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.failures: list[StoreError] = []
        self._from_threads: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._opened: list[Database] = []
        self.db: Database

    def open(self, where: str | Path, **options: Any) -> Database:
        """Open a store that is closed after the test."""
        db = open_database(
            where,
            metrics=self.metrics,
            call_later=self.clock.callLater,
            call_from_thread=self.call_from_thread,
            on_failure=self.failures.append,
            **options,
        )
        self._opened.append(db)
        return db

    def call_from_thread(self, fn: Callable[..., object], *args: object) -> None:
        """Do as the reactor's method does."""
        self._from_threads.put(lambda: fn(*args))

    def wait(self, fired: Deferred[Any]) -> Any:
        """Turn until the Deferred has fired and return its result, or raise its exception."""
        results: list[Any] = []
        errors: list[Any] = []
        fired.addCallbacks(results.append, errors.append)
        while True:
            self.clock.advance(0)
            while not self._from_threads.empty():
                self._from_threads.get()()
            if errors:
                raise errors[0].value
            if results:
                return results[0]
            if not self.clock.getDelayedCalls():
                self._from_threads.get(timeout=60)()

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function in a transaction of `db` and return what it returned."""
        return self.wait(self.db.run("test", fn, *args, **kwargs))

    def close(self) -> None:
        """Close every store that was opened."""
        while self._opened:
            self.wait(self._opened.pop().close())


@pytest.fixture
def harness() -> Iterator[Harness]:
    """Return a harness without a store."""
    harness = Harness()
    yield harness
    harness.close()


@pytest.fixture(params=ENGINES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where an empty store of each engine may be opened."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return ":memory:" if request.param == "memory" else str(tmp_path / "data" / "broker.db")


@pytest.fixture
def store(address: str, harness: Harness) -> Harness:
    """Return a harness with an open store of each engine."""
    harness.db = harness.open(address)
    return harness
