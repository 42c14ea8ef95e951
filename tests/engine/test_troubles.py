"""Deliveries that fail by themselves, and destinations that give up on everything: nobody is held for ever, nothing is parked in vain."""

from __future__ import annotations

from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest

from broker.connectors.hours import Hours
from broker.engine.delivery import Courier
from broker.engine.troubles import RetryPolicy
from broker.errors import Aborted, NotYet, Refused, Retry
from broker.obs.log import Log
from tests.engine.test_delivery import House, Peer, Wide


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.db.close()
    made.settle()


def pass_time(house: House, seconds: float) -> None:
    house.clock.advance(seconds)
    house.settle()


def test_an_object_at_which_the_peer_gives_up_lets_the_next_one_pass(house: House) -> None:
    first, second, third = (d.id for d in house.enqueue("a", "b", "c"))
    house.courier().start()
    house.settle()
    house.peer.answer(Aborted("connection lost"))
    house.settle()
    assert house.peer.sent == [first, second]
    house.peer.answer()
    house.settle()
    house.peer.answer()
    house.settle()
    pass_time(house, 1.0)
    assert house.peer.sent == [first, second, third, first]
    house.peer.answer()
    house.settle()
    assert house.states() == ["delivered"] * 3


def test_it_is_parked_after_some_tries_when_others_got_through(house: House) -> None:
    house.enqueue("a", "b")
    house.courier(first=1.0, most=1.0, tries=3).start()
    house.settle()
    house.peer.answer(Aborted("connection lost"))
    house.settle()
    house.peer.answer()
    house.settle()
    for _ in range(2):
        pass_time(house, 1.0)
        house.peer.answer(Aborted("connection lost"))
        house.settle()
    assert house.states() == ["parked", "delivered"]
    [(reason, attempts)] = house.do(lambda tx: tx.all("select reason, attempts from delivery where state = 'parked'"))  # type: ignore[misc]
    assert (reason, attempts) == ("3 attempts failed, others did not: connection lost", 3)


def test_a_peer_that_gives_up_on_everything_is_in_trouble_and_nothing_is_parked(house: House) -> None:
    house.enqueue(*"abcdef")
    house.courier(first=1.0, most=8.0, tries=2).start()
    house.settle()
    for _ in range(40):
        if house.peer.waiting:
            house.peer.answer(Aborted("connection lost"))
        pass_time(house, 1.0)
    assert house.states() == ["waiting"] * 6
    assert house.metrics.registry.get_sample_value("broker_destination_up", {"destination": "ehr"}) == 0
    assert len(house.peer.sent) < 25  # it is not hammered
    for _ in range(60):
        if house.peer.waiting:
            house.peer.answer()
        pass_time(house, 1.0)
    assert house.states() == ["delivered"] * 6


def test_one_that_the_peer_cannot_take_yet_waits_alone_and_is_parked_in_the_end(house: House) -> None:
    first, second = (d.id for d in house.enqueue("a", "b"))
    house.courier(first=1.0, most=1.0, tries=2).start()
    house.settle()
    house.peer.answer(NotYet("0x0110 processing failure"))
    house.settle()
    assert house.metrics.registry.get_sample_value("broker_destination_up", {"destination": "ehr"}) == 1
    assert house.peer.sent == [first, second]
    pass_time(house, 1.0)
    house.peer.answer()
    house.settle()
    house.peer.answer(NotYet("0x0110 processing failure"))
    house.settle()
    assert house.states() == ["parked", "delivered"]


def test_the_ones_behind_it_in_its_lane_wait_with_it(house: House) -> None:
    created, updated = (d.id for d in house.enqueue("exam", "exam"))
    house.courier(first=1.0).start()
    house.settle()
    house.peer.answer(NotYet("0x0112 no such SOP instance"))
    house.settle()
    assert house.peer.sent == [created]
    pass_time(house, 1.0)
    house.peer.answer()
    house.settle()
    assert house.peer.sent == [created, created, updated]


