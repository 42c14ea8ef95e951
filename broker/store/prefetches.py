"""What is to be fetched ahead of exams; what the states mean: sql/0010_prefetch.sql."""

from __future__ import annotations

import json
from typing import NamedTuple

from broker.store.engine import Transaction

STATES = ("waiting", "done", "late", "cancelled")


class Prefetch(NamedTuple):
    """One exam's prior studies by one rule."""

    id: int
    exam_id: int
    accession: str
    rule: str
    starts: str  # YYYYMMDDHHMM, site time
    attempts: int
    moved: tuple[str, ...]  # Study Instance UIDs


def plan(tx: Transaction, exam_id: int, accession: str, rule: str, starts: str) -> None:
    """Have priors fetched; what is done already stays so, what was given up or waits follows the new time."""
    tx.execute(
        "insert into prefetch (exam_id, accession, rule, starts) values (?, ?, ?, ?) on conflict (exam_id, rule) do update"
        " set starts = excluded.starts, state = 'waiting', attempts = 0, again_at = 0 where prefetch.state <> 'done'",
        (exam_id, accession, rule, starts),
    )


def postpone(tx: Transaction, exam_id: int, starts: str) -> None:
    """Follow the new time of an exam."""
    tx.execute("update prefetch set starts = ? where exam_id = ? and state = 'waiting'", (starts, exam_id))


def cancel(tx: Transaction, exam_id: int) -> None:
    """Fetch nothing for an exam any more."""
    tx.execute("update prefetch set state = 'cancelled' where exam_id = ? and state = 'waiting'", (exam_id,))


def due(tx: Transaction, until: str, now: float, limit: int) -> list[Prefetch]:
    """Return what waits for exams that start by then (YYYYMMDDHHMM) and may be tried, the next exam first."""
    rows = tx.all(
        "select id, exam_id, accession, rule, starts, attempts, moved from prefetch"
        " where state = 'waiting' and starts <= ? and again_at <= ? order by starts, id limit ?",
        (until, now, limit),
    )
    return [Prefetch(*row)._replace(moved=tuple(json.loads(row[6]))) for row in rows]


def is_there(tx: Transaction, id: int, study: str) -> None:
    """Note that a study has got where it was wanted."""
    row = tx.one("select moved from prefetch where id = ?", (id,))
    moved = json.loads(row[0]) if row else []
    if study not in moved:
        tx.execute("update prefetch set moved = ? where id = ?", (json.dumps([*moved, study]), id))


def failed(tx: Transaction, id: int, reason: str, again_at: float) -> None:
    """Note an attempt that did not get everything there, and when the next one may follow; `reason` is free of patient data."""
    tx.execute(
        "update prefetch set attempts = attempts + 1, reason = ?, again_at = ? where id = ? and state = 'waiting'", (reason, again_at, id)
    )


def end(tx: Transaction, id: int, state: str) -> bool:
    """Settle a prefetch; False when it does not wait any more."""
    return tx.execute("update prefetch set state = ? where id = ? and state = 'waiting'", (state, id)) == 1


def waiting(tx: Transaction) -> int:
    """Return how many wait."""
    row = tx.one("select count(*) from prefetch where state = 'waiting'")
    return int(row[0]) if row else 0
