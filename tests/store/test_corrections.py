"""What the store offers to those who correct: records by several values, deliveries withdrawn, messages held and let go."""

from __future__ import annotations

from typing import Any

from broker.model import Outgoing, Received
from broker.ris.entities import Exam, Instance
from broker.store import audit, journal, outbox
from broker.store.engine import Transaction
from broker.store.records import MOST_VALUES, RecordStore


def message(tx: Transaction, uid: str, state: str = "routed") -> int:
    received = Received("modalities", "dicom", "C-STORE", "CT1", "", uid, b"{}", "d")
    return journal.insert(tx, received, 1.0, state=state, accession="A1")


def test_records_by_one_of_many_values(store: Any) -> None:
    def check(tx: Transaction) -> None:
        records = RecordStore(tx)
        for number in range(3):
            records.add(Exam(accession=f"A{number}"))
        wanted = {f"A{number}" for number in range(1, MOST_VALUES + 10)}
        assert [exam.accession for exam in records.among(Exam, "accession", wanted)] == ["A1", "A2"]
        assert records.among(Exam, "accession", set()) == []

    store.run(check)


def test_withdrawn_deliveries_are_gone_but_for_the_timeline(store: Any) -> None:
    def check(tx: Transaction) -> None:
        id = message(tx, "1.1")
        sent = [Outgoing(name, "l", "images", "C-STORE", b"x", "1.1", "A1") for name in ("archive", "teaching")]
        waiting, delivered = outbox.enqueue(tx, [(id, one) for one in sent], 2.0)
        outbox.delivered(tx, [(delivered.id, "0x0000")], 3.0)
        outbox.withdraw(tx, [waiting.id, delivered.id, 99], 4.0)
        assert [(row.destination, row.state) for row in outbox.of_message(tx, id)] == [("teaching", "delivered")]
        [line] = [entry for entry in audit.timeline(tx, "A1") if entry.what == "withdrawn"]
        assert (line.kind, line.target, line.at) == ("C-STORE", "archive", 4.0)

    store.run(check)


def test_what_is_let_go_is_routed_after_a_stop(store: Any) -> None:
    def check(tx: Transaction) -> None:
        tied, free, waiting = (message(tx, uid) for uid in ("1.1", "1.2", "1.3"))
        tx.execute("update message set spool = '20260302/' || control_id")
        records = RecordStore(tx)
        records.add(Instance(uid="1.1", exam_id=5, message_id=tied))
        records.add(Instance(uid="1.2", released=1, message_id=free))
        records.add(Instance(uid="1.3", message_id=waiting))
        assert journal.held(tx) == []
        journal.hold(tx, [tied, free, waiting], "held")
        assert journal.held(tx) == [tied, free]
        assert journal.held(tx, 5) == [tied]
        assert journal.get(tx, waiting).reason == "held"

    store.run(check)
