"""What is on the reconciliation list, what it says of itself, and which exams it fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import NamedTuple

from broker.dicom.dataset import EXPLICIT_LITTLE, decode, scan
from broker.errors import MessageError
from broker.obs.status import CandidateItem, EntryItem
from broker.pipeline.header import text_of
from broker.ris import likely, unmatched
from broker.ris.entities import Instance, Performed, Unmatched
from broker.ris.likely import Seen
from broker.store import journal
from broker.store.database import Transaction
from broker.store.records import RecordStore

MOST = 50  # entries of the list

_SAID = {
    "study_uid": ("StudyInstanceUID", "ScheduledStepAttributesSequence.StudyInstanceUID"),
    "accession": ("AccessionNumber", "ScheduledStepAttributesSequence.AccessionNumber"),
    "patient_id": ("PatientID",),
    "issuer": ("IssuerOfPatientID",),
    "name": ("PatientName",),
    "birth_date": ("PatientBirthDate",),
    "sex": ("PatientSex",),
    "modality": ("Modality",),
}
_DATES = ("AcquisitionDate", "SeriesDate", "StudyDate", "PerformedProcedureStepStartDate")
_KEYWORDS = (
    *dict.fromkeys(path for paths in _SAID.values() for path in paths),
    *_DATES,
    *(name.replace("Date", "Time") for name in _DATES),
)


class Found(NamedTuple):
    """An entry, how many images it stands for, and where what it says is to be read: in the spool, or in a request."""

    entry: Unmatched
    images: int
    station: str
    spool: str = ""
    request: bytes = b""


def entries(tx: Transaction) -> list[Found]:
    """Return the open entries, newest first."""
    return [_found(tx, RecordStore(tx), one) for one in reversed(RecordStore(tx).find(Unmatched, resolved_at=None)[-MOST:])]


def entry(tx: Transaction, id: int) -> Found:
    """Return one entry; raises LookupError."""
    records = RecordStore(tx)
    return _found(tx, records, records.get(Unmatched, id))


def _found(tx: Transaction, records: RecordStore, entry: Unmatched) -> Found:
    if entry.kind == "images":
        waiting = unmatched.waiting(records, entry)
        first = waiting[0] if waiting else Instance()
        return Found(entry, len(waiting), first.station, spool=first.spool)
    performed = records.one(Performed, uid=entry.key) if entry.kind == "performed" else None
    if performed is None:
        return Found(entry, 0, "")
    return Found(entry, 0, performed.station, request=journal.get(tx, entry.message_id).raw)


def look(found: Found, path: Callable[[str], Path], zone: tzinfo) -> Seen:
    """Return what an entry says of itself, as far as it can be read; reads the header of its first image."""
    said = _read(found, path)
    values = {name: next((said[path] for path in paths if said.get(path)), "") for name, paths in _SAID.items()}
    at = next((said[date] + said.get(date.replace("Date", "Time"), "").partition(".")[0] for date in _DATES if said.get(date)), "")
    at = at or datetime.fromtimestamp(found.entry.first_at, zone).strftime("%Y%m%d%H%M%S")
    if found.entry.corrected:
        values |= {"accession": found.entry.accession, "patient_id": found.entry.patient_id, "issuer": found.entry.issuer}
    values["accession"] = values["accession"] or found.entry.accession
    return Seen(**values, station=found.station, at=at)


def _read(found: Found, path: Callable[[str], Path]) -> dict[str, str]:
    try:
        if found.spool:
            return scan(path(found.spool), _KEYWORDS)
        if found.request:
            dataset = decode(found.request, EXPLICIT_LITTLE)
            return {keyword: "\\".join(text_of(dataset, keyword)) for keyword in _KEYWORDS}
    except (MessageError, OSError, ValueError):
        pass  # the entry is shown all the same, with what the store knows
    return {}


def judged(tx: Transaction, found: Sequence[Found], said: Sequence[Seen], authority: str, wide: bool) -> list[EntryItem]:
    """Return the entries with the exams that fit best: of all that was planned then, or only of those that an identifier leads to."""
    records = RecordStore(tx)
    items = []
    for one, seen in zip(found, said, strict=True):
        planned = likely.planned(records, seen, wide=wide)
        fitting = likely.likeliest(seen, planned, likely.holder(records, seen, authority))
        u = one.entry
        state = "open" if u.resolved_at is None else "closed"
        shown = tuple(_candidate(candidate) for candidate in fitting)
        items.append(EntryItem(u.id, u.first_at, u.kind, u.key, u.accession, u.reason, u.message_id, one.images, state, shown))
    return items


def _candidate(one: likely.Candidate) -> CandidateItem:
    exam = one.exam
    return CandidateItem(exam.accession, one.score, one.reasons, exam.modality, exam.procedure_code, exam.scheduled_at, exam.status)
