"""What pseudonyms stand for, by destination."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from broker.store.engine import Transaction


@dataclass(frozen=True, slots=True)
class Known:
    """One pseudonym."""

    destination: str
    kind: str  # patient, uid
    original: str
    pseudonym: str
    first_at: float  # seconds since the epoch


def keep(tx: Transaction, destination: str, given: Iterable[Sequence[str]], now: float) -> None:
    """Keep pseudonyms as (kind, original, pseudonym); those known are left as they are."""
    tx.many(
        "insert into pseudonym (destination, kind, original, pseudonym, first_at) values (?, ?, ?, ?, ?)"
        " on conflict (destination, pseudonym) do nothing",
        [(destination, *one, now) for one in given],
    )


def find(tx: Transaction, text: str) -> list[Known]:
    """Return what a pseudonym stands for, or what stands for an original."""
    columns = "destination, kind, original, pseudonym, first_at"
    rows = tx.all(f"select {columns} from pseudonym where pseudonym = ? or original = ? order by destination, kind", (text, text))
    return [Known(*row) for row in rows]
