"""What the page on `broker check` shows is what it prints."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.cli import main
from tests.docs.pages import TOP, blocks, missing
from tests.peers import PORTS, free_ports

PAGE = TOP / "docs/how-to/check-a-configuration.md"


def test_every_command_of_the_page_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("routes", "mappings", "samples", "docs/reference"):
        shutil.copytree(TOP / name, tmp_path / name)
    shutil.copy(TOP / "channels.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True):
        monkeypatch.setenv(name, str(port))
    ended = {}
    for block in blocks(PAGE):
        for command, shown in block.commands if block.language == "console" else ():
            if not command.startswith(".venv/bin/broker "):
                subprocess.run(command, shell=True, check=True, timeout=10)
                continue
            if "--environment" in command:  # over the files as they were
                for name in ("routes", "mappings"):
                    shutil.rmtree(name)
                    shutil.copytree(TOP / name, name)
                done = subprocess.run(
                    [sys.executable, "-m", "broker", *command.split()[1:]], capture_output=True, text=True, check=False, timeout=60
                )
                code, output = done.returncode, done.stdout
            else:
                result = CliRunner().invoke(main, command.split()[1:])
                code, output = result.exit_code, result.output
            assert not missing(shown, output), output
            ended[len(ended)] = code
    assert list(ended.values()) == [0, 2, 2, 3]


def test_the_page_names_every_exit_code_and_key() -> None:
    text = PAGE.read_text()
    assert re.findall(r"^\| (\d) \|", text, re.MULTILINE) == ["0", "2", "3"]
    for word in (
        "stages",
        "findings",
        "tried",
        "stage",
        "severity",
        "file",
        "line",
        "path",
        "what",
        "instead",
        "--stage",
        "--json",
        "extensions",
    ):
        assert f"`{word}" in text or word in text