def test_what_follows_a_parked_one_in_its_lane_has_a_time_of_its_own(house: House) -> None:
    parked, after, other = (d.id for d in house.enqueue("exam", "exam", "b"))
    house.courier(first=1.0, most=1.0, tries=2, park_after=0.5).start()
    house.settle()
    house.peer.answer(NotYet("0x0112 no such SOP instance"))
    house.settle()
    house.peer.answer()
    house.settle()
    pass_time(house, 1.0)
    house.peer.answer(NotYet("0x0112 no such SOP instance"))
    house.settle()
    assert house.peer.sent == [parked, other, parked, after]
    house.peer.answer(NotYet("0x0112 no such SOP instance"))
    house.settle()
    assert house.states() == ["parked", "waiting", "delivered"]


def test_a_peer_that_is_out_of_resources_is_left_alone(house: House) -> None:
    house.enqueue("a", "b")
    house.courier(first=5.0).start()
    house.settle()
    house.peer.answer(Retry("0xA700 out of resources"))
    pass_time(house, 4.0)
    assert len(house.peer.sent) == 1


def test_it_is_parked_after_the_time_for_that_though_nothing_got_through(house: House) -> None:
    house.enqueue("a")
    house.courier(first=1.0, most=1.0, park_after=2.5).start()
    house.settle()
    for _ in range(4):
        house.peer.answer(Aborted("no answer in 60 s"))
        pass_time(house, 1.0)
    assert house.states() == ["parked"]


def test_all_that_was_under_way_when_a_peer_went_away_goes_out_once_it_is_back(house: House) -> None:
    ids = [d.id for d in house.enqueue(*"abcd")]
    peer = Wide(4)
    house.courier(peer, first=1.0, tries=2).start()
    house.settle()
    for id in ids:
        peer.tell(id, Aborted("connection lost"))
    pass_time(house, 1.0)
    for _ in range(20):
        for id in tuple(peer.open):
            peer.tell(id)
        pass_time(house, 1.0)
    assert house.states() == ["delivered"] * 4


def test_a_refusal_is_an_answer_like_any_other(house: House) -> None:
    house.enqueue("a", "b")
    house.courier(first=1.0, most=1.0, tries=1).start()
    house.settle()
    house.peer.answer(Aborted("connection lost"))
    house.settle()
    house.peer.answer(Refused("0xA900"))
    house.settle()
    pass_time(house, 1.0)
    house.peer.answer(Aborted("connection lost"))
    house.settle()
    assert house.states() == ["parked", "parked"]


def opened_at(house: House, peer: Peer, text: str) -> Courier:
    """Return a courier whose wall clock begins on Thursday, 1970-01-01 00:16:40."""
    now = lambda: 1000.0 + house.clock.seconds()  # noqa: E731
    return Courier(peer, house.db, house.clock, now, RetryPolicy(), "a", house.metrics, Log(), Hours([text], ZoneInfo("UTC")))


def test_outside_of_its_hours_a_destination_gets_nothing_and_inside_everything(house: House) -> None:
    ids = [d.id for d in house.enqueue(2)]
    courier = opened_at(house, house.peer, "Thu 01:00-02:00")
    courier.start()
    house.settle()
    assert house.peer.sent == []
    for _ in range((3600 - 1000) // 20 + 2):
        pass_time(house, 20.0)
        courier.poll()
        house.settle()
    assert house.peer.sent == ids[:1]
    house.peer.answer()
    house.settle()
    assert house.peer.sent == ids


def test_what_is_under_way_when_its_hours_end_is_settled(house: House) -> None:
    ids = [d.id for d in house.enqueue(2)]
    courier = opened_at(house, house.peer, "Thu 00:00-00:17")
    courier.start()
    house.settle()
    pass_time(house, 21.0)
    house.peer.answer()
    house.settle()
    assert house.peer.sent == ids[:1]
    assert house.states() == ["delivered", "waiting"]
    courier.stop()
    house.settle()
    assert house.peer.closed
