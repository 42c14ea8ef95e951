"""Quantities as they stand in YAML, and options that are a mapping or nothing."""

from __future__ import annotations

import pytest

from broker.connectors import registry
from broker.pipeline.steps import STEPS
from broker.spec import Capacity, Option, Spec, capacity, percent, size

SPECS = [*(kind.spec for kind in STEPS.values()), *registry.LISTENERS.values(), *registry.DESTINATIONS.values()]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind} {spec.name}")
def test_every_option_is_declared_once(spec: Spec) -> None:
    for options in (spec.options, *(option.options for option in spec.options)):
        names = [option.name for option in options]
        assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize(("text", "share"), [("90%", 0.9), ("0%", 0.0), ("100 %", 1.0), ("12.5%", 0.125)])
def test_a_percentage_is_a_share(text: str, share: float) -> None:
    assert percent(text) == share


@pytest.mark.parametrize("text", ["90", "0.9", "101%", "-1%", "%", ""])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="percentage"):
        percent(text)


@pytest.mark.parametrize(
    ("text", "found", "of_a_thousand"),
    [("80%", Capacity(share=0.8), 800), ("2 KB", Capacity(size=2048), 2048), ("1 TB", Capacity(1024**4), 1024**4)],
)
def test_a_capacity_is_a_size_or_a_share(text: str, found: Capacity, of_a_thousand: int) -> None:
    assert capacity(text) == found
    assert found.of(1000) == of_a_thousand


def test_sizes_go_up_to_terabytes() -> None:
    assert size("1.5 TB") == 3 * 1024**4 // 2


def test_a_switch_is_a_mapping_with_its_defaults_or_nothing() -> None:
    option = Option("echo", "switch", "Ask.", default=None, options=(Option("every", "duration", "How often.", default="30s"),))
    assert option.read(True) == {"every": 30.0}
    assert option.read({"every": "5s"}) == {"every": 5.0}
    assert option.read(False) is None
    assert option.read(None) is None
    assert option.schema()["type"] == ["boolean", "object"]
