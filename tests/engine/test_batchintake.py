"""A frame that holds a batch: each message taken in, one batch for an answer, and what comes after it waits its turn."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from broker.connectors.batches import OUTSTANDING
from broker.engine.batchintake import Batches
from broker.engine.clock import SiteClock
from broker.errors import StoreError
from broker.hl7.batch import parts
from broker.hl7.message import Message
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from tests.engine.house import House

HEAD = "BHS|^~\\&|EHR|GENHOSP|BROKER|RAD|20260302||ADT||B77\r"
ADT = (
    "MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260302080000||ADT^A04^ADT_A01|{id}|P|2.5.1\r"
    "EVN||20260302080000\rPID|1||{id}^^^GENHOSP^MR||DOE^JANE||19610615|F\rPV1|1|O|RAD\r"
)


class Intake:
    """Keeps what it got, and answers when told."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.waiting: list[Deferred[bytes]] = []

    def receive_hl7(self, listener: str, peer: str, raw: bytes, later: object = None) -> Deferred[bytes]:
        self.got.append(f"{peer} {Message.parse(raw).control_id}")
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def answer(self, code: str = "AA") -> None:
        id = self.got[-len(self.waiting)].split()[1]
        self.waiting.pop(0).callback(f"MSH|^~\\&|B||||2026||ACK|1|P|2.5.1\rMSA|{code}|{id}\r".encode())


class Bench:
    """Batches over an intake that waits."""

    def __init__(self) -> None:
        self.intake, self.metrics, self.printed = Intake(), Metrics(), StringIO()
        self.batches = Batches(self.intake, SiteClock(lambda: 1772438400.0, "UTC"), self.metrics, Log(self.printed, terminal=False))

    def send(self, text: str, peer: str = "p1") -> list[object]:
        found: list[object] = []
        self.batches.receive_hl7("hospital", peer, text.encode()).addBoth(found.append)
        return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


def batch(*ids: str, count: int | None = None) -> str:
    return HEAD + "".join(ADT.format(id=id) for id in ids) + f"BTS|{len(ids) if count is None else count}\r"


