"""Code tables: read, and checked where the broker knows what their cells must be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from broker.config.session import Session
from broker.dicom.standard import fault
from broker.errors import Problem
from broker.pipeline.performed import OUTCOMES
from broker.pipeline.requests import ACTIONS, COLUMNS
from broker.pipeline.shape import did_you_mean
from broker.pipeline.tables import Table, read_table
from broker.ris.context import Station
from broker.ris.states import REPORT

_STATION_COLUMNS = ("modality", "room", "opens", "closes")
_CHOICES: Mapping[str, tuple[str, frozenset[str]]] = {  # of what the RIS takes the table for: a column and what it may hold
    "order_control": ("action", frozenset(ACTIONS)),
    "discontinuation": ("action", OUTCOMES),
    "report_status": ("status", frozenset(event for _, event in REPORT)),
}


def read_tables(session: Session, folder: str, *, asked: bool) -> dict[str, Table]:
    """Return the code tables of a folder by their names; without the folder none, and unless one was asked for that is right."""
    session.tables_folder = folder
    path = session.folder / folder
    if not path.is_dir():
        if asked:  # a broker that only passes messages on needs none
            session.problem(("tables",), f"there is no folder {folder}", "create it, or name the folder with the CSV tables")
        return {}
    tables = {}
    for file in sorted(path.glob("*.csv")):
        text = session.read(str(Path(folder) / file.name))
        if isinstance(text, Problem):
            session.add(text)
            continue
        name = session.table_file(file.stem)
        table, faults = read_table(file.stem, text)
        session.add(*(Problem(name, fault.line, "", fault.what, fault.instead) for fault in faults))
        tables[file.stem] = session.watch.table(table, name) if session.watch else table
    return tables


def read_stations(session: Session, tables: Mapping[str, Table], name: str, *, asked: bool) -> tuple[Station, ...]:
    """Return the modalities that can be booked."""
    table = tables.get(name)
    if table is None:
        if asked:
            session.problem(("stations",), f"there is no table {name}", did_you_mean(name, tables))
        return ()
    missing = [column for column in _STATION_COLUMNS if column not in table.columns]
    if missing:
        session.problem(("stations",), f"table {name} has no column {', '.join(missing)}", f"its columns are {', '.join(table.columns)}")
        return ()
    session.used_tables.add(name)
    stations, file = [], session.table_file(name)
    for title, row in table.rows.items():
        try:
            stations.append(Station(title, *(row[column] for column in _STATION_COLUMNS)))
        except ValueError as error:
            session.add(Problem(file, table.lines[title], "", str(error)))
        cells = ((table.columns[0], "AE", title), ("modality", "CS", row["modality"]), ("room", "SH", row["room"]))
        session.add(*_unfit(table, file, title, cells))
    return tuple(stations)


def check_vocabulary(session: Session, tables: Mapping[str, Table]) -> None:
    """Check the cells of the tables that requests to the RIS read; other tables may hold anything."""
    for use, name in sorted({use for examined in session.routes for use in examined.compilation.uses}):
        table = tables.get(name)
        if table is None:
            continue
        file = session.table_file(name)
        column, values = _CHOICES.get(use, ("", frozenset()))
        for key, row in table.rows.items():
            if column in table.columns and row[column] not in values:
                what = f"{row[column] or 'nothing'} is no {column}"
                session.add(Problem(file, table.lines[key], column, what, did_you_mean(row[column], values)))
        if use == "procedures" and set(COLUMNS[use]) <= set(table.columns):
            session.add(*_procedure_faults(table, file))


def _procedure_faults(table: Table, file: str) -> Iterator[Problem]:
    """Return what is wrong with the rows of procedures: their codes stand in the worklist, whose VRs have limits (PS3.4 table K.6-1)."""
    for key, row in table.rows.items():
        if not (row["duration"].isdigit() and int(row["duration"])):
            yield Problem(file, table.lines[key], "duration", "not a number of minutes", "such as 15")
        steps = (step.strip().partition(" ")[0] for step in row["steps"].split(";") if step.strip())
        cells = ((table.columns[0], "SH", key), ("modality", "CS", row["modality"]), *(("steps", "SH", code) for code in steps))
        yield from _unfit(table, file, key, cells)


def _unfit(table: Table, file: str, key: str, cells: tuple[tuple[str, str, str], ...]) -> Iterator[Problem]:
    """Yield each cell (column, VR, text) that its DICOM attribute cannot hold."""
    for column, vr, text in cells:
        wrong = fault(vr, text) or ("a backslash separates values in DICOM" if "\\" in text else "")
        if wrong:
            yield Problem(file, table.lines[key], column, f"the worklist cannot hold it: {wrong}", "use a shorter or plainer one")
