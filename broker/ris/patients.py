"""Patients: found by any identifier with its assigning authority, created, updated, merged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from broker.errors import MessageError
from broker.ris.changes import NULL, text, updated
from broker.ris.context import RisContext
from broker.ris.entities import Exam, Order, Patient, PatientIdentifier
from broker.ris.events import Event, Identifier, MergePatients, PatientData
from broker.ris.records import Records

_RANK = {"MR": 0, "PI": 1, "": 2}  # HL7 table 0203: which identifier stands for the patient; all others come after these


def register(records: Records, data: PatientData, context: RisContext) -> tuple[Patient, list[Event]]:
    """Create the patient or bring it up to date; raises MessageError at PID-3 when the identifiers name nobody or two patients.

    A message that knows the patient by a retired identifier only changes nothing of the survivor: it may be older than the merge.
    """
    named = _named(data.identifiers, context)
    if not named:
        raise MessageError("PID-3", "no patient identifier", 101)
    known = _known(records, named)
    if not known:
        patient = records.add(_described(Patient(), data))
        _add_identifiers(records, patient, named)
        return patient, [Event("patient.created", patient_id=patient.id)]
    before = _only_holder(records, known)
    fresh = [identifier for identifier in named if _key(identifier) not in known]
    _add_identifiers(records, before, fresh)
    typed = _complete_types(records, named, known)
    current = any(row.merged_from is None for row in known.values())
    patient = _described(before, data) if current else before
    if patient is not before:
        records.update(patient)
    changed = patient is not before or fresh or typed
    return patient, [Event("patient.updated", patient_id=patient.id)] if changed else []


def find(records: Records, identifiers: Iterable[Identifier], context: RisContext) -> Patient | None:
    """Return the patient that the identifiers name, None when none is known; raises MessageError when they name two."""
    known = _known(records, _named(identifiers, context))
    return _only_holder(records, known) if known else None


def merge(records: Records, request: MergePatients, context: RisContext) -> list[Event]:
    """Make the retired patients one with the survivor; raises MessageError when a patient would be merged into itself.

    What the message names among the survivor's identifiers stays in use, also when the retired patient brings it along.
    """
    kept = _named(request.survivor.identifiers, context)
    named = _named(request.retired, context)
    if not named:
        raise MessageError("MRG-1", "no retired patient identifier", 101)
    retired = [one for one in named if _key(one) not in {_key(other) for other in kept}]
    if not retired:
        raise _into_itself()
    known = _known(records, retired)
    ending = {row.patient_id for row in known.values() if row.merged_from is None}
    brought = [key for key, row in _known(records, kept).items() if row.patient_id in ending]
    own = tuple(identifier for identifier in kept if _key(identifier) not in brought)
    if kept and not own:
        raise _into_itself()
    survivor, events = register(records, replace(request.survivor, identifiers=own), context)
    for patient_id in sorted({row.patient_id for row in known.values()} - {survivor.id}):
        _absorb(records, records.get(Patient, patient_id), survivor)
    for value, authority in brought:
        _use_again(records, value, authority)
    unknown = [identifier for identifier in retired if _key(identifier) not in known]
    for identifier in unknown:  # its record may still come; then it is this patient's
        records.add(_row(identifier, survivor, merged_from=survivor.id))
    moved = bool(unknown) or any(row.patient_id != survivor.id for row in known.values())
    return [*events, Event("patient.merged", patient_id=survivor.id)] if moved else events


def survivor_of(records: Records, patient_id: int) -> Patient:
    """Return the patient that this record has become after every merge."""
    patient = records.get(Patient, patient_id)
    while patient.merged_into is not None:
        patient = records.get(Patient, patient.merged_into)
    return patient


def identifiers_of(records: Records, patient_id: int, *, retired: bool = False) -> list[PatientIdentifier]:
    """Return the identifiers in use, the one that stands for the patient first; then, if asked for, those retired by a merge."""
    rows = records.find(PatientIdentifier, patient_id=patient_id)
    return ranked(row for row in rows if row.merged_from is None) + [row for row in rows if retired and row.merged_from is not None]


def ranked(rows: Iterable[PatientIdentifier]) -> list[PatientIdentifier]:
    """Return identifiers with the one first that stands for the patient."""
    return sorted(rows, key=lambda row: (_RANK.get(row.type, len(_RANK)), row.id))


def differs(records: Records, exam: Exam, value: str, issuer: str, context: RisContext) -> bool:
    """Return whether (value, issuer) is not the exam's patient: of another one, or unknown where theirs of that issuer is known."""
    if not value or exam.patient_id is None:
        return False
    authority = issuer or context.authority
    row = records.one(PatientIdentifier, value=value, authority=authority)
    if row is not None:
        return row.patient_id != exam.patient_id
    return any(one.authority == authority for one in identifiers_of(records, exam.patient_id))


