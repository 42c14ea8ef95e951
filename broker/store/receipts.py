"""What destinations have said of the instances they took: wanted, requested, committed or not (PS3.4 annex J, as its SCU)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from broker.dicom.commitment import Reference, Report, meaning
from broker.dicom.storerequest import decode_request
from broker.store import audit, outbox
from broker.store.engine import Row, Transaction

STATES = ("wanted", "requested", "committed", "resent", "failed")  # what they mean: sql/0006_commitments.sql

_COLUMNS = "id, destination, uid, sop_class, lane, accession, message_id, delivery_id, state, resent, reason, at"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One instance at one destination."""

    id: int
    destination: str
    uid: str
    sop_class: str
    lane: str
    accession: str
    message_id: int
    delivery_id: int  # the C-STORE that took it there
    state: str
    resent: int
    reason: str
    at: float  # of the last change, seconds since the epoch

    @property
    def reference(self) -> Reference:
        """How a request names it."""
        return Reference(self.sop_class, self.uid)


@dataclass(frozen=True, slots=True)
class Group:
    """The instances that a destination is to be asked about together."""

    lane: str
    count: int
    latest: float  # when the last of them was delivered, seconds since the epoch


def delivered(tx: Transaction, answers: Sequence[tuple[int, str]], now: float) -> None:
    """Settle deliveries as `outbox.delivered` does, and want a receipt of every object among them.

    What is asked about together is an exam, else a lane of the outbox, but none in which each object stands alone.
    """
    marks = ", ".join("?" * len(answers))
    rows = tx.all(
        "select id, message_id, destination,"
        " case when accession <> '' then accession when lane = control_id then '' else lane end, accession, payload from delivery"
        f" where kind = 'C-STORE' and state = 'waiting' and id in ({marks}) order by id",
        [id for id, _ in answers],
    )
    outbox.delivered(tx, answers, now)
    tx.many(
        """
        insert into receipt (delivery_id, message_id, destination, lane, accession, sop_class, uid, state, at)
        values (?, ?, ?, ?, ?, ?, ?, 'wanted', ?)
        on conflict (uid, destination) do update
           set delivery_id = excluded.delivery_id, message_id = excluded.message_id, lane = excluded.lane, accession = excluded.accession,
               sop_class = excluded.sop_class, state = 'wanted', transaction_uid = '', request_id = 0, at = excluded.at,
               resent = case when receipt.state = 'resent' then receipt.resent else 0 end""",
        [_wanted(tx, row, now) for row in rows],
    )


def _wanted(tx: Transaction, row: Row, now: float) -> Row:
    *columns, payload = row
    request = decode_request(bytes(payload))
    uid = request.changes.get("SOPInstanceUID") or request.spooled.sop_instance
    made = tx.one("select pseudonym from pseudonym where original = ? and destination = ? and kind = 'uid'", (uid, columns[2]))
    return (*columns, request.spooled.sop_class, made[0] if made else uid, now)


def groups(tx: Transaction, destination: str) -> list[Group]:
    """Return what a destination is to be asked about, by lane: the accession number, where there is one."""
    rows = tx.all(
        "select lane, count(*), max(at) from receipt where state = 'wanted' and destination = ? group by lane order by lane", (destination,)
    )
    return [Group(*row) for row in rows]


def wanted(tx: Transaction, destination: str, lane: str, limit: int) -> list[Receipt]:
    """Return the instances of one lane that a destination is to be asked about, the first delivered first."""
    return _read(tx, "state = 'wanted' and destination = ? and lane = ?", (destination, lane), f" limit {limit:d}")


def requested(tx: Transaction, receipts: Iterable[Receipt], transaction: str, request_id: int, now: float) -> None:
    """Write down that a request names these; `request_id` is its delivery."""
    tx.many(
        "update receipt set state = 'requested', transaction_uid = ?, request_id = ?, at = ? where id = ?",
        [(transaction, request_id, now, one.id) for one in receipts],
    )


