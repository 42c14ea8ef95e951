"""Does what "Start a configuration of your own" says, in an empty folder, and compares what the commands print."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import TOP, parse
from tests.docs.reader import Reader
from tests.peers import eventually

PAGE = TOP / "docs/how-to/start-a-configuration.md"


def test_a_reader_who_begins_with_nothing_has_a_broker_that_delivers(tmp_path: Path) -> None:
    reader = Reader(tmp_path, copied=())
    try:
        for block in parse(reader.text(PAGE)):
            reader.follow(block)
        eventually(lambda: any((reader.folder / "out").glob("*.hl7")), "the message is in the folder")
        (file,) = (reader.folder / "out").glob("*.hl7")
        assert "|DOE^JANE|" in file.read_text()
        checked = reader.command(["check"])
        assert "warning" not in checked, checked
    finally:
        reader.end()
