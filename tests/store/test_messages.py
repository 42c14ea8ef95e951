"""Journal, outbox and timeline, on every engine."""

from __future__ import annotations

import string
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from broker.errors import MessageError
from broker.model import Delivery, Outgoing, Received, Spooled
from broker.ris.entities import Exam, Instance, Patient
from broker.store import audit, journal, outbox
from broker.store.engine import Transaction
from broker.store.records import RecordStore

ACK = b"MSH|^~\\&|BROKER|RAD|EHR|HOSP|20260302||ACK|1|P|2.5.1\rMSA|AA|1\r"


def received(control_id: str = "1", *, kind: str = "ORM^O01", listener: str = "hospital", raw: bytes = b"MSH|\x00\xff\r") -> Received:
    return Received(listener, "hl7", kind, "EHR|HOSP", "127.0.0.1:1", control_id, raw, "d1")


def outgoing(destination: str = "archive", *, lane: str = "4711", accession: str = "", payload: bytes = b"MSH|\x0b\x00") -> Outgoing:
    return Outgoing(destination, lane, "orders", "OMI^O23", payload, "C1", accession)


def queue(tx: Transaction, message_id: int, sent: Sequence[Outgoing], now: float) -> list[int]:
    return [delivery.id for delivery in outbox.enqueue(tx, [(message_id, one) for one in sent], now)]


def pending(tx: Transaction, after: int = 0, limit: int = 100) -> list[Delivery]:
    return outbox.pending(tx, "archive", after, limit, 1_000_000)[1]


def keep(tx: Transaction, control_id: str = "1", now: float = 1.0, to: tuple[Outgoing, ...] = (), **known: Any) -> int:
    id = journal.reserve(tx)
    queue(tx, id, to, now)
    return journal.insert(tx, received(control_id), now, id=id, **known)


# journal


ENDLESS = "".join(Random(1).choices(string.ascii_letters, k=9000))  # more than an index takes, and nothing that compresses


def test_a_message_with_names_beyond_all_measure_is_kept_and_found_again(store: Any) -> None:
    sent = Received("hospital", "hl7", "ADT^A04", ENDLESS, "", ENDLESS, b"raw", "d1")
    to = outgoing(accession=ENDLESS)
    id = store.run(journal.insert, sent, 1.0, accession=ENDLESS)
    store.run(outbox.enqueue, [(id, to)], 1.0)
    store.run(journal.settle, id, "routed", ACK, "", ENDLESS)
    assert store.run(journal.find, ENDLESS, ENDLESS).id == id
    assert store.run(journal.get, id).control_id == ENDLESS[: journal.INDEXED]


def test_a_record_that_an_index_does_not_take_is_the_messages_fault(harness: Any, postgres_url: str) -> None:
    harness.db = harness.open(postgres_url)
    with pytest.raises(MessageError, match="cannot be stored"):
        harness.run(lambda tx: RecordStore(tx).add(Exam(accession=ENDLESS)))


def test_a_message_comes_back_as_it_was_received(store: Any) -> None:
    id = store.run(journal.insert, received(), 5.0)
    found = store.run(journal.get, id)
    assert (found.id, found.received_at, found.raw, found.answer, found.state) == (id, 5.0, b"MSH|\x00\xff\r", b"", "received")
    assert (found.listener, found.protocol, found.kind, found.sender) == ("hospital", "hl7", "ORM^O01", "EHR|HOSP")
    assert (found.peer, found.control_id, found.digest, found.reason, found.accession) == ("127.0.0.1:1", "1", "d1", "", "")


def test_everything_known_may_be_kept_at_once(store: Any) -> None:
    id = store.run(keep, state="dropped", answer=ACK, reason="no channel", accession="A1")
    found = store.run(journal.get, id)
    assert (found.state, found.answer, found.reason, found.accession) == ("dropped", ACK, "no channel", "A1")


