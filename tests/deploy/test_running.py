"""A broker that just started already exports what the alerts on its own health need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import BrokerProcess


@pytest.fixture
def metrics(tmp_path: Path) -> Iterator[str]:
    broker = BrokerProcess(tmp_path)
    try:
        broker.start()
        yield broker.get("/metrics").decode()
    finally:
        if broker.process:
            broker.kill()


def test_the_alerts_on_a_node_have_their_series_from_the_start(metrics: str) -> None:
    values = {name: float(value) for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? (\S+)$", metrics, re.MULTILINE)}
    assert values["broker_store_up"] == 1
    assert 0 < values["broker_disk_free_bytes"] < values["broker_disk_size_bytes"]
    assert values["process_resident_memory_bytes"] > 0
    assert {"broker_destination_up", "broker_queue_depth", "broker_queue_oldest_seconds"} <= set(values)
