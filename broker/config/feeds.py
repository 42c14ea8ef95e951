"""Which texts of a configuration end up at which path: constants in a route, and the cells of the tables that feed one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from broker.config.session import Examined, Session
from broker.errors import Problem
from broker.pipeline.shape import Place
from broker.pipeline.tables import Table

_THROUGH = re.compile(r"\{[^{}|]+\|\s*([^{}|.\s]+)(?:\.([^{}|\s]+))?\s*\}")


@dataclass(frozen=True, slots=True)
class Feed:
    """A text that a route may write to a path."""

    place: Place  # in the route's file
    path: str
    text: str
    line: tuple[str, int] | None = None  # file and line of the cell, when it stands in a table
    builds: str = ""  # the message that is built there, OMI^O23^OMI_O23

    def problem(self, examined: Examined, what: str, instead: str = "") -> Problem:
        """Return a problem with the text, at the cell or at its place in the route."""
        if self.line is None:
            return examined.document.problem(self.place, what, instead)
        return Problem(*self.line, self.path, what, instead)


def feeds_of(session: Session, examined: Examined) -> list[Feed]:
    """Return every text that is known before a message comes."""
    return list(_Gathering(session, examined).below(examined.document.value, ()))


class _Gathering:
    """Walks through the document of one route."""

    def __init__(self, session: Session, examined: Examined) -> None:
        self._file: Callable[[str], str] = session.table_file
        self._tables: Mapping[str, Table] = examined.compilation.tables

    def below(self, value: Any, place: Place) -> Iterator[Feed]:
        """Yield what stands in a value of the document and below it."""
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from self.below(item, (*place, index))
        elif isinstance(value, Mapping):
            built = value.get("build")
            yield from self._set(value.get("set"), (*place, "set"), built if isinstance(built, str) else "")
            added = value.get("add")
            yield from self._set(added.get("fields") if isinstance(added, Mapping) else None, (*place, "add", "fields"), "")
            yield from self._map(value.get("map"), (*place, "map"))
            yield from self._coerce(value.get("coerce"), (*place, "coerce"))
            for key, inner in value.items():
                if key not in ("set", "add", "map", "coerce"):
                    yield from self.below(inner, (*place, key))

    def _set(self, fields: Any, place: Place, builds: str) -> Iterator[Feed]:
        if isinstance(fields, Mapping) and list(fields) == ["fields"]:
            fields, place = fields["fields"], (*place, "fields")
        for path, text in fields.items() if isinstance(fields, Mapping) else ():
            yield from self._text(path, text, (*place, path), None, builds)

    def _map(self, settings: Any, place: Place) -> Iterator[Feed]:
        if not isinstance(settings, Mapping):
            return
        path, table = settings.get("to") or settings.get("path"), self._table(settings.get("table"))
        if not isinstance(path, str):
            return
        if table is not None:
            yield from self._cells(path, table, settings.get("column"), place)
        if settings.get("missing") == "default":
            yield from self._text(path, settings.get("default"), (*place, "default"), None, "")

    def _coerce(self, settings: Any, place: Place) -> Iterator[Feed]:
        table = self._table(settings.get("table")) if isinstance(settings, Mapping) else None
        for keyword in table.rows if table else ():
            if table is not None:
                yield from self._text(keyword, table.lookup(keyword), place, self._line(table, keyword), "")

    def _text(self, path: Any, text: Any, place: Place, line: tuple[str, int] | None, builds: str) -> Iterator[Feed]:
        if not isinstance(path, str) or isinstance(text, bool | Mapping | list) or text is None:
            return
        text = str(text)
        if "{" not in text:
            yield Feed(place, path, text, line, builds)
        elif (match := _THROUGH.fullmatch(text)) and (table := self._table(match[1])):
            yield from self._cells(path, table, match[2], place, builds)

    def _cells(self, path: str, table: Table, column: Any, place: Place, builds: str = "") -> Iterator[Feed]:
        column = column or table.value_column
        if column in table.columns:
            for key, row in table.rows.items():
                yield Feed(place, path, row[column], self._line(table, key), builds)

    def _table(self, name: Any) -> Table | None:
        return self._tables.get(name) if isinstance(name, str) else None

    def _line(self, table: Table, key: str) -> tuple[str, int]:
        return self._file(table.name), table.lines[key]
