"""Numbered migrations: `sql/NNNN_name.sql`, applied in order, each once, each with its version row in one transaction."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from broker.errors import StoreError
from broker.store.engine import Engine, Transaction

T = TypeVar("T")

FOLDER = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `sql/`."""

    version: int
    name: str
    sql: str  # with the tokens {id}, {text} and {blob} where the engines differ

    def statements(self, tokens: Mapping[str, str]) -> list[str]:
        """Return its statements for one engine; a statement ends with a semicolon at the end of a line."""
        text = self.sql
        for token, meaning in tokens.items():
            text = text.replace(token, meaning)
        return [s for s in (part.strip() for part in re.split(r";[ \t]*(?:\n|$)", text)) if s]


def shipped(folder: Path = FOLDER) -> list[Migration]:
    """Return the migrations of a folder in order; raises StoreError when the numbers have a gap or a double."""
    found = [Migration(int(file.name[:4]), file.stem[5:], file.read_text("utf-8")) for file in sorted(folder.glob("[0-9]*.sql"))]
    if [m.version for m in found] != list(range(1, len(found) + 1)):
        raise StoreError("the migrations are not numbered 1, 2, 3, …")
    return found


def upgrade(
    engine: Engine,
    tokens: Mapping[str, str],
    *,
    backup: Callable[[int], None] = lambda version: None,
    known: list[Migration] | None = None,
) -> None:
    """Apply what is missing, after `backup(version)` when the store has held data before.

    Raises StoreError, and changes nothing, when the store was written by a newer broker.
    """
    known = shipped() if known is None else known
    version = _within(engine, lambda tx: _begun(tx, len(known)))
    if 0 < version < len(known):
        backup(version)
    for migration in known[version:]:
        _within(engine, lambda tx, m=migration: _apply(tx, m, tokens))  # type: ignore[misc]


def require(engine: Engine) -> None:
    """Raise StoreError unless the store has exactly the tables this broker works with."""
    newest = len(shipped())
    version = _within(engine, lambda tx: _version(tx, newest), write=False)
    if version != newest:
        raise StoreError(f"the store has schema version {version}, this broker works with {newest}; start the broker once to upgrade it")


def _begun(tx: Transaction, newest: int) -> int:
    tx.execute(
        "create table if not exists schema_version (version bigint primary key, name text not null, applied_at double precision not null)"
    )
    return _version(tx, newest)


def _version(tx: Transaction, newest: int) -> int:
    row = tx.one("select coalesce(max(version), 0) from schema_version")
    version = int(row[0]) if row else 0
    if version > newest:
        raise StoreError(f"the store has schema version {version}, written by a newer broker; this one knows up to {newest}")
    return version


def _apply(tx: Transaction, migration: Migration, tokens: Mapping[str, str]) -> None:
    taken = tx.one("select 1 from schema_version where version = ?", (migration.version,))
    if taken:  # another node was first
        return
    for statement in migration.statements(tokens):
        tx.execute(statement)
    tx.execute("insert into schema_version (version, name, applied_at) values (?, ?, ?)", (migration.version, migration.name, time.time()))


def _within(engine: Engine, fn: Callable[[Transaction], T], *, write: bool = True) -> T:
    tx = engine.begin(write)
    try:
        value = fn(tx)
        engine.commit()
    except BaseException:
        engine.rollback()
        raise
    return value
