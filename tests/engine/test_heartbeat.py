"""The scheduled echo on a clock."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from broker.engine.breaker import Event, State
from broker.engine.delivery import Courier
from broker.engine.heartbeat import Heartbeat
from broker.engine.troubles import RetryPolicy
from broker.errors import Retry
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from tests.connectors.dicom_shell import quiet
from tests.engine.test_delivery import House


class Peer:
    """Answers echoes while it is `there`; `hold` leaves them without an answer."""

    def __init__(self) -> None:
        self.clock, self.metrics = Clock(), Metrics()
        self.log, self.logged = quiet()
        self.there, self.hold = True, False
        self.asked: list[float] = []
        self.pending: list[Deferred[None]] = []
        self.back = 0
        self.heartbeat = Heartbeat("archive", self.ask, 60.0, self.clock, self.metrics, self.log)
        self.heartbeat.on_back = self.came_back
        self.heartbeat.start()

    def ask(self) -> Deferred[None]:
        self.asked.append(self.clock.seconds())
        answer: Deferred[None] = Deferred()
        self.pending.append(answer)
        if not self.hold:
            self.answer()
        return answer

    def answer(self) -> None:
        pending = self.pending.pop()
        if self.there:
            pending.callback(None)
        else:
            pending.errback(Retry("connection refused"))

    def came_back(self) -> None:
        self.back += 1

    def pass_seconds(self, seconds: int) -> list[float]:
        """Let time pass; return when it was asked since the last time."""
        self.asked.clear()
        self.clock.pump([1.0] * seconds)
        return list(self.asked)

    def up(self) -> float | None:
        return self.metrics.registry.get_sample_value("broker_peer_up", {"destination": "archive"})


@pytest.fixture
def peer() -> Peer:
    return Peer()


def test_a_peer_that_is_there_is_asked_at_the_interval(peer: Peer) -> None:
    assert peer.pass_seconds(180) == [1, 61, 121]
    assert (peer.up(), peer.back, peer.heartbeat.state) == (1, 0, State.CLOSED)


def test_a_peer_that_goes_is_asked_more_often_and_less_so_the_longer_it_is_away(peer: Peer) -> None:
    peer.there = False
    assert peer.pass_seconds(250) == [1, 2, 4, 8, 16, 32, 64, 124, 184, 244]
    assert (peer.up(), peer.heartbeat.state) == (0, State.OPEN)
    assert peer.logged.getvalue().count("peer does not answer") == 1


def test_what_waits_leaves_with_the_first_good_echo(peer: Peer) -> None:
    peer.there = False
    peer.pass_seconds(10)
    peer.there = True
    peer.pass_seconds(10)
    assert (peer.back, peer.up(), peer.heartbeat.state) == (1, 1, State.CLOSED)
    assert peer.logged.getvalue().count("peer answers again") == 1
    peer.pass_seconds(300)
    assert peer.back == 1


def test_a_failed_delivery_is_asked_about_soon(peer: Peer) -> None:
    peer.pass_seconds(20)
    peer.there = False
    peer.heartbeat.happened(Event.FAILED)
    assert peer.heartbeat.state is State.HALF_OPEN
    assert peer.pass_seconds(3) == [21, 22]
    assert peer.heartbeat.state is State.OPEN


def test_a_peer_that_answers_echoes_and_fails_deliveries_is_left_to_their_own_waiting(peer: Peer) -> None:
    peer.pass_seconds(20)
    for _ in range(5):
        peer.heartbeat.happened(Event.FAILED)
        peer.pass_seconds(20)
    assert (peer.back, peer.heartbeat.state) == (0, State.CLOSED)


def test_a_delivery_that_arrives_is_as_good_as_an_echo(peer: Peer) -> None:
    peer.there = False
    peer.pass_seconds(5)
    peer.heartbeat.happened(Event.DELIVERED)
    assert (peer.heartbeat.state, peer.back) == (State.CLOSED, 0)


def test_one_echo_at_a_time(peer: Peer) -> None:
    peer.hold = True
    assert peer.pass_seconds(5) == [1]
    peer.heartbeat.happened(Event.FAILED)
    assert peer.pass_seconds(200) == []
    peer.answer()
    assert len(peer.pass_seconds(60)) == 1


def test_nothing_is_asked_after_the_end(peer: Peer) -> None:
    peer.hold = True
    peer.pass_seconds(5)
    peer.heartbeat.stop()
    peer.answer()
    assert peer.pass_seconds(200) == []
    assert peer.clock.getDelayedCalls() == []


def test_a_fault_of_this_side_is_logged_and_the_next_echo_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer()

    def broken() -> Deferred[Any]:
        failed: Deferred[Any] = Deferred()
        failed.errback(ZeroDivisionError())
        return failed

    monkeypatch.setattr(peer.heartbeat, "_ask", broken)
    peer.pass_seconds(5)
    assert "echo failed" in peer.logged.getvalue()
    assert len(peer.clock.getDelayedCalls()) == 1


def test_a_courier_sends_what_waits_as_soon_as_its_peer_is_back() -> None:
    house, peer = House(), Peer()
    peer.heartbeat.stop()
    heartbeat = Heartbeat("ehr", peer.ask, 60.0, house.clock, house.metrics, peer.log)
    policy, log = RetryPolicy(first=100.0), Log()
    courier = Courier(
        house.peer, house.db, house.clock, lambda: 1000.0 + house.clock.seconds(), policy, "a", house.metrics, log, heartbeat=heartbeat
    )
    [waiting] = house.enqueue(1)
    peer.there = False
    courier.start()
    house.settle()
    house.peer.answer(Retry("connection refused"))
    for _ in range(30):
        house.clock.advance(1)
    assert (house.peer.sent, heartbeat.state) == ([waiting.id], State.OPEN)
    peer.there = True
    for _ in range(20):
        house.clock.advance(1)
    assert (house.peer.sent, heartbeat.state) == ([waiting.id] * 2, State.CLOSED)
    house.peer.answer()
    house.settle()
    assert house.states() == ["delivered"]
    courier.stop()
    house.settle()
    house.db.close()
