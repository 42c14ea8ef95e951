"""The reconciliation list: what named no known exam."""

from __future__ import annotations

from dataclasses import replace

from broker.ris.context import RisContext
from broker.ris.entities import Exam, Instance, Unmatched
from broker.ris.events import Event, StoreInstance
from broker.ris.records import Records


def listed(
    records: Records, kind: str, key: str, accession: str, reason: str, context: RisContext, seen: StoreInstance | None = None
) -> list[Event]:
    """Put an entry on the list and tell so; when it is open already, only complete its accession number.

    `seen`: the first image of the entry, whose patient may name its exam, also when the order comes later.
    """
    known = find_open(records, kind, key)
    if known is not None:
        if accession and not known.accession:
            records.update(replace(known, accession=accession))
        return []
    entry = Unmatched(kind=kind, key=key, accession=accession, reason=reason, message_id=context.message_id, first_at=context.at)
    if seen is not None:
        entry = replace(
            entry,
            patient_id=seen.patient_id,
            issuer=seen.issuer,
            modality=seen.modality,
            taken_at=seen.taken_at or context.now,
            window=seen.window,
        )
    records.add(entry)
    return [Event("unmatched.listed", accession=accession, reason=f"{kind}: {reason}")]


def waiting(records: Records, entry: Unmatched) -> list[Instance]:
    """Return the images that an entry stands for and that have no exam yet."""
    found = records.find(Instance, study_uid=entry.key, exam_id=None) or records.find(Instance, uid=entry.key, exam_id=None)
    return [one for one in found if not one.released]


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
