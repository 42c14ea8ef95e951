"""The outbox: one row per delivery, in the order in which it must leave, until it is settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.errors import MessageError
from broker.model import Delivery, Outgoing
from broker.store import audit, objects
from broker.store.engine import Transaction
from broker.store.journal import INDEXED

STATES = ("waiting", "delivered", "parked")  # what they mean: sql/0001_messages.sql

SLICE = 10  # deliveries read with one statement; each may be as large as a message

_INSERT = """
insert into delivery (id, message_id, destination, lane, channel, kind, control_id, accession, queued_at, payload)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_COLUMNS = "id, message_id, destination, lane, channel, kind, payload, control_id, accession, attempts"
_ROW = f"{_COLUMNS}, state, queued_at, settled_at, answer, reason"


@dataclass(frozen=True, slots=True)
class DeliveryRow(Delivery):
    """A delivery with its state and how its last attempt ended."""

    state: str
    queued_at: float  # seconds since the epoch
    settled_at: float | None  # when it was delivered or parked
    answer: str
    reason: str  # free of patient data


def enqueue(tx: Transaction, outgoing: Sequence[tuple[int, Outgoing]], now: float) -> list[Delivery]:
    """Queue what messages send, each with its message's id, and return the deliveries in the same order."""
    if not outgoing:
        return []
    deliveries = [
        Delivery(id, message_id, o.destination, o.lane, o.channel, o.kind, o.payload, o.control_id, o.accession, 0)
        for id, (message_id, o) in zip(tx.ids("delivery", len(outgoing)), outgoing, strict=True)
    ]
    tx.many(
        _INSERT,
        [
            (d.id, d.message_id, d.destination, d.lane, d.channel, d.kind, d.control_id, d.accession[:INDEXED], now, d.payload)
            for d in deliveries
        ],
    )
    return deliveries


def pending(tx: Transaction, destination: str, after_id: int, limit: int, most: int) -> tuple[bool, list[Delivery]]:
    """Return the next waiting deliveries of a destination, by id, until they hold `most` bytes; and whether there may be more."""
    found: list[Delivery] = []
    size = 0
    while (wanted := min(SLICE, limit - len(found))) > 0 and size < most:
        rows = tx.all(
            f"select {_COLUMNS} from delivery where state = 'waiting' and destination = ? and id > ? order by id limit ?",
            (destination, found[-1].id if found else after_id, wanted),
        )
        deliveries = [Delivery(*row) for row in rows]
        found += deliveries
        size += sum(len(one.payload) for one in deliveries)
        if len(rows) < wanted:
            return False, found
    return True, found


def delivered(tx: Transaction, answers: Sequence[tuple[int, str]], now: float) -> None:
    """Settle deliveries, each with the answer it got; one that is settled already stays as it is."""
    tx.many(
        "update delivery set state = 'delivered', answer = ?, reason = '', settled_at = ?, attempts = attempts + 1"
        " where id = ? and state = 'waiting'",
        [(answer, now, id) for id, answer in answers],
    )


def attempted(tx: Transaction, id: int, reason: str) -> None:
    """Count an attempt that did not succeed, and why; the delivery goes on waiting. `reason` is free of patient data."""
    tx.execute("update delivery set attempts = attempts + 1, reason = ? where id = ? and state = 'waiting'", (reason, id))


def park(tx: Transaction, id: int, reason: str, now: float) -> None:
    """Set a delivery aside for a person; the attempt that led to it counts. `reason` is free of patient data."""
    tx.execute(
        "update delivery set state = 'parked', attempts = attempts + 1, reason = ?, settled_at = ? where id = ? and state = 'waiting'",
        (reason, now, id),
    )


def reopen(tx: Transaction, id: int, reason: str, now: float) -> None:
    """Give a delivery that was made to a person, who may make it again. `reason` is free of patient data."""
    tx.execute("update delivery set state = 'parked', reason = ?, settled_at = ? where id = ? and state = 'delivered'", (reason, now, id))


def close(tx: Transaction, id: int) -> None:
    """Take back from a person a delivery that was made after all."""
    tx.execute("update delivery set state = 'delivered', reason = '' where id = ? and state = 'parked'", (id,))


