"""The line by which an editor finds the JSON Schema of a file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from broker.config.files import Document, read_text
from broker.config.models import Channel
from broker.config.session import Session
from broker.errors import Problem

_POINTER = re.compile(r"^#\s*yaml-language-server:\s*\$schema=(\S+)\s*$", re.MULTILINE)
_FOLDER = "docs/reference"  # where `broker schema` writes them


def check_pointers(session: Session, path: Path, channels: tuple[Channel, ...]) -> None:
    """Warn where a file of the configuration has no such line, and once of each schema that is not where such lines say."""
    nowhere: set[str] = set()
    _check(session, path, session.document, "channels.schema.json", nowhere)
    for document in {examined.document.file: examined.document for examined in session.routes}.values():
        _check(session, Path(document.file), document, "route.schema.json", nowhere)
    for cases in {channel.cases: None for channel in channels if channel.cases}:
        shown = session.file(os.path.relpath(cases, session.folder))
        text = read_text(cases, shown)
        if isinstance(text, str):
            _check(session, cases, Document(shown, text=text), "cases.schema.json", nowhere)


def _check(session: Session, path: Path, document: Document, schema: str, nowhere: set[str]) -> None:
    match = _POINTER.search(document.text)
    folder = path.absolute().parent
    if match is None:
        where = os.path.relpath(session.folder / _FOLDER / schema, folder)
        what = "editors do not know what may stand in this file"
        _warn(session, document, 1, what, f"begin it with # yaml-language-server: $schema={where}")
        return
    named = os.path.normpath(folder / match[1])
    if "://" in match[1] or Path(match[1]).is_absolute() or Path(named).is_file() or named in nowhere:
        return
    nowhere.add(named)
    line = document.text.count("\n", 0, match.start()) + 1
    instead = f"write the schemas with `broker schema {os.path.relpath(Path(named).parent)}`, or name where they are"
    _warn(session, document, line, f"there is no file {match[1]} for editors to read", instead)


def _warn(session: Session, document: Document, line: int, what: str, instead: str) -> None:
    session.add(Problem(document.file, line, "", what, instead), severity="warning")
