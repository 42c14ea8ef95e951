"""What is allowed and hardly meant is a warning; what may well be meant is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.check import Checked, check_config
from broker.connectors import registry
from tests.config.conftest import POINTER

OTHER = "127.0.0.1, port: 2599"  # host and port of nobody


def warned(folder: Path, *routes: str, retry: str = "") -> list[str]:
    """Return what is told of channels with these routes, which one listener feeds and whose destinations are `out` and `copy`."""
    channels = ", ".join(f"c{number}: {{from: hospital, route: c{number}.yaml}}" for number, _ in enumerate(routes, 1))
    (folder / "channels.yaml").write_text(
        "version: 1\nsite: {authority: HOSP}\nlisteners: {hospital: {mllp: {port: 2575}}}\ndestinations:\n"
        f"  out: {{mllp: {{host: {OTHER}{retry}}}}}\n  copy: {{mllp: {{host: {OTHER}}}}}\nchannels: {{{channels}}}\n{POINTER}"
    )
    for number, route in enumerate(routes, 1):
        (folder / f"c{number}.yaml").write_text(f"description: R.\n{route}\n{POINTER}")
    checked: Checked = check_config(folder / "channels.yaml", {}, registry)
    assert checked.problems == []
    return [f"{Path(one.file).name}:{one.line}: {one.what}" for one in checked.warnings if "no route sends" not in one.what]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("patience: 5s", "c1.yaml:2: has no effect: the sender is answered once the message is processed"),
        ("patience: 5s\nanswer: received", "c1.yaml:2: has no effect: the sender is answered once the message is received"),
        ("patience: 5s\nanswer: delivered", ""),
        ("steps: [{restore: attachments}]", "c1.yaml:2: there is nothing to put back: no route has the step extract"),
        ("steps: [{extract: attachments}, {restore: attachments}]", ""),
        ("steps: [{remove: MSH-9}]", "c1.yaml:2: MSH-9 is emptied, and receivers route by the type"),
        ("steps:\n  - remove: [ZPI, MSH-10]", "c1.yaml:3: MSH-10 is emptied, and an answer names the message by its control id"),
        ("steps: [{set: {MSH-10: ''}}]", "c1.yaml:2: MSH-10 is emptied, and an answer names the message by its control id"),
        ("steps: [{set: {fields: {MSH-9.1: }}}]", "c1.yaml:2: MSH-9.1 is emptied, and receivers route by the type"),
        ("steps: [{remove: MSH-9.3}, {set: {MSH-10: '{MSH-10}x'}}]", ""),
    ],
)
def test_what_a_route_hardly_means(tmp_path: Path, text: str, told: str) -> None:
    assert warned(tmp_path, f"{text}\nto: [{{send: out}}]") == ([told] if told else [])


@pytest.mark.parametrize(
    ("retry", "told"),
    [
        (", retry: {first: 10m}", ["channels.yaml:5: first is longer than most, which bounds it: every wait is that of most"]),
        (", retry: {first: 5m}", []),
        ("", []),
    ],
)
def test_a_first_wait_that_is_longer_than_the_longest(tmp_path: Path, retry: str, told: list[str]) -> None:
    assert warned(tmp_path, "to: [{send: out}]", retry=retry) == told


PLAIN = "accept: MSH-9.1 = ADT\nto: [{send: [copy, out]}]"


@pytest.mark.parametrize(
    "other",
    [
        "to: [{send: out}]",
        "accept: PID-8 exists\nto: [{send: out}]",
        "accept: MSH-9.1 = ADT and MSH-9.2 in [A01, A08]\nto: [{send: out}]",
        "accept: MSH-9.1 in [ORM, ADT]\nto: [{send: out}]",
    ],
)
def test_a_message_that_is_sent_twice(tmp_path: Path, other: str) -> None:
    one = "to: [{send: [copy, out]}]" if "exists" in other else PLAIN
    (told,) = warned(tmp_path, one, other)
    assert told.endswith("c1 sends to out too: a message that both accept is sent there twice")


@pytest.mark.parametrize(
    "other",
    [
        "accept: MSH-9.1 = ORM\nto: [{send: out}]",
        "accept: PID-8 exists\nto: [{send: out}]",  # of what ADT says nothing
        "accept: MSH-3.1 = LAB\nto: [{send: out}]",
        "accept: not MSH-9.1 = ADT\nto: [{send: out}]",
        "accept: MSH-9.1 = ADT or MSH-9.1 = ORM\nto: [{send: out}]",
        "to: [{when: MSH-9.1 = ORM, send: out}]",
        "steps: [{when: MSH-9.1 = ADT, drop: another channel has it}]\nto: [{send: out}]",
    ],
)
def test_what_may_well_be_apart_is_right(tmp_path: Path, other: str) -> None:
    assert warned(tmp_path, PLAIN, other) == []
