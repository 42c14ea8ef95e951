"""Cases and scenarios with anything in the place of anything: every mistake is told, nothing is raised."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.errors import MessageError
from broker.hl7.difference import difference
from broker.hl7.message import Message
from broker.pipeline.cases import read_cases
from broker.pipeline.scenario import Names, read_scenario
from broker.pipeline.shape import Mistakes

TOP = Path(__file__).parents[2]
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "present",
    "(",
    "{CT1.X}",
    "\x00",
    "ok",
    [],
    [None],
    [[]],
    {},
    {"": ""},
    {"matches": "("},
    {"a": {"b": []}},
)
NAMES = Names(frozenset({"hospital"}), frozenset({"ehr", "billing", "archive_hl7"}), frozenset({"archive"}))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container with a key of it."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += [(value, key), *places(inner)]
    return found


def spoilt(document: Any, chance: random.Random) -> Any:
    changed = copy.deepcopy(document)
    for _ in range(chance.randint(1, 3)):
        known = places(changed)
        if not known:
            return chance.choice(ODD)
        container, key = chance.choice(known)
        act = chance.randrange(3)
        if act == 0:
            container[key] = copy.deepcopy(chance.choice(ODD))
        elif act == 1:
            del container[key]
        elif isinstance(container, dict):
            container[chance.choice(("exam", "event", "image", "given", "steps", "5", "", "x y"))] = container.pop(key)
    return changed


@pytest.mark.parametrize("file", sorted((TOP / "routes/tests").glob("*.yaml")), ids=lambda file: file.stem)
def test_cases(file: Path) -> None:
    chance, document = random.Random(file.stem), yaml.safe_load(file.read_text())
    told = 0
    for _ in range(150):
        mistakes = Mistakes()
        read_cases(spoilt(document, chance), mistakes)
        told += bool(mistakes.found)
    assert told > 20


@pytest.mark.parametrize("file", sorted((TOP / "routes/tests/scenarios").glob("*.yaml")), ids=lambda file: file.stem)
def test_scenarios(file: Path) -> None:
    chance, document = random.Random(file.stem), yaml.safe_load(file.read_text())
    assert read_scenario(document, Mistakes(), NAMES) is not None
    told = 0
    for _ in range(150):
        mistakes = Mistakes()
        scenario = read_scenario(spoilt(document, chance), mistakes, NAMES)
        assert (scenario is None) == bool(mistakes.found)
        told += bool(mistakes.found)
    assert told > 20


def test_any_two_messages_can_be_compared() -> None:
    chance = random.Random("difference")
    raws = [file.read_bytes().replace(b"\n", b"\r") for file in sorted((TOP / "samples").glob("*.hl7"))]
    for _ in range(300):
        pair = []
        for raw in (chance.choice(raws), chance.choice(raws)):
            body = bytearray(raw)
            for _ in range(chance.randint(0, 8)):
                body[chance.randrange(9, len(body))] = chance.choice(b"|^~\\&\r\nA\xff\x00 ")
            pair.append(bytes(body))
        try:
            before, after = (Message.parse(raw) for raw in pair)
        except MessageError:
            continue
        assert difference(before, before.clone()) == []
        there, back = difference(before, after), difference(after, before)
        assert bool(there) == bool(back)
