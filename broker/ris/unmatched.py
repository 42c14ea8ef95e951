"""The reconciliation list: what named no known exam."""

from __future__ import annotations

from dataclasses import replace

from broker.ris.context import RisContext
from broker.ris.entities import Exam, Unmatched
from broker.ris.events import Event
from broker.ris.records import Records


def listed(records: Records, kind: str, key: str, accession: str, reason: str, context: RisContext) -> list[Event]:
    """Put an entry on the list and tell so; when it is open already, only complete its accession number."""
    known = find_open(records, kind, key)
    if known is not None:
        if accession and not known.accession:
            records.update(replace(known, accession=accession))
        return []
    records.add(Unmatched(kind=kind, key=key, accession=accession, reason=reason, message_id=context.message_id, first_at=context.at))
    return [Event("unmatched.listed", accession=accession, reason=f"{kind}: {reason}")]


def find_open(records: Records, kind: str, key: str) -> Unmatched | None:
    """Return the open entry of this kind and key, None when there is none."""
    return next((entry for entry in records.find(Unmatched, key=key, resolved_at=None) if entry.kind == kind), None)


def close(records: Records, entry: Unmatched, exam: Exam, context: RisContext) -> Event:
    """Close the entry in favour of the exam where it belonged; what the event tells is the caller's to send."""
    records.update(replace(entry, resolved_at=context.at, exam_id=exam.id))
    return Event(
        "unmatched.resolved",
        patient_id=exam.patient_id,
        order_id=exam.order_id,
        exam_id=exam.id,
        accession=exam.accession,
        reason=entry.kind,
    )
