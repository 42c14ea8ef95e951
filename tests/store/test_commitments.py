"""Receipts and requests for storage commitment, on every engine."""

from __future__ import annotations

from typing import Any

from broker.dicom.commitment import Reference, Report
from broker.store import commitments, outbox, pseudonyms, receipts
from broker.store.commitments import Policy
from broker.store.engine import Transaction
from broker.store.receipts import Group
from tests.store.taken import CT, deliver_with_receipts, take


def states(tx: Transaction) -> list[tuple[str, str, int]]:
    return [(row[0], row[1], row[2]) for row in tx.all("select uid, state, resent from receipt order by uid")]


def test_what_was_delivered_is_wanted_asked_about_and_committed(store: Any) -> None:
    def run(tx: Transaction) -> None:
        for number in (1, 2):
            deliver_with_receipts(tx, take(tx, number), at=300.0 + number)
        assert receipts.groups(tx, "archive") == [Group("A1", 2, 302.0)]
        asked = receipts.wanted(tx, "archive", "A1", 10)
        assert [(one.uid, one.sop_class, one.accession) for one in asked] == [("1.2.1", CT, "A1"), ("1.2.2", CT, "A1")]
        receipts.requested(tx, asked, "2.25.1", 9, 400.0)
        assert receipts.groups(tx, "archive") == []
        good, bad = receipts.take(tx, Report("2.25.1", (asked[0].reference,), (Reference(CT, "1.2.2", 0x0112),)), 500.0)
        assert ([one.uid for one in good], [(one.uid, reason) for one, reason in bad]) == (
            ["1.2.1"],
            [("1.2.2", "no such object instance (0x0112)")],
        )
        receipts.resend(tx, bad[0][0], bad[0][1], 500.0)
        assert states(tx) == [("1.2.1", "committed", 0), ("1.2.2", "resent", 1)]
        assert receipts.counts(tx) == {("archive", "resent"): 1}
        assert [row.state for row in outbox.of_message(tx, asked[1].message_id)] == ["waiting"]
        deliver_with_receipts(tx, asked[1].message_id, at=600.0)
        assert states(tx)[1] == ("1.2.2", "wanted", 1)

    store.run(run)


def test_objects_of_one_exam_are_asked_about_together_also_where_each_has_a_lane_of_its_own(store: Any) -> None:
    def run(tx: Transaction) -> None:
        for number in (1, 2):
            deliver_with_receipts(tx, take(tx, number, lane=f"1.2.{number}"), at=300.0 + number)
        assert receipts.groups(tx, "archive") == [Group("A1", 2, 302.0)]

    store.run(run)


def test_the_time_to_answer_begins_with_the_delivery_of_the_request(store: Any) -> None:
    def run(tx: Transaction) -> None:
        id = take(tx)
        deliver_with_receipts(tx, id)
        request = outbox.of_message(tx, take(tx, 2))[0].id
        receipts.requested(tx, receipts.wanted(tx, "archive", "A1", 10), "2.25.1", request, 400.0)
        assert receipts.overdue(tx, "archive", 10_000.0) == []
        outbox.delivered(tx, [(request, "0x0000")], 500.0)
        assert [len(receipts.overdue(tx, "archive", before)) for before in (499.0, 500.0)] == [0, 1]
        assert receipts.overdue(tx, "vna", 500.0) == []

    store.run(run)


def test_an_object_is_asked_about_under_the_name_that_the_destination_knows(store: Any) -> None:
    def run(tx: Transaction) -> None:
        pseudonyms.keep(tx, "archive", [("uid", "1.2.1", "2.25.77")], 1.0)
        deliver_with_receipts(tx, take(tx))
        assert [one.uid for one in receipts.of_message(tx, 1)] == ["2.25.77"]

    store.run(run)


def test_a_request_is_decided_and_answered(store: Any) -> None:
    by_archive = Policy(("archive",))

    def run(tx: Transaction) -> None:
        id = take(tx)
        deliver_with_receipts(tx, id)
        named = (Reference(CT, "1.2.1"), Reference(CT, "1.2.9"))
        asked = commitments.keep(tx, "CT1", "2.25.5", "d", "modalities", "modalities.CT1", 50, 1000.0, named)
        assert (asked.accession, commitments.find(tx, "CT1", "2.25.5")) == ("A1", asked)
        assert commitments.find(tx, "MR1", "2.25.5") is None
        assert commitments.decide(tx, asked.id, by_archive) == 1
        assert commitments.touched(tx, [id]) == [asked.id]
        receipts.requested(tx, receipts.wanted(tx, "archive", "A1", 1), "2.25.1", 9, 400.0)
        receipts.take(tx, Report("2.25.1", (named[0],)), 500.0)
        assert commitments.decide(tx, asked.id, by_archive) == 0
        assert commitments.touched(tx, [id]) == []
        assert commitments.waiting_count(tx) == 1
        said = commitments.answered(tx, asked)
        assert said == Report("2.25.5", (named[0],), (Reference(CT, "1.2.9", 0x0112),))
        assert commitments.waiting_count(tx) == 0

    store.run(run)


def test_what_is_due_is_given_up(store: Any) -> None:
    def run(tx: Transaction) -> None:
        take(tx)
        asked = commitments.keep(tx, "CT1", "2.25.5", "d", "modalities", "q", 50, 1000.0, (Reference(CT, "1.2.1"),))
        assert commitments.due(tx, 999.0, 10) == []
        assert commitments.due(tx, 1000.0, 10) == [asked.id]
        commitments.give_up(tx, asked.id)
        assert commitments.answered(tx, asked).failed == (Reference(CT, "1.2.1", 0x0110),)
        assert commitments.due(tx, 1000.0, 10) == []

    store.run(run)