def _named(identifiers: Iterable[Identifier], context: RisContext) -> list[Identifier]:
    """Return the usable identifiers once each, with the default authority where none is given."""
    named: dict[tuple[str, str], Identifier] = {}
    for sent in identifiers:
        value, authority = sent.value.strip(), text(sent.authority.strip()) or context.authority
        if value and value != NULL:
            named.setdefault((value, authority), Identifier(value, authority, text(sent.type)))
    return list(named.values())


def _key(identifier: Identifier) -> tuple[str, str]:
    return identifier.value, identifier.authority


def _known(records: Records, named: Iterable[Identifier]) -> dict[tuple[str, str], PatientIdentifier]:
    rows = {_key(one): records.one(PatientIdentifier, value=one.value, authority=one.authority) for one in named}
    return {key: row for key, row in rows.items() if row is not None}


def _only_holder(records: Records, known: dict[tuple[str, str], PatientIdentifier]) -> Patient:
    holders = {row.patient_id for row in known.values()}
    if len(holders) > 1:
        raise MessageError("PID-3", "the identifiers name different patients", 205)
    return survivor_of(records, holders.pop())


def _described(patient: Patient, data: PatientData) -> Patient:
    return updated(
        patient,
        family=data.family,
        given=data.given,
        middle=data.middle,
        prefix=data.prefix,
        suffix=data.suffix,
        birth_date=data.birth_date[:8],  # a time of birth is left out
        sex=data.sex,
        address=data.address,
        phone=data.phone,
        account=data.account,
        allergies=data.allergies,
        alerts=data.alerts,
    )


def _row(identifier: Identifier, patient: Patient, merged_from: int | None = None) -> PatientIdentifier:
    return PatientIdentifier(
        patient_id=patient.id, value=identifier.value, authority=identifier.authority, type=identifier.type, merged_from=merged_from
    )


def _add_identifiers(records: Records, patient: Patient, identifiers: Iterable[Identifier]) -> None:
    for identifier in identifiers:
        records.add(_row(identifier, patient))


def _complete_types(records: Records, named: Iterable[Identifier], known: dict[tuple[str, str], PatientIdentifier]) -> bool:
    """Give known identifiers the type they lacked; return whether any got one."""
    typed = [(known[_key(one)], one.type) for one in named if _key(one) in known and one.type and not known[_key(one)].type]
    for row, type_ in typed:
        records.update(replace(row, type=type_))
    return bool(typed)


def _absorb(records: Records, retired: Patient, survivor: Patient) -> None:
    """Move identifiers, orders and exams to the survivor; the retired record stays and names it."""
    for row in records.find(PatientIdentifier, patient_id=retired.id):
        origin = retired.id if row.merged_from is None else row.merged_from
        records.update(replace(row, patient_id=survivor.id, merged_from=origin))
    for order in records.find(Order, patient_id=retired.id):
        records.update(replace(order, patient_id=survivor.id))
    for exam in records.find(Exam, patient_id=retired.id):
        records.update(replace(exam, patient_id=survivor.id))
    records.update(replace(retired, merged_into=survivor.id))


def _use_again(records: Records, value: str, authority: str) -> None:
    """Take an identifier that came with a retired patient into use."""
    row = records.one(PatientIdentifier, value=value, authority=authority)
    if row is not None:
        records.update(replace(row, merged_from=None))


def _into_itself() -> MessageError:
    return MessageError("MRG-1", "a patient cannot be merged into itself", 205)
