"""The flow over real sockets: each YAML file of this folder is one scenario, played against a broker process."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from broker.config.files import read_document
from broker.config.load import load
from broker.connectors import registry
from broker.pipeline.scenario import Scenario, read_scenario, schema
from broker.pipeline.shape import Mistakes
from broker.simulate.scenarios import names, play
from tests.peers import TOP
from tests.scenarios.department import Department
from tests.scenarios.play import HERE, Play

FILES = sorted(HERE.glob("*.yaml"))
EXAMPLES = sorted((TOP / "routes/tests/scenarios").glob("*.yaml"))  # shipped, and played here too where they need no clock of their own
STORESCP = ("whole",)  # DCMTK plays the archive
NAMES = ("DOE", "JANE", "RICHARD", "MÜLLER", "JÖRG", "ZIMMER", "ИВАН", "TYPED", "19610615", "HIGH ST", "SPRINGFIELD", "5550123")
CONFIG = load(TOP / "channels.yaml", {}, registry)


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def understood(file: Path) -> Scenario:
    document, mistakes = read_document(file, file.name, {}), Mistakes()
    scenario = read_scenario(document.value, mistakes, names(CONFIG), file=str(file), line=document.line)
    assert not document.problems
    assert not mistakes.found
    assert scenario is not None
    return scenario


@pytest.fixture(scope="module")
def department(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    department = Department(tmp_path_factory.mktemp("department"))
    department.start()
    yield department
    assert department.stop() == 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_scenario(department: Department, file: Path) -> None:
    archive = "storescp" if file.stem in STORESCP else "pynetdicom"
    Play(department, file.stem, read(file), archive).run()


@pytest.mark.parametrize("file", [file for file in EXAMPLES if not understood(file).clocked], ids=lambda file: file.stem)
def test_shipped_scenario(tmp_path: Path, file: Path) -> None:
    department = Department(tmp_path)
    department.start()
    try:
        Play(department, file.stem, read(file), folder=file.parent).run()
    finally:
        assert department.stop() == 0


@pytest.mark.parametrize("file", [*FILES, *EXAMPLES], ids=lambda file: file.stem)
def test_scenario_in_process(file: Path) -> None:
    played = play(CONFIG, understood(file))
    assert played.failures == [], f"{file}:{played.line}"


def test_simulated_morning(department: Department) -> None:
    done = department.broker.command("simulate", "--start", "--exams", "12")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "peers and broker counted the same" in done.stdout
    assert "DIFFERENT" not in done.stdout


def test_the_log_has_no_patient_data_and_no_errors(department: Department) -> None:
    lines = department.broker.log.read_text().splitlines()
    assert not [line for line in lines if re.search(rf"\b({'|'.join(NAMES)})\b", line, re.IGNORECASE)]
    assert not [line for line in lines if '"level": "error"' in line or "Traceback" in line]
    assert [line for line in lines if "message parked" in line]  # it was written, and this is the right file


@pytest.mark.parametrize("file", [*FILES, *EXAMPLES], ids=lambda file: file.stem)
def test_an_editor_finds_nothing_wrong_with_a_scenario(file: Path) -> None:
    errors = [f"{error.json_path}: {error.message[:300]}" for error in Draft202012Validator(schema()).iter_errors(read(file))]
    assert not errors


def test_every_row_of_the_flow_has_its_scenario() -> None:
    rows = [int(found[1]) for file in FILES if (found := re.match(r"row_(\d)_", file.name))]
    assert sorted(rows) == list(range(1, 10))


def test_scenarios_do_not_share_patients_or_orders() -> None:
    names = Counter(name for file in FILES for name in set(read(file).get("renamed", {}).values()) if not name.startswith("{"))
    assert [name for name, count in names.items() if count > 1] == []
