"""What the how-to pages add to the configuration is right, and its cases hold."""

from __future__ import annotations

import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.cli import main
from tests.docs.pages import TOP, Block, blocks, missing

START = TOP / "docs/how-to/start-a-configuration.md"  # begins with nothing: test_start.py
PAGES = sorted(page for page in (TOP / "docs/how-to").glob("*.md") if page != START)


def additions(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.attributes]


@pytest.mark.parametrize("page", [page for page in PAGES if additions(page)], ids=lambda page: page.stem)
def test_a_configuration_with_what_the_page_adds_is_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("routes", "mappings", "samples"):
        shutil.copytree(TOP / name, tmp_path / name)
    shutil.copy(TOP / "channels.yaml", tmp_path)
    for block in additions(page):
        block.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    ran = []
    for block in blocks(page):
        for command, _ in block.commands if block.language == "console" else ():
            program, *words = command.split()
            if program == "openssl":
                subprocess.run(shlex.split(command), check=True, capture_output=True, timeout=60)
            if program == ".venv/bin/broker" and words[0] in ("check", "test"):
                done = CliRunner().invoke(main, words)
                assert done.exit_code == 0, done.output
                ran.append(words[0])
    assert ran == ["check", "test"]


def test_the_pages_that_add_something_are_found() -> None:
    found = {page.stem for page in PAGES if additions(page)}
    pages = {
        "add-a-sender",
        "add-an-archive",
        "answers",
        "attachments",
        "character-sets",
        "connections",
        "files-and-batches",
        "link-images",
        "prefetch-priors",
        "query-and-retrieve",
        "tls",
        "change-images",
        "complete-studies",
        "convert-versions",
        "secure-dicom",
        "send-images",
        "deidentify",
        "spool",
        "storage-commitment",
        "worklist",
        "performed-steps",
        "write-a-route",
        "write-a-step",
        "test-a-route",
    }
    assert found == pages


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem == "test-a-route"], ids=lambda page: page.stem)
def test_what_try_and_explain_are_said_to_print_is_what_they_print(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TOP)
    shown = [one for block in blocks(page) if block.language == "console" for one in block.commands]
    shown = [(command, lines) for command, lines in shown if command.split()[1] in ("try", "explain")]
    assert len(shown) == 4
    for command, lines in shown:
        done = CliRunner().invoke(main, shlex.split(command)[1:])
        assert done.exit_code == 0, done.output
        assert missing(lines, done.output) == "", command


def test_the_test_beside_the_function_of_a_site_passes(tmp_path: Path) -> None:
    page = TOP / "docs/how-to/write-a-step.md"
    for block in blocks(page):
        if block.attributes.get("file", "").endswith(".py"):
            block.write(tmp_path)
    [command] = [
        command for block in blocks(page) for command, _ in block.commands if block.language == "console" and "unittest" in command
    ]
    program, *words = shlex.split(command)
    assert program == ".venv/bin/python"
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env={"PYTHONPATH": str(TOP)}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Ran 1 test" in done.stderr


def test_the_copy_of_a_running_store_that_the_page_takes_is_whole(tmp_path: Path) -> None:
    [command] = [
        command
        for block in blocks(TOP / "docs/how-to/back-up-and-restore.md")
        for command, _ in (block.commands if block.language == "console" else [])
        if "sqlite3" in command
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "backup").mkdir()
    db = sqlite3.connect(tmp_path / "data/broker.db")
    db.execute("pragma journal_mode=wal")
    db.execute("create table kept (id integer)")
    db.execute("insert into kept values (42)")
    db.commit()
    program, *words = shlex.split(command)
    assert program == ".venv/bin/python"
    subprocess.run([sys.executable, *words], cwd=tmp_path, check=True, timeout=60)
    assert sqlite3.connect(tmp_path / "backup/broker.db").execute("select id from kept").fetchall() == [(42,)]
    assert (tmp_path / "data/broker.db-wal").stat().st_size > 0
    db.close()
