"""Somebody who does what a page says: writes its files, runs its commands, and compares what they print."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.docs.pages import TOP, Block, missing
from tests.peers import BrokerProcess, eventually, free_ports

COPIED = ("channels.yaml", "routes", "mappings", "samples")
SHIPPED = {"2575": "HL7_PORT", "11112": "DICOM_PORT", "8080": "WEB_PORT"}
OWN = ("2580", "2581")  # the ports of the tutorial itself


class Reader:
    """Follows a page in a copy of the folder, on free ports."""

    def __init__(self, folder: Path, copied: Sequence[str] = COPIED) -> None:
        self.folder = folder / "clone"
        self.folder.mkdir()
        for name in copied:
            (shutil.copytree if (TOP / name).is_dir() else shutil.copy)(TOP / name, self.folder / name)
        self.broker = BrokerProcess(folder, config=self.folder / "channels.yaml", extra={"PYTHONPATH": str(TOP)}, started_in=self.folder)
        self.ports = {old: str(self.broker.ports[name]) for old, name in SHIPPED.items()}
        self.ports |= dict(zip(OWN, map(str, free_ports(len(OWN))), strict=True))
        self.playing: list[subprocess.Popen[str]] = []

    def text(self, page: Path) -> str:
        """Return a page with the ports of this test in the place of its own."""
        return re.sub(rf"\b({'|'.join(self.ports)})\b", lambda match: self.ports[match[0]], page.read_text())

    def follow(self, block: Block) -> None:
        """Write the block's file, or run its commands."""
        if block.language != "console":
            block.write(self.folder)
        for command, expected in block.commands:
            if not command.startswith("make "):  # test_links.py looks for the target
                self.run(command, expected, block.line)

    def run(self, command: str, expected: list[str], line: int) -> None:
        """Run a command until it prints what the page says; what stays is started and left running."""
        words = shlex.split(command)
        if words == [".venv/bin/broker", "run"]:
            self.restart()
            eventually(lambda: not missing(expected, self.broker.log.read_text()), f"line {line}: {command} prints what the page shows")
        elif words[0] == "mkdir":
            (self.folder / words[1]).mkdir()
        elif words[0] == ".venv/bin/python":
            self.playing.append(subprocess.Popen([sys.executable, *words[1:]], cwd=self.folder, stdout=subprocess.PIPE, text=True))
        else:
            assert words[0] == ".venv/bin/broker", f"line {line}: {command} is run by no test"
            printed: list[str] = [""]

            def prints_it() -> bool:
                printed[0] = self.command(words[1:])
                return not missing(expected, printed[0])

            # deliveries follow the answer, so a timeline may need a moment; a command with an effect runs once
            if words[1] in ("trace", "messages"):
                eventually(prints_it, f"line {line}: {command} prints what the page shows")
            else:
                assert prints_it(), f"line {line}: {command} does not print {missing(expected, printed[0])!r} but:\n{printed[0]}"

    def command(self, words: list[str]) -> str:
        """Return what a `broker` command prints."""
        done = subprocess.run(
            [sys.executable, "-m", "broker", *words],
            env=self.broker.environment() | {"PYTHONPATH": str(TOP)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout + done.stderr

    def restart(self) -> None:
        """Start the broker, ending the one that runs."""
        if self.broker.process:
            assert self.broker.stop() == 0
        self.broker.log.unlink(missing_ok=True)
        self.broker.start()

    def end(self) -> str:
        """End everything, and return what the played systems have shown."""
        if self.broker.process and self.broker.process.poll() is None:
            self.broker.kill()
        shown = []
        for process in self.playing:
            process.terminate()
            shown.append(process.communicate(timeout=30)[0])
        self.playing.clear()
        return "".join(shown)
