"""Code tables: a CSV whose first row names the columns and whose first column is the key."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake in a CSV: its line and what is wrong."""

    line: int
    what: str
    instead: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A code table; rows keep the order of the file, cells are plain text without surrounding blanks."""

    name: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]
    lines: Mapping[str, int]  # key -> line of the file

    @property
    def value_column(self) -> str:
        """The column a lookup returns when none is named: the second, or the only one."""
        return self.columns[1] if len(self.columns) > 1 else self.columns[0]

    def lookup(self, key: str, column: str = "") -> str | None:
        """Return the cell of `column` in the row of `key`, None when there is no such row; raises KeyError for an unknown column."""
        row = self.rows.get(key)
        return None if row is None else row[column or self.value_column]

    def row(self, key: str) -> Mapping[str, str] | None:
        """Return the row of `key`, or None."""
        return self.rows.get(key)


def read_table(name: str, text: str) -> tuple[Table, list[Fault]]:
    """Return the table of a CSV and every fault in it; lines that are empty or begin with `#` are comments."""
    faults: list[Fault] = []
    columns: tuple[str, ...] = ()
    rows: dict[str, Mapping[str, str]] = {}
    lines: dict[str, int] = {}
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff")), skipinitialspace=True)
    try:
        for cells in reader:
            if not any(cells) or cells[0].startswith("#"):
                continue
            cells = [cell.strip() for cell in cells]
            if not columns:
                columns = tuple(cells)
                faults += _header_faults(columns, reader.line_num)
            else:
                _add_row(cells, reader.line_num, columns, rows, lines, faults)
    except csv.Error as error:
        faults.append(Fault(reader.line_num, f"not a CSV: {error}"))
    if not columns:
        faults.append(Fault(1, "the table is empty", "begin with a row that names the columns"))
    return Table(name, columns or ("key",), MappingProxyType(rows), MappingProxyType(lines)), faults


def _header_faults(columns: tuple[str, ...], line: int) -> list[Fault]:
    faults = [Fault(line, f"column {column} is named twice") for column in dict.fromkeys(columns) if column and columns.count(column) > 1]
    if len(columns) == 1 and re.search(r"[;\t]", columns[0]):
        faults.append(Fault(line, "all of it is one column", "put commas between the columns"))
    faults += [Fault(line, f"column {number} has no name") for number, column in enumerate(columns, 1) if not column]
    return faults


def _add_row(
    cells: list[str], line: int, columns: tuple[str, ...], rows: dict[str, Mapping[str, str]], lines: dict[str, int], faults: list[Fault]
) -> None:
    key = cells[0]
    if len(cells) != len(columns):
        faults.append(Fault(line, f"{len(cells)} cells in a table of {len(columns)} columns", "quote a cell that holds a comma"))
    elif not key:
        faults.append(Fault(line, f"the key ({columns[0]}) is empty"))
    elif key in rows:
        faults.append(Fault(line, f"key {key} stands here again", f"it is also in line {lines[key]}; keep one"))
    else:
        rows[key] = MappingProxyType(dict(zip(columns, cells, strict=True)))
        lines[key] = line
