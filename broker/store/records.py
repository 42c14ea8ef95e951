"""The RIS records: one table per class of `broker.ris.entities`, one column per field."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Any, TypeVar, get_type_hints

from broker.ris import entities
from broker.ris.entities import Composite
from broker.store.engine import Row, Transaction

E = TypeVar("E")

MOST_VALUES = 500  # of one statement

TABLES: dict[type, str] = {
    entities.Patient: "patients",
    entities.PatientIdentifier: "patient_identifiers",
    entities.Order: "orders",
    entities.Exam: "exams",
    entities.Step: "steps",
    entities.Performed: "performed",
    entities.PerformedItem: "performed_items",
    entities.PerformedSeries: "performed_series",
    entities.PerformedDataset: "performed_datasets",
    entities.Dose: "doses",
    entities.Instance: "instances",
    entities.Completeness: "completeness",
    entities.Evidence: "evidence",
    entities.Report: "reports",
    entities.Charge: "charges",
    entities.Unmatched: "unmatched",
    entities.Correction: "corrections",
    entities.Booked: "booked",
}


def _from_json(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _to_json(values: tuple[str, ...]) -> str:
    return json.dumps(values, ensure_ascii=False) if values else "[]"


def _column(value: object) -> object:
    """Return what a value that is looked for is in its column."""
    return _to_json(value) if isinstance(value, tuple) else str(value) if isinstance(value, Composite) else value


# field type -> what makes it from a column's value, and what makes a column's value from it (None: as it is)
CONVERSIONS: dict[Any, tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]] = {
    int: (None, None),
    int | None: (None, None),
    float: (None, None),
    float | None: (None, None),
    str: (None, None),
    bytes: (bytes, None),  # a driver may give a view of them
    Composite: (Composite, str),
    tuple[str, ...]: (_from_json, _to_json),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """How a class lies in its table."""

    table: str
    names: tuple[str, ...]
    columns: str
    insert: str
    update: str
    fields: Callable[[Any], tuple[Any, ...]]  # of an entity, but for its id
    read: tuple[tuple[int, Callable[[Any], Any]], ...]
    write: tuple[tuple[int, Callable[[Any], Any]], ...]

    def entity(self, kind: type[E], row: Row) -> E:
        """Return the entity of a row."""
        if not self.read:
            return kind(*row)
        values = list(row)
        for at, convert in self.read:
            values[at] = convert(values[at])
        return kind(*values)

    def values(self, fields: tuple[Any, ...]) -> list[object]:
        """Return the columns' values of an entity's fields but for its id."""
        values = list(fields)
        for at, convert in self.write:
            values[at] = convert(values[at])
        return values


def _shape(kind: type, table: str) -> Shape:
    hints = get_type_hints(kind)
    names = tuple(f.name for f in dataclasses.fields(kind))
    quoted = [f'"{name}"' for name in names]
    return Shape(
        table=table,
        names=names,
        columns=", ".join(quoted),
        insert=f"insert into {table} ({', '.join(quoted[1:])}) values ({', '.join('?' * (len(names) - 1))}) returning id",
        update=f"update {table} set {', '.join(q + ' = ?' for q in quoted[1:])} where id = ?",
        fields=attrgetter(*names[1:]),
        read=tuple((i, read) for i, n in enumerate(names) if (read := CONVERSIONS[hints[n]][0]) is not None),
        write=tuple((i, write) for i, n in enumerate(names[1:]) if (write := CONVERSIONS[hints[n]][1]) is not None),
    )


SHAPES = {kind: _shape(kind, table) for kind, table in TABLES.items()}


@functools.lru_cache(maxsize=1024)
def _select(kind: type, fields: tuple[tuple[str, bool], ...], by: str, tail: str) -> str:
    """Return a query for the fields named, each with whether it must be null; raises LookupError for a field there is none of."""
    lies = SHAPES[kind]
    for name in (*(name for name, _ in fields), by):
        if name not in lies.names:
            raise LookupError(f"{kind.__name__} has no field {name}")
    terms = [f'"{name}" is null' if null else f'"{name}" = ?' for name, null in fields]
    if by != "id":
        terms += [f'"{by}" >= ?', f'"{by}" <= ?']
    where = f" where {' and '.join(terms)}" if terms else ""
    order = "id" if by == "id" else f'"{by}", id'
    return f"select {lies.columns} from {lies.table}{where} order by {order}{tail}"


REMEMBERED = 64  # queries of one kind that a write looks through


class RecordStore:
    """`broker.ris.records.Records` over one transaction, of whose records it is the only writer.

    What was read once is not asked for again while nothing that is written changes the answer: a message looks at its few records
    many times, and so do the images of one study that arrive together.
    """

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._seen: dict[type, dict[tuple[Any, ...], Any]] = {}  # by query: whether for one, and what its fields equal
        self.forget()

    def forget(self) -> None:
        """Ask anew for everything: what was written may have been undone."""
        self._seen = {kind: {} for kind in SHAPES}

    def get(self, kind: type[E], id: int, /) -> E:
        """Return the entity with this id; raises LookupError."""
        found = self.one(kind, id=id)
        if found is None:
            raise LookupError(f"{kind.__name__} {id}")
        return found

    def one(self, kind: type[E], /, **match: object) -> E | None:
        """Return the entity with the lowest id whose fields equal `match`, or None."""
        seen, asked = self._seen[kind], (True, *match.items())
        if asked not in seen:
            row = self._tx.one(*self._query(kind, match, "id", " limit 1"))
            seen[asked] = None if row is None else self._known(kind, SHAPES[kind].entity(kind, row))
        found: E | None = seen[asked]
        return found

    def find(self, kind: type[E], /, **match: object) -> list[E]:
        """Return the entities whose fields equal `match`, by id; a value of None matches NULL."""
        seen, asked = self._seen[kind], (False, *match.items())
        if asked not in seen:
            lies = SHAPES[kind]
            seen[asked] = [self._known(kind, lies.entity(kind, row)) for row in self._tx.all(*self._query(kind, match, "id", ""))]
        return list(seen[asked])

    def among(self, kind: type[E], field: str, values: Collection[str], /) -> list[E]:
        """Return the entities whose field is one of these texts, by id."""
        lies = SHAPES[kind]
        if field not in lies.names:
            raise LookupError(f"{kind.__name__} has no field {field}")
        wanted = sorted(values)
        rows = [
            row
            for at in range(0, len(wanted), MOST_VALUES)
            for part in (wanted[at : at + MOST_VALUES],)
            for row in self._tx.all(f'select {lies.columns} from {lies.table} where "{field}" in ({", ".join("?" * len(part))})', part)
        ]
        return [lies.entity(kind, row) for row in sorted(rows, key=lambda row: row[0])]

    def between(self, kind: type[E], field: str, low: str, high: str, /, **match: object) -> list[E]:
        """Return the entities with low <= field <= high (as text) and `match`, by that field, then id."""
        lies = SHAPES[kind]
        sql, params = self._query(kind, match, field, "")
        return [lies.entity(kind, row) for row in self._tx.all(sql, [*params, low, high])]

    def add(self, entity: E) -> E:
        """Insert the entity and return it with its id."""
        kind = type(entity)
        lies = SHAPES[kind]
        fields = lies.fields(entity)
        id = self._tx.insert(lies.insert, lies.values(fields))
        added: E = kind(id, *fields)  # type: ignore[call-arg]
        seen, self._seen[kind] = self._seen[kind], {}
        if len(seen) <= REMEMBERED:  # a query for one still has its answer, for that has a lower id; none was there: it may be this
            kept = {asked: found or (added if _fits(added, asked) else None) for asked, found in seen.items() if asked[0]}
            self._seen[kind] = kept
        return self._known(kind, added)

    def update(self, entity: E) -> None:
        """Write the entity over the row of its id; raises LookupError when there is none."""
        kind = type(entity)
        lies = SHAPES[kind]
        id = entity.id  # type: ignore[attr-defined]
        if not self._tx.execute(lies.update, [*lies.values(lies.fields(entity)), id]):
            raise LookupError(f"{kind.__name__} {id}")
        seen, self._seen[kind] = self._seen[kind], {}
        before = seen.get((True, ("id", id)))
        if before is not None and len(seen) <= REMEMBERED:
            same = {name for name, was, now in zip(lies.names, _fields(before), _fields(entity), strict=True) if was == now}
            kept = {asked: found for asked, found in seen.items() if all(name in same for name, _ in asked[1:])}
            self._seen[kind] = {asked: _replaced(found, before, entity) for asked, found in kept.items()}
        self._known(kind, entity)

    def _known(self, kind: type[E], entity: E) -> E:
        self._seen[kind][True, ("id", entity.id)] = entity  # type: ignore[attr-defined]
        return entity

    def number(self, sequence: str) -> int:
        """Return the next number of a named sequence, starting with 1, without gaps inside one transaction."""
        row = self._tx.one(
            "insert into number_sequence (name, value) values (?, 1)"
            " on conflict (name) do update set value = number_sequence.value + 1 returning value",
            (sequence,),
        )
        if row is None:
            raise LookupError(sequence)
        return int(row[0])

    def _query(self, kind: type, match: dict[str, object], by: str, tail: str) -> tuple[str, list[object]]:
        sql = _select(kind, tuple((name, value is None) for name, value in match.items()), by, tail)
        return sql, [_column(value) for value in match.values() if value is not None]


def _fields(entity: Any) -> tuple[Any, ...]:
    return (entity.id, *SHAPES[type(entity)].fields(entity))


def _fits(entity: object, asked: tuple[Any, ...]) -> bool:
    return all(_column(getattr(entity, name)) == _column(value) for name, value in asked[1:])


def _replaced(found: Any, before: Any, entity: Any) -> Any:
    """Return the answer to a query with the entity as it is now."""
    if isinstance(found, list):
        return [entity if one.id == before.id else one for one in found]
    return entity if found is not None and found.id == before.id else found


def exam_counts(tx: Transaction) -> dict[str, int]:
    """Return how many exams there are in each state."""
    return {row[0]: row[1] for row in tx.all("select status, count(*) from exams group by status order by status")}


def unmatched_counts(tx: Transaction) -> dict[str, int]:
    """Return how many entries of the reconciliation list are open, by kind."""
    return {row[0]: row[1] for row in tx.all("select kind, count(*) from unmatched where resolved_at is null group by kind order by kind")}
