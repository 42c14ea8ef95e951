"""Does what "Change a running broker" says, in a copy of the folder, and compares what the commands print."""

from __future__ import annotations

import re

from tests.docs.pages import TOP, parse
from tests.docs.reader import Reader

PAGE = TOP / "docs/how-to/change-a-running-broker.md"


def test_a_reader_who_does_what_the_page_says_sees_what_it_shows(reader: Reader) -> None:
    table = reader.folder / "mappings/procedures.csv"
    for block in parse(PAGE.read_text()):
        if block.language == "csv":  # the one row that changes
            (row,) = block.text.splitlines()
            changed, count = re.subn(rf"^{row.split(',')[0]},.*$", row, table.read_text(), flags=re.MULTILINE)
            assert count == 1
            table.write_text(changed)
        elif block.language == "console":
            reader.follow(block)
