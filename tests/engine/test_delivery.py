"""One destination's queue: order, settling, retry, parking, leases."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from broker.engine.delivery import Courier
from broker.engine.troubles import RetryPolicy
from broker.errors import Refused, Retry
from broker.model import Delivery, Outgoing, Received
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.store import journal, outbox
from broker.store.database import Database, Transaction, open_database
from broker.store.engine import TransactionLost


class Peer:
    """A destination whose answers the test gives."""

    name = "ehr"
    width = 1

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.waiting: list[Deferred[str]] = []
        self.closed = False

    def send(self, delivery: Delivery) -> Deferred[str]:
        self.sent.append(delivery.id)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def answer(self, what: str | Exception = "AA") -> None:
        waiting = self.waiting.pop(0)
        if isinstance(what, Exception):
            waiting.errback(what)
        else:
            waiting.callback(what)

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)


class House:
    """A store, a clock and couriers that share them."""

    def __init__(self) -> None:
        self.clock, self.metrics, self.peer = Clock(), Metrics(), Peer()
        self.db: Database = open_database(
            ":memory:", metrics=self.metrics, call_later=self.clock.callLater, call_from_thread=lambda f, *a: f(*a)
        )

    def courier(self, peer: Peer | None = None, node: str = "a", **policy: float) -> Courier:
        return Courier(
            peer or self.peer, self.db, self.clock, lambda: 1000.0 + self.clock.seconds(), RetryPolicy(**policy), node, self.metrics, Log()
        )

    def settle(self) -> None:
        """Let everything that is due happen, in the few milliseconds in which answers wait to be settled."""
        for _ in range(20):
            self.clock.advance(0.001)

    def do(self, fn: Callable[..., object], *args: object) -> object:
        results: list[object] = []
        self.db.run("test", fn, *args).addBoth(results.append)
        self.settle()
        return results[0]

    def enqueue(self, first: int | str, *lanes: str) -> list[Delivery]:
        """Queue so many deliveries of one lane, or one in each of the lanes."""
        named = ["p"] * first if isinstance(first, int) else [first, *lanes]

        def fill(tx: Transaction) -> list[Delivery]:
            received = Received("hospital", "hl7", "ADT^A04", "EHR|", "", "1", b"", "")
            message = journal.insert(tx, received, 0.0)
            outgoing = [Outgoing("ehr", lane, "c", "ADT^A04", b"x", str(n)) for n, lane in enumerate(named)]
            return outbox.enqueue(tx, [(message, one) for one in outgoing], 0.0)

        deliveries = self.do(fill)
        assert isinstance(deliveries, list)
        return deliveries

    def states(self) -> list[str]:
        rows = self.do(lambda tx: tx.all("select state from delivery order by id"))
        return [row[0] for row in rows]  # type: ignore[attr-defined]


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.db.close()
    made.settle()


def test_what_the_store_holds_is_delivered_in_order_one_at_a_time(house: House) -> None:
    ids = [d.id for d in house.enqueue(3)]
    house.courier().start()
    house.settle()
    assert house.peer.sent == ids[:1]
    for _ in range(3):
        house.peer.answer()
        house.settle()
    assert house.peer.sent == ids
    assert house.states() == ["delivered"] * 3


def test_what_is_offered_goes_out_without_being_read_again(house: House) -> None:
    courier = house.courier()
    courier.start()
    house.settle()
    deliveries = house.enqueue(2)
    courier.offer(deliveries)
    house.peer.answer()
    house.peer.answer()
    house.settle()
    courier.poll()
    house.settle()
    assert house.peer.sent == [d.id for d in deliveries]
    assert house.states() == ["delivered"] * 2


def test_more_than_the_window_holds_comes_from_the_store_in_order(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.engine.delivery.WINDOW", 3000)
    monkeypatch.setattr("broker.engine.delivery.FETCH", 3)
    monkeypatch.setattr("broker.engine.delivery.FEW", 1)
    courier = house.courier()
    courier.start()
    house.settle()
    expected = []
    for _ in range(4):
        deliveries = house.enqueue(2)
        expected += [d.id for d in deliveries]
        courier.offer(deliveries)
    for _ in expected:
        house.peer.answer()
        house.settle()
    assert house.peer.sent == expected
    assert house.states() == ["delivered"] * 8


def test_a_peer_that_cannot_be_reached_holds_the_queue_and_gets_the_same_delivery_again(house: House) -> None:
    ids = [d.id for d in house.enqueue(2)]
    house.courier(first=1.0, most=4.0).start()
    house.settle()
    for wait in (1.0, 2.0, 4.0, 4.0):
        house.peer.answer(Retry("connection refused"))
        house.settle()
        house.clock.advance(wait - 0.03)
        assert not house.peer.waiting
        house.clock.advance(0.03)
        house.settle()
    house.peer.answer()
    house.settle()
    assert house.peer.sent == [ids[0]] * 5 + [ids[1]]
    assert house.metrics.registry.get_sample_value("broker_deliveries_retried_total", {"destination": "ehr"}) == 4


def test_a_refused_delivery_is_parked_and_the_next_one_goes(house: House) -> None:
    ids = [d.id for d in house.enqueue(2)]
    house.courier().start()
    house.settle()
    house.peer.answer(Refused("AE PID-3"))
    house.settle()
    house.peer.answer()
    house.settle()
    assert house.peer.sent == ids
    assert house.states() == ["parked", "delivered"]


def test_a_delivery_is_parked_when_the_peer_stays_away_too_long(house: House) -> None:
    house.enqueue(1)
    house.courier(first=1.0, most=1.0, park_after=2.5).start()
    house.settle()
    for _ in range(4):
        house.peer.answer(Retry("connection refused"))
        house.settle()
        house.clock.advance(1.0)
        house.settle()
    assert house.states() == ["parked"]


def test_what_was_parked_goes_out_when_a_person_sends_it_again_before_younger_ones(house: House) -> None:
    ids = [d.id for d in house.enqueue(1)]
    courier = house.courier()
    courier.start()
    house.settle()
    house.peer.answer(Refused("AE"))
    house.settle()
    house.do(outbox.resend, ids[0], 0.0)
    courier.rescan()
    house.settle()
    house.peer.answer()
    house.settle()
    assert house.peer.sent == [ids[0], ids[0]]
    assert house.states() == ["delivered"]


def test_looking_again_at_the_queue_does_not_send_twice_what_is_under_way(house: House) -> None:
    ids = [d.id for d in house.enqueue(3)]
    courier = house.courier()
    courier.start()
    house.settle()
    courier.rescan()
    house.peer.answer()  # while the store is being asked
    house.settle()
    house.peer.answer()
    house.peer.answer() if house.peer.waiting else None
    house.settle()
    while house.peer.waiting:
        house.peer.answer()
        house.settle()
    assert house.peer.sent == ids


def test_only_the_node_that_holds_the_lease_delivers_and_another_takes_over_when_it_ends(house: House) -> None:
    ids = [d.id for d in house.enqueue(2)]
    first, second = house.courier(), house.courier(other := Peer(), node="b")
    first.start()
    house.settle()
    second.start()
    house.settle()
    assert (house.peer.sent, other.sent) == (ids[:1], [])
    house.clock.advance(31)  # the first node has stopped renewing
    second.poll()
    house.settle()
    assert other.sent == ids[:1]


def test_stopping_waits_for_the_delivery_under_way_and_settles_it(house: House) -> None:
    house.enqueue(2)
    courier = house.courier()
    courier.start()
    house.settle()
    stopped: list[object] = []
    courier.stop().addCallback(stopped.append)
    assert not stopped
    house.peer.answer()
    house.settle()
    assert stopped == [None]
    assert house.peer.closed
    assert house.states() == ["delivered", "waiting"]


class Outage:
    """Keeps the store out of reach until it is over, as a PostgreSQL that is being restarted does."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begin, self.engine, self.monkeypatch = house.db._engine.begin, house.db._engine, monkeypatch

        def begin(write: bool, **how: object) -> Transaction:
            raise TransactionLost("no connection", fatal=False)

        monkeypatch.setattr(self.engine, "begin", begin)

    def end(self) -> None:
        self.monkeypatch.setattr(self.engine, "begin", self.begin)


