"""Load for seconds here and for hours with SOAK_SECONDS: all is answered and delivered, once and in order, and memory stays bounded."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import BrokerProcess, Sender, Sink, eventually

SECONDS = float(os.environ.get("SOAK_SECONDS", "6"))
SENDERS = 4
GROWTH_MB = 64  # from half-time to the end; caches are warm by then

ORDER = (
    "MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260302080000||ORM^O01|SOAK{n}|P|2.3.1\r"
    "PID|1||SOAK{sender}^^^GENHOSP^MR||DOE^JANE||19700101|F\r"
    "PV1|1|O|RAD\r"
    "ORC|NW|SOAK{n}^EHR\r"
    "OBR|1|SOAK{n}^EHR||XRCHEST^XR CHEST^LOCAL\r"
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    made = BrokerProcess(tmp_path)
    yield made
    if made.process and made.process.poll() is None:
        made.kill()


def resident_mb(broker: BrokerProcess) -> float:
    lines = broker.get("/metrics").decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("process_resident_memory_bytes ")) / 2**20


def send(port: int, number: int, until: float, answered: list[int], refused: list[str]) -> None:
    """Send orders of one patient, one after the other, until the time is over."""
    sender = Sender(port)
    count = number
    while time.monotonic() < until:
        answer = sender.send(ORDER.format(n=count, sender=number))
        if f"MSA|AA|SOAK{count}" in answer:
            answered.append(count)
        else:
            refused.append(answer)
            break
        count += SENDERS
    sender.close()


def test_load_is_carried_for_as_long_as_it_lasts(broker: BrokerProcess) -> None:
    sinks = {name: Sink(broker.ports[name]) for name in ("ARCHIVE_HL7_PORT", "EHR_HL7_PORT", "BILLING_HL7_PORT")}
    for sink in sinks.values():
        sink.start()
    try:
        broker.start()
        until = time.monotonic() + SECONDS
        answered: list[list[int]] = [[] for _ in range(SENDERS)]
        refused: list[str] = []
        arguments = [(broker.ports["HL7_PORT"], n, until, answered[n], refused) for n in range(SENDERS)]
        threads = [threading.Thread(target=send, args=each, daemon=True) for each in arguments]
        for thread in threads:
            thread.start()
        threads[0].join(SECONDS / 2)
        half = resident_mb(broker)
        for thread in threads:
            thread.join(SECONDS + 60)
            assert not thread.is_alive()
        assert refused == []
        total = sum(map(len, answered))
        archive = sinks["ARCHIVE_HL7_PORT"]
        eventually(lambda: len(archive.of("OMI^O23")) >= total, "every order reached the archive", 120 + SECONDS)
        end = resident_mb(broker)
        print(f"\n{SECONDS:g} s, {total} orders, {half:.0f} MB at half-time and {end:.0f} MB at the end")
        assert orders(archive, 0) == answered[0]
        assert sum(len(orders(archive, n)) for n in range(SENDERS)) == total
        assert end - half < GROWTH_MB
        assert broker.stop() == 0
    finally:
        for sink in sinks.values():
            sink.stop()


def orders(sink: Sink, sender: int) -> list[int]:
    """Return the numbers of one sender's orders as the archive got them."""
    mine = [raw.decode() for raw in sink.of("OMI^O23") if f"SOAK{sender}^".encode() in raw.split(b"\rPID|", 1)[1].split(b"\r")[0]]
    return [int(text.split("\rORC|", 1)[1].split("SOAK", 1)[1].split("^")[0].split("|")[0]) for text in mine]
