"""Group commit: what waits at one moment shares one transaction and one full sync."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from broker.errors import StoreError
from broker.obs.metrics import Metrics
from broker.store import sqlite
from broker.store.engine import Engine, TransactionLost
from broker.store.engine import Transaction as Transaction  # callers write their functions over it

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

MOST_UNITS = 256  # of one transaction, so that one commit stays short


class _Unit:
    __slots__ = ("args", "fired", "fn", "name", "patience", "shares", "write")

    def __init__(
        self, name: str, write: bool, fn: Callable[..., Any], args: tuple[Any, ...], shares: bool = False, patience: float = 0.0
    ) -> None:
        self.name, self.write, self.fn, self.args = name, write, fn, args
        self.shares = shares  # its neighbours' call, when they call the same
        self.patience = patience  # seconds it may wait for more; then it need not be synced either
        self.fired: Deferred[Any] = Deferred()

    def joins(self, other: _Unit) -> bool:
        """Tell whether it shares the call of the unit before it."""
        return self.shares and other.shares and self.fn == other.fn


@dataclass(slots=True, eq=False)
class _Outcome:
    """What one batch came to: a value or an exception for each unit, or one error for all of them."""

    results: list[tuple[bool, Any]]
    seconds: float = 0.0  # of the commit
    error: StoreError | None = None
    fatal: bool = False


class Database:
    """Runs functions over a transaction, in the order in which they were given, many to a commit.

    A function may run on another thread than the reactor's; it may touch nothing but its transaction and immutable values.
    """

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        call_later: Callable[..., object],
        on_failure: Callable[[StoreError], None] = lambda error: None,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._call_later = call_later
        self._on_failure = on_failure
        self._waiting: deque[_Unit] = deque()
        self._due = self._patient = False
        self._busy = False
        self._closing: list[Deferred[None]] = []
        self._closed = False
        self.failed: StoreError | None = None  # for good
        self.reached = True  # whether the last batch came through

    @property
    def shared(self) -> bool:
        """Whether other nodes may write to this store too."""
        return self._engine.shared

    def run(self, name: str, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Fire with what `fn(tx, *args)` returned, once it is durable.

        Fails with the function's own exception, its changes undone alone; with StoreError when the commit failed.
        """
        return self._add(name, True, fn, args, kwargs)

    def run_each(
        self, name: str, fn: Callable[[Transaction, Sequence[Item]], Sequence[T]], item: Item, patience: float = 0.0
    ) -> Deferred[T]:
        """Do as `run` does with `fn(tx, items)`, which returns one result for each item: those that wait side by side share a call.

        When it raises, what it did is undone and it gets each item alone, so that one that fails harms no other. With `patience`
        nobody waits for it: it may wait so many seconds for its neighbours, and its commit is not synced when theirs need not be.
        """
        return self._enter(_Unit(name, True, fn, (item,), True, patience))

    def read(self, name: str, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Do as `run` does, for a function that writes nothing."""
        return self._add(name, False, fn, args, kwargs)

    def close(self) -> Deferred[None]:
        """Take nothing new, finish what waits, let the database go."""
        if self._closed:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        if not self._busy and not self._waiting:
            self._let_go()
        return closed

    def _add(self, name: str, write: bool, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Deferred[T]:
        return self._enter(_Unit(name, write, (lambda tx, *a: fn(tx, *a, **kwargs)) if kwargs else fn, args))

    def _enter(self, unit: _Unit) -> Deferred[Any]:
        if self.failed is not None:
            return fail(StoreError(f"{unit.name}: the store has failed ({self.failed})"))
        if self._closing or self._closed:
            return fail(StoreError(f"{unit.name}: the store is closed"))
        self._waiting.append(unit)
        if not unit.patience:
            self._wake()
        elif not self._patient:
            self._patient = True
            self._call_later(unit.patience, self._wake_patient)
        return unit.fired

    def _wake_patient(self) -> None:
        self._patient = False
        self._wake()

    def _wake(self) -> None:
        if not self._due and not self._busy:
            self._due = True
            self._call_later(0, self._start)

    def _start(self) -> None:
        self._due = False
        if not self._waiting:
            return
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_UNITS))]
        self._busy = True
        self._engine.perform(lambda: self._perform(batch), lambda outcome: self._finish(batch, outcome))

    def _perform(self, batch: list[_Unit]) -> _Outcome:
        """Run the batch in one transaction; on the engine's thread, so it touches the engine only."""
        engine, write = self._engine, any(unit.write for unit in batch)
        synced = not write or any(unit.write and not unit.patience for unit in batch)
        results: list[tuple[bool, Any]] = []
        try:
            tx = engine.begin(write, synced=synced)
            for units in _calls(batch):
                if write and results:  # where nothing was done before it, a call that fails undoes everything
                    engine.mark()
                results += self._attempt(tx, units)
            began = time.perf_counter()
            engine.commit()
            return _Outcome(results, time.perf_counter() - began)
        except Exception as error:
            engine.rollback()
            names = ", ".join(sorted({unit.name for unit in batch}))
            why = str(error) if isinstance(error, StoreError) else type(error).__name__
            fatal = error.fatal if isinstance(error, TransactionLost) else True
            return _Outcome([], error=StoreError(f"{names}: {why}"), fatal=fatal)

    def _attempt(self, tx: Transaction, units: list[_Unit]) -> list[tuple[bool, Any]]:
        """Return what one call came to for each of the units that share it."""
        unit, results = units[0], []
        try:
            values = unit.fn(tx, [unit.args[0] for unit in units]) if unit.shares else [unit.fn(tx, *unit.args)]
            self._engine.check()
        except TransactionLost:
            raise
        except Exception as error:
            self._engine.undo()
            if len(units) == 1:
                return [(False, Failure(error))]
            for unit in units:
                self._engine.mark()
                results += self._attempt(tx, [unit])
            return results
        return [(True, value) for value in values]

    def _finish(self, batch: list[_Unit], outcome: _Outcome) -> None:
        self._busy = False
        self.reached = outcome.error is None
        if outcome.error is not None:
            lost = outcome.error
            if outcome.fatal and self.failed is None:
                self.failed = lost
                batch += self._waiting
                self._waiting.clear()
                self._on_failure(lost)
            for unit in batch:
                unit.fired.errback(StoreError(str(lost)))
        else:
            self._count(batch, outcome.seconds)
            for unit, (done, value) in zip(batch, outcome.results, strict=True):
                if done:
                    unit.fired.callback(value)
                else:
                    unit.fired.errback(value)
        if self._waiting:
            self._wake()
        elif self._closing and not self._busy:
            self._let_go()

    def _count(self, batch: list[_Unit], seconds: float) -> None:
        if any(unit.write for unit in batch):
            self._metrics.commits.inc()
            self._metrics.commit_size.observe(len(batch))
            self._metrics.commit_seconds.observe(seconds)

    def _let_go(self) -> None:
        self._closed = True
        self._engine.close()
        closing, self._closing = self._closing, []
        for closed in closing:
            closed.callback(None)


def _calls(batch: list[_Unit]) -> list[list[_Unit]]:
    """Return the units that share each call, in order."""
    calls: list[list[_Unit]] = []
    for unit in batch:
        if calls and unit.joins(calls[-1][-1]):
            calls[-1].append(unit)
        else:
            calls.append([unit])
    return calls


def open_database(
    where: str | Path,
    *,
    metrics: Metrics,
    call_later: Callable[..., object],
    call_from_thread: Callable[..., object],
    on_failure: Callable[[StoreError], None] = lambda error: None,
    read_only: bool = False,
) -> Database:
    """Open, and bring up to date, the store at a file, ":memory:" or a "postgresql://" address; raises StoreError.

    `read_only` looks at a store that another process may be using, and changes nothing.
    """
    return Database(_open_engine(where, call_from_thread, read_only), metrics, call_later, on_failure)


def look(where: str | Path, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `fn(tx, *args)` finds in a store that another process may be using; blocks, raises StoreError."""
    engine = _open_engine(where, lambda *_: None, True)
    try:
        return fn(engine.begin(False), *args, **kwargs)
    finally:
        engine.rollback()
        engine.close()


def reach(address: str, seconds: float) -> None:
    """Connect to a "postgresql://" address and leave, whether its tables are there or not; blocks, raises StoreError."""
    from broker.store import postgres  # the driver is needed here only

    postgres.reach(address, seconds)


def _open_engine(where: str | Path, call_from_thread: Callable[..., object], read_only: bool) -> Engine:
    if str(where).startswith(("postgresql://", "postgres://")):
        from broker.store import postgres  # the driver is needed here only

        return postgres.open_engine(str(where), call_from_thread, read_only=read_only)
    return sqlite.open_engine(where, read_only=read_only)
