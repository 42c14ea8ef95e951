"""What modalities have asked us to be responsible for, until they are answered (PS3.4 annex J, as its SCP)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from broker.dicom.commitment import FailureReason, Reference, Report
from broker.store import objects
from broker.store.engine import Transaction

WAITING, COMMITTED, FAILED = "waiting", "committed", "failed"
_OPEN = "state = 'waiting'"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for storage commitment."""

    id: int
    sender: str  # calling AE title
    uid: str  # Transaction UID
    digest: str
    listener: str
    queue: str
    accession: str
    message_id: int
    state: str
    due_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Policy:
    """What makes an instance ours to be responsible for."""

    archives: Collection[str] = ()  # destinations that are asked for commitment
    by_archive: bool = True  # False: that the spool holds it is enough


_COLUMNS = "id, sender, uid, digest, listener, queue, accession, message_id, state, due_at"


def find(tx: Transaction, sender: str, uid: str) -> Asked | None:
    """Return the request of this sender under this Transaction UID."""
    row = tx.one(f"select {_COLUMNS} from commitment where sender = ? and uid = ?", (sender, uid))
    return Asked(*row) if row else None


def get(tx: Transaction, id: int) -> Asked:
    """Return the request with this id; raises LookupError."""
    row = tx.one(f"select {_COLUMNS} from commitment where id = ?", (id,))
    if row is None:
        raise LookupError(f"commitment {id}")
    return Asked(*row)


def keep(
    tx: Transaction,
    sender: str,
    uid: str,
    digest: str,
    listener: str,
    queue: str,
    message_id: int,
    due_at: float,
    asked: Sequence[Reference],
) -> Asked:
    """Keep a request; none of its instances is decided."""
    accession = next(filter(None, (_accession(tx, one.uid) for one in asked)), "")
    id = tx.insert(
        "insert into commitment (sender, uid, digest, listener, queue, accession, message_id, state, due_at)"
        " values (?, ?, ?, ?, ?, ?, ?, 'waiting', ?) returning id",
        (sender, uid, digest, listener, queue, accession, message_id, due_at),
    )
    tx.many(
        "insert into commitment_item (commitment_id, place, uid, sop_class, state, reason) values (?, ?, ?, ?, 'waiting', 0)",
        [(id, place, one.uid, one.sop_class) for place, one in enumerate(asked)],
    )
    return get(tx, id)


def _accession(tx: Transaction, uid: str) -> str:
    row = tx.one(
        "select message.accession from object join message on message.id = object.message_id where object.uid = ? order by message.id desc",
        (uid,),
    )
    return str(row[0]) if row else ""


def decide(tx: Transaction, id: int, policy: Policy) -> int:
    """Decide what can be decided of a request's instances, and return how many still wait."""
    waiting = tx.all(f"select place, sop_class, uid from commitment_item where commitment_id = ? and {_OPEN} order by place", (id,))
    decided = [(place, *judge(tx, Reference(sop_class, uid), policy)) for place, sop_class, uid in waiting]
    settled = [(state, reason, id, place) for place, state, reason in decided if state != WAITING]
    tx.many("update commitment_item set state = ?, reason = ? where commitment_id = ? and place = ?", settled)
    return len(waiting) - len(settled)


def judge(tx: Transaction, asked: Reference, policy: Policy) -> tuple[str, int]:
    """Return the state of an instance and, when it failed, the Failure Reason."""
    known = objects.known(tx, asked.uid)
    if not known:
        return FAILED, FailureReason.NO_SUCH_INSTANCE
    sop_class, state, message_id = known[0]
    if sop_class not in ("", asked.sop_class):
        return FAILED, FailureReason.CLASS_CONFLICT
    if policy.by_archive:
        return (COMMITTED if _archived(tx, message_id, policy.archives) else WAITING), 0
    if state == "kept" or tx.one("select 1 from delivery where message_id = ? and state = 'delivered' limit 1", (message_id,)):
        return COMMITTED, 0
    return FAILED, FailureReason.NO_SUCH_INSTANCE


def _archived(tx: Transaction, message_id: int, archives: Collection[str]) -> bool:
    """Tell whether an archive has committed the object, and every archive that it was for."""
    receipts = tx.all("select destination, state from receipt where message_id = ?", (message_id,))
    said = [state for destination, state in receipts if destination in archives]
    if not said or any(state != COMMITTED for state in said):
        return False
    open_ones = tx.all("select destination from delivery where message_id = ? and kind = 'C-STORE' and state <> 'delivered'", (message_id,))
    return not any(row[0] in archives for row in open_ones)


def touched(tx: Transaction, message_ids: Iterable[int]) -> list[int]:
    """Return the requests that wait for the objects which these messages brought."""
    found: dict[int, None] = {}
    for id in message_ids:
        rows = tx.all(
            "select commitment_item.commitment_id from object join commitment_item on commitment_item.uid = object.uid"
            f" where object.message_id = ? and commitment_item.{_OPEN}",
            (id,),
        )
        found.update(dict.fromkeys(row[0] for row in rows))
    return list(found)


def due(tx: Transaction, now: float, limit: int) -> list[int]:
    """Return requests whose time is over."""
    rows = tx.all(f"select id from commitment where {_OPEN} and due_at <= ? order by due_at, id limit ?", (now, limit))
    return [row[0] for row in rows]


def give_up(tx: Transaction, id: int) -> None:
    """Let what is not decided of a request have failed."""
    tx.execute(
        f"update commitment_item set state = 'failed', reason = ? where commitment_id = ? and {_OPEN}",
        (FailureReason.PROCESSING_FAILURE, id),
    )


def answered(tx: Transaction, asked: Asked) -> Report:
    """Write down that a request is answered, and return what it is told."""
    tx.execute("update commitment set state = 'answered' where id = ?", (asked.id,))
    rows = tx.all("select sop_class, uid, reason, state from commitment_item where commitment_id = ? order by place", (asked.id,))
    told = [(Reference(row[0], row[1], row[2]), row[3]) for row in rows]
    return Report(
        asked.uid,
        tuple(one for one, state in told if state == COMMITTED),
        tuple(one for one, state in told if state != COMMITTED),
    )


def waiting_count(tx: Transaction) -> int:
    """Return how many requests are not answered."""
    row = tx.one(f"select count(*) from commitment where {_OPEN}")
    return int(row[0]) if row else 0