def test_settle_writes_down_what_became_of_it(store: Any) -> None:
    id = store.run(keep, accession="A1")
    store.run(journal.settle, id, "routed", ACK)
    found = store.run(journal.get, id)
    assert (found.state, found.answer, found.accession) == ("routed", ACK, "A1")
    store.run(journal.settle, id, "parked", ACK, "held", "A2")
    found = store.run(journal.get, id)
    assert (found.state, found.reason, found.accession) == ("parked", "held", "A2")
    with pytest.raises(LookupError):
        store.run(journal.settle, id + 1, "routed", ACK)


def test_what_is_kept_and_not_routed_is_claimed_by_the_first_who_asks(store: Any) -> None:
    ids = [store.run(keep, str(number), answer=ACK) for number in range(3)]
    store.run(keep, "routed", state="routed", answer=ACK)
    assert [row.id for row in store.run(journal.kept, 0, 2)] == ids[:2]
    assert [row.id for row in store.run(journal.kept, ids[1], 10)] == ids[2:]
    assert store.run(journal.claim, ids[0]) == ACK
    store.run(journal.settle, ids[0], "routed", ACK)
    assert store.run(journal.claim, ids[0]) is None
    assert [row.id for row in store.run(journal.kept, 0, 10)] == ids[1:]


def test_an_answer_may_be_written_down_later(store: Any) -> None:
    id = store.run(keep, state="routed")
    store.run(journal.answered, id, ACK, 9.0)
    found = store.run(journal.get, id)
    assert (found.state, found.answer) == ("routed", ACK)
    assert store.run(lambda tx: tx.one("select answered_at from message where id = ?", (id,))) == (9.0,)


def test_reserved_and_unreserved_ids_do_not_meet(store: Any) -> None:
    def mixed(tx: Transaction) -> list[int]:
        reserved = journal.reserve(tx)
        plain = journal.insert(tx, received(), 1.0)
        return [journal.insert(tx, received(), 1.0, id=reserved), plain]

    assert len(set(store.run(mixed))) == 2


def test_ids_go_on_after_a_restart_and_are_not_used_again(tmp_path: Any, harness: Any) -> None:
    harness.db = harness.open(tmp_path / "broker.db")
    first = harness.run(keep)
    harness.run(lambda tx: tx.execute("delete from message"))
    harness.close()
    harness.db = harness.open(tmp_path / "broker.db")
    assert harness.run(keep) > first


def test_find_gives_the_latest_under_the_same_id_and_sender(store: Any) -> None:
    store.run(keep, "7")
    latest = store.run(keep, "7")
    store.run(keep, "8")
    assert store.run(journal.find, "EHR|HOSP", "7").id == latest
    assert store.run(journal.find, "OTHER|HOSP", "7") is None


def test_search_takes_every_filter_and_gives_the_newest_first(store: Any) -> None:
    ids = [store.run(keep, str(n), float(n), state=state, accession=f"A{n}") for n, state in enumerate(["routed", "parked", "parked"])]
    assert [m.id for m in store.run(journal.search)] == ids[::-1]
    assert [m.id for m in store.run(journal.search, limit=1)] == [ids[2]]
    assert [m.id for m in store.run(journal.search, state="parked", since=2.0)] == [ids[2]]
    assert [m.id for m in store.run(journal.search, accession="A0", listener="hospital", kind="ORM^O01")] == [ids[0]]
    assert store.run(journal.search, listener="elsewhere") == []
    with pytest.raises(ValueError, match="state"):
        store.run(journal.search, state="'; drop")


def test_spooled_names_what_messages_and_instances_name(store: Any) -> None:
    def fill(tx: Transaction) -> None:
        for day in ("20260302", "20260303"):
            spooled = Spooled(f"{day}/{'0' * 32}.dcm", "1.2", "1.3", "1.2.840.10008.1.2", 10, "d")
            journal.insert(tx, Received("m", "dicom", "C-STORE", "CT1", "p", "1.3", b"", "d", spooled), 1.0)

    store.run(fill)
    assert store.run(journal.spooled, "20260302") == {f"20260302/{'0' * 32}.dcm"}
    assert len(store.run(journal.spooled)) == 2


