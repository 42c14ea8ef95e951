"""What README.md and docs/ name exists: files, headings, commands, options, make targets, variables, metrics and settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from broker.cli import main
from broker.config import explain, schema
from broker.connectors import registry
from broker.obs.metrics import Metrics
from tests.docs.pages import TOP, blocks, pages, prose

PAGES = pages()
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
# folders of the repository that a name in `code` is taken to lie in
_ROOTS = ("broker", "bench", "deploy", "docs", "mappings", "routes", "samples", "scripts", "tests")


def relative(page: Path) -> str:
    return str(page.relative_to(TOP))


def generated() -> set[Path]:
    """Return the pages that `broker schema` writes, which a clone has once they are written."""
    return {TOP / "docs/reference" / name for name in (*schema.files(registry), *explain.pages(registry))}


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    for link in _LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if re.match(r"\w+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        if target not in generated() and not (target.exists() and (not anchor or anchor in anchors(target))):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_file_named_exists(page: Path) -> None:
    made = {block.attributes.get("file") for block in blocks(page)}
    missing = []
    for text in _CODE.findall(prose(page)):
        name = text.split("::")[0].rstrip("/")
        looks_so = re.fullmatch(rf"(?:{'|'.join(_ROOTS)})/[\w./-]+", name)
        if looks_so and name not in made and TOP / name not in generated() and not (TOP / name).exists():
            missing.append(text)
    assert [name for name in missing if not re.fullmatch(r"(mappings|routes)/(tests/)?ed_\w+\.\w+", name)] == []


def said(page: Path) -> Iterator[str]:
    """Yield every command a page shows: in console blocks, and in the text."""
    for block in blocks(page):
        if block.language == "console":
            yield from (command for command, _ in block.commands)
    yield from (code for code in _CODE.findall(prose(page)) if re.match(r"(\.venv/bin/)?(broker|make) [\w-]", code))


def broker_words(command: str) -> list[str] | None:
    """Return the words after `broker`, None when it is another command."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    if words[:3] == ["docker", "exec", "broker"]:
        words = words[3:]
    return words[1:] if words and Path(words[0]).name == "broker" else None


def wrong_with(words: list[str]) -> str:
    """Return what is wrong with a quoted `broker` command, "" when nothing is."""
    command: click.Command = main
    known = {name for option in main.params for name in option.opts} | {"-h", "--help"}
    for word in words:
        if isinstance(command, click.Group) and word in command.commands:
            command = command.commands[word]
            known |= {name for option in command.params for name in option.opts}
        elif isinstance(command, click.Group) and command is main:
            return f"there is no command {word}"
        elif word.startswith("-") and word.split("=")[0] not in known:
            return f"there is no option {word}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_command_shown_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    wrong = []
    for command in said(page):
        words = broker_words(command)
        if words is not None and (what := wrong_with(words)):
            wrong.append(f"{command}: {what}")
        if command.startswith("make ") and command.split()[1] not in targets:
            wrong.append(f"{command}: there is no such target")
    assert wrong == []


def test_commands_that_do_not_exist_are_found() -> None:
    assert wrong_with(["messages", "--state", "parked"]) == ""
    assert wrong_with(["messages", "again", "39"]) == ""
    assert wrong_with(["mesages"]) == "there is no command mesages"
    assert wrong_with(["messages", "--sate", "parked"]) == "there is no option --sate"


def test_the_variables_listed_are_those_of_the_shipped_configuration() -> None:
    text = "\n".join(line.split(" #")[0] for line in (TOP / "channels.yaml").read_text().splitlines() if not line.startswith("#"))
    used = dict(re.findall(r"\$\{([A-Z0-9_]+):-([^}]*)\}", text))
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| `([^`]*)` \|", (TOP / "README.md").read_text(), re.MULTILINE)
    assert dict(rows) == used
    assert len(rows) == len(used)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_metric_named_exists(page: Path) -> None:
    known = {family.name for family in Metrics().registry.collect()}
    named = set(re.findall(r"`(broker_[a-z_]+?)(?:_total|_bucket)?(?:\{[^}]*\})?(?: 0)?`", prose(page)))
    assert named - known == set()


def test_the_alerts_listed_are_those_of_the_rules() -> None:
    rules = set(re.findall(r"- alert: (\w+)", (TOP / "deploy/prometheus/rules.yml").read_text()))
    assert set(re.findall(r"`(Broker[A-Z]\w+)`", prose(TOP / "docs/how-to/monitor.md"))) == rules


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_page_begins_with_one_heading(page: Path) -> None:
    assert prose(page).startswith("# ")
    assert len(re.findall(r"^# ", prose(page), re.MULTILINE)) == 1


def test_every_decision_has_a_number_of_its_own() -> None:
    pages_ = sorted((TOP / "docs/decisions").glob("*.md"))
    assert [page.name[:4] for page in pages_] == [f"{number:04}" for number in range(1, len(pages_) + 1)]
    assert [page.name for page in pages_ if not page.read_text().startswith(f"# {page.name[:4]} ")] == []
