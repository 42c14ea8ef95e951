"""When a sender is answered, and how often: original and enhanced mode, before the routing and after the deliveries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from broker.config.models import Channel
from broker.engine.hl7intake import Manner
from broker.engine.intake import Verdict
from broker.engine.outcomes import Late, outcome
from broker.engine.router import Router
from broker.errors import MessageError, StoreError
from broker.hl7 import ack
from broker.hl7.message import Message
from broker.store import outbox
from broker.store.outbox import DeliveryRow
from tests.engine.house import House

ADT = (
    "MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260302080000||{kind}|{id}|P|2.5.1|||{asks}\r"
    "PID|1||{patient}^^^GENHOSP^MR||DOE^JANE||19610615|F\rPV1|1|O|RAD\r"
)


def adt(id: str = "A1", asks: str = "|", kind: str = "ADT^A04", patient: str = "4711") -> str:
    return ADT.format(id=id, asks=asks, kind=kind, patient=patient)


class Sender:
    """Sends to a house, and keeps what it is told, as "CA A1"."""

    def __init__(self, house: House, answer: str = "processed", patience: float = 30.0, **manner: Any) -> None:
        self.house, self.heard, self.failed = house, list[str](), list[Any]()
        house.hl7.manners = {"hospital": Manner(**manner)}
        channels = [self._with(channel, answer, patience) for channel in house.config.channels]
        house.intake.change(Router(channels), house.site, {"hospital": "reject"})

    def _with(self, channel: Channel, answer: str, patience: float) -> Channel:
        return replace(channel, route=replace(channel.route, answer=answer, patience=patience))

    def send(self, text: str) -> list[str]:
        """Send, let happen what happens at once, and return what is heard since the last time."""
        answering: Deferred[bytes] = self.house.hl7.receive_hl7("hospital", "127.0.0.1:40000", text.encode(), self._hear)
        answering.addCallbacks(self._hear, self.failed.append)
        return self.listen()

    def listen(self) -> list[str]:
        """Return what is heard since the last time."""
        self.house.run()
        heard, self.heard = self.heard, []
        return heard

    def _hear(self, raw: bytes) -> None:
        self.heard += [" ".join(ack.read_answer(one)[:2]) for one in ack.apart(raw)]

    def deliver(self, state: str = "delivered", reason: str = "") -> None:
        """Let every delivery that waits end so."""
        ids = [row[0] for row in self.house.rows("select id from delivery where state = 'waiting' and channel <> ''")]
        for id in ids:
            if state == "delivered":
                self.house.wait(self.house.db.run("x", outbox.delivered, [(id, "AA")], 1.0))
            else:
                self.house.wait(self.house.db.run("x", outbox.park, id, reason, 1.0))
            self.house.outcomes.ended([id])


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def journal(house: House) -> list[tuple[Any, ...]]:
    rows = house.rows("select state, answer from message order by id")
    return [(state, *[ack.code_in(one) for one in ack.apart(bytes(answer))]) for state, answer in rows]


# -- the enhanced mode (HL7 v2.5.1 2.9.3)


@pytest.mark.parametrize(
    ("asks", "good", "parked", "refused"),
    [
        ("|", ["AA"], ["AE"], ["AR"]),  # the original mode
        ("X|Y", ["AA"], ["AE"], ["AR"]),  # not in table 0155
        ("AL|NE", ["CA"], ["CA"], ["CR"]),
        ("AL|", ["CA"], ["CA"], ["CR"]),
        ("NE|AL", ["AA"], ["AE"], ["AR"]),
        ("|AL", ["AA"], ["AE"], ["AR"]),
        ("AL|AL", ["CA", "AA"], ["CA", "AE"], ["CR"]),
        ("SU|ER", ["CA"], ["CA", "AE"], ["AR"]),
        ("ER|SU", ["AA"], [], ["CR"]),
        ("NE|NE", [], [], []),
    ],
)
def test_each_message_gets_the_acknowledgments_it_asks_for(
    house: House, asks: str, good: list[str], parked: list[str], refused: list[str]
) -> None:
    sender = Sender(house)
    assert sender.send(adt("A1", asks)) == [f"{code} A1" for code in good]
    assert sender.send(adt("A2", asks, patient="")) == [f"{code} A2" for code in parked]
    assert sender.send(adt("A3", asks, kind="ZZZ^Z01")) == [f"{code} A3" for code in refused]
    assert journal(house) == [("routed", *good), ("parked", *parked), ("refused", *refused)]
    for id, codes, more in (("A1", good, {}), ("A2", parked, {"patient": ""}), ("A3", refused, {"kind": "ZZZ^Z01"})):
        assert sender.send(adt(id, asks, **more)) == [f"{code} {id}" for code in codes]  # a retransmission hears the same
    assert house.count("broker_messages_acknowledged_total", listener="hospital", code="AA") == 2 * good.count("AA")
    assert house.count("broker_messages_acknowledged_total", listener="hospital", code="CA") == 2 * (good + parked).count("CA")


def test_a_control_id_that_was_used_for_another_message_is_a_commit_error(house: House) -> None:
    sender = Sender(house)
    sender.send(adt("A1", "AL|AL"))
    assert sender.send(adt("A1", "AL|AL", patient="4712")) == ["CE A1"]


def test_a_listener_may_ignore_what_is_asked_for(house: House) -> None:
    assert Sender(house, as_asked=False).send(adt("A1", "AL|AL")) == ["AA A1"]


def test_who_can_hear_but_one_answer_hears_the_one_that_counts(house: House) -> None:
    Sender(house)
    assert "MSA|AA|A1" in house.say(adt("A1", "AL|AL"))
    assert "MSA|CA|A2" in house.say(adt("A2", "AL|NE"))
    assert house.say(adt("A3", "NE|NE")) == ""


def test_an_acknowledgment_is_not_acknowledged(house: House) -> None:
    sender = Sender(house)
    text = "MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260302080000||ACK^A04^ACK|{id}|P|2.5.1|||{asks}\rMSA|AA|OLD\r"
    assert sender.send(text.format(id="K1", asks="|")) == []
    assert sender.send(text.format(id="K2", asks="AL|NE")) == ["CR K2"]
    assert [state for state, *_ in journal(house)] == ["refused", "refused"]


def test_application_acknowledgments_may_go_to_a_destination(house: House) -> None:
    sender = Sender(house, to="ehr")
    assert sender.send(adt("A1", "AL|AL")) == ["CA A1"]
    assert sender.send(adt("A2", "AL|AL", patient="")) == ["CA A2"]
    assert sender.send(adt("A3", "AL|AL", kind="ZZZ^Z01")) == ["CR A3"]
    assert sender.send(adt("A4")) == ["AA A4"]  # the original mode knows one way back
    found = [one for one in house.sent if one.destination == "ehr"]
    assert [one.kind for one in found] == ["ACK", "ACK"]
    messages = [Message.parse(one.payload) for one in found]
    assert [(one.get("MSA-1"), one.get("MSA-2"), one.get("MSH-15"), one.get("MSH-16")) for one in messages] == [
        ("AA", "A1", "AL", "NE"),
        ("AE", "A2", "AL", "NE"),
    ]
    assert [one.control_id for one in found] == [one.control_id for one in messages]
    house.sent.clear()
    assert sender.send(adt("A1", "AL|AL")) == ["CA A1"]
    assert house.sent == []


# -- answered before it is routed


def test_answered_as_received_routed_then(house: House) -> None:
    sender = Sender(house, "received")
    sent_when_heard: list[int] = []
    answering = house.hl7.receive_hl7("hospital", "127.0.0.1:40000", adt().encode())
    answering.addCallback(lambda answer: sent_when_heard.append(len(house.sent)))
    house.run()
    assert sent_when_heard == [0]
    assert journal(house) == [("routed", "AA")]
    assert house.destinations() == ["archive_hl7 ADT^A04"]
    assert sender.send(adt()) == ["AA A1"]
    assert house.count("broker_messages_received_total", listener="hospital", kind="ADT^A04") == 1
    assert house.count("broker_messages_duplicate_total", listener="hospital") == 1


def test_what_fails_after_its_answer_is_parked(house: House) -> None:
    sender = Sender(house, "received")
    assert sender.send(adt("A1", patient="")) == ["AA A1"]
    assert journal(house) == [("parked", "AA")]
    assert house.count("broker_messages_parked_total", where="hospital") == 1


def test_what_no_channel_accepts_is_answered_when_that_is_known(house: House) -> None:
    assert Sender(house, "received").send(adt("A1", kind="ZZZ^Z01")) == ["AR A1"]


def test_messages_are_routed_in_the_order_in_which_they_came(house: House) -> None:
    sender = Sender(house, "received")
    for number in range(5):
        house.hl7.receive_hl7("hospital", "127.0.0.1:40000", adt(f"A{number}").encode())
    sender.listen()
    assert [one.message_id for one in house.sent] == [1, 2, 3, 4, 5]


def test_the_application_acknowledgment_follows_the_routing(house: House) -> None:
    sender = Sender(house, "received")
    assert sender.send(adt("A1", "AL|AL")) == ["CA A1", "AA A1"]
    assert sender.send(adt("A2", "AL|AL", patient="")) == ["CA A2", "AE A2"]
    assert journal(house) == [("routed", "CA", "AA"), ("parked", "CA", "AE")]
    assert sender.send(adt("A2", "AL|AL", patient="")) == ["CA A2", "AE A2"]
    sender = Sender(house, "received", to="ehr")
    assert sender.send(adt("A3", "AL|AL")) == ["CA A3"]
    assert house.sent[-1].kind == "ACK"


def test_a_start_routes_what_a_stop_left_behind(house: House) -> None:
    from broker.store import journal as rows

    sender = Sender(house, "received")
    stopped = Deferred[Any]()
    house.intake.route_kept = lambda *args: stopped  # type: ignore[method-assign]
    assert sender.send(adt("A1")) == ["AA A1"]
    assert sender.send(adt("A2", patient="")) == ["AA A2"]
    assert [row.control_id for row in house.wait(house.db.read("x", rows.kept, 0, 10))] == ["A1", "A2"]
    assert [row.control_id for row in house.wait(house.db.read("x", rows.kept, 1, 10))] == ["A2"]
    assert sender.send(adt("A1")) == ["AA A1"]  # a retransmission meanwhile
    del house.intake.route_kept  # type: ignore[method-assign]
    house.wait(house.again.resume())
    assert journal(house) == [("routed", "AA"), ("parked", "AA")]
    assert house.destinations() == ["archive_hl7 ADT^A04"]
    house.wait(house.again.resume())
    assert house.destinations() == []


def test_what_the_store_did_not_let_route_is_routed_when_it_is_back(house: House) -> None:
    sender = Sender(house, "received")
    route, lost = house.intake.route_kept, [True, True]

    def routing(*args: Any) -> Deferred[Any]:
        return fail(StoreError("journal.route: the connection is lost")) if lost and lost.pop() else route(*args)

    house.intake.route_kept = routing  # type: ignore[method-assign]
    assert sender.send(adt("A1")) == ["AA A1"]
    assert sender.send(adt("A2")) == ["AA A2"]  # behind it, or it would be first
    assert journal(house) == [("received", "AA"), ("received", "AA")]
    house.hl7.route_waiting()
    assert sender.send(adt("A3")) == ["AA A3"]
    assert journal(house) == [("received", "AA")] * 3
    house.hl7.route_waiting()
    house.run()
    assert journal(house) == [("routed", "AA")] * 3
    assert [one.message_id for one in house.sent] == [1, 2, 3]
    assert house.printed.getvalue().count("message not answered to its end") == 2  # once an attempt, not once a message
    house.hl7.route_waiting()
    house.run()
    assert len(house.sent) == 3


def test_a_kept_message_is_routed_once(house: House) -> None:
    sender = Sender(house, "received")
    sender.send(adt("A1"))
    row = house.wait(house.db.read("x", _first))
    with pytest.raises(MessageError, match="routed already"):
        house.wait(house.hl7.route_kept(row))


def test_a_kept_message_that_can_no_longer_be_read_is_parked(house: House) -> None:
    sender = Sender(house, "received")
    house.intake.route_kept = lambda *args: Deferred[Any]()  # type: ignore[method-assign]
    sender.send(adt("A1"))
    del house.intake.route_kept  # type: ignore[method-assign]
    house.wait(house.db.run("x", lambda tx: tx.execute("update message set raw = ?", (b"junk",))))
    house.wait(house.again.resume())
    assert journal(house) == [("parked", "AA")]


def _first(tx: Any) -> Any:
    from broker.store import journal as rows

    return rows.get(tx, 1)


# -- answered once delivered


def test_the_answer_waits_until_every_delivery_has_ended(house: House) -> None:
    sender = Sender(house, "delivered")
    assert sender.send(adt()) == []
    assert journal(house) == [("routed",)]
    sender.deliver()
    assert sender.listen() == ["AA A1"]
    assert journal(house) == [("routed", "AA")]
    assert sender.send(adt()) == ["AA A1"]
    assert house.outcomes._waiting == {}
    assert house.clock.getDelayedCalls() == []


def test_what_sends_nothing_is_answered_at_once(house: House) -> None:
    sender = Sender(house, "delivered")
    assert sender.send(adt("A1", patient="")) == ["AE A1"]
    assert sender.send(adt("A2", kind="ZZZ^Z01")) == ["AR A2"]
    assert sender.send(adt("A1", patient="")) == ["AE A1"]


def test_a_delivery_that_is_refused_makes_it_an_error_with_its_place(house: House) -> None:
    sender = Sender(house, "delivered")
    said: list[bytes] = []
    house.hl7.receive_hl7("hospital", "127.0.0.1:40000", adt().encode()).addCallback(said.append)
    sender.listen()
    sender.deliver("parked", "AE: PID-5.1: 101 Required field missing")
    house.run()
    message = Message.parse(said[0])
    assert (message.get("MSA-1"), message.raw("ERR-2"), message.get("ERR-3.1")) == ("AE", "PID^1^5^1^1", "101")
    assert "archive_hl7" in message.get("ERR-8")
    assert journal(house) == [("routed", "AE")]  # the message is routed: what waits for a person is the delivery
    assert sender.send(adt()) == ["AE A1"]


def test_patience_ends_and_a_retransmission_hears_the_real_outcome(house: House) -> None:
    sender = Sender(house, "delivered", patience=10.0)
    assert sender.send(adt()) == []
    house.clock.advance(10)
    assert sender.listen() == ["AE A1"]
    assert journal(house) == [("routed",)]
    assert sender.send(adt()) == []  # still under way
    house.clock.advance(9)
    sender.deliver()
    assert sender.listen() == ["AA A1"]
    assert sender.send(adt()) == ["AA A1"]
    assert house.clock.getDelayedCalls() == []


def test_a_retransmission_after_a_restart_hears_the_outcome(house: House) -> None:
    sender = Sender(house, "delivered")
    sender.send(adt())
    house.outcomes._waiting.clear()  # as a restart leaves it
    sender.deliver()
    assert sender.send(adt()) == ["AA A1"]
    assert journal(house) == [("routed", "AA")]


def test_an_end_between_the_look_and_the_waiting_is_not_missed(house: House) -> None:
    sender = Sender(house, "delivered")
    sender.send(adt())
    house.outcomes._waiting.clear()
    read, count = house.db.read, 0

    def reading(name: str, fn: Any, *args: Any) -> Any:
        nonlocal count
        count += name == "outbox.of_message"
        found = read(name, fn, *args)
        return found.addCallback(lambda rows: sender.deliver() or rows) if name == "outbox.of_message" and count == 1 else found

    house.outcomes._db = type("Db", (), {"read": staticmethod(reading)})()
    assert sender.send(adt()) == ["AA A1"]


def test_a_retransmission_while_the_first_one_waits(house: House) -> None:
    sender = Sender(house, "delivered")
    assert sender.send(adt()) == []
    assert sender.send(adt()) == []
    sender.deliver()
    assert sender.listen() == ["AA A1", "AA A1"]


def test_commit_at_once_application_acknowledgment_when_delivered(house: House) -> None:
    sender = Sender(house, "delivered")
    assert sender.send(adt("A1", "AL|AL")) == ["CA A1"]
    assert sender.send(adt("A1", "AL|AL")) == ["CA A1"]
    sender.deliver()
    assert sender.listen() == ["AA A1", "AA A1"]
    assert journal(house) == [("routed", "CA", "AA")]
    assert sender.send(adt("A1", "AL|AL")) == ["CA A1", "AA A1"]
    assert sender.send(adt("A2", "AL|NE")) == ["CA A2"]
    assert sender.send(adt("A2", "AL|NE")) == ["CA A2"]
    assert sender.send(adt("A3", "NE|NE")) == []


@pytest.mark.parametrize(("asks", "refused", "mended"), [("|", ["AE"], ["AA"]), ("AL|AL", ["CA", "AE"], ["CA", "AA"])])
def test_a_sender_that_repeats_what_was_refused_goes_on_once_it_is_routed(
    house: House, asks: str, refused: list[str], mended: list[str]
) -> None:
    sender = Sender(house)
    heard = [f"{code} A1" for code in refused]
    assert sender.send(adt("A1", asks, patient="")) == heard
    assert sender.send(adt("A1", asks, patient="")) == heard
    with pytest.MonkeyPatch.context() as patch:  # somebody mends the route, and takes the message up again
        patch.setattr(house.intake, "judge", lambda *args: Verdict("routed"))
        house.wait(house.again.route(1))
    assert sender.send(adt("A1", asks, patient="")) == [f"{code} A1" for code in mended]
    assert house.rows("select count(*) from message") == [(1,)]


@pytest.mark.parametrize("answer", ["processed", "received"])
def test_a_retransmission_is_answered_though_its_route_waits_for_deliveries_no_more(house: House, answer: str) -> None:
    assert Sender(house, "delivered", patience=10.0).send(adt()) == []
    assert house.wait(house.hl7.receive_hl7("hospital", "x", adt("E1", "AL|AL").encode(), lambda _: None)).count(b"MSA|CA") == 1
    sender = Sender(house, answer)  # somebody lets the senders go on while the receiver is down
    assert sender.send(adt()) == ["AA A1"]
    assert sender.send(adt("E1", "AL|AL")) == ["CA E1", "AA E1"]
    assert sender.send(adt("E1", "AL|AL")) == ["CA E1", "AA E1"]


def test_the_application_acknowledgment_of_a_delivered_message_goes_to_its_destination_once(house: House) -> None:
    sender = Sender(house, "delivered", to="ehr")
    assert sender.send(adt("A1", "AL|AL")) == ["CA A1"]
    assert [one.kind for one in house.sent] == ["ADT^A04"]
    sender.deliver()
    assert sender.send(adt("A1", "AL|AL")) == ["CA A1"]
    assert [one.kind for one in house.sent] == ["ADT^A04", "ACK"]
    assert sender.send(adt("A2", "AL|AL", patient="")) == ["CA A2"]
    assert [one.kind for one in house.sent] == ["ADT^A04", "ACK", "ACK"]


def test_of_several_channels_the_latest_counts(house: House) -> None:
    registration = next(channel for channel in house.config.channels if channel.name == "registration")

    def router(*answers: tuple[str, float]) -> Router:
        return Router(
            [
                replace(registration, name=f"c{n}", route=replace(registration.route, answer=answer, patience=patience))
                for n, (answer, patience) in enumerate(answers)
            ]
        )

    message = Message.parse(adt().encode())
    assert router(("received", 1), ("processed", 2)).answering("hospital", message)[0] == "processed"
    assert router(("received", 1), ("delivered", 5), ("delivered", 2)).answering("hospital", message) == ("delivered", 5)
    assert router(("received", 1), ("received", 1)).answering("hospital", message)[0] == "received"
    assert router(("processed", 1)).answering("hospital", message)[0] == "processed"
    other = Message.parse(adt(kind="ZZZ^Z01").encode())
    assert router(("delivered", 1)).answering("hospital", other)[0] == "processed"


def row(state: str, reason: str = "") -> DeliveryRow:
    return DeliveryRow(1, 1, "ehr", "", "c", "ADT^A04", b"", "", "", 0, state, 0.0, None, "", reason)


@pytest.mark.parametrize(
    ("reason", "path", "code"),
    [
        ("AE: OBR[2]-4.1: 103 Table value not found", "OBR[2]-4.1", 103),
        ("AR: 200 Unsupported message type", "", 200),
        ("AE", "", 207),
        ("not reached in time: cannot connect", "", 207),
    ],
)
def test_the_reason_of_a_refusal(reason: str, path: str, code: int) -> None:
    error = outcome([row("delivered"), row("parked", reason), row("waiting")])
    assert error is not None
    assert (error.path, error.code) == (path, code)
    assert reason in error.why


def test_all_delivered_or_too_late() -> None:
    assert outcome([row("delivered"), row("delivered")]) is None
    late = outcome([row("delivered"), row("waiting")])
    assert isinstance(late, Late)
    assert late.code == 207