def test_held_are_the_parked_objects_whose_exam_is_known_by_now(store: Any) -> None:
    def fill(tx: Transaction) -> list[int]:
        ids = []
        for n, (state, exam_id) in enumerate([("parked", 7), ("parked", 8), ("parked", None), ("routed", 7)]):
            name = f"20260302/{n:032x}.dcm"
            spooled = Spooled(name, "1.2", f"1.3.{n}", "1.2.840.10008.1.2", 10, "d")
            object = Received("m", "dicom", "C-STORE", "CT1", "p", f"1.3.{n}", b"", "d", spooled)
            ids.append(journal.insert(tx, object, 1.0, state=state))
            RecordStore(tx).add(Instance(uid=f"1.3.{n}", exam_id=exam_id, message_id=ids[-1], spool=name))
        return ids

    ids = store.run(fill)
    assert store.run(journal.held) == ids[:2]
    assert store.run(journal.held, 7) == ids[:1]
    assert store.run(journal.parked_count) == 3


# outbox


def test_what_waits_is_read_until_there_are_enough_deliveries_or_bytes(store: Any) -> None:
    ids = store.run(queue, 1, [outgoing(payload=b"x" * 100) for _ in range(outbox.SLICE * 3)], 1.0)

    def read(limit: int, most: int, after: int = 0) -> tuple[bool, list[int]]:
        more, found = store.run(outbox.pending, "archive", after, limit, most)
        return more, [d.id for d in found]

    assert read(1000, 10**6) == (False, ids)
    assert read(outbox.SLICE, 10**6) == (True, ids[: outbox.SLICE])
    assert read(1000, 1) == (True, ids[: outbox.SLICE])
    assert read(1000, 10**6, ids[-2]) == (False, ids[-1:])
    assert read(0, 10**6) == (True, [])


def test_deliveries_come_in_the_order_in_which_they_were_queued(store: Any) -> None:
    for n in range(5):
        store.run(keep, str(n), to=(outgoing(lane=f"L{n % 2}"), outgoing("ehr")))
    waiting = store.run(pending, 0, 3)
    assert [d.lane for d in waiting] == ["L0", "L1", "L0"]
    assert [d.id for d in waiting] == sorted(d.id for d in waiting)
    rest = store.run(pending, waiting[-1].id)
    assert [d.lane for d in rest] == ["L1", "L0"]
    first = waiting[0]
    assert first == Delivery(
        first.id, first.message_id, "archive", "L0", "orders", "OMI^O23", b"MSH|\x0b\x00", "C1", "", 0
    )  # fmt: skip


def test_enqueue_returns_the_ids_in_the_order_of_the_outgoing(store: Any) -> None:
    ids = store.run(queue, 1, [outgoing("a"), outgoing("b"), outgoing("c")], 1.0)
    assert [d.destination for d in store.run(outbox.of_message, 1)] == ["a", "b", "c"]
    assert [d.id for d in store.run(outbox.of_message, 1)] == ids
    assert store.run(queue, 1, [], 1.0) == []


def test_settled_deliveries_wait_no_more(store: Any) -> None:
    ids = store.run(queue, 1, [outgoing() for _ in range(4)], 1.0)
    store.run(outbox.delivered, [(ids[0], "AA"), (ids[1], "CA")], 2.0)
    store.run(outbox.park, ids[2], "refused with AE", 3.0)
    assert [d.id for d in store.run(pending)] == [ids[3]]
    rows = store.run(outbox.of_message, 1)
    assert [(r.state, r.answer, r.reason, r.attempts, r.settled_at) for r in rows] == [
        ("delivered", "AA", "", 1, 2.0),
        ("delivered", "CA", "", 1, 2.0),
        ("parked", "", "refused with AE", 1, 3.0),
        ("waiting", "", "", 0, None),
    ]
    assert [r.id for r in store.run(outbox.parked, 9)] == [ids[2]]
    assert store.run(outbox.parked_count) == 1


