"""Damaged configurations: whatever is wrong, the check says so and does not fall over."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.config.check import check_config
from broker.config.files import parse_document
from broker.connectors import registry
from broker.pipeline.tables import read_table
from broker.pipeline.when import ConditionError, compile_condition
from tests.fuzz.conftest import TIMES

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


@pytest.mark.parametrize("seed", range(50 * TIMES))
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


WRONG: list[Any] = [
    None,
    True,
    0,
    -1,
    10**17,
    1.5,
    "",
    "x",
    "PID-3",
    "{exam.accession}",
    [],
    [[]],
    [None],
    {},
    {"x": {}},
    {"when": 1},
    ["a", {"b": 1}],
]


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return every place of a document, the top as well."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, inner in items for found in _places(inner, (*place, key)))]


def _replaced(value: Any, place: tuple[Any, ...], by: Any) -> Any:
    if not place:
        return by
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = _replaced(copy[place[0]], place[1:], by)
    return copy


def _small_copy(folder: Path, hit: str = "", text: str | bytes = "") -> Path:
    """Copy the shipped configuration, with another text in one of its files."""
    for name in FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    for part in ("mappings", "routes/tests"):
        (folder / part).symlink_to(ROOT / part)
    if hit:
        (folder / hit).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / "channels.yaml"


@pytest.mark.parametrize("seed", range(50 * TIMES))
def test_a_value_of_the_wrong_kind_is_judged_not_crashed_on(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    hit = chance.choice(FILES)
    document = yaml.safe_load((ROOT / hit).read_text())
    for _ in range(chance.randint(1, 3)):
        document = _replaced(document, chance.choice(_places(document)), chance.choice(WRONG))
    checked = check_config(_small_copy(tmp_path, hit, yaml.safe_dump(document)), {}, registry)
    assert (checked.config is None) is bool(checked.problems)
    assert all(problem.what and problem.line >= 0 for problem in checked.problems)


def test_every_key_may_have_a_value_of_a_wrong_kind(tmp_path: Path) -> None:
    top = _small_copy(tmp_path)
    document = yaml.safe_load(top.read_text())
    kinds: list[Any] = [None, 7, "x", ["x"], {"x": 1}]
    for number, place in enumerate(_places(document)):
        wrong = kinds[number % len(kinds)]
        top.write_text(yaml.safe_dump(_replaced(document, place, wrong)))
        checked = check_config(top, {}, registry, standards=False)
        assert (checked.config is None) is bool(checked.problems), (place, wrong)


LAUGHS = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))])
HOSTILE: list[tuple[str, str | bytes, str]] = [
    ("channels.yaml", b"\xff\xfe\x00", "not UTF-8"),
    ("channels.yaml", "version: 1\n" + "x" * 5_000_000, "larger than 4 MB"),
    ("channels.yaml", "a: " + "[" * 100_000, "nested too deeply"),
    ("channels.yaml", "a: " + "{a: " * 60 + "}" * 60, "nested too deeply"),
    ("channels.yaml", "version: &v [*v]", "this alias stands for what it stands in"),
    ("channels.yaml", LAUGHS, "nested too deeply, or an alias that repeats itself"),
    ("channels.yaml", 'version: 1\ntables: "\\0"', "there is no folder"),
    ("routes/orders.yaml", b"description: \xff", "not UTF-8"),
    ("routes/orders.yaml", LAUGHS, "nested too deeply"),
    ("routes/orders.yaml", "accept: " + "(" * 10_000, "nested too deeply"),
    ("routes/orders.yaml", "accept: " + "not " * 10_000, "nested too deeply"),
    ("routes/orders.yaml", "steps: " + "[{when: PID-3 exists, steps: " * 24 + "[]" + "}]" * 24, "no step stands here"),
    ("routes/orders.yaml", "steps:\n  - set: {fields: 5}", "a mapping is needed here"),
    ("routes/orders.yaml", "- a", "holds no route"),
]


@pytest.mark.parametrize(
    ("file", "text", "says"), HOSTILE, ids=[f"{file} {says} {number}" for number, (file, _, says) in enumerate(HOSTILE)]
)
def test_a_hostile_file_is_refused_with_a_reason(tmp_path: Path, file: str, text: str | bytes, says: str) -> None:
    problems = check_config(_small_copy(tmp_path, file, text), {}, registry).problems
    assert [p for p in problems if says in p.what], problems


@pytest.mark.parametrize("name", [*FILES, "mappings/sex.csv"])
def test_a_folder_or_a_circle_of_links_where_a_file_should_be(tmp_path: Path, name: str) -> None:
    top = _small_copy(tmp_path)
    if name.startswith("mappings"):
        (tmp_path / "mappings").unlink()
        (tmp_path / "mappings").mkdir()
    else:
        (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    assert check_config(top, {}, registry).problems
    (tmp_path / name).rmdir()
    (tmp_path / name).symlink_to(tmp_path / name)
    assert check_config(top, {}, registry).problems
    (tmp_path / name).unlink()
    assert check_config(top, {}, registry).problems


@pytest.mark.parametrize("seed", range(20 * TIMES))
def test_damaged_tables_of_a_configuration(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    top = _small_copy(tmp_path)
    (tmp_path / "mappings").unlink()
    (tmp_path / "mappings").mkdir()
    tables = sorted((ROOT / "mappings").glob("*.csv"))
    hit = chance.choice(tables)
    for table in tables:
        text = table.read_text()
        (tmp_path / "mappings" / table.name).write_text(_damage(text, chance) if table == hit else text)
    checked = check_config(top, {}, registry)
    assert (checked.config is None) is bool(checked.problems)


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