def resend(tx: Transaction, id: int, now: float) -> str:
    """Let a delivery that is parked or was delivered wait again, in its old place, and return its destination.

    Raises LookupError when there is none or it is waiting, MessageError when its object has gone from the spool. How it had ended
    stays on the timeline.
    """
    row = tx.one(
        "select destination, state, channel, kind, accession, message_id, settled_at, answer, reason from delivery"
        " where id = ? and state <> 'waiting'",
        (id,),
    )
    if row is None:
        raise LookupError(f"delivery {id}")
    destination, state, channel, kind, accession, message_id, settled_at, answer, reason = row
    if kind == "C-STORE" and objects.is_deleted(tx, message_id):
        raise MessageError("", f"the object of delivery {id} was deleted from the spool after every destination had it", 204)
    if accession:
        audit.note(tx, accession, settled_at, state, kind, channel, destination, message_id, reason or answer)
        audit.note(tx, accession, now, "resent", kind, channel, destination, message_id, "")
    tx.execute(
        "update delivery set state = 'waiting', attempts = 0, answer = '', reason = '', settled_at = null, queued_at = ? where id = ?",
        (now, id),
    )
    return str(destination)


def withdraw(tx: Transaction, ids: Sequence[int], now: float) -> None:
    """Take deliveries that wait, or are parked, out of the queue for good; the timeline keeps that they were there."""
    for id in ids:
        row = tx.one(
            "delete from delivery where id = ? and state <> 'delivered' returning accession, kind, channel, destination, message_id", (id,)
        )
        if row is not None and row[0]:
            audit.note(tx, row[0], now, "withdrawn", *row[1:])


def images_of(tx: Transaction, patient_id: int) -> list[tuple[int, str, int]]:
    """Return the images of a patient's exams that wait to be sent: the delivery, its destination and its message."""
    rows = tx.all(
        # a cross join, so that a database begins with the patient and not with all that waits
        "select delivery.id, delivery.destination, delivery.message_id from exams cross join instances cross join delivery"
        " where exams.patient_id = ? and instances.exam_id = exams.id and delivery.message_id = instances.message_id"
        " and delivery.state = 'waiting' and delivery.kind = 'C-STORE' order by delivery.id",
        (patient_id,),
    )
    return [(row[0], row[1], row[2]) for row in rows]


def renew(tx: Transaction, id: int, outgoing: Outgoing) -> None:
    """Let a delivery that waits send this instead, in its place."""
    tx.execute(
        "update delivery set payload = ?, control_id = ?, accession = ? where id = ? and state = 'waiting'",
        (outgoing.payload, outgoing.control_id, outgoing.accession[:INDEXED], id),
    )


def of_message(tx: Transaction, message_id: int) -> list[DeliveryRow]:
    """Return all deliveries of a message, by id."""
    rows = tx.all(f"select {_ROW} from delivery where message_id = ? order by id", (message_id,))
    return [DeliveryRow(*row) for row in rows]


def sent_by(tx: Transaction, message_id: int) -> int:
    """Return how many deliveries a message has."""
    row = tx.one("select count(*) from delivery where message_id = ?", (message_id,))
    return int(row[0]) if row else 0


def parked(tx: Transaction, limit: int) -> list[DeliveryRow]:
    """Return the deliveries that wait for a person, the latest first."""
    rows = tx.all(f"select {_ROW} from delivery where state = 'parked' order by id desc limit ?", (limit,))
    return [DeliveryRow(*row) for row in rows]


def parked_count(tx: Transaction) -> int:
    """Return how many deliveries wait for a person."""
    row = tx.one("select count(*) from delivery where state = 'parked'")
    return int(row[0]) if row else 0


def depths(tx: Transaction) -> dict[str, tuple[int, float]]:
    """Return, for each destination with waiting deliveries, how many and since when the first one waits."""
    rows = tx.all(
        """
        select waiting.destination, waiting.depth, delivery.queued_at
          from (select destination, count(*) as depth, min(id) as first_id
                  from delivery where state = 'waiting' group by destination) waiting
          join delivery on delivery.id = waiting.first_id
         order by waiting.destination"""
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def lease(tx: Transaction, destination: str, node: str, now: float, seconds: float) -> bool:
    """Claim a destination's queue for a node, or renew the claim; False while another node holds it."""
    touched = tx.execute(
        """
        insert into queue_lease (destination, node, until) values (?, ?, ?)
        on conflict (destination) do update set node = excluded.node, until = excluded.until
         where queue_lease.node = excluded.node or queue_lease.until <= ?""",
        (destination, node, now + seconds, now),
    )
    return touched == 1


def release(tx: Transaction, node: str) -> None:
    """Give up all that a node has claimed."""
    tx.execute("delete from queue_lease where node = ?", (node,))
