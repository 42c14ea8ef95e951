"""Units of journal + enqueue + settle a second, by commit size: `python bench/store.py [postgresql://…]`.

One unit is what one relayed HL7 message costs the store: the look-up for a retransmission, the journal row with its answer,
one delivery, and its settling in a later commit. The floor is two bare inserts and an update on a table without indexes.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from queue import SimpleQueue

from broker.model import Outgoing, Received
from broker.obs.metrics import Metrics
from broker.store import journal, outbox
from broker.store.database import Database, open_database
from broker.store.engine import Transaction

RAW = b"MSH|^~\\&|EHR|HOSP|BROKER|RAD|20260302080000||ORM^O01^ORM_O01|%d|P|2.5.1\r" + b"PID|1||4711^^^HOSP^MR||DOE^JANE\r" * 20
ACK = b"MSH|^~\\&|BROKER|RAD|EHR|HOSP|20260302080000||ACK^O01^ACK|1|P|2.5.1\rMSA|AA|1\r"
SIZES = (1, 8, 32)
SECONDS = 1.0

numbers = count(1)


def accept(tx: Transaction, control_ids: Sequence[str]) -> list[int]:
    """Do to the store what accepting messages does, and return their deliveries."""
    arrived = [Received("bench", "hl7", "ORM^O01", "EHR|HOSP", "127.0.0.1:1", id, RAW, "d" * 64) for id in control_ids]
    journal.seen(tx, [journal.name(received) for received in arrived])
    kept = [(journal.reserve(tx), received) for received in arrived]
    journal.write(tx, [journal.row_of(received, 1.0, id, "routed", ACK, "", "A1") for id, received in kept])
    sent = [(id, Outgoing("archive", "4711", "orders", "ORM^O01", RAW, received.control_id, "A1")) for id, received in kept]
    return [delivery.id for delivery in outbox.enqueue(tx, sent, 1.0)]


def measure(db: Database, pump: Callable[[], None], size: int) -> float:
    """Return the units a second when `size` of them share a commit."""
    done, settled, began = 0, [], time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        if settled:
            db.run("delivery.settle", outbox.delivered, [(id, "AA") for id in settled], 2.0)
        waiting = [db.run_each("journal.accept", accept, f"M{next(numbers)}") for _ in range(size)]
        results: list[int] = []
        for fired in waiting:
            fired.addCallback(results.append)
        while len(results) < size:
            pump()
        settled = results
        done += size
    return done / (time.perf_counter() - began)


def floor(path: Path, size: int) -> float:
    """Return the units a second of the least a store can do."""
    db = sqlite3.connect(path, isolation_level=None)
    for sql in ("pragma journal_mode=wal", "pragma synchronous=full", "pragma wal_autocheckpoint=4000"):
        db.execute(sql)
    db.execute("create table if not exists message (id integer primary key, channel text, control_id text, raw blob, at real)")
    db.execute("create index if not exists message_control_id on message (control_id)")
    db.execute("create table if not exists delivery (id integer primary key, message integer, destination text, state int)")
    done, settled, began = 0, [], time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        db.execute("begin")
        rows = []
        for _ in range(size):
            id = db.execute("insert into message (channel, control_id, raw, at) values ('floor', ?, ?, 1)", (f"M{done}", RAW)).lastrowid
            rows.append(db.execute("insert into delivery (message, destination, state) values (?, 'peer', 0)", (id,)).lastrowid)
        db.executemany("update delivery set state = 1 where id = ?", [(row,) for row in settled])
        db.execute("commit")
        settled = rows
        done += size
    db.close()
    return done / (time.perf_counter() - began)


def report(where: str, address: str | Path) -> None:
    """Print one line per commit size for a store."""
    later: list[Callable[[], object]] = []
    arrived: SimpleQueue[Callable[[], object]] = SimpleQueue()
    threaded = str(address).startswith("postgres")

    def pump() -> None:
        while later:
            later.pop(0)()
        if threaded:
            arrived.get()()

    db = open_database(
        address,
        metrics=Metrics(),
        call_later=lambda seconds, fn: later.append(fn),
        call_from_thread=lambda fn, *args: arrived.put(lambda: fn(*args)),
    )
    for size in SIZES:
        print(f"{where:12} {size:4} a commit {measure(db, pump, size):10,.0f} units/s", flush=True)
    db.close()


def main() -> None:
    """Measure the floor, SQLite, and the PostgreSQL given as argument."""
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            print(f"{'floor':12} {size:4} a commit {floor(Path(folder) / 'floor.db', size):10,.0f} units/s", flush=True)
        report("SQLite", Path(folder) / "broker.db")
    for address in sys.argv[1:]:
        report("PostgreSQL", address)


if __name__ == "__main__":
    main()
