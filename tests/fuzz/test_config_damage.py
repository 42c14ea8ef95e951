"""Damaged configurations: whatever is wrong, the check says so and does not fall over."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from broker.config.check import check_config
from broker.config.files import parse_document
from broker.connectors import registry
from broker.pipeline.tables import read_table
from broker.pipeline.when import ConditionError, compile_condition

ROOT = Path(__file__).parents[2]
FILES = ["channels.yaml", *(f"routes/{path.name}" for path in sorted((ROOT / "routes").glob("*.yaml")))]
PIECES = [
    "{",
    "}",
    "[",
    "]",
    ":",
    "- ",
    "\n",
    "  ",
    "#",
    "'",
    '"',
    "&a ",
    "*a",
    "!x ",
    "${",
    "${X}",
    "|",
    "\t",
    "é",
    "null",
    "1",
    "\x00",
    ", ",
]


def _damage(text: str, chance: random.Random) -> str:
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(PIECES) + text[at + chance.choice((0, 0, 1, 5, 30)) :]
    return text


@pytest.mark.parametrize("seed", range(150))
def test_a_damaged_configuration_is_judged_not_crashed_on(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    hit = chance.choice(FILES)
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = (ROOT / name).read_text()
        (tmp_path / name).write_text(_damage(text, chance) if name == hit else text)
    for folder in ("mappings", "routes/tests"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    checked = check_config(tmp_path / "channels.yaml", {}, registry)
    assert (checked.config is None) is bool(checked.problems)
    assert all(problem.what and problem.line >= 0 for problem in checked.problems)


@pytest.mark.parametrize("seed", range(100))
def test_damaged_tables_and_conditions(seed: int) -> None:
    chance = random.Random(seed)
    table, faults = read_table("t", _damage((ROOT / "mappings/procedures.csv").read_text(), chance))
    assert faults or table.rows
    condition = _damage("MSH-9.1 in [ORM, 'O G'] and not (PID-3[*].1 exists or PV1-2 matches '^[EI]$')", chance)
    try:
        paths = compile_condition(condition, "hl7").paths
    except ConditionError as error:
        paths = (str(error),)
    assert all(paths)
    assert paths


def test_bytes_that_are_no_yaml() -> None:
    chance = random.Random(1)
    for _ in range(200):
        text = "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 40)))
        document = parse_document(text, "f.yaml", {})
        assert all(0 <= problem.line <= text.count("\n") + 1 for problem in document.problems), text
