"""One courier after the other for the same destination, never two at a time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from broker.engine.couriers import Couriers
from broker.model import Delivery


class Courier:
    """Notes what it is told, and ends when it is let."""

    on_ended: Any = None

    def __init__(self, name: str = "ehr") -> None:
        self.name, self.told = name, list[str]()
        self.ending: Deferred[None] = Deferred()

    def start(self) -> None:
        self.told.append("start")

    def offer(self, deliveries: Any) -> None:
        self.told.append(f"offer {len(deliveries)}")

    def stop(self) -> Deferred[None]:
        self.told.append("stop")
        return self.ending


def couriers(*those: Courier) -> Couriers:
    return Couriers(those)  # type: ignore[arg-type]


def delivery(destination: str) -> Delivery:
    return Delivery(1, 1, destination, "", "orders", "ORM^O01", b"", "1.1", "", 0)


def test_the_next_one_begins_when_the_one_before_has_ended() -> None:
    old, new = Courier(), Courier()
    all_of_them = couriers(old)
    all_of_them.start()
    all_of_them.replace("ehr", new)  # type: ignore[arg-type]
    assert (old.told, new.told) == (["start", "stop"], [])
    all_of_them.deliver((delivery("ehr"),))
    assert new.told == ["offer 1"]
    old.ending.callback(None)
    assert new.told == ["offer 1", "start"]


def test_of_two_replacements_only_the_last_begins_and_after_both_have_ended() -> None:
    first, second, third = Courier(), Courier(), Courier()
    all_of_them = couriers(first)
    all_of_them.start()
    all_of_them.replace("ehr", second)  # type: ignore[arg-type]
    all_of_them.replace("ehr", third)  # type: ignore[arg-type]
    second.ending.callback(None)
    assert third.told == []
    first.ending.callback(None)
    assert (second.told, third.told) == (["stop"], ["start"])


def test_one_that_goes_and_comes_back_waits_for_itself() -> None:
    old, new = Courier(), Courier()
    all_of_them = couriers(old)
    all_of_them.start()
    all_of_them.replace("ehr", None)
    all_of_them.deliver((delivery("ehr"), delivery("ehr")))  # of a message that was judged just before
    all_of_them.replace("ehr", new)  # type: ignore[arg-type]
    assert new.told == []
    old.ending.callback(None)
    assert new.told == ["start"]


def test_the_end_waits_for_those_that_are_leaving_and_begins_none() -> None:
    old, new, ended = Courier(), Courier(), list[object]()
    all_of_them = couriers(old)
    all_of_them.start()
    all_of_them.replace("ehr", new)  # type: ignore[arg-type]
    all_of_them.stop().addCallback(ended.append)
    new.ending.callback(None)
    assert ended == []
    old.ending.callback(None)
    assert len(ended) == 1
    assert "start" not in new.told
