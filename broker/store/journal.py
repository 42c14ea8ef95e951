"""The journal: every message, object and request as it arrived, and what it was answered."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Collection, Sequence

from broker.model import Journaled, Received
from broker.store.engine import Row, Transaction

STATES = ("received", "routed", "dropped", "parked", "refused", "answered")  # what they mean: sql/0001_messages.sql

# Characters of a name or number that are kept beside the message: no honest one is longer, and an index has its limits.
INDEXED = 200

Name = tuple[str, str]  # sender and control id, as they are kept

_INSERT = """
insert into message (id, received_at, answered_at, listener, protocol, kind, sender, peer, control_id, digest, spool, state, reason,
                     accession, answer, raw)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_COLUMNS = "id, received_at, listener, protocol, kind, sender, peer, control_id, digest, raw, state, answer, reason, accession, spool"


def reserve(tx: Transaction) -> int:
    """Return the id of a message to be inserted later, so that its deliveries and records can name it before."""
    return tx.reserve("message")


def insert(
    tx: Transaction,
    received: Received,
    now: float,
    *,
    id: int | None = None,
    state: str = "received",
    answer: bytes = b"",
    reason: str = "",
    accession: str = "",
) -> int:
    """Keep what was received and return its id: the reserved one when given, else a new one.

    `state`, `answer`, `reason` and `accession` spare a later `settle` when they are already known.
    """
    id = tx.reserve("message") if id is None else id
    write(tx, [row_of(received, now, id, state, answer, reason, accession)])
    return id


def row_of(received: Received, now: float, id: int, state: str, answer: bytes, reason: str = "", accession: str = "") -> Row:
    """Return what `write` keeps of a message under a reserved id."""
    spool = received.spooled.name if received.spooled and state != "refused" else ""  # nothing of what is refused is kept
    sender, control_id = name(received)
    return (
        id, now, now if answer else None, received.listener, received.protocol, received.kind, sender, received.peer, control_id,
        received.digest, spool, state, reason, accession[:INDEXED], answer, received.raw,
    )  # fmt: skip


def write(tx: Transaction, rows: Sequence[Row]) -> None:
    """Keep messages, each as its `row_of`."""
    tx.many(_INSERT, rows)


def name(received: Received) -> Name:
    """Return what a retransmission repeats: the sender, and the message's id."""
    return received.sender[:INDEXED], received.control_id[:INDEXED]


def seen(tx: Transaction, names: Sequence[Name]) -> set[Name]:
    """Return those of the names under which a message was received before."""
    size = 1 << (len(names) - 1).bit_length()  # few sizes make few statements
    padded = [*names, *[names[-1]] * (size - len(names))]
    rows = tx.all(_seen(size), [part for name in padded for part in name])
    return {padded[row[0]] for row in rows}


@functools.cache
def _seen(size: int) -> str:
    wanted = ", ".join(f"({at}, ?, ?)" for at in range(size))
    return (
        f"with wanted(at, sender, control_id) as (values {wanted}) select at from wanted where exists"
        " (select 1 from message where message.sender = wanted.sender and message.control_id = wanted.control_id)"
    )


def find(tx: Transaction, sender: str, control_id: str, digest: str = "") -> Journaled | None:
    """Return the latest message of this sender under this id, or None; one with that very content before any other."""
    latest = "order by case when digest = ? then 0 else 1 end, id desc limit 1"
    names = (sender[:INDEXED], control_id[:INDEXED])
    row = tx.one(f"select {_COLUMNS} from message where sender = ? and control_id = ? {latest}", (*names, digest))
    return Journaled(*row) if row else None


def settle(tx: Transaction, id: int, state: str, answer: bytes, reason: str = "", accession: str = "", *, now: float | None = None) -> None:
    """Write down what became of a message; an empty `accession` leaves the one that is there. Raises LookupError.

    `now` is the time of the answer; None stands for the time of arrival.
    """
    touched = tx.execute(
        """
        update message set state = ?, answer = ?, reason = ?, accession = case when ? = '' then accession else ? end,
               answered_at = case when ? then coalesce(answered_at, ?, received_at) else answered_at end
         where id = ?""",
        (state, answer, reason, accession[:INDEXED], accession[:INDEXED], bool(answer), now, id),
    )
    if not touched:
        raise LookupError(f"message {id}")


