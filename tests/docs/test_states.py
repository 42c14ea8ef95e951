"""The state diagrams of the architecture page are those of the tables."""

from __future__ import annotations

import pytest

from broker.ris import states
from tests.docs.pages import TOP, blocks

PAGE = TOP / "docs/architecture.md"


def diagrams() -> list[str]:
    return [block.text for block in blocks(PAGE) if block.language == "mermaid" and block.text.startswith("stateDiagram")]


@pytest.mark.parametrize("name", states.TABLES)
def test_the_page_shows_the_table_as_it_is(name: str) -> None:
    wanted = states.mermaid(states.TABLES[name])
    assert wanted in diagrams(), f"paste this for {name}:\n{wanted}"


def test_the_page_shows_nothing_else() -> None:
    assert len(diagrams()) == len(states.TABLES)