def test_a_store_out_of_reach_holds_the_queue_and_what_was_answered_is_not_sent_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [d.id for d in house.enqueue(3)]
    courier = house.courier()
    courier.start()
    house.settle()
    outage = Outage(house, monkeypatch)
    house.peer.answer()
    house.settle()
    house.peer.answer()  # the second went out before the first could not be settled
    house.settle()
    house.clock.pump([1.0] * 5)
    assert house.peer.sent == ids[:2]
    outage.end()
    house.clock.pump([1.0] * 2)
    house.settle()
    assert house.peer.sent == ids
    house.peer.answer()
    house.settle()
    assert house.states() == ["delivered"] * 3


def test_a_queue_that_could_not_be_read_is_read_when_the_store_is_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [d.id for d in house.enqueue(1)]
    outage = Outage(house, monkeypatch)
    house.courier().start()
    house.clock.pump([1.0] * 3)
    outage.end()
    house.clock.pump([1.0] * 2)
    assert house.peer.sent == ids


def test_a_refusal_that_could_not_be_written_down_holds_the_queue_until_it_is(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [d.id for d in house.enqueue(2)]
    house.courier().start()
    house.settle()
    outage = Outage(house, monkeypatch)
    house.peer.answer(Refused("AE"))
    house.clock.pump([1.0] * 3)
    assert house.peer.sent == ids[:1]
    outage.end()
    house.clock.pump([1.0] * 2)
    assert house.peer.sent == ids
    assert house.states() == ["parked", "waiting"]


def test_stopping_while_the_store_is_out_of_reach_ends(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.enqueue(1)
    courier = house.courier()
    courier.start()
    house.settle()
    outage = Outage(house, monkeypatch)
    house.peer.answer()
    house.settle()
    stopped: list[object] = []
    courier.stop().addCallback(stopped.append)
    house.clock.pump([1.0] * 2)
    assert stopped == [None]
    outage.end()
    assert house.states() == ["waiting"]


def test_what_a_person_sends_again_while_the_queue_is_being_read_is_not_overlooked(house: House) -> None:
    ids = [d.id for d in house.enqueue(1)]
    courier = house.courier()
    courier.start()
    house.settle()
    house.peer.answer()
    house.settle()
    younger = [d.id for d in house.enqueue(1)]  # by another way than `offer`, so that what is read holds something
    house.db.run("test", outbox.resend, ids[0], 0.0)
    courier.poll()
    courier.rescan()  # the poll is under way, and asks for what is younger only
    house.settle()
    house.peer.answer()
    house.settle()
    assert house.peer.sent == [*ids, *ids, *younger]


def test_where_other_nodes_write_too_what_they_queued_before_goes_out_before(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.db._engine, "shared", True, raising=False)
    courier = house.courier()
    courier.start()
    house.settle()
    theirs = [d.id for d in house.enqueue(1)]
    courier.offer(ours := house.enqueue(1))
    house.settle()
    house.peer.answer()
    house.settle()
    assert house.peer.sent == [*theirs, ours[0].id]


def test_a_node_that_slept_past_its_lease_asks_before_it_sends_on(house: House) -> None:
    ids = [d.id for d in house.enqueue(3)]
    house.courier().start()
    house.settle()
    house.clock.advance(31)
    house.courier(other := Peer(), node="b").start()
    house.settle()
    house.peer.answer()  # what was under way when it fell asleep
    house.settle()
    assert house.peer.sent == ids[:1]
    assert other.sent == ids[:1]


class Wide(Peer):
    """A destination with several connections; the test answers by delivery."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.open: dict[int, Deferred[str]] = {}

    def send(self, delivery: Delivery) -> Deferred[str]:
        self.sent.append(delivery.id)
        self.open[delivery.id] = Deferred()
        return self.open[delivery.id]

    def tell(self, id: int, what: str | Exception = "AA") -> None:
        waiting = self.open.pop(id)
        if isinstance(what, Exception):
            waiting.errback(what)
        else:
            waiting.callback(what)


def test_lanes_leave_side_by_side_and_each_keeps_its_order(house: House) -> None:
    a, b, aa, c, bb = (d.id for d in house.enqueue("a", "b", "a", "c", "b"))
    house.courier(peer := Wide(2)).start()
    house.settle()
    assert peer.sent == [a, b]
    peer.tell(b)
    house.settle()
    assert peer.sent == [a, b, c]  # the other of lane a waits for the first
    for id in (a, c, aa, bb):
        peer.tell(id)
        house.settle()
    assert peer.sent == [a, b, c, aa, bb]
    assert house.states() == ["delivered"] * 5


def test_a_lane_that_does_not_get_through_holds_no_other_and_loses_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.engine.delivery.FETCH", 4)  # fewer than wait in the lane that is held
    monkeypatch.setattr("broker.store.outbox.SLICE", 2)
    ids = [d.id for d in house.enqueue("a", *"b" * 6, *"a" * 6)]
    house.courier(peer := Wide(2), first=1.0).start()
    house.settle()
    peer.tell(ids[1])
    house.settle()
    peer.tell(ids[0], Retry("no answer"))
    house.settle()
    for id in ids[2:7]:
        peer.tell(id)
        house.settle()
    assert peer.sent == ids[:7]
    assert house.metrics.registry.get_sample_value("broker_destination_up", {"destination": "ehr"}) == 1
    house.clock.advance(1.0)
    house.settle()
    for id in (ids[0], *ids[7:]):
        peer.tell(id)
        house.settle()
    assert peer.sent == [*ids[:7], ids[0], *ids[7:]]
    assert house.states() == ["delivered"] * 13


def test_a_peer_that_takes_nothing_holds_every_lane_and_is_tried_once_for_all(house: House) -> None:
    ids = [d.id for d in house.enqueue("a", "b", "c")]
    house.courier(peer := Wide(2), first=1.0).start()
    house.settle()
    for id in ids[:2]:
        peer.tell(id, Retry("connection refused"))
    house.settle()
    assert peer.sent == ids[:2]
    house.clock.advance(1.0)  # not doubled: both failed in one attempt
    house.settle()
    assert peer.sent == [*ids[:2], *ids[:2]]
    for id in (*ids[:2], ids[2]):
        peer.tell(id)
        house.settle()
    assert house.states() == ["delivered"] * 3


def test_a_refused_delivery_holds_its_lane_until_it_is_set_aside_and_no_other(house: House) -> None:
    ids = [d.id for d in house.enqueue("a", "b", "a", "b")]
    house.courier(peer := Wide(2)).start()
    house.settle()
    peer.tell(ids[0], Refused("AE PID-3"))
    peer.tell(ids[1])
    assert peer.sent == [ids[0], ids[1], ids[3]]
    house.settle()
    assert peer.sent == [ids[0], ids[1], ids[3], ids[2]]


def test_a_destination_that_answers_at_once_gets_a_long_queue_in_order(house: House) -> None:
    class Instant(Peer):
        def send(self, delivery: Delivery) -> Deferred[str]:
            self.sent.append(delivery.id)
            return succeed("AA")

    ids = [d.id for d in house.enqueue(500)]
    house.courier(peer := Instant()).start()
    house.settle()
    assert peer.sent == ids
    assert house.states() == ["delivered"] * 500


def test_stopping_after_the_store_is_gone_for_good_ends(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.enqueue(1)
    courier = house.courier()
    courier.start()
    house.settle()

    def begin(write: bool) -> Transaction:
        raise TransactionLost("no space left", fatal=True)

    monkeypatch.setattr(house.db._engine, "begin", begin)
    house.peer.answer(Refused("AE"))
    house.settle()
    stopped: list[object] = []
    courier.stop().addCallback(stopped.append)
    assert stopped == [None]


def test_a_delivery_that_is_answered_and_not_yet_settled_is_under_way_for_who_withdraws_it(house: House) -> None:
    [delivery] = house.enqueue(1)
    courier = house.courier()
    courier.start()
    house.settle()
    house.peer.answer()
    assert courier.withdraw([delivery.id]) == {delivery.id}, "the destination has it, though the store does not say so yet"
