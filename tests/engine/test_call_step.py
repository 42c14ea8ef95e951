"""A route that calls a function of the site: what the sender hears, and what becomes of the message and of the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.load import load
from broker.connectors import registry
from broker.engine.rules import rules_of
from broker.errors import ConfigError
from tests.engine.house import House

CHANNELS = """\
version: 1
site: {name: General, authority: GENHOSP}
listeners: {hospital: {mllp: {port: 0}}}
destinations: {ehr: {mllp: {host: 127.0.0.1, port: 2577}}}
channels: {orders: {from: hospital, route: routes/orders.yaml}}
"""
ROUTE = """\
description: Orders.
steps:
  - call: {module: site/orders.py, function: mark, limit: 10s}
  - when: PID-8 = X
    call: {module: site/orders.py, function: hang, limit: 50ms}
to: [{send: ehr}]
"""
MODULE = """\
def mark(message):
    if message.get("PID-8") == "E":
        raise ValueError(message.get("PID-5"))
    message.set("ZAA-1", "seen")


def hang(message):
    while True:
        pass
"""
RAW = "MSH|^~\\&|EHR|H|B|R|2026||ADT^A04|{id}|P|2.5.1\rPID|1||4711^^^H||DOE^JANE|||{sex}\r"


@pytest.fixture
def house(tmp_path: Path) -> House:
    for name, text in {"channels.yaml": CHANNELS, "routes/orders.yaml": ROUTE, "site/orders.py": MODULE}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return House(tmp_path, load(tmp_path / "channels.yaml", {}, registry))


def sent(house: House, id: str, sex: str) -> str:
    return house.say(RAW.format(id=id, sex=sex))


def test_a_function_that_fails_parks_its_message_and_the_next_one_goes_on(house: House) -> None:
    assert "MSA|AA|1" in sent(house, "1", "F")
    raised = sent(house, "2", "E")
    assert "MSA|AE|2" in raised
    assert "site/orders.py, line 3: mark raised ValueError" in raised
    hung = sent(house, "3", "X")
    assert "MSA|AE|3" in hung
    assert "hang takes longer than its limit of 0.05s" in hung
    assert "MSA|AA|4" in sent(house, "4", "F")
    assert [delivery.control_id for delivery in house.sent] == ["1", "4"]
    assert all(b"ZAA|seen" in delivery.payload for delivery in house.sent)
    assert "JANE" not in house.printed.getvalue() + raised + hung


def test_a_module_that_cannot_be_loaded_keeps_the_configuration_from_running(tmp_path: Path, house: House) -> None:
    (tmp_path / "site/orders.py").write_text("import no_such_module\n" + MODULE)
    with pytest.raises(ConfigError) as caught:
        rules_of(load(tmp_path / "channels.yaml", {}, registry))
    assert [str(problem) for problem in caught.value.problems] == ["site/orders.py:1: cannot be loaded: ModuleNotFoundError"]