def test_settling_twice_changes_nothing(store: Any) -> None:
    [id] = store.run(queue, 1, [outgoing()], 1.0)
    store.run(outbox.delivered, [(id, "AA")], 2.0)
    store.run(outbox.delivered, [(id, "AE")], 3.0)
    store.run(outbox.park, id, "late", 4.0)
    store.run(outbox.attempted, id, "late")
    [row] = store.run(outbox.of_message, 1)
    assert (row.state, row.answer, row.attempts, row.settled_at) == ("delivered", "AA", 1, 2.0)
    store.run(outbox.delivered, [], 3.0)


def test_attempts_are_counted_and_a_resend_begins_anew_in_the_old_place(store: Any) -> None:
    first, second = store.run(queue, 1, [outgoing(), outgoing()], 1.0)
    store.run(outbox.attempted, first, "connection refused")
    store.run(outbox.attempted, first, "connection refused")
    [waiting, _] = store.run(pending)
    assert (waiting.id, waiting.attempts) == (first, 2)
    store.run(outbox.park, first, "waited for 24 h", 5.0)
    assert store.run(outbox.resend, first, 9.0) == "archive"
    assert [(d.id, d.attempts) for d in store.run(pending)] == [(first, 0), (second, 0)]
    for nothing_to_resend in (first, second + 1):
        with pytest.raises(LookupError):
            store.run(outbox.resend, nothing_to_resend, 9.0)


def test_depths_tell_how_many_wait_and_since_when(store: Any) -> None:
    store.run(queue, 1, [outgoing("ehr")], 1.0)
    [done] = store.run(queue, 1, [outgoing()], 2.0)
    store.run(queue, 2, [outgoing(), outgoing()], 3.0)
    store.run(outbox.delivered, [(done, "AA")], 4.0)
    assert store.run(outbox.depths) == {"archive": (2, 3.0), "ehr": (1, 1.0)}


def test_a_lease_keeps_other_nodes_out_until_it_ends(store: Any) -> None:
    assert store.run(outbox.lease, "archive", "n1", 100.0, 10.0)
    assert not store.run(outbox.lease, "archive", "n2", 109.0, 10.0)
    assert store.run(outbox.lease, "ehr", "n2", 109.0, 10.0)
    assert store.run(outbox.lease, "archive", "n1", 109.0, 10.0)  # renewed until 119
    assert not store.run(outbox.lease, "archive", "n2", 118.0, 10.0)
    assert store.run(outbox.lease, "archive", "n2", 119.0, 10.0)  # n1 has not renewed
    assert not store.run(outbox.lease, "archive", "n1", 119.0, 10.0)
    store.run(outbox.release, "n2")
    assert store.run(outbox.lease, "archive", "n1", 120.0, 10.0)
    assert store.run(outbox.lease, "ehr", "n1", 120.0, 10.0)


# timeline


def lines(store: Any, accession: str) -> list[tuple[float, str, str, str, str, str]]:
    return [(e.at, e.what, e.kind, e.source, e.target, e.detail) for e in store.run(audit.timeline, accession)]


def test_the_timeline_joins_messages_deliveries_and_notes(store: Any) -> None:
    def fill(tx: Transaction) -> None:
        message = keep(
            tx, "1", 1.0, (outgoing(accession="A1"), outgoing("ehr", accession="A1")), answer=ACK, accession="A1", state="routed"
        )
        audit.note(tx, "A1", 1.0, "exam.scheduled", "exam", "ris", "", message)
        audit.note(tx, "A1", 3.0, "worklist", "C-FIND", "CT1", "modalities", None, "1 of 2 entries")
        audit.note(tx, "A2", 3.0, "worklist", "C-FIND", "CT1", "modalities", None, "another exam")
        archive, ehr = (d.id for d in outbox.of_message(tx, message))
        outbox.attempted(tx, archive, "connection refused")
        outbox.delivered(tx, [(archive, "AA")], 4.0)
        outbox.park(tx, ehr, "AE 204", 2.0)

    store.run(fill)
    assert lines(store, "A1") == [
        (1.0, "received", "ORM^O01", "EHR|HOSP", "hospital", "routed"),
        (1.0, "exam.scheduled", "exam", "ris", "", ""),
        (1.0, "queued", "OMI^O23", "orders", "archive", ""),
        (1.0, "queued", "OMI^O23", "orders", "ehr", ""),
        (1.0, "answered", "ORM^O01", "hospital", "EHR|HOSP", "AA"),
        (2.0, "parked", "OMI^O23", "orders", "ehr", "AE 204, 1 attempt"),
        (3.0, "worklist", "C-FIND", "CT1", "modalities", "1 of 2 entries"),
        (4.0, "delivered", "OMI^O23", "orders", "archive", "AA, 2 attempts"),
    ]
    assert lines(store, "A9") == []
    assert lines(store, "") == []


