"""The audit notes, and the timeline of an accession: messages, deliveries and notes on one line of time."""

from __future__ import annotations

from broker.model import Entry
from broker.store.engine import Transaction

# Entries of one moment follow one another in this order; a note stands where it was written, between arrival and delivery.
_RANK = {"received": 0, "queued": 2, "answered": 3, "delivered": 4, "parked": 4}
_NOTE_RANK = 1

_OWN = """
select id from message where accession = ? and accession <> ''
union select message_id from delivery where accession = ? and accession <> ''
union select message_id from audit_note where accession = ? and message_id is not null"""

# The messages about the exam's patient, and about those merged into him or her, that name no accession of their own.
_PATIENT = """
select about.message_id from message_patient about
 where about.patient_id in (
       select patient_id from exams where accession = ? and patient_id is not null
       union select id from patients where merged_into in (select patient_id from exams where accession = ?))"""

Ranked = tuple[float, int, int, Entry]  # at, rank, order within, entry


def note(
    tx: Transaction,
    accession: str,
    at: float,
    what: str,
    kind: str,
    source: str,
    target: str,
    message_id: int | None = None,
    detail: str = "",
) -> None:
    """Add a line to the timeline of an accession; `detail` is free of patient data."""
    tx.execute(
        "insert into audit_note (accession, at, what, kind, source, target, message_id, detail) values (?, ?, ?, ?, ?, ?, ?, ?)",
        (accession, at, what, kind, source, target, message_id, detail),
    )


def recent(tx: Transaction, limit: int) -> list[str]:
    """Return the accessions that something was noted of lately, the latest first; it looks at the last notes only."""
    rows = tx.all("select accession from audit_note order by id desc limit ?", (limit * 8,))
    return list(dict.fromkeys(row[0] for row in rows))[:limit]


def timeline(tx: Transaction, accession: str) -> list[Entry]:
    """Return what happened to an accession over both protocols, in time order.

    Messages belong to it when they, a delivery of theirs or a note name it; so do those about its patient that name no
    accession and came before the last of the others. Empty when nothing is known of the accession.
    """
    if not accession:
        return []
    notes = _notes(tx, accession)
    own = _messages(tx, f"id in ({_OWN})", (accession, accession, accession))
    deliveries = _deliveries(tx, "accession = ? and accession <> ''", (accession,))
    deliveries += _deliveries(tx, f"accession = '' and message_id in ({_OWN})", (accession, accession, accession))
    entries = notes + own + deliveries
    if entries:
        last = max(entry[0] for entry in entries)
        before = f"accession = '' and received_at <= ? and id in ({_PATIENT}) and id not in ({_OWN})"
        patient = (accession, accession)
        entries += _messages(tx, before, (last, *patient, accession, accession, accession))
        entries += _deliveries(
            tx, f"accession = '' and queued_at <= ? and message_id in ({_PATIENT}) and message_id not in ({_OWN})",
            (last, *patient, accession, accession, accession),
        )  # fmt: skip
    return [entry for _, _, _, entry in sorted(entries, key=lambda ranked: ranked[:3])]


def _notes(tx: Transaction, accession: str) -> list[Ranked]:
    rows = tx.all(
        "select id, at, what, kind, source, target, message_id, detail from audit_note where accession = ? order by id", (accession,)
    )
    return [(row[1], _RANK.get(row[2], _NOTE_RANK), row[0], Entry(*row[1:])) for row in rows]


def _messages(tx: Transaction, where: str, params: tuple[object, ...]) -> list[Ranked]:
    rows = tx.all(f"select id, received_at, answered_at, kind, sender, listener, state, reason, answer from message where {where}", params)
    entries: list[Ranked] = []
    for id, received_at, answered_at, kind, sender, listener, state, reason, answer in rows:
        detail = state + (f": {reason}" if reason else "")
        entries.append((received_at, _RANK["received"], id, Entry(received_at, "received", kind, sender, listener, id, detail)))
        if answered_at is not None:
            at = float(answered_at)
            entries.append((at, _RANK["answered"], id, Entry(at, "answered", kind, listener, sender, id, answer_code(answer))))
    return entries


def _deliveries(tx: Transaction, where: str, params: tuple[object, ...]) -> list[Ranked]:
    rows = tx.all(
        "select id, message_id, channel, destination, kind, state, attempts, queued_at, settled_at, answer, reason"
        f" from delivery where {where}",
        params,
    )
    entries: list[Ranked] = []
    for id, message_id, channel, destination, kind, state, attempts, queued_at, settled_at, answer, reason in rows:
        tries = f"{attempts} attempt{'' if attempts == 1 else 's'}"
        waiting = f"{tries}, {reason}" if state == "waiting" and attempts else ""
        entries.append((queued_at, _RANK["queued"], id, Entry(queued_at, "queued", kind, channel, destination, message_id, waiting)))
        if settled_at is not None:
            detail = ", ".join(part for part in (answer if state == "delivered" else reason, tries) if part)
            entries.append((settled_at, _RANK[state], id, Entry(settled_at, state, kind, channel, destination, message_id, detail)))
    return entries


def answer_code(answer: bytes) -> str:
    """Return the code of an answer: MSA-1 of the last acknowledgement, or the DIMSE status that stands for itself."""
    begin = answer.rfind(b"\rMSA") + 1
    if not begin:
        return answer[:16].decode("ascii", "replace")
    return answer[begin + 4 : begin + 6].decode("ascii", "replace")
