"""What the journal holds of a while, and all that led up to it: read only, in small pieces, from a store that goes on working."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from broker.model import Journaled
from broker.store.engine import Row, Transaction

_COLUMNS = "id, received_at, listener, protocol, kind, sender, peer, control_id, digest, raw, state, answer, reason, accession, spool"
_MANY = 500  # parameters of one query
_ROUNDS = 8  # in which patients lead to messages, and these by merges to other patients


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages are looked at; an empty text or None does not narrow."""

    since: float  # seconds since the epoch
    until: float | None = None
    listener: str = ""
    kind: str = ""
    limit: int | None = None  # the latest so many


@dataclass(slots=True)
class Made:
    """The identifiers that a message's orders were given, in their order; later messages name them."""

    accessions: list[str] = field(default_factory=list)
    procedures: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)


def wanted(tx: Transaction, which: Wanted) -> list[int]:
    """Return the ids of the messages, objects and requests, oldest first; queries change nothing and are left out."""
    terms, params = ["received_at >= ?", "protocol in ('hl7', 'dicom')", "state <> 'answered'"], [which.since]
    for term, value in (("received_at < ?", which.until), ("listener = ?", which.listener or None), ("kind = ?", which.kind or None)):
        if value is not None:
            terms.append(term)
            params.append(value)  # type: ignore[arg-type]
    tail = "" if which.limit is None else f" limit {int(which.limit)}"
    rows = tx.all(f"select id from message where {' and '.join(terms)} order by id desc{tail}", params)
    return [row[0] for row in reversed(rows)]


def messages(tx: Transaction, ids: Sequence[int]) -> list[Journaled]:
    """Return these messages, by id."""
    return sorted((Journaled(*row) for row in _in(tx, f"select {_COLUMNS} from message where id in", ids)), key=lambda row: row.id)


def patients(tx: Transaction, ids: Collection[int], identifiers: Collection[str], accessions: Collection[str]) -> set[int]:
    """Return the patients that messages were about, have one of these identifiers, or an exam with one of these accession numbers."""
    found = _in(tx, "select patient_id from message_patient where message_id in", ids)
    found += _in(tx, "select patient_id from patient_identifiers where value in", identifiers)
    found += _in(tx, "select patient_id from exams where patient_id is not null and accession in", accessions)
    return {row[0] for row in found}


def history(tx: Transaction, known: Collection[int], last: int) -> tuple[set[int], set[int]]:
    """Return all messages about these patients up to the id `last`, and about whom they were merged with; and all those patients."""
    people, fresh, ids = set(known), set(known), set[int]()
    for _ in range(_ROUNDS):
        found = _in(tx, "select message_id from message_patient where patient_id in", fresh)
        accessions = _in(tx, "select accession from exams where accession <> '' and patient_id in", fresh)
        found += _in(tx, "select id from message where accession <> '' and accession in", [row[0] for row in accessions])
        led = {row[0] for row in found if row[0] <= last} - ids
        others = _in(tx, "select patient_id from message_patient where message_id in", led)
        others += _in(tx, "select id from patients where merged_into in", fresh)
        others += _in(tx, "select merged_into from patients where merged_into is not null and id in", fresh)
        fresh = {row[0] for row in others} - people
        ids |= led
        people |= fresh
        if not fresh:
            break
    return ids, people


def made(tx: Transaction, people: Collection[int]) -> dict[int, Made]:
    """Return the identifiers given to the exams of these patients, by the message that ordered them."""
    rows = _in(tx, "select id, accession, requested_procedure_id, study_uid from exams where accession <> '' and patient_id in", people)
    exams = {row[1]: row for row in sorted(rows)}
    steps: dict[int, list[str]] = {}
    for exam_id, _, sps_id in sorted(_in(tx, "select exam_id, id, sps_id from steps where exam_id in", [row[0] for row in rows])):
        steps.setdefault(exam_id, []).append(sps_id)
    by_message: dict[int, Made] = {}
    notes = _in(tx, "select id, message_id, accession from audit_note where what = 'exam.scheduled' and accession in", exams)
    for _, message_id, accession in sorted(note for note in notes if note[1] is not None):
        exam_id, _, procedure, study = exams[accession]
        one = by_message.setdefault(message_id, Made())
        one.accessions.append(accession)
        one.procedures.append(procedure)
        one.studies.append(study)
        one.steps += steps.get(exam_id, [])
    return by_message


def count_from(tx: Transaction, sequence: str, number: int) -> None:
    """Let the next number of a sequence be this one; for a store in memory only."""
    tx.execute(
        "insert into number_sequence (name, value) values (?, ?) on conflict (name) do update set value = excluded.value",
        (sequence, number - 1),
    )


def _in(tx: Transaction, query: str, values: Iterable[object]) -> list[Row]:
    found: list[Row] = []
    for some in _pieces(list(values)):
        found += tx.all(f"{query} ({', '.join('?' * len(some))})", some)
    return found


def _pieces(values: list[object]) -> Iterator[list[object]]:
    for at in range(0, len(values), _MANY):
        yield values[at : at + _MANY]
