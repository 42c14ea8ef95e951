"""The steps that a worklist query looks up, with exam, order and patient, in the order of their start, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice, product
from typing import Any

from broker.ris.entities import Exam, Order, Patient, PatientIdentifier, Step
from broker.ris.matching import is_exact, is_wild
from broker.ris.patients import ranked
from broker.ris.worklist import WorklistQuery
from broker.ris.worklist_entry import WorklistEntry
from broker.store.engine import Row, Transaction
from broker.store.records import SHAPES

Place = tuple[str, int]  # start and id of the step after which a page begins
BEGINNING: Place = ("", 0)

MOST_PARTS = 20  # stations and modalities that are looked up one by one

_KINDS = (("p", Patient), ("o", Order), ("e", Exam), ("s", Step))
_SIZES = [len(SHAPES[kind].names) for _, kind in _KINDS]
_COLUMNS = ", ".join(f'{alias}."{name}"' for alias, kind in _KINDS for name in SHAPES[kind].names)
STEP_ID = sum(_SIZES[:-1])  # where in a row these stand
ACCESSION = sum(_SIZES[:2]) + SHAPES[Exam].names.index("accession")
_START = STEP_ID + SHAPES[Step].names.index("start")
_IDENTIFIERS = SHAPES[PatientIdentifier].columns

# what is on hold keeps the slots of its steps, but is not listed; `|| ''` keeps an index on the state from being taken: it finds most
# of the store
_LISTED_EXAM = "e.status || '' in ('scheduled', 'arrived', 'in_progress')"
_JOINED = "e.id = s.exam_id and o.id = e.order_id and p.id = e.patient_id"
# the order of the joins is that of the look-up: SQLite keeps it for a cross join, PostgreSQL finds it by itself
_BY_STEP = "steps s cross join exams e cross join orders o cross join patients p"
_BY_EXAM = "exams e cross join steps s cross join orders o cross join patients p"

_EXAM_KEYS = {"accession": "e.accession", "study_uid": "e.study_uid", "requested_procedure_id": "e.requested_procedure_id"}


def page(tx: Transaction, wanted: WorklistQuery, after: Place, count: int) -> list[tuple[Row, tuple[Row, ...]]]:
    """Return at most `count` rows after a place, each with the patient's identifiers in use; fewer when there are no more.

    Only the exact keys and the span are looked at: what is left of the query is for `ris.worklist.filters`.
    """
    rows: list[Row] = []
    for sql, params in _queries(wanted, after, count):
        rows += tx.all(sql, params)
    rows = list(islice(sorted(rows, key=place_of), count))
    identifiers = _identifiers(tx, list(dict.fromkeys(row[0] for row in rows)))
    return [(row, identifiers.get(row[0], ())) for row in rows]


def place_of(row: Row) -> Place:
    """Return the place of a row."""
    return row[_START], row[STEP_ID]


def entry(row: Row, identifiers: Sequence[Row]) -> WorklistEntry:
    """Return the entry of a row."""
    found: list[Any] = []
    at = 0
    for (_, kind), size in zip(_KINDS, _SIZES, strict=True):
        found.append(SHAPES[kind].entity(kind, row[at : at + size]))
        at += size
    patient, order, exam, step = found
    return WorklistEntry(patient, ranked(PatientIdentifier(*one) for one in identifiers), order, exam, step)


def _queries(wanted: WorklistQuery, after: Place, count: int) -> Iterator[tuple[str, list[object]]]:
    """Give the queries whose rows together are the page: where an index holds the steps in order, one for each of its parts."""
    low, high = wanted.span
    if after != BEGINNING:
        low = max(low, after[0])
    tail: list[object] = [low, high, after[0], after[1], count]
    terms, params = _exam_terms(wanted)
    stations = _listed(wanted.station)
    modalities = _listed(wanted.modality)
    if terms or is_exact(wanted.sps_id) or len(stations) * len(modalities) > MOST_PARTS:
        source = _BY_EXAM if terms else _BY_STEP
        steps = {"s.station": stations, "s.modality": modalities, "s.status || ''": wanted.states, "s.sps_id": _listed(wanted.sps_id)}
        for name, values in steps.items():
            if values:
                terms += (_in(name, len(values)),)
                params += values
        yield _select(source, terms), [*params, *tail]
        return
    for station, modality, state in product(stations or ("",), modalities or ("",), wanted.states):
        parts = {"s.status": state, "s.station": station, "s.modality": modality}
        named = {name: value for name, value in parts.items() if value}
        yield _select(_BY_STEP, tuple(_in(name, 1) for name in named)), [*named.values(), *tail]


def _listed(key: str) -> tuple[str, ...]:
    """Return the values of a key that names one or several, () for one with a wildcard or none."""
    return tuple(dict.fromkeys(key.split("\\"))) if key and not is_wild(key) else ()


def _exam_terms(wanted: WorklistQuery) -> tuple[tuple[str, ...], list[object]]:
    """Return the conditions on the exam and its patient that an index answers."""
    terms: list[str] = []
    params: list[object] = []
    for field, column in _EXAM_KEYS.items():
        if values := _listed(getattr(wanted, field)):
            terms.append(_in(column, len(values)))
            params += values
    if is_exact(wanted.patient_id):
        issuer = wanted.issuer if is_exact(wanted.issuer) else ""
        of = " and authority = ?" if issuer else ""
        # under any authority when none is asked for; retired identifiers count
        terms.append(f"e.patient_id in (select patient_id from patient_identifiers where value = ?{of})")
        params += [wanted.patient_id, issuer] if issuer else [wanted.patient_id]
    return tuple(terms), params


def _in(column: str, count: int) -> str:
    return f"{column} = ?" if count == 1 else f"{column} in ({', '.join('?' * count)})"


@lru_cache(maxsize=256)
def _select(source: str, terms: tuple[str, ...]) -> str:
    where = " and ".join((*terms, _JOINED, _LISTED_EXAM, "s.start >= ? and s.start <= ? and (s.start > ? or s.id > ?)"))
    return f"select {_COLUMNS} from {source} where {where} order by s.start, s.id limit ?"


def _identifiers(tx: Transaction, patients: list[int]) -> dict[int, tuple[Row, ...]]:
    """Return the identifiers in use of each patient."""
    if not patients:
        return {}
    sql = f"select {_IDENTIFIERS} from patient_identifiers where {_in('patient_id', len(patients))} and merged_from is null order by id"
    found: dict[int, tuple[Row, ...]] = {}
    for row in tx.all(sql, patients):
        found[row[1]] = (*found.get(row[1], ()), tuple(row))
    return found