def named(tx: Transaction, transaction: str) -> list[Receipt]:
    """Return what a transaction has named, whatever became of it since."""
    return _read(tx, "transaction_uid = ? and transaction_uid <> ''", (transaction,))


def take(tx: Transaction, said: Report, now: float) -> tuple[list[Receipt], list[tuple[Receipt, str]]]:
    """Write down what a report says, and return what is committed now and what is not, with the reason.

    What it does not name goes on waiting. That something is committed counts however late it is told; that it is not counts once.
    """
    failed = {one.uid: one.reason for one in said.failed}
    committed = {one.uid for one in said.committed} - set(failed)
    open_ones = [one for one in named(tx, said.transaction) if one.state != "committed"]
    good = [one for one in open_ones if one.uid in committed]
    tx.many("update receipt set state = 'committed', reason = '', at = ? where id = ?", [(now, one.id) for one in good])
    for one in good:
        if one.state == "failed":
            outbox.close(tx, one.delivery_id)
    return good, [(one, meaning(failed[one.uid])) for one in open_ones if one.uid in failed and one.state == "requested"]


def overdue(tx: Transaction, destination: str, before: float) -> list[Receipt]:
    """Return what a destination was asked about before that time, and has not told."""
    requests = "select distinct request_id from receipt where state = 'requested' and destination = ?"
    late = f"select id from delivery where id in ({requests}) and state = 'delivered' and settled_at <= ?"
    return _read(tx, f"state = 'requested' and request_id in ({late})", (destination, before))


def resend(tx: Transaction, receipt: Receipt, reason: str, now: float) -> None:
    """Let the object be delivered once more."""
    with suppress(LookupError):  # a person was faster
        outbox.resend(tx, receipt.delivery_id, now)
    _fell_short(tx, receipt, "resent", reason, 1, now)


def fail(tx: Transaction, receipt: Receipt, reason: str, now: float) -> None:
    """Give the delivery of the object to a person."""
    outbox.reopen(tx, receipt.delivery_id, f"not committed: {reason}", now)
    _fell_short(tx, receipt, "failed", reason, 0, now)


def _fell_short(tx: Transaction, receipt: Receipt, state: str, reason: str, more: int, now: float) -> None:
    tx.execute("update receipt set state = ?, reason = ?, resent = resent + ?, at = ? where id = ?", (state, reason, more, now, receipt.id))


def note(tx: Transaction, receipts: Iterable[Receipt], what: str, detail: str, now: float) -> None:
    """Put on the timeline of each accession how many of its instances something was said of."""
    counts: dict[tuple[str, str, int], int] = {}
    for one in receipts:
        if one.accession:
            first = next((key for key in counts if key[:2] == (one.accession, one.destination)), None)
            key = first or (one.accession, one.destination, one.message_id)
            counts[key] = counts.get(key, 0) + 1
    for (accession, destination, message_id), count in counts.items():
        words = f"{count} instance{'' if count == 1 else 's'}" + (f": {detail}" if detail else "")
        audit.note(tx, accession, now, what, "N-ACTION", destination, "ris", message_id, words)


def of_message(tx: Transaction, message_id: int) -> list[Receipt]:
    """Return what each destination has said of the object that a message brought."""
    return _read(tx, "message_id = ?", (message_id,))


def counts(tx: Transaction) -> dict[tuple[str, str], int]:
    """Return how many instances are not committed yet, by destination and state."""
    rows = tx.all("select destination, state, count(*) from receipt where state <> 'committed' group by 1, 2 order by 1, 2")
    return {(row[0], row[1]): row[2] for row in rows}


def _read(tx: Transaction, where: str, params: Sequence[object], tail: str = "") -> list[Receipt]:
    return [Receipt(*row) for row in tx.all(f"select {_COLUMNS} from receipt where {where} order by id{tail}", params)]
