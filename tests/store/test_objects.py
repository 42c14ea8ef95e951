"""Which objects may leave the spool, on every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from broker.errors import MessageError
from broker.model import Outgoing, Received, Spooled
from broker.ris.entities import Exam, Instance, Unmatched
from broker.store import journal, objects, outbox, receipts
from broker.store.engine import Transaction
from broker.store.objects import Terms
from broker.store.records import RecordStore
from tests.store.taken import CT, deliver, name_of, take

LATER = Terms(delivered=1000.0, unfinished=50.0, archives=("archive",))


def gone(tx: Transaction, terms: Terms = LATER, size: int = 1 << 40) -> list[str]:
    return [one.name for one in objects.delete(tx, terms, 0, 100, size)[1]]


def test_an_object_that_every_destination_has_goes_and_all_that_names_its_file_says_so(store: Any) -> None:
    def run(tx: Transaction) -> None:
        id = take(tx)
        RecordStore(tx).add(Instance(uid="1.2.1", spool=name_of(1), message_id=id))
        deliver(tx, id)
        assert objects.total(tx) == (1, 500)
        assert name_of(1) in journal.spooled(tx)
        assert gone(tx) == [name_of(1)]
        assert name_of(1) not in journal.spooled(tx)
        assert objects.total(tx) == (0, 0)
        assert objects.known(tx, "1.2.1") == [(CT, "deleted", id)]
        assert gone(tx) == []

    store.run(run)


def test_the_objects_of_another_spool_are_none_of_this_one_s_business(store: Any) -> None:
    """Nodes that share a store have a spool each: who marks an object as deleted must be who removes its file."""

    def run(tx: Transaction) -> None:
        for number, spool in ((1, "a"), (2, "b"), (3, "")):  # the last one is of a broker that did not write it down
            deliver(tx, take(tx, number, spool=spool))
        assert [objects.total(tx, spool) for spool in ("a", "b")] == [(2, 1000), (2, 1000)]
        assert [one.name for one in objects.delete(tx, LATER, 0, 100, 1 << 40, "a")[1]] == [name_of(1), name_of(3)]
        assert journal.spooled(tx) == {name_of(2)}
        assert [objects.total(tx, spool) for spool in ("a", "b")] == [(0, 0), (1, 500)]

    store.run(run)


def waiting(tx: Transaction, id: int) -> None:
    """Leave its delivery waiting."""


def parked(tx: Transaction, id: int) -> None:
    outbox.park(tx, outbox.of_message(tx, id)[0].id, "status 0xC000", 300.0)


def held(tx: Transaction, id: int) -> None:
    deliver(tx, id)
    journal.settle(tx, id, "parked", b"0x0000", "no exam yet")


def one_of_two(tx: Transaction, id: int) -> None:
    deliver(tx, id)
    outbox.enqueue(tx, [(id, Outgoing("vna", "4711", "images", "C-STORE", b"{}", "1.2.1"))], 200.0)


def lately(tx: Transaction, id: int) -> None:
    deliver(tx, id, at=1001.0)


def unmatched(tx: Transaction, id: int) -> None:
    deliver(tx, id)
    records = RecordStore(tx)
    records.add(Instance(uid="1.2.1", study_uid="1.9", spool=name_of(1), message_id=id))
    records.add(Unmatched(kind="images", key="1.9", message_id=id))


def unfinished(tx: Transaction, id: int) -> None:
    deliver(tx, id)
    exam = RecordStore(tx).add(Exam(accession="A1", status="in_progress"))
    RecordStore(tx).add(Instance(uid="1.2.1", spool=name_of(1), message_id=id, exam_id=exam.id))


def not_committed(tx: Transaction, id: int) -> None:
    receipts.delivered(tx, [(row.id, "0x0000") for row in outbox.of_message(tx, id)], 300.0)


@pytest.mark.parametrize("need", [waiting, parked, held, one_of_two, lately, unmatched, unfinished, not_committed])
def test_an_object_that_somebody_may_need_stays(store: Any, need: Callable[[Transaction, int], None]) -> None:
    def run(tx: Transaction) -> None:
        need(tx, take(tx))
        assert gone(tx) == []

    store.run(run)


def test_an_archive_that_is_not_asked_any_more_holds_nothing_back(store: Any) -> None:
    def run(tx: Transaction) -> None:
        not_committed(tx, take(tx))
        assert gone(tx, Terms(1000.0, 50.0, ("vna", "vault"))) == [name_of(1)]

    store.run(run)


def test_what_a_route_dropped_on_purpose_goes(store: Any) -> None:
    def run(tx: Transaction) -> None:
        take(tx, state="dropped", to=())
        assert gone(tx) == [name_of(1)]

    store.run(run)


def test_an_exam_that_never_ends_holds_its_images_for_a_while(store: Any) -> None:
    def run(tx: Transaction) -> None:
        unfinished(tx, take(tx, at=200.0))
        assert gone(tx, Terms(1000.0, 199.0)) == []
        assert gone(tx, Terms(1000.0, 200.0)) == [name_of(1)]

    store.run(run)


@pytest.mark.parametrize("status", ["completed", "discontinued", "cancelled"])
def test_an_exam_that_has_ended_lets_its_images_go(store: Any, status: str) -> None:
    def run(tx: Transaction) -> None:
        id = take(tx)
        deliver(tx, id)
        exam = RecordStore(tx).add(Exam(accession="A1", status=status))
        RecordStore(tx).add(Instance(uid="1.2.1", spool=name_of(1), message_id=id, exam_id=exam.id))
        assert gone(tx) == [name_of(1)]

    store.run(run)


def test_the_oldest_go_first_and_no_more_than_asked(store: Any) -> None:
    def run(tx: Transaction) -> None:
        for number in (1, 2, 3):
            deliver(tx, take(tx, number))
        assert gone(tx, size=501) == [name_of(1), name_of(2)]
        assert gone(tx, size=0) == []

    store.run(run)


def test_it_goes_on_where_it_ended_and_ends_with_what_is_too_young(store: Any) -> None:
    def run(tx: Transaction) -> None:
        ids = [take(tx, number, at=at) for number, at in ((1, 200.0), (2, 201.0), (3, 5000.0))]
        for id in ids[1:]:
            deliver(tx, id)
        after, found = objects.delete(tx, LATER, 0, 1, 1 << 40)
        assert (after, found) == (ids[0], [])
        after, found = objects.delete(tx, LATER, ids[0], 1, 1 << 40)
        assert (after, [one.name for one in found]) == (ids[1], [name_of(2)])
        assert objects.delete(tx, LATER, ids[1], 1, 1 << 40) == (None, [])
        assert objects.delete(tx, LATER, ids[2], 1, 1 << 40) == (None, [])

    store.run(run)


def test_a_delivery_of_an_object_that_has_gone_is_not_sent_again(store: Any) -> None:
    def run(tx: Transaction) -> None:
        id = take(tx)
        deliver(tx, id)
        gone(tx)
        with pytest.raises(MessageError, match="deleted from the spool"):
            outbox.resend(tx, outbox.of_message(tx, id)[0].id, 400.0)

    store.run(run)


def test_an_exam_is_urgent_by_its_study_or_accession(store: Any) -> None:
    def run(tx: Transaction) -> None:
        RecordStore(tx).add(Exam(accession="A1", study_uid="1.9", priority="STAT"))
        RecordStore(tx).add(Exam(accession="A2", study_uid="1.8", priority="ROUTINE"))
        asked = [("1.9", ""), ("", "A1"), ("1.8", "A1"), ("1.8", "A2"), ("", "")]
        assert [objects.urgent(tx, *one, ("STAT",)) for one in asked] == [True, True, True, False, False]

    store.run(run)


def test_what_is_refused_names_no_file(store: Any) -> None:
    def run(tx: Transaction) -> None:
        received = Received("modalities", "dicom", "C-STORE", "CT1", "", "1.2.1", b"{}", "d", Spooled(name_of(1), CT, "1.2.1", "", 5, "d"))
        journal.insert(tx, received, 1.0, state="refused", reason="no channel accepts this message")
        assert list(journal.spooled(tx)) == []

    store.run(run)
