"""The cost of a message by what the journal holds already: python bench/flat.py [ROWS …], such as 0 1000000 5000000.

The rows are as long as messages are wide in columns, but their bodies are short: what could make a message dearer are the indexes and
the depth of the tables, and both go by the number of rows.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from load import Figures, Sink, load
from process import HERE, TOP, cpu, free_ports, resident, running

sys.path.insert(0, str(TOP))

from broker.obs.metrics import Metrics
from broker.store.database import open_database

SIZES = (0, 1_000_000, 5_000_000)
CONNECTIONS = 8
MESSAGES = 5000

# the same control ids as the load uses, of other senders, so that the index grows where it will be looked into
_MESSAGES = """
insert into message (id, received_at, answered_at, listener, protocol, kind, sender, peer, control_id, digest, state, reason, accession,
                     answer, raw)
with recursive n(i) as (values (1) union all select i + 1 from n where i < ?)
select i, 1.0 + i, 1.0 + i, 'hospital', 'hl7', 'ORM^O01', 'SENDER' || (i % 7) || '|GENHOSP', '127.0.0.1:50000', printf('BENCH%08d', i),
       printf('%032x', i), 'routed', '', printf('A%08d', i), x'4D53417C41417C31', x'4D53487C5E7E5C267C' from n"""
_DELIVERIES = """
insert into delivery (id, message_id, destination, lane, channel, kind, control_id, accession, state, attempts, queued_at, settled_at,
                      answer, payload)
select id, id, 'sink', 'PAT000001', 'through', kind, control_id, accession, 'delivered', 1, received_at, received_at, 'AA', raw
  from message"""


def fill(path: Path, rows: int) -> float:
    """Make a store of so many messages, each delivered, and return the seconds that it took."""
    began = time.perf_counter()
    calls: deque[Callable[[], object]] = deque()
    db = open_database(
        path, metrics=Metrics(), call_later=lambda _, call: calls.append(call), call_from_thread=lambda call, *args: call(*args)
    )
    db.close()
    if rows:
        with sqlite3.connect(path, isolation_level=None) as raw:
            for pragma in ("synchronous=off", "journal_mode=memory", "cache_size=-262144"):
                raw.execute(f"pragma {pragma}")
            indexes = raw.execute("select name, sql from sqlite_master where type = 'index' and sql is not null").fetchall()
            ours = [(name, sql) for name, sql in indexes if name.startswith(("message_", "delivery_"))]
            for name, _ in ours:
                raw.execute(f"drop index {name}")
            raw.execute("begin")
            raw.execute(_MESSAGES, (rows,))
            raw.execute(_DELIVERIES)
            raw.execute("commit")
            for _, sql in ours:  # sorting once is faster than keeping sorted
                raw.execute(sql)
            raw.execute("pragma journal_mode=wal")
        raw.close()
    return time.perf_counter() - began


async def measure(rows: int, filled: Callable[[float], None]) -> Figures:
    """Return the figures of a broker whose journal holds so many messages."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=TOP) as folder:
        names = ("HL7_PORT", "WEB_PORT", "SINK_PORT")
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        data = Path(folder) / "data"
        filled(fill(data / "broker.db", rows))
        environment = {**{n: str(p) for n, p in ports.items()}, "BROKER_DATA": str(data), "PYTHONPATH": str(TOP)}
        command = [sys.executable, "-m", "broker", "--config", str(HERE / "passthrough" / "channels.yaml"), "run"]
        sink, loop = Sink(), asyncio.get_running_loop()
        peer = await loop.create_server(sink.protocol, "127.0.0.1", ports["SINK_PORT"])
        try:
            with running(command, [ports["HL7_PORT"]], environment, Path(folder)) as process:
                await load(ports["HL7_PORT"], sink, CONNECTIONS, 200)
                before = cpu(process)
                figures = await load(ports["HL7_PORT"], sink, CONNECTIONS, MESSAGES)
                return replace(figures, cpu=(cpu(process) - before) / MESSAGES * 1e6, resident=resident(process))
        finally:
            peer.close()


def main(*sizes: int) -> None:
    """Print acknowledged and delivered messages a second for each size, and their ratio to the first."""
    first: Figures | None = None
    for rows in sizes or SIZES:
        took: list[float] = []
        figures = asyncio.run(measure(rows, took.append))
        first = first or figures
        print(
            f"  {rows:>9,} messages in the journal (filled in {took[0]:.0f} s): {figures.acked:>7,.0f} acknowledged/s "
            f"({figures.acked / first.acked:.2f}), p99 {figures.p99:.2f} ms, {figures.delivered:>6,.0f} delivered/s "
            f"({figures.delivered / first.delivered:.2f}), {figures.cpu:.0f} µs CPU a message, "
            f"resident {figures.resident:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
