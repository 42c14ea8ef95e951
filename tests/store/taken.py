"""Objects in the store as the intake and the couriers leave them."""

from __future__ import annotations

from broker.dicom.storerequest import encode_request
from broker.model import Outgoing, Received, Spooled, StoreRequest
from broker.store import journal, objects, outbox, receipts
from broker.store.engine import Transaction

CT = "1.2.840.10008.5.1.4.1.1.2"


def name_of(number: int) -> str:
    return f"20260302/{number:032x}.dcm"


def take(
    tx: Transaction,
    number: int = 1,
    *,
    at: float = 200.0,
    state: str = "routed",
    to: tuple[str, ...] = ("archive",),
    lane: str = "4711",
    accession: str = "A1",
    spool: str = "",
) -> int:
    """Take an object in as the intake does, and return its message."""
    spooled = Spooled(name_of(number), CT, f"1.2.{number}", "1.2.840.10008.1.2.1", 500, "d")
    payload = encode_request(StoreRequest(spooled))
    received = Received("modalities", "dicom", "C-STORE", "CT1", "", spooled.sop_instance, payload, "d", spooled)
    id = journal.insert(tx, received, at, state=state, accession=accession)
    objects.keep(tx, [(id, spooled)], spool)
    outbox.enqueue(tx, [(id, Outgoing(one, lane, "images", "C-STORE", payload, spooled.sop_instance, accession)) for one in to], at)
    return id


def deliver(tx: Transaction, message_id: int, at: float = 300.0) -> None:
    outbox.delivered(tx, [(row.id, "0x0000") for row in outbox.of_message(tx, message_id)], at)


def deliver_with_receipts(tx: Transaction, message_id: int, at: float = 300.0) -> None:
    """Let the destinations take an object as those do that are asked for commitment."""
    receipts.delivered(tx, [(row.id, "0x0000") for row in outbox.of_message(tx, message_id) if row.kind == "C-STORE"], at)