def test_every_message_of_a_batch_is_taken_in_and_answered(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.hl7 = Batches(house.hl7, SiteClock(lambda: house.at, "UTC"), house.metrics, Log(house.printed))  # type: ignore[assignment]
    bad = ADT.format(id="B3").replace("B3^^^GENHOSP^MR", "")
    answer = house.say(batch("B1", "B2")[: -len("BTS|2\r")] + bad + "BTS|4\r")
    found = list(parts(answer.encode()))
    assert [part.kind for part in found] == ["BHS", "MSH", "MSH", "MSH", "BTS"]
    acks = [Message.parse(part.raw) for part in found[1:-1]]
    assert [(ack.get("MSA-1"), ack.get("MSA-2")) for ack in acks] == [("AA", "B1"), ("AA", "B2"), ("AE", "B3")]
    assert acks[2].raw("ERR-2").startswith("PID^1^3")
    assert found[0].raw.split(b"|")[11].strip() == b"B77"
    assert found[-1].raw == b"BTS|3|BTS-1 says 4, there are 3 messages\r"
    assert house.rows("select state, count(*) from message group by state order by state") == [("parked", 1), ("routed", 2)]
    assert house.count("broker_protocol_errors_total", listener="hospital", fault="batch") == 1
    assert "BTS-1 says 4" in house.printed.getvalue()


def test_a_batch_sent_again_is_recognised_message_by_message(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.hl7 = Batches(house.hl7, SiteClock(lambda: house.at, "UTC"), house.metrics, Log(house.printed))  # type: ignore[assignment]
    assert house.say(batch("B1", "B2")) == house.say(batch("B1", "B2"))
    assert house.rows("select count(*) from message") == [(2,)]
    assert house.count("broker_messages_duplicate_total", listener="hospital") == 2


def test_the_answer_comes_when_all_are_durable(bench: Bench) -> None:
    found = bench.send(batch("1", "2"))
    bench.intake.answer()
    assert found == []
    bench.intake.answer()
    assert len(found) == 1


def test_few_messages_of_a_batch_are_under_way_at_a_time(bench: Bench) -> None:
    found = bench.send(batch(*map(str, range(OUTSTANDING * 2))))
    assert len(bench.intake.got) == OUTSTANDING
    bench.intake.answer()
    assert len(bench.intake.got) == OUTSTANDING + 1
    while bench.intake.waiting:
        bench.intake.answer()
    assert len(found) == 1
    assert bench.intake.got == [f"p1 {n}" for n in range(OUTSTANDING * 2)]


def test_what_a_connection_sends_after_a_batch_waits_for_it(bench: Bench) -> None:
    first = bench.send(batch("1", "2"))
    second = bench.send(ADT.format(id="3"))
    third = bench.send(batch("4"))
    other = bench.send(ADT.format(id="9"), peer="p2")
    assert bench.intake.got == ["p1 1", "p1 2", "p2 9"]
    bench.intake.answer()
    bench.intake.answer()
    assert first
    assert bench.intake.got[-1] == "p1 3"
    bench.intake.answer()
    assert other
    bench.intake.answer()
    assert second
    assert bench.intake.got[-1] == "p1 4"
    bench.intake.answer()
    assert third
    bench.send(ADT.format(id="5"))
    assert bench.intake.got[-1] == "p1 5"


def test_a_batch_that_could_not_be_kept_has_no_answer(bench: Bench) -> None:
    found = bench.send(batch("1", "2", "3"))
    bench.intake.waiting[1].errback(StoreError("disk full"))
    bench.intake.waiting[2].errback(StoreError("disk full"))
    bench.intake.waiting[0].callback(b"MSH|^~\\&|B||||2026||ACK|1|P|2.5.1\rMSA|AA|1\r")
    [failure] = found
    assert failure.check(StoreError)  # type: ignore[attr-defined]


def test_a_message_that_wants_no_answer_has_none_in_the_batch(bench: Bench) -> None:
    found = bench.send(batch("1", "2"))
    bench.intake.waiting[0].callback(b"")
    bench.intake.waiting.pop(0)
    bench.intake.answer()
    [answer] = found
    assert isinstance(answer, bytes)
    assert [part.kind for part in parts(answer)] == ["BHS", "MSH", "BTS"]
    assert answer.endswith(b"BTS|1\r")


@pytest.mark.parametrize("raw", ["hello", "", "\x00", "BHSX|", "\ufeffMSH|^~\\&|EHR|H|B|R|2026||ADT^A04|1|P|2.5.1\r"])
def test_what_is_no_batch_goes_straight_through(bench: Bench, raw: str) -> None:
    got: list[bytes] = []
    bench.intake.receive_hl7 = lambda listener, peer, raw, later: got.append(raw) or Deferred()  # type: ignore[assignment,func-returns-value,method-assign]
    bench.send(raw)
    assert got == [raw.encode()]


def test_each_message_of_a_batch_has_one_answer_also_in_the_enhanced_mode(tmp_path: Path) -> None:
    house = House(tmp_path)
    batches = Batches(house.hl7, SiteClock(lambda: house.at, "UTC"), house.metrics, Log(house.printed))
    text = batch("B1", "B2").replace("|P|2.5.1\r", "|P|2.5.1|||AL|AL\r")
    assert text.count("AL|AL") == 2
    answer = house.wait(batches.receive_hl7("hospital", "p1", text.encode(), lambda raw: None))
    acks = [Message.parse(part.raw) for part in parts(answer) if part.kind == "MSH"]
    assert [(ack.get("MSA-1"), ack.get("MSA-2")) for ack in acks] == [("AA", "B1"), ("AA", "B2")]
