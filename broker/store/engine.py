"""The seam between the store and a database: what a transaction offers, and what an engine does for group commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from broker.errors import StoreError

Row = tuple[Any, ...]
Params = Sequence[object]


class TransactionLost(StoreError):
    """The transaction is gone with everything in it; `fatal` says that the engine cannot go on after it."""

    def __init__(self, why: str, *, fatal: bool) -> None:
        super().__init__(why)
        self.fatal = fatal


class Transaction(Protocol):
    """One transaction; `?` is the placeholder on every engine.

    A statement that its data makes impossible raises `MessageError`, any other failure `StoreError`. Text that a database
    cannot hold (lone surrogates; NUL on PostgreSQL) is kept with U+FFFD in its place. To carry on after a failed statement,
    run it inside `savepoint()`.
    """

    def execute(self, sql: str, params: Params = ()) -> int:
        """Run a statement and return the number of rows it touched."""

    def many(self, sql: str, rows: Sequence[Params]) -> None:
        """Run a statement once for each row of parameters."""

    def one(self, sql: str, params: Params = ()) -> Row | None:
        """Return the first row of a query, or None."""

    def all(self, sql: str, params: Params = ()) -> list[Row]:
        """Return the rows of a query."""

    def insert(self, sql: str, params: Params = ()) -> int:
        """Run an `insert … returning id` of one row and return its id."""

    def reserve(self, table: str) -> int:
        """Return an id for a row to be inserted into `table` later; it is never given twice, and may stay unused."""

    def ids(self, table: str, count: int) -> list[int]:
        """Return ids for rows to be inserted before the commit: they grow, and are greater than any that any node has committed."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Undo what the block did to the database when it raises."""


class Engine(Protocol):
    """One database under group commit: `begin`, then per unit `mark` and, when it failed, `undo`; then `commit`.

    All of these but `perform` run wherever `perform` runs the job; `TransactionLost` from any of them ends the batch.
    """

    shared: bool  # whether other nodes may write to it too

    def perform(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run the job where this engine works and hand its result to `done` on the reactor's thread."""

    def begin(self, write: bool, *, synced: bool = True) -> Transaction:
        """Open a transaction; one that writes is alone among all nodes until its commit.

        Not `synced`: its commit may be lost when the power fails, until the next one that is synced.
        """

    def mark(self) -> None:
        """Make this the place where `undo` returns to."""

    def undo(self) -> None:
        """Return to the last mark; without one, to the beginning of the transaction."""

    def check(self) -> None:
        """Raise StoreError when a statement failed and the unit went on as if it had not."""

    def commit(self) -> None:
        """Make everything durable."""

    def rollback(self) -> None:
        """Give the transaction up; never raises."""

    def close(self) -> None:
        """Let the database go, once nothing is being performed."""


def storable(params: Params) -> tuple[object, ...]:
    """Return the parameters with U+FFFD for every character that a database cannot hold."""
    return tuple(_clean(p) if isinstance(p, str) else p for p in params)


def _clean(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "�")
