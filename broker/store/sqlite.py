"""SQLite: the embedded store of one node, committed inline on the reactor's thread.

Inline because a commit is shorter than two thread switches on a disk that deserves the name; group commit spreads it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import length_hint
from pathlib import Path
from typing import Any

from broker.errors import MessageError, StoreError
from broker.store import migrations
from broker.store.durable import sync
from broker.store.engine import Params, Row, TransactionLost, storable

MEMORY = ":memory:"

TOKENS = {"{id}": "integer primary key autoincrement", "{text}": "text", "{blob}": "blob"}

# Pages of 4 KB that the write-ahead log may hold before a commit also moves them into the file: 8 MB of log. The move makes that
# commit some milliseconds longer, for everything that waits for it; larger ones are seldom, but then felt.
CHECKPOINT_PAGES = 2000

PRAGMAS = (
    "pragma journal_mode=wal",
    "pragma synchronous=full",
    f"pragma wal_autocheckpoint={CHECKPOINT_PAGES}",
    "pragma journal_size_limit=67108864",  # bytes; a log that had to grow shrinks again
    "pragma cache_size=-8192",  # KiB; the system keeps the rest of the file, and more gained nothing measurable
    "pragma temp_store=memory",
    "pragma busy_timeout=5000",  # ms; for the moment in which somebody only reads
)

# Primary result codes after which nothing can be trusted to be kept.
FATAL = {
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
}

RETURNING_ID = " returning id"


class SqliteTransaction:
    """A `Transaction` on the one connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._next: dict[str, int] = {}  # the next free id of a table; this process is the only one that writes
        self._plain: dict[str, str] = {}  # `insert … returning id` -> without it: lastrowid says the same for less

    def execute(self, sql: str, params: Params = ()) -> int:
        """Run a statement and return the number of rows it touched."""
        return self._cursor(sql, params).rowcount

    def many(self, sql: str, rows: Sequence[Params]) -> None:
        """Run a statement once for each row of parameters."""
        remaining = iter(rows)
        try:
            self._db.executemany(sql, remaining)
        except UnicodeEncodeError:
            refused = len(rows) - length_hint(remaining) - 1  # the row that was taken last; those before it are written
            self.many(sql, [storable(params) for params in rows[refused:]])
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def one(self, sql: str, params: Params = ()) -> Row | None:
        """Return the first row of a query, or None."""
        cursor = self._cursor(sql, params)
        try:
            row: Row | None = cursor.fetchone()
        except sqlite3.Error as error:
            raise self._translated(error) from error
        cursor.close()
        return row

    def all(self, sql: str, params: Params = ()) -> list[Row]:
        """Return the rows of a query."""
        try:
            return self._cursor(sql, params).fetchall()
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def insert(self, sql: str, params: Params = ()) -> int:
        """Run an `insert … returning id` of one row and return its id."""
        plain = self._plain.get(sql)
        if plain is None:
            plain = self._plain[sql] = sql.removesuffix(RETURNING_ID)
        return self._cursor(plain, params).lastrowid or 0

    def reserve(self, table: str) -> int:
        """Return an id for a row to be inserted into `table` later; it is never given twice, and may stay unused."""
        id = self._next.get(table)
        if id is None:
            row = self.one("select seq from sqlite_sequence where name = ?", (table,))
            id = row[0] + 1 if row else 1
        self._next[table] = id + 1
        return id

    def ids(self, table: str, count: int) -> list[int]:
        """Return ids for rows to be inserted before the commit: they grow, and are greater than any that was committed."""
        first = self.reserve(table)
        self._next[table] = first + count
        return list(range(first, first + count))

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what the block did to the database when it raises."""
        self._cursor("savepoint inner_one", ())
        try:
            yield
        except TransactionLost:
            raise
        except BaseException:
            self._cursor("rollback to inner_one", ())
            self._cursor("release inner_one", ())
            raise
        self._cursor("release inner_one", ())

    def _cursor(self, sql: str, params: Params) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, params)
        except UnicodeEncodeError:
            return self._cursor(sql, storable(params))
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: sqlite3.Error) -> Exception:
        """Return the broker's error for the driver's; its text names the statement's fault, never a value."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in FATAL or not self._db.in_transaction:
            return TransactionLost(f"SQLite: {error}", fatal=True)
        if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
            return MessageError("", f"cannot be stored ({error})")
        return StoreError(f"SQLite: {error}")


