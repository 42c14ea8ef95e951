"""The tables that de-identification reads: checked, and made into what the pixel workers are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from broker.config.models import Destination
from broker.config.session import Session
from broker.dicom.path import parse
from broker.dicom.regions import SOP_CLASS_NAMES, boxes_of
from broker.errors import Problem
from broker.pipeline.shape import did_you_mean
from broker.pipeline.tables import Table

_REGIONS = ("sop_class", "manufacturer", "model", "rows", "columns", "boxes")  # besides the key, which names the device for people
_USES = ("descriptions", "private", "regions")


def with_rules(session: Session, tables: Mapping[str, Table], destinations: Iterable[Destination]) -> tuple[Destination, ...]:
    """Return the destinations, those that may not know patients with the `rules` that their tables say; notes what is wrong with these."""
    return tuple(_with_rules(session, tables, one) if one.settings.get("deidentify") else one for one in destinations)


def _with_rules(session: Session, tables: Mapping[str, Table], destination: Destination) -> Destination:
    given = destination.settings["deidentify"]
    noted = len(session.findings)
    _check(session, tables, destination, given)
    made = {} if len(session.findings) > noted else rules(given, tables)
    return replace(destination, settings={**destination.settings, "deidentify": {**given, "rules": made}})


def _check(session: Session, tables: Mapping[str, Table], destination: Destination, given: Mapping[str, Any]) -> None:
    for use in _USES:
        name = given[use]
        table = tables.get(name)
        if name and table is None:
            place = ("destinations", destination.name, destination.kind, "deidentify", use)
            session.problem(place, f"there is no table {name}", did_you_mean(name, tables))
        elif table is not None:
            session.used_tables.add(name)
            session.add(*_faults(use, table, session.table_file(name)))


def _faults(use: str, table: Table, file: str) -> Iterable[Problem]:
    missing = [column for column in _REGIONS if column not in table.columns] if use == "regions" else []
    if missing:
        yield Problem(file, 1, "", f"there is no column {', '.join(missing)}", f"the columns are a name, {', '.join(_REGIONS)}")
        return
    for key in table.rows:
        try:
            _READ[use](table, key)
        except ValueError as error:
            yield Problem(file, table.lines[key], "", str(error))


def rules(settings: Mapping[str, Any], tables: Mapping[str, Table]) -> dict[str, Any]:
    """Return what `dicom.derive.rules_of` reads, of settings that were checked."""
    found: dict[str, Any] = {"options": list(settings["options"])}
    for use in _USES:
        table = tables.get(settings[use])
        rows = [_READ[use](table, key) for key in table.rows] if table is not None else []
        found["devices" if use == "regions" else use] = dict(rows) if use == "descriptions" else rows
    return found


def _description(table: Table, key: str) -> tuple[str, str]:
    return key, table.rows[key][table.value_column]


def _private(table: Table, key: str) -> tuple[str, int]:
    *others, level = parse(key)
    if others or not level.creator:
        raise ValueError(f'{key} is no private attribute; write it like (0029,"CREATOR",10)')
    return level.creator, level.tag


def _device(table: Table, key: str) -> dict[str, Any]:
    row = table.rows[key]
    made: dict[str, Any] = {column: row[column] for column in ("sop_class", "manufacturer", "model")}
    if made["sop_class"] and not made["sop_class"].startswith("1.") and made["sop_class"] not in SOP_CLASS_NAMES:
        instead = did_you_mean(made["sop_class"], SOP_CLASS_NAMES)
        raise ValueError(f"sop_class: {made['sop_class']} is no SOP class of the standard ({instead or 'write its UID'})")
    for column in ("rows", "columns"):
        if row[column] and not row[column].isdigit():
            raise ValueError(f"{column}: not a number of pixels")
        made[column] = int(row[column] or 0)
    try:
        return {**made, "boxes": boxes_of(row["boxes"])}
    except ValueError:
        raise ValueError("boxes: write left, top, width and height of each, such as 0 0 640 40, 500 440 140 40") from None


_READ: Mapping[str, Callable[[Table, str], Any]] = {"descriptions": _description, "private": _private, "regions": _device}
