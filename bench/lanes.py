"""Deliveries a second out of a full outbox, over one connection and over several, to peers that take their time and that do not.

python bench/lanes.py [MESSAGES]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import deque
from pathlib import Path

from load import Sink, order
from process import HERE, TOP, free_ports, running

sys.path.insert(0, str(TOP))

from broker.model import Outgoing, Received
from broker.obs.metrics import Metrics
from broker.store import journal, outbox
from broker.store.database import open_database
from broker.store.engine import Transaction

PATIENTS = 32
DELAYS = (0.0, 0.001, 0.01)  # seconds in which the peer answers
WIDTHS = (1, 4)


def fill(path: Path, messages: int) -> None:
    """Let a store hold so many waiting deliveries, of several patients in turn."""

    def write(tx: Transaction) -> None:
        received = Received("hospital", "hl7", "ORM^O01", "EHR|GENHOSP", "", "", b"", "d")
        id = journal.insert(tx, received, 1.0, state="routed")
        sent = [
            Outgoing("sink", f"PAT{n % PATIENTS:06d}", "through", "ORM^O01", order(n, n % PATIENTS), f"BENCH{n:08d}")
            for n in range(messages)
        ]
        outbox.enqueue(tx, [(id, one) for one in sent], 1.0)

    calls: deque[object] = deque()
    db = open_database(
        path, metrics=Metrics(), call_later=lambda _, call: calls.append(call), call_from_thread=lambda call, *args: call(*args)
    )
    db.run("fill", write)
    while calls:
        calls.popleft()()  # type: ignore[operator]
    db.close()


def rate(width: int, delay: float, messages: int) -> float:
    """Return the deliveries a second over so many connections to a peer that answers each message after a delay."""
    return asyncio.run(_rate(width, delay, messages))


async def _rate(width: int, delay: float, messages: int) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        names = ("HL7_PORT", "WEB_PORT", "SINK_PORT")
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        data = Path(folder) / "data"
        fill(data / "broker.db", messages)
        environment = {**{n: str(p) for n, p in ports.items()}, "BROKER_DATA": str(data), "PYTHONPATH": str(TOP), "WIDTH": str(width)}
        command = [sys.executable, "-m", "broker", "--config", str(HERE / "passthrough" / "channels.yaml"), "run"]
        sink, loop = Sink(delay), asyncio.get_running_loop()
        peer = await loop.create_server(sink.protocol, "127.0.0.1", ports["SINK_PORT"])
        try:
            with running(command, [ports["HL7_PORT"]], environment, Path(folder)):
                while len(sink.seen) < messages:
                    await asyncio.sleep(0.02)
        finally:
            peer.close()
        if sink.disorder:
            raise RuntimeError(f"{sink.disorder} deliveries out of their patient's order")
        return (len(sink.seen) - 1) / (sink.at - sink.began)


def main(messages: int = 8000) -> None:
    """Print the rate for each delay and width."""
    for delay in DELAYS:
        count = messages if not delay else max(200, int(messages * 0.0005 / delay))
        rates = [rate(width, delay, count) for width in WIDTHS]
        shown = ", ".join(f"{width} connection{'s' * (width > 1)} {found:,.0f}/s" for width, found in zip(WIDTHS, rates, strict=True))
        print(f"  peer answers after {delay * 1000:g} ms: {shown}, ratio {rates[-1] / rates[0]:.2f}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
