"""Does what the tutorial says: writes its files, runs its commands, and compares what they print."""

from __future__ import annotations

from tests.docs.pages import TOP, parse
from tests.docs.reader import Reader

PAGE = TOP / "docs/tutorial/first-interface.md"


def test_a_reader_who_does_what_the_page_says_sees_what_it_shows(reader: Reader) -> None:
    for block in parse(reader.text(PAGE)):
        reader.follow(block)
    shown = reader.end()
    assert "|SIU^S12^SIU_S12|" in shown
    assert "77002" in shown


def test_every_block_of_the_page_is_a_file_or_commands() -> None:
    found = list(parse(PAGE.read_text()))
    assert len(found) > 15
    assert [block.line for block in found if block.language != "console" and not block.attributes] == []
    assert [block.line for block in found if block.language == "console" and not block.commands] == []