def claim(tx: Transaction, id: int) -> bytes | None:
    """Return the answer of a message that is not yet routed, for who routes it now; None when somebody else has."""
    row = tx.one("update message set state = state where id = ? and state = 'received' returning answer", (id,))
    return bytes(row[0]) if row else None


def kept(tx: Transaction, after: int, limit: int) -> list[Journaled]:
    """Return the next messages that are not yet routed, by id."""
    rows = tx.all(f"select {_COLUMNS} from message where state = 'received' and id > ? order by id limit ?", (after, limit))
    return [Journaled(*row) for row in rows]


def answered(tx: Transaction, id: int, answer: bytes, now: float) -> None:
    """Write down an answer that was given later than the message was taken in."""
    tx.execute("update message set answer = ?, answered_at = ? where id = ?", (answer, now, id))


def get(tx: Transaction, id: int) -> Journaled:
    """Return the message with this id; raises LookupError."""
    row = tx.one(f"select {_COLUMNS} from message where id = ?", (id,))
    if row is None:
        raise LookupError(f"message {id}")
    return Journaled(*row)


def search(
    tx: Transaction,
    *,
    listener: str | None = None,
    kind: str | None = None,
    state: str | None = None,
    accession: str | None = None,
    since: float | None = None,
    limit: int = 100,
) -> list[Journaled]:
    """Return the latest messages that match all that is given, newest first."""
    where: list[str] = []
    params: list[object] = []
    for column, value in (("listener", listener), ("kind", kind), ("accession", accession)):
        if value is not None:
            where.append(f"{column} = ?")
            params.append(value)
    if accession:
        where.append("accession <> ''")  # the term of the partial index
    if state is not None:
        if state not in STATES:
            raise ValueError(f"not a state of a message: {state}")
        where.append(f"state = '{state}'")  # spelled out for the partial indexes
    if since is not None:
        where.append("received_at >= ?")
        params.append(since)
    condition = f"where {' and '.join(where)} " if where else ""
    rows = tx.all(f"select {_COLUMNS} from message {condition}order by id desc limit ?", (*params, limit))
    return [Journaled(*row) for row in rows]


def held(tx: Transaction, exam_id: int | None = None) -> list[int]:
    """Return the parked messages whose object belongs to a known exam by now: to this one; or to any, or is let go without one."""
    of = "instances.exam_id = ?" if exam_id is not None else "(instances.exam_id is not null or instances.released = 1)"
    rows = tx.all(
        "select message.id from message join instances on instances.message_id = message.id"
        f" where message.state = 'parked' and message.spool <> '' and {of} order by message.id",
        (exam_id,) if exam_id is not None else (),
    )
    return [row[0] for row in rows]


def hold(tx: Transaction, ids: Sequence[int], reason: str) -> None:
    """Park messages that were routed, so that they are routed once more."""
    tx.many("update message set state = 'parked', reason = ? where id = ?", [(reason, id) for id in ids])


def parked_count(tx: Transaction) -> int:
    """Return how many messages wait for a person."""
    row = tx.one("select count(*) from message where state = 'parked'")
    return int(row[0]) if row else 0


def about(tx: Transaction, message_id: int, patient_id: int) -> None:
    """Note that a message was about a patient, so that the timeline reaches back to the registration."""
    tx.execute(
        "insert into message_patient (message_id, patient_id) values (?, ?) on conflict (patient_id, message_id) do nothing",
        (message_id, patient_id),
    )


def identity(tx: Transaction) -> str:
    """Return what tells this store from every other one; made when it is first asked for."""
    made = "insert into number_sequence (name, value) values ('store', ?) on conflict (name) do nothing"
    tx.execute(made, (secrets.randbits(62),))
    row = tx.one("select value from number_sequence where name = 'store'")
    return f"{row[0]:016x}" if row else ""


def spooled(tx: Transaction, day: str = "") -> Collection[str]:
    """Return the names in the spool that a message or an instance names; of one day's folder when given."""
    rows: list[Row] = []
    for table in ("message", "instances"):
        rows += tx.all(f"select spool from {table} where spool <> '' and spool >= ? and spool < ?", (day, day + "\x7f"))
    return {row[0] for row in rows}
