"""The flow over real sockets: each YAML file of this folder is one scenario, played against a broker process."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.scenarios.department import Department
from tests.scenarios.play import HERE, VERBS, Play

FILES = sorted(HERE.glob("*.yaml"))
NAMES = ("DOE", "JANE", "RICHARD", "MÜLLER", "JÖRG", "ZIMMER", "ИВАН", "TYPED", "19610615", "HIGH ST", "SPRINGFIELD", "5550123")
SCHEMA = json.loads((HERE / "scenario.schema.json").read_text())


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


@pytest.fixture(scope="module")
def department(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    department = Department(tmp_path_factory.mktemp("department"))
    department.start()
    yield department
    assert department.stop() == 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_scenario(department: Department, file: Path) -> None:
    Play(department, file.stem, read(file)).run()


def test_the_log_has_no_patient_data_and_no_errors(department: Department) -> None:
    lines = department.broker.log.read_text().splitlines()
    assert not [line for line in lines if re.search(rf"\b({'|'.join(NAMES)})\b", line, re.IGNORECASE)]
    assert not [line for line in lines if '"level": "error"' in line or "Traceback" in line]
    assert [line for line in lines if "message parked" in line]  # it was written, and this is the right file


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_scenario_has_its_shape(file: Path) -> None:
    errors = [f"{error.json_path}: {error.message[:300]}" for error in Draft202012Validator(SCHEMA).iter_errors(read(file))]
    assert not errors


def test_schema_and_runner_know_the_same_verbs() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert list(SCHEMA["$defs"]["step"]["patternProperties"]) == list(VERBS)


def test_every_row_of_the_flow_has_its_scenario() -> None:
    assert sorted(row for file in FILES if (row := read(file).get("row"))) == list(range(1, 10))


def test_scenarios_do_not_share_patients_or_orders() -> None:
    names = Counter(name for file in FILES for name in set(read(file).get("renamed", {}).values()) if not name.startswith("{"))
    assert [name for name, count in names.items() if count > 1] == []