class SqliteEngine:
    """An `Engine` that works on the thread that calls it."""

    shared = False

    def __init__(self, db: sqlite3.Connection, lock: int | None) -> None:
        self._db = db
        self._lock = lock  # the descriptor that keeps other processes out
        self._tx = SqliteTransaction(db)
        self._open = False
        self._marked = False
        self._synced = True  # as PRAGMAS have it
        self._begun = ""

    def perform(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run the job here and now."""
        done(job())

    def begin(self, write: bool, *, synced: bool = True) -> SqliteTransaction:
        """Open a transaction."""
        if write and synced is not self._synced:
            self._synced = synced
            self._statement(f"pragma synchronous={'full' if synced else 'normal'}")
        self._begun = "begin immediate" if write else "begin"
        self._statement(self._begun)
        self._open, self._marked = True, False
        return self._tx

    def mark(self) -> None:
        """Make this the place where `undo` returns to."""
        if self._marked:
            self._statement("release unit")
        self._statement("savepoint unit")
        self._marked = True

    def undo(self) -> None:
        """Return to the last mark, or to the beginning."""
        if self._marked:
            self._statement("rollback to unit")
        else:
            self._statement("rollback")
            self._statement(self._begun)

    def check(self) -> None:
        """Raise when the transaction is gone without the unit having noticed."""
        if not self._db.in_transaction:
            raise TransactionLost("SQLite gave the transaction up", fatal=True)

    def commit(self) -> None:
        """Make everything durable."""
        self._statement("commit")
        self._open = False

    def rollback(self) -> None:
        """Give the transaction up; never raises."""
        self._open = False
        if self._db.in_transaction:
            with suppress(sqlite3.Error):
                self._db.execute("rollback")

    def close(self) -> None:
        """Close the file and let the next process in."""
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)

    def _statement(self, sql: str) -> None:
        try:
            self._db.execute(sql)
        except sqlite3.Error as error:
            busy = (
                getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            )  # somebody else's tool holds the file; it will let go
            raise TransactionLost(f"SQLite could not {sql}: {error}", fatal=not busy) from error


def open_engine(where: str | Path, *, read_only: bool = False) -> SqliteEngine:
    """Open the file (created if missing, for its owner only) and bring its tables up to date; raises StoreError."""
    if str(where) == MEMORY:
        return _opened(_connect(MEMORY), None, None)
    path = Path(where)
    try:
        if read_only:
            return _looked_at(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(path)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path}: {error}") from error
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite gives the log the mode of the file
        return _opened(_connect(str(path)), lock, path)
    except (OSError, sqlite3.Error) as error:
        os.close(lock)
        raise StoreError(f"{path}: {error}") from error
    except StoreError:
        os.close(lock)
        raise


def _connect(database: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(database, isolation_level=None, cached_statements=512, uri=uri)


def _opened(db: sqlite3.Connection, lock: int | None, path: Path | None) -> SqliteEngine:
    try:
        for pragma in PRAGMAS:
            db.execute(pragma)
        engine = SqliteEngine(db, lock)
        migrations.upgrade(engine, TOKENS, backup=lambda version: _backup(db, path, version))
    except BaseException:
        db.close()
        raise
    return engine


def _looked_at(path: Path) -> SqliteEngine:
    engine = SqliteEngine(_connect(f"{path.resolve().as_uri()}?mode=ro", uri=True), None)
    try:
        migrations.require(engine)
    except BaseException:
        engine.close()
        raise
    return engine


def _lock(path: Path) -> int:
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"{path}: another broker is using this store; stop it first, or give this one its own data folder") from error
    return descriptor


def _backup(db: sqlite3.Connection, path: Path | None, version: int) -> None:
    """Copy the store as it is before an upgrade to `<file>.v<version>`, durable before the upgrade begins."""
    if path is None:
        return
    copy = path.with_name(f"{path.name}.v{version}")
    part = copy.with_name(copy.name + ".part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL, 0o600))
    target = sqlite3.connect(part)
    try:
        db.backup(target)
    finally:
        target.close()
    for target_path in (part, path.parent):
        if target_path == path.parent:
            part.replace(copy)
        sync(target_path)
