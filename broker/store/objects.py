"""The objects of the spool as the store knows them: taken in, kept while anybody may need the file, deleted after that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.model import Spooled
from broker.store.engine import Transaction


@dataclass(frozen=True, slots=True)
class Kept:
    """An object whose file is in the spool."""

    message_id: int
    name: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Terms:
    """What must hold before an object is deleted; times in seconds since the epoch."""

    delivered: float  # its last delivery was before
    unfinished: float  # it came before, while its exam has not ended
    archives: tuple[str, ...] = ()  # destinations that must have committed it if they took it


_HERE = "object.spool in ('', ?)"  # what names none is of a broker that did not know of others

# Nobody needs the file any more: no channel holds it, every destination has it for long enough and has committed it where it is asked
# to, nothing on the reconciliation list waits for it, and its exam has ended or never will.
_SETTLED = """
   and message.state in ('routed', 'dropped')
   and message.received_at <= ?
   and not exists (select 1 from delivery where delivery.message_id = object.message_id
                    and (delivery.state <> 'delivered' or delivery.settled_at > ?))
   and not exists (select 1 from receipt where receipt.message_id = object.message_id and receipt.state <> 'committed'
                    and receipt.destination in ({archives}))
   and not exists (select 1 from instances join unmatched on unmatched.key in (instances.study_uid, instances.uid)
                    where instances.message_id = object.message_id and instances.exam_id is null
                      and unmatched.kind = 'images' and unmatched.resolved_at is null)
   and (message.received_at <= ?
        or not exists (select 1 from instances join exams on exams.id = instances.exam_id
                        where instances.message_id = object.message_id
                          and exams.status not in ('completed', 'discontinued', 'cancelled')))"""


def keep(tx: Transaction, taken: Sequence[tuple[int, Spooled]], spool: str = "") -> None:
    """Write down objects that were taken in, each with its message's id; `spool` is the mark of the one that has them."""
    tx.many(
        "insert into object (message_id, name, uid, sop_class, size, spool) values (?, ?, ?, ?, ?, ?)",
        [(message_id, one.name, one.sop_instance, one.sop_class, one.size, spool) for message_id, one in taken],
    )


def known(tx: Transaction, uid: str) -> list[tuple[str, str, int]]:
    """Return the SOP class, the state and the message of every object taken in under a SOP Instance UID, the latest first."""
    rows = tx.all("select sop_class, state, message_id from object where uid = ? order by message_id desc", (uid,))
    return [(row[0], row[1], row[2]) for row in rows]


def total(tx: Transaction, spool: str = "") -> tuple[int, int]:
    """Return how many objects a spool keeps, and their bytes."""
    row = tx.one(f"select count(*), coalesce(sum(size), 0) from object where state = 'kept' and {_HERE}", (spool,))
    return (int(row[0]), int(row[1])) if row else (0, 0)


def delete(tx: Transaction, terms: Terms, after: int, limit: int, size: int, spool: str = "") -> tuple[int | None, list[Kept]]:
    """Look at a spool's next kept objects after a message's id, the oldest first, and write down that those nobody needs are deleted.

    It ends when they are of `size` bytes together. The first result is where to go on, None when none of the next ones is old enough;
    the files of the second may be removed once this is durable.
    """
    kept = f"select message_id from object where state = 'kept' and {_HERE} and message_id > ? order by message_id limit ?"
    rows = tx.all(kept, (spool, after, limit))
    if not rows:
        return None, []
    last = rows[-1][0]
    settled = _SETTLED.format(archives=", ".join("?" * len(terms.archives)) or "''")
    more = len(rows) == limit and tx.one("select 1 from message where id = ? and received_at <= ?", (last, terms.delivered)) is not None
    found = tx.all(
        "select object.message_id, object.name, object.size from object join message on message.id = object.message_id"
        f" where object.state = 'kept' and {_HERE} and object.message_id > ? and object.message_id <= ?{settled}"
        " order by object.message_id",
        (spool, after, last, terms.delivered, terms.delivered, *terms.archives, terms.unfinished),
    )
    gone: list[Kept] = []
    for row in found:
        if size <= 0:
            break
        gone.append(Kept(*row))
        size -= gone[-1].size
    ids = [(one.message_id,) for one in gone]
    tx.many("update object set state = 'deleted' where message_id = ?", ids)
    tx.many("update message set spool = '' where id = ?", ids)
    tx.many("update instances set spool = '' where spool <> '' and spool = ?", [(one.name,) for one in gone])
    return (last if more else None), gone


def is_deleted(tx: Transaction, message_id: int) -> bool:
    """Tell whether a message brought an object whose file has gone from the spool."""
    return tx.one("select 1 from object where message_id = ? and state = 'deleted'", (message_id,)) is not None


def urgent(tx: Transaction, study_uid: str, accession: str, priorities: Sequence[str]) -> bool:
    """Tell whether an exam of one of these priorities goes by this Study Instance UID or accession number."""
    wanted = ", ".join("?" * len(priorities))
    for column, value in (("study_uid", study_uid), ("accession", accession)):
        if value and tx.one(f"select 1 from exams where {column} = ? and priority in ({wanted}) limit 1", (value, *priorities)):
            return True
    return False
