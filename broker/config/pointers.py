"""The line by which an editor finds the JSON Schema of a file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from broker.config.files import Document, read_text
from broker.config.models import Channel
from broker.config.session import Session
from broker.errors import Problem

_POINTER = re.compile(r"^#\s*yaml-language-server:\s*\$schema=(\S+)\s*$", re.MULTILINE)
_FOLDER = "docs/reference"  # where `broker schema` writes them


def check_pointers(session: Session, path: Path, channels: tuple[Channel, ...]) -> None:
    """Warn once of all files of the configuration that have no such line, and once of each schema that is not where such lines say."""
    nowhere: set[str] = set()
    files = list(_files(session, path, channels))
    without = [one for one in files if not _POINTER.search(one[1].text)]
    if without:
        (first, document, schema), more = without[0], len(without) - 1
        where = os.path.relpath(session.folder / _FOLDER / schema, first.absolute().parent)
        what = "editors do not know what may stand in this file" + (f" and {more} more" if more else "")
        _warn(session, document, 1, what, f"begin it with # yaml-language-server: $schema={where}")
    for file, document, _ in files:
        _check(session, file, document, nowhere)


def _files(session: Session, path: Path, channels: tuple[Channel, ...]) -> Iterator[tuple[Path, Document, str]]:
    """Yield every file that a person writes, with the schema that is its."""
    yield path, session.document, "channels.schema.json"
    for document in {examined.document.file: examined.document for examined in session.routes}.values():
        yield Path(document.file), document, "route.schema.json"
    for cases in {channel.cases: None for channel in channels if channel.cases}:
        shown = session.file(os.path.relpath(cases, session.folder))
        text = read_text(cases, shown)
        if isinstance(text, str):
            yield cases, Document(shown, text=text), "cases.schema.json"


def _check(session: Session, path: Path, document: Document, nowhere: set[str]) -> None:
    match = _POINTER.search(document.text)
    if match is None:
        return
    folder = path.absolute().parent
    named = os.path.normpath(folder / match[1])
    if "://" in match[1] or Path(match[1]).is_absolute() or Path(named).is_file() or named in nowhere:
        return
    nowhere.add(named)
    line = document.text.count("\n", 0, match.start()) + 1
    instead = f"write the schemas with `broker schema {os.path.relpath(Path(named).parent)}`, or name where they are"
    _warn(session, document, line, f"there is no file {match[1]} for editors to read", instead)


def _warn(session: Session, document: Document, line: int, what: str, instead: str) -> None:
    session.add(Problem(document.file, line, "", what, instead), severity="warning")