def test_recent_gives_each_accession_once_the_latest_first(store: Any) -> None:
    def fill(tx: Transaction) -> None:
        for accession in ("A1", "A2", "A1", "A3"):
            audit.note(tx, accession, 1.0, "worklist", "C-FIND", "CT1", "modalities")

    store.run(fill)
    assert store.run(audit.recent, 2) == ["A3", "A1"]


def test_a_resend_keeps_how_the_delivery_had_ended(store: Any) -> None:
    def fill(tx: Transaction) -> None:
        message = keep(tx, "1", 1.0, (outgoing(accession="A1"),))
        [row] = outbox.of_message(tx, message)
        outbox.park(tx, row.id, "AE 204", 2.0)
        outbox.resend(tx, row.id, 3.0)
        outbox.attempted(tx, row.id, "timeout")

    store.run(fill)
    assert [line[:2] + line[5:] for line in lines(store, "A1")] == [
        (1.0, "received", "received"),
        (2.0, "parked", "AE 204"),
        (3.0, "resent", ""),
        (3.0, "queued", "1 attempt, timeout"),
    ]


def test_a_message_of_several_orders_is_on_the_timeline_of_each(store: Any) -> None:
    def fill(tx: Transaction) -> None:
        message = keep(tx, "1", 1.0, (outgoing(accession="A2"), outgoing("ehr"), outgoing("pacs", accession="A3")), accession="A1")
        audit.note(tx, "A4", 1.0, "exam.scheduled", "exam", "ris", "", message)

    store.run(fill)
    assert [line[1] for line in lines(store, "A1")] == ["received", "queued"]
    assert [line[4] for line in lines(store, "A2")] == ["hospital", "archive", "ehr"]
    assert [line[1] for line in lines(store, "A4")] == ["received", "exam.scheduled", "queued"]


def test_the_timeline_begins_with_the_registration_of_the_patient(store: Any) -> None:
    def fill(tx: Transaction) -> None:
        records = RecordStore(tx)
        patient = records.add(Patient())
        merged = records.add(Patient(merged_into=patient.id))
        stranger = records.add(Patient())
        records.add(Exam(patient_id=patient.id, accession="A1"))
        for at, about in ((1.0, patient), (2.0, merged), (3.0, stranger), (9.0, patient)):
            message = journal.insert(tx, received(kind="ADT^A04"), at)
            journal.about(tx, message, about.id)
            journal.about(tx, message, about.id)
            queue(tx, message, [outgoing()], at)
        order = keep(tx, "5", 5.0, accession="A1")
        journal.about(tx, order, patient.id)
        other = keep(tx, "4", 4.0, accession="A2")
        journal.about(tx, other, patient.id)

    store.run(fill)
    assert [line[:3] for line in lines(store, "A1")] == [
        (1.0, "received", "ADT^A04"),
        (1.0, "queued", "OMI^O23"),
        (2.0, "received", "ADT^A04"),
        (2.0, "queued", "OMI^O23"),
        (5.0, "received", "ORM^O01"),
    ]


@pytest.mark.parametrize(
    ("answer", "code"), [(ACK, "AA"), (b"0x0000", "0x0000"), (b"", ""), (b"MSH|^~\\&|\rERR|x\rMSA|AE|1\r", "AE"), (b"MSH|no", "MSH|no")]
)
def test_answer_code(answer: bytes, code: str) -> None:
    assert audit.answer_code(answer) == code
