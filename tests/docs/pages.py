"""Reads the pages of README.md and docs/: their fenced blocks, the files these name, and the commands they show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent

_FENCE = re.compile(r"^( *)```(\S*)(.*?)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, what follows that on the fence, its text and its line."""

    language: str
    attributes: Mapping[str, str]
    text: str
    line: int

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Return the commands of a console block, each with the lines it is said to print."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found:
                found[-1][1].append(line)
        return found

    def write(self, folder: Path) -> None:
        """Make the file the block names with `file=`, or put its lines into the one named with `into=`: below the line that
        ends in the text given with `under=`, or at the end."""
        if name := self.attributes.get("file"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.text)
        elif name := self.attributes.get("into"):
            path = folder / name
            lines = path.read_text().splitlines(keepends=True)
            under = self.attributes.get("under", "")
            places = [at for at, line in enumerate(lines, 1) if line.strip().removesuffix(":") == under] if under else [len(lines)]
            assert places, f"line {self.line}: {name} has no line {under}"
            lines.insert(places[0], self.text)
            path.write_text("".join(lines))


def pages() -> list[Path]:
    """Return every page that a person wrote."""
    return [TOP / "README.md", *sorted(p for p in (TOP / "docs").rglob("*.md") if (TOP / "docs" / "reference") not in p.parents)]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    return list(parse(page.read_text()))


def parse(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a text."""
    for match in _FENCE.finditer(text):
        indent, language, rest, body = match.groups()
        attributes = dict(re.findall(r"(file|into|under)=(.*?)(?= (?:file|into|under)=|$)", rest.strip()))
        body = "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
        yield Block(language, attributes, body, text.count("\n", 0, match.start()) + 1)


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def missing(expected: list[str], output: str) -> str:
    """Return the first expected line that the output does not have, in this order; "" when it has all.

    Blanks count once; `…` stands for anything, a line of its own for any lines.
    """
    lines = iter([" ".join(line.split()) for line in output.splitlines()])
    for line in expected:
        wanted = " ".join(line.split())
        if wanted in ("", "…"):
            continue
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in wanted.split("…")))
        if not any(pattern.fullmatch(one) for one in lines):
            return line
    return ""
