"""Storage commitment from the request of a modality to the receipt of an archive, without a wire."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.connectors.base import Caller
from broker.dicom.commitment import Reference, Report, read_report, read_request, report, request
from broker.dicom.dataset import decode
from broker.dicom.dimserequest import decode_request
from broker.engine.commitment import Commitment, Inquiry, Service, Terms
from broker.engine.receipts import Receipts
from broker.model import Delivery
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.store import audit, commitments, journal, outbox, receipts
from broker.store.database import Transaction, open_database
from tests.store.taken import CT, deliver, deliver_with_receipts, take

CT1 = Caller("modalities", "CT1", "BROKER", "127.0.0.1:50000")
ARCHIVE = Caller("modalities", "ARCHIVE", "BROKER", "127.0.0.1:50001")
HOUR = 3600.0


class Department:
    """A listener that serves storage commitment, and an archive that is asked for it."""

    def __init__(self, by: str = "archive", resend: int = 1, batch: int = 500) -> None:
        self.calls: list[Any] = []
        self.sent: list[Delivery] = []
        self.rescanned: list[str] = []
        self.at, self.count = 1000.0, 0
        self.metrics, self.printed = Metrics(), StringIO()
        self.db = open_database(":memory:", metrics=self.metrics, call_later=self.later, call_from_thread=lambda call, *args: call(*args))
        services = {"modalities": Service(by == "archive", 24 * HOUR, {"CT1": "modalities.CT1"}, "modalities.*")}
        terms = Terms(services, {"archive": Inquiry(60.0, batch, 6 * HOUR, resend)})
        soon = self.later
        self.commitment = Commitment(
            self.db, self.now, self.sent.extend, self.rescanned.append, lambda *call: soon(0, *call), self.metrics, terms
        )
        self.receipts = Receipts(self.db, self.now, self.commitment, self.uid, self.metrics, Log(self.printed, terminal=False))

    def later(self, _: float, call: Any, *args: Any) -> None:
        self.calls.append((call, args))

    def now(self) -> float:
        return self.at

    def uid(self) -> str:
        self.count += 1
        return f"2.25.{self.count}"

    def wait(self, waiting: Deferred[Any]) -> Any:
        found: list[Any] = []
        waiting.addBoth(found.append)
        while self.calls:
            call, args = self.calls.pop(0)
            call(*args)
        if isinstance(found[0], Failure):
            found[0].raiseException()
        return found[0]

    def run(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        return self.wait(self.db.run("test", fn, *args, **kwargs))

    def take(self, *numbers: int, to: tuple[str, ...] = ("archive",)) -> list[int]:
        return [self.run(take, number, to=to) for number in numbers]

    def ask(self, *numbers: int, uid: str = "2.25.100", sop_class: str = CT, caller: Caller = CT1) -> int:
        asked = request(uid, [Reference(sop_class, f"1.2.{number}") for number in numbers])
        return int(self.wait(self.commitment.request_commitment(caller, asked)))

    def work(self, after: float = 0.0) -> None:
        self.at += after
        self.wait(self.receipts.work())

    def told(self) -> list[tuple[str, Report]]:
        """Return what left for modalities since the last call, by queue."""
        events = [one for one in self.sent if one.kind == "N-EVENT-REPORT"]
        self.sent[:] = [one for one in self.sent if one.kind != "N-EVENT-REPORT"]
        read = [(one.destination, decode_request(one.payload)) for one in events]
        said = [(queue, read_report(decode(event.dataset, ExplicitVRLittleEndian)), event.type_id) for queue, event in read]
        assert all(report.event_type == type_id for _, report, type_id in said)
        return [(queue, report) for queue, report, _ in said]

    def asked(self) -> list[tuple[str, list[str]]]:
        """Return what archives were asked since the last call: the transaction, and the instances it names; they take it."""
        actions = [one for one in self.sent if one.kind == "N-ACTION"]
        self.sent[:] = [one for one in self.sent if one.kind != "N-ACTION"]
        self.run(outbox.delivered, [(one.id, "0x0000") for one in actions], self.at)
        found = [read_request(decode(decode_request(one.payload).dataset, ExplicitVRLittleEndian)) for one in actions]
        return [(transaction, [one.uid for one in references]) for transaction, references in found]

    def hear(self, transaction: str, committed: Sequence[int] = (), failed: Sequence[int] = (), reason: int = 0x0110) -> int:
        said = Report(
            transaction,
            tuple(Reference(CT, f"1.2.{number}") for number in committed),
            tuple(Reference(CT, f"1.2.{number}", reason) for number in failed),
        )
        return int(self.wait(self.receipts.report_commitment(ARCHIVE, report(said))))

    def states(self) -> dict[str, str]:
        def read(tx: Transaction) -> dict[str, str]:
            return {row[0]: row[1] for row in tx.all("select uid, state from receipt order by uid")}

        return dict(self.run(read))

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def house() -> Department:
    return Department()


def by_spool() -> Department:
    return Department("spool")


def names(references: Sequence[Reference]) -> list[str]:
    return [one.uid for one in references]


# as SCP


def test_what_the_spool_holds_is_committed_at_once_where_that_is_the_policy() -> None:
    house = by_spool()
    house.take(1, 2)
    assert house.ask(1, 2) == 0x0000
    [(queue, said)] = house.told()
    assert (queue, said.transaction, names(said.committed), said.failed) == ("modalities.CT1", "2.25.100", ["1.2.1", "1.2.2"], ())


def test_a_caller_without_an_address_of_its_own_is_answered_by_the_common_queue() -> None:
    house = by_spool()
    house.take(1)
    house.ask(1, caller=Caller("modalities", "MR7", "BROKER", ""))
    assert [(queue, house.sent) for queue, _ in house.told()] == [("modalities.*", [])]


def test_what_nobody_knows_and_what_is_of_another_class_has_failed_with_its_reason() -> None:
    house = by_spool()
    house.take(1)
    house.ask(1, 7)
    house.ask(1, sop_class="1.2.840.10008.5.1.4.1.1.4", uid="2.25.101")
    (_, first), (_, second) = house.told()
    assert (names(first.committed), first.failed) == (["1.2.1"], (Reference(CT, "1.2.7", 0x0112),))
    assert (second.committed, [one.reason for one in second.failed]) == ((), [0x0119])


def test_an_object_that_went_everywhere_before_it_left_the_spool_is_committed() -> None:
    house = by_spool()
    kept, dropped = house.take(1), house.take(2, to=())
    house.run(deliver, kept[0])
    house.run(lambda tx: tx.execute("update object set state = 'deleted'"))
    house.ask(1, 2)
    [(_, said)] = house.told()
    assert (names(said.committed), names(said.failed)) == (["1.2.1"], ["1.2.2"])
    assert dropped


def test_the_archive_decides_where_that_is_the_policy(house: Department) -> None:
    ids = house.take(1, 2)
    house.ask(1, 2)
    for id in ids:
        house.run(deliver_with_receipts, id, at=house.at)
    house.work(61.0)
    [(transaction, uids)] = house.asked()
    assert uids == ["1.2.1", "1.2.2"]
    assert house.told() == []
    assert house.hear(transaction, [1]) == 0x0000
    assert house.told() == []
    assert house.hear(transaction, [2]) == 0x0000
    [(queue, said)] = house.told()
    assert (queue, names(said.committed), said.failed) == ("modalities.CT1", ["1.2.1", "1.2.2"], ())
    assert house.value("broker_commitments_total", where="modalities", outcome="committed") == 2.0


def test_a_report_that_overtakes_the_answer_to_the_request_counts(house: Department) -> None:
    [id] = house.take(1)
    house.ask(1)
    house.run(deliver_with_receipts, id, at=house.at)
    house.work(61.0)
    [action] = [one for one in house.sent if one.kind == "N-ACTION"]
    house.hear(action.control_id, [1])
    assert [names(said.committed) for _, said in house.told()] == [["1.2.1"]]


def test_an_object_for_two_archives_waits_for_both(house: Department) -> None:
    house.commitment.terms.inquiries["vna"] = house.commitment.terms.inquiries["archive"]  # type: ignore[index]
    [id] = house.take(1, to=("archive", "vna"))
    house.ask(1)
    rows = house.run(outbox.of_message, id)
    house.run(receipts.delivered, [(rows[0].id, "0x0000")], house.at)
    house.work(61.0)
    [(first, _)] = house.asked()
    house.hear(first, [1])
    assert house.told() == []
    house.run(receipts.delivered, [(rows[1].id, "0x0000")], house.at)
    house.work(61.0)
    [(second, _)] = house.asked()
    house.hear(second, [1])
    assert len(house.told()) == 1


def test_what_is_not_committed_in_time_has_failed(house: Department) -> None:
    house.take(1)
    house.ask(1, 7)
    house.work(24 * HOUR - 1)
    assert house.told() == []
    house.work(1.0)
    [(_, said)] = house.told()
    assert [(one.uid, one.reason) for one in said.failed] == [("1.2.1", 0x0110), ("1.2.7", 0x0112)]
    house.work(1.0)
    assert house.told() == []


def test_a_request_that_is_repeated_is_answered_once_more_and_kept_once() -> None:
    house = by_spool()
    house.take(1)
    house.ask(1)
    [event] = house.sent
    house.run(outbox.delivered, [(event.id, "0x0000")], house.at)
    assert house.ask(1) == 0x0000
    assert house.rescanned == ["modalities.CT1"]
    assert house.run(outbox.of_message, event.message_id)[0].state == "waiting"
    assert house.ask(1) == 0x0000  # while its report is on its way
    assert house.rescanned == ["modalities.CT1"]


def test_a_transaction_uid_for_something_else_is_told_as_duplicate() -> None:
    house = by_spool()
    house.take(1, 2)
    house.ask(1)
    house.ask(2)
    (_, first), (_, second) = house.told()
    assert names(first.committed) == ["1.2.1"]
    assert (second.committed, second.failed) == ((), (Reference(CT, "1.2.2", 0x0131),))


def test_two_modalities_may_choose_the_same_transaction_uid() -> None:
    house = by_spool()
    house.take(1)
    house.ask(1)
    house.ask(1, caller=Caller("modalities", "MR7", "BROKER", ""))
    assert [len(said.committed) for _, said in house.told()] == [1, 1]


def test_a_request_that_cannot_be_understood_is_refused_and_kept(house: Department) -> None:
    broken = request("2.25.1", [])
    assert house.wait(house.commitment.request_commitment(CT1, broken)) == 0x0115
    [row] = house.run(journal.search, kind="N-ACTION")
    assert (row.state, row.answer, row.reason) == ("refused", b"0x0115", "ReferencedSOPSequence: missing or empty")


# as SCU


def test_an_archive_is_asked_when_nothing_more_comes(house: Department) -> None:
    for id in house.take(1, 2):
        house.run(deliver_with_receipts, id, at=house.at)
    house.work(59.0)
    assert house.asked() == []
    house.work(1.0)
    assert [uids for _, uids in house.asked()] == [["1.2.1", "1.2.2"]]
    house.work(100.0)
    assert house.asked() == []


@pytest.mark.parametrize("accession", ["A1", ""])
def test_one_request_asks_about_many_images_also_where_each_is_a_lane_of_its_own(house: Department, accession: str) -> None:
    for number in (1, 2, 3):
        house.run(deliver_with_receipts, house.run(take, number, lane=f"1.2.{number}", accession=accession), at=house.at)
    house.work(60.0)
    assert [uids for _, uids in house.asked()] == [["1.2.1", "1.2.2", "1.2.3"]]


def test_a_full_batch_is_asked_about_at_once() -> None:
    house = Department(batch=2)
    for id in house.take(1, 2, 3):
        house.run(deliver_with_receipts, id, at=house.at)
    house.work()
    assert [uids for _, uids in house.asked()] == [["1.2.1", "1.2.2"]]
    house.work(60.0)
    assert [uids for _, uids in house.asked()] == [["1.2.3"]]


def requested(house: Department, *numbers: int) -> str:
    for id in house.take(*numbers):
        house.run(deliver_with_receipts, id, at=house.at)
    house.work(60.0)
    [(transaction, _)] = house.asked()
    return transaction


def test_a_receipt_is_kept_of_each_instance(house: Department) -> None:
    transaction = requested(house, 1, 2)
    assert house.states() == {"1.2.1": "requested", "1.2.2": "requested"}
    house.hear(transaction, [1])
    assert house.states() == {"1.2.1": "committed", "1.2.2": "requested"}
    house.hear(transaction, [1, 2])  # an archive may repeat itself
    assert house.states() == {"1.2.1": "committed", "1.2.2": "committed"}
    assert house.value("broker_commitments_total", where="archive", outcome="committed") == 2.0


def again(house: Department, number: int) -> None:
    """Let the object that is sent again arrive, and be asked about."""
    [row] = house.run(lambda tx: tx.all("select delivery_id from receipt where uid = ?", (f"1.2.{number}",)))
    house.run(receipts.delivered, [(row[0], "0x0000")], house.at)


def test_what_was_not_committed_is_sent_again_once_then_a_person_has_it(house: Department) -> None:
    transaction = requested(house, 1, 2)
    house.hear(transaction, [1], [2], 0x0112)
    assert house.states() == {"1.2.1": "committed", "1.2.2": "resent"}
    assert house.rescanned == ["archive"]
    again(house, 2)
    house.work(60.0)
    [(second, uids)] = house.asked()
    assert uids == ["1.2.2"]
    house.hear(second, [], [2], 0x0112)
    assert house.states()["1.2.2"] == "failed"
    [parked] = house.run(outbox.parked, 10)
    assert (parked.destination, parked.reason) == ("archive", "not committed: no such object instance (0x0112)")
    assert house.value("broker_commitments_total", where="archive", outcome="resent") == 1.0
    assert house.value("broker_commitments_total", where="archive", outcome="failed") == 1.0
    assert "objects not committed" in house.printed.getvalue()


def test_a_person_who_sends_it_again_begins_anew(house: Department) -> None:
    test_what_was_not_committed_is_sent_again_once_then_a_person_has_it(house)
    [parked] = house.run(outbox.parked, 10)
    house.run(outbox.resend, parked.id, house.at)
    again(house, 2)
    house.work(60.0)
    [(third, _)] = house.asked()
    house.hear(third, [2])
    assert house.states()["1.2.2"] == "committed"


def test_an_archive_that_never_answers_is_treated_like_one_that_fails(house: Department) -> None:
    requested(house, 1)
    house.work(6 * HOUR - 30)
    assert house.states() == {"1.2.1": "requested"}
    house.work(30.0)
    assert house.states() == {"1.2.1": "resent"}
    again(house, 1)
    house.work(60.0)
    house.asked()
    house.work(6 * HOUR)
    assert house.states() == {"1.2.1": "failed"}
    assert house.run(outbox.parked, 10)[0].reason == "not committed: no answer in 21600 s"


def test_the_time_to_answer_begins_when_the_archive_was_reached(house: Department) -> None:
    for id in house.take(1):
        house.run(deliver_with_receipts, id, at=house.at)
    house.work(60.0)
    house.work(100 * HOUR)
    assert house.states() == {"1.2.1": "requested"}


def test_a_report_of_a_transaction_that_is_not_ours_is_refused_and_kept(house: Department) -> None:
    assert house.hear("2.25.999", [1]) == 0x0115
    [row] = house.run(journal.search, kind="N-EVENT-REPORT")
    assert (row.state, row.reason) == ("refused", "TransactionUID: no transaction of ours")


def test_a_late_report_counts(house: Department) -> None:
    transaction = requested(house, 1)
    house.hear(transaction, [], [1])
    assert house.hear(transaction, [1]) == 0x0000
    assert house.states() == {"1.2.1": "committed"}


def test_a_late_report_takes_from_a_person_what_needs_none(house: Department) -> None:
    requested(house, 1)
    house.work(6 * HOUR)
    again(house, 1)
    house.work(60.0)
    [(transaction, _)] = house.asked()
    house.work(6 * HOUR)
    assert len(house.run(outbox.parked, 10)) == 1
    house.hear(transaction, [1])
    assert house.states() == {"1.2.1": "committed"}
    assert house.run(outbox.parked, 10) == []


def test_it_all_stands_on_the_timeline(house: Department) -> None:
    transaction = requested(house, 1, 2)
    house.ask(1)
    house.hear(transaction, [1], [2], 0x0112)
    entries = house.run(audit.timeline, "A1")
    told = [(one.what, one.source, one.target, one.detail) for one in entries if one.what not in ("queued", "received", "delivered")]
    assert ("committed", "archive", "ris", "1 instance") in told
    assert ("not committed", "archive", "ris", "1 instance: no such object instance (0x0112)") in told
    assert ("commitment answered", "modalities", "CT1", "1 committed, 0 failed") in told
    assert ("resent", "images", "archive", "") in told
    kinds = [(one.what, one.kind) for one in entries]
    assert {("received", "N-ACTION"), ("delivered", "N-ACTION"), ("received", "N-EVENT-REPORT"), ("queued", "N-EVENT-REPORT")} <= set(kinds)


def test_the_figures_show_what_is_open(house: Department) -> None:
    requested(house, 1)
    house.ask(1)
    house.wait(house.receipts.show())
    assert house.value("broker_commitments_open", destination="archive", state="requested") == 1.0
    assert house.value("broker_commitments_waiting") == 1.0
    assert house.run(commitments.waiting_count) == 1
