"""The import contracts catch what they are there for: each is broken once in a small copy of the tree of packages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
LAYERS = re.search(r"^\[tool\.importlinter\].*", (TOP / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
MODULES = {"__main__", "app", "spec", "model", "letters", "errors"}
PACKAGES = {"cli", "web", "simulate", "engine", "config", "connectors", "store", "pipeline", "security", "obs", "ris", "hl7", "dicom"}


def lint(tree: Path, files: dict[str, str]) -> str:
    """Check the contracts on a tree with every layer in it, empty but for the given files; return the contracts that broke."""
    assert LAYERS
    (tree / "pyproject.toml").write_text(LAYERS[0])
    sources = {"__init__.py": "", **{f"{name}.py": "" for name in MODULES}, **{f"{name}/__init__.py": "" for name in PACKAGES}}
    sources |= {"store/sqlite.py": "import sqlite3\n", "store/postgres.py": "import psycopg\n"} | files
    for name, text in sources.items():
        path = tree / "broker" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    program = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as run; run()"
    done = subprocess.run([sys.executable, "-c", program, "--no-cache", "--no-logo"], cwd=tree, capture_output=True, text=True, check=False)
    assert ("BROKEN" in done.stdout) == bool(done.returncode), done.stdout + done.stderr
    return done.stdout


def test_a_tree_that_keeps_to_the_layers_passes(tmp_path: Path) -> None:
    assert "4 kept, 0 broken" in lint(tmp_path, {"engine/intake.py": "import broker.store.sqlite\nimport broker.model\nimport twisted\n"})


@pytest.mark.parametrize(
    ("contract", "files"),
    [
        ("Imports point one way", {"store/journal.py": "import broker.engine\n"}),
        ("Imports point one way", {"hl7/path.py": "import broker.dicom\n"}),
        ("Imports point one way", {"utils.py": ""}),
        ("The cores do no I/O", {"ris/apply.py": "from twisted.internet import defer\n"}),
        ("The cores do no I/O", {"pipeline/route.py": "import broker.obs.metrics\n", "obs/metrics.py": "import prometheus_client\n"}),
        ("Only store/sqlite.py", {"store/journal.py": "import sqlite3\n"}),
        ("Only store/postgres.py", {"store/journal.py": "from psycopg import sql\n"}),
    ],
)
def test_a_broken_contract_is_named(tmp_path: Path, contract: str, files: dict[str, str]) -> None:
    output = lint(tmp_path, files)
    assert re.search(rf"^{re.escape(contract)}.* BROKEN", output, re.MULTILINE), output
