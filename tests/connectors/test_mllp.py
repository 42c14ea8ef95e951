"""The MLLP shells over in-memory transports and a clock."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.python.failure import Failure

from broker.connectors.base import Destination, Listener
from broker.connectors.mllp import DESTINATION, LISTENER
from broker.errors import LocalProtocolError, Refused, Retry, StoreError
from broker.hl7.mllp import frame
from broker.spec import Spec
from tests.connectors.mllp_bench import HELLO, Bench, Intake, Sending, Wire, ack, connect, delivery, lose


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- the declarations


@pytest.mark.parametrize("spec", [LISTENER, DESTINATION], ids=lambda spec: spec.kind)
def test_the_example_satisfies_the_schema(spec: Spec) -> None:
    import jsonschema
    import yaml

    value = yaml.safe_load(spec.example)["mllp"]
    jsonschema.validate(value, spec.schema())
    assert set(spec.read(value)) == {option.name for option in spec.options}


def test_defaults() -> None:
    listener = LISTENER.read({"port": 1})
    assert (listener["bind"], listener["limit"], listener["idle"], listener["charset"]) == (
        "127.0.0.1",
        16 * 1024**2,
        None,
        "UNICODE UTF-8",
    )
    destination = DESTINATION.read({"host": "h", "port": 1})
    assert destination["retry"] == {"first": 1.0, "most": 300.0, "park_after": None, "tries": 5}


def test_they_are_what_the_engine_wants(bench: Bench) -> None:
    listener: Listener = bench.listener(Intake())
    destination: Destination = bench.destination()
    assert (listener.name, destination.name) == ("x", "x")


# -- listening


def test_it_binds_and_says_where(bench: Bench) -> None:
    shown = []
    bench.listener(Intake()).start().addCallback(shown.append)
    assert bench.reactor.tcpServers[0][0] == 2575
    assert bench.reactor.tcpServers[0][3] == "127.0.0.1"
    assert len(shown) == 1
    assert shown[0].startswith("mllp ")


def test_a_port_in_use_is_an_os_error(bench: Bench) -> None:
    def refuse(port: int, *_: Any, interface: str, **__: Any) -> None:
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))

    bench.reactor.listenTCP = refuse
    failed: list[Failure] = []
    bench.listener(Intake()).start().addErrback(failed.append)
    assert failed[0].check(OSError)
    assert failed[0].value.errno == 98
    assert "127.0.0.1:2575" in str(failed[0].value)


def test_a_message_is_handed_over_and_answered(bench: Bench) -> None:
    intake = Intake()
    receiver, wire = connect(bench.listener(intake))
    assert wire.no_delay
    assert bench.count("connections", listener="x") == 1
    for byte in frame(HELLO):
        receiver.dataReceived(bytes([byte]))
    assert intake.got == [HELLO]
    assert intake.peers == [("x", "10.0.0.9:50112")]
    assert wire.said() == b""
    bench.reactor.advance(0.004)
    intake.waiting[0].callback(b"ACK")
    assert wire.said() == b"\x0bACK\x1c\r"
    assert bench.count("ack_seconds_count", listener="x") == 1
    assert bench.count("ack_seconds_sum", listener="x") == pytest.approx(0.004)
    lose(receiver)
    assert bench.count("connections", listener="x") == 0
    assert bench.reactor.getDelayedCalls() == []


def test_answers_keep_the_order_of_their_messages(bench: Bench) -> None:
    intake = Intake()
    receiver, wire = connect(bench.listener(intake))
    receiver.dataReceived(frame(b"1") + frame(b"2") + frame(b"3"))
    intake.waiting[2].callback(b"third")
    intake.waiting[1].callback(b"")  # none is due
    assert wire.said() == b""
    intake.waiting[0].callback(b"first")
    assert wire.said() == frame(b"first") + frame(b"third")


def test_few_messages_of_a_connection_are_under_way(bench: Bench) -> None:
    intake = Intake()
    receiver, wire = connect(bench.listener(intake, outstanding=2))
    receiver.dataReceived(b"".join(frame(b"%d" % n) for n in range(5)))
    assert intake.got == [b"0", b"1"]
    assert wire.producerState == "paused"
    intake.waiting[1].callback(b"b")
    assert intake.got == [b"0", b"1"]
    intake.waiting[0].callback(b"a")
    assert intake.got == [b"0", b"1", b"2", b"3"]
    assert wire.producerState == "paused"
    for waiting in intake.waiting[2:]:
        waiting.callback(b"c")
    assert intake.got[4] == b"4"
    assert wire.producerState == "producing"


def test_a_peer_that_does_not_read_is_not_read_from(bench: Bench) -> None:
    receiver, wire = connect(bench.listener(Intake(b"")))
    assert wire.producer is receiver
    wire.producer.pauseProducing()
    assert wire.producerState == "paused"
    wire.producer.resumeProducing()
    assert wire.producerState == "producing"


def test_many_messages_in_one_read_that_are_answered_at_once(bench: Bench) -> None:
    intake = Intake(b"ok ")
    receiver, wire = connect(bench.listener(intake, outstanding=1))
    receiver.dataReceived(frame(b"") * 5000)
    assert wire.said() == frame(b"ok ") * 5000
    assert wire.producerState == "producing"


def test_a_health_probe_is_no_fault(bench: Bench) -> None:
    receiver, wire = connect(bench.listener(Intake()))
    lose(receiver)
    assert bench.stream.getvalue() == ""
    assert not wire.disconnecting


def test_what_is_not_hl7_is_the_intake_s_to_answer(bench: Bench) -> None:
    intake = Intake(b"AR ")
    receiver, wire = connect(bench.listener(intake))
    receiver.dataReceived(frame(b"GET /"))
    assert wire.said() == frame(b"AR GET /")


def test_a_store_that_fails_closes_without_an_answer(bench: Bench) -> None:
    intake = Intake()
    receiver, wire = connect(bench.listener(intake))
    receiver.dataReceived(frame(b"1") + frame(b"2") + frame(b"3"))
    intake.waiting[1].errback(StoreError("disk full"))
    assert not wire.disconnecting
    intake.waiting[0].callback(b"first")
    assert wire.said() == frame(b"first")
    assert wire.disconnecting
    assert wire.producer is None
    intake.waiting[2].errback(StoreError("disk full"))
    receiver.dataReceived(frame(b"4"))
    assert wire.said() == b""
    assert intake.got == [b"1", b"2", b"3"]
    assert [line["event"] for line in bench.logged()] == ["mllp closes without an answer"]


def test_a_message_over_the_limit_closes_after_earlier_answers(bench: Bench) -> None:
    intake = Intake()
    receiver, wire = connect(bench.listener(intake, limit="20 B"))
    receiver.dataReceived(frame(b"1") + b"\x0bDOE^JANE" + b"x" * 50)
    assert bench.faults("too_long") == 1
    assert intake.got == [b"1"]
    assert not wire.disconnecting
    receiver.dataReceived(frame(b"2"))
    intake.waiting[0].callback(b"ok")
    assert wire.said() == frame(b"ok")
    assert wire.disconnecting
    assert intake.got == [b"1"]
    (line,) = bench.logged()
    assert (line["event"], line["fault"], line["reason"], line["peer"]) == (
        "mllp fault",
        "too_long",
        "a message of more than 20 bytes",
        "10.0.0.9:50112",
    )


def test_faults_are_counted_each_and_logged_once(bench: Bench) -> None:
    intake = Intake(b"")
    receiver, wire = connect(bench.listener(intake))
    receiver.dataReceived((b"junk" + frame(b"1")) * 30)
    receiver.dataReceived(b"\x0bMSH|half")
    lose(receiver)
    assert (bench.faults("garbage"), bench.faults("truncated")) == (30, 1)
    assert [line["fault"] for line in bench.logged()] == ["garbage", "truncated"]
    assert len(intake.got) == 30
    assert not wire.disconnecting


def test_an_answer_after_the_connection_is_gone_goes_nowhere(bench: Bench) -> None:
    intake = Intake()
    receiver, wire = connect(bench.listener(intake))
    receiver.dataReceived(frame(b"1"))
    lose(receiver)
    intake.waiting[0].callback(b"ok")
    assert wire.said() == b""


def test_too_many_connections(bench: Bench) -> None:
    listener = bench.listener(Intake(), connections=2)
    first, _ = connect(listener, 1)
    connect(listener, 2)
    assert listener.buildProtocol(IPv4Address("TCP", "10.0.0.9", 3)) is None
    assert bench.faults("too_many_connections") == 1
    lose(first)
    connect(listener, 4)


def test_an_idle_connection_is_closed_when_wanted(bench: Bench) -> None:
    intake = Intake()
    receiver, wire = connect(bench.listener(intake, idle="30s"))
    bench.reactor.advance(29)
    receiver.dataReceived(frame(b"1"))
    for _ in range(30):
        bench.reactor.advance(10)  # a message under way is not idleness
    assert not wire.disconnecting
    intake.waiting[0].callback(b"ok")
    receiver.dataReceived(frame(b"2"))
    intake.waiting[1].callback(b"ok")
    bench.reactor.pump([10] * 9)
    assert wire.disconnecting
    assert bench.stream.getvalue() == ""


def test_an_idle_connection_stays_by_default(bench: Bench) -> None:
    _, wire = connect(bench.listener(Intake()))
    bench.reactor.pump([60] * 100)
    assert not wire.disconnecting


def test_a_stalled_message_is_a_fault(bench: Bench) -> None:
    receiver, wire = connect(bench.listener(Intake(), stalled="60s"))
    bench.reactor.advance(50)
    receiver.dataReceived(b"\x0bMSH|")
    bench.reactor.pump([10] * 5)
    assert not wire.disconnecting
    bench.reactor.pump([10] * 2)
    assert wire.disconnecting
    assert bench.faults("stalled") == 1


def test_stop_answers_what_is_being_worked_on(bench: Bench) -> None:
    intake, stopped = Intake(), []
    listener = bench.listener(intake, outstanding=1)
    listener.start()
    busy, busy_wire = connect(listener, 1)
    idle, idle_wire = connect(listener, 2)
    busy.dataReceived(frame(b"1") + frame(b"2"))
    listener.stop().addCallback(stopped.append)
    assert idle_wire.disconnecting
    assert not busy_wire.disconnecting
    busy.dataReceived(frame(b"3"))
    intake.waiting[0].callback(b"ok")
    assert busy_wire.said() == frame(b"ok")
    assert busy_wire.disconnecting
    assert intake.got == [b"1"]
    assert stopped == []
    lose(busy)
    lose(idle)
    assert stopped == [None]
    assert bench.reactor.getDelayedCalls() == []


def test_stop_does_not_wait_for_ever(bench: Bench) -> None:
    listener = bench.listener(Intake())
    receiver, wire = connect(listener)
    receiver.dataReceived(frame(b"1"))
    listener.stop()
    bench.reactor.advance(10)
    assert wire.aborted


def test_stop_with_nothing_open(bench: Bench) -> None:
    stopped: list[None] = []
    bench.listener(Intake()).stop().addCallback(stopped.append)
    assert stopped == [None]


# -- delivering


def test_a_delivery_connects_sends_and_waits_for_its_answer(bench: Bench) -> None:
    destination = bench.destination()
    sending = Sending(bench, destination)
    assert bench.reactor.tcpClients[0][:2] == ("10.0.0.5", 2576)
    assert bench.reactor.tcpClients[0][3] == 10
    peer, wire = sending.connected()
    assert wire.no_delay
    assert wire.said() == frame(HELLO)
    assert sending.result is None
    for byte in ack(b"AA"):
        peer.dataReceived(bytes([byte]))
    assert sending.result == "AA"
    again = Sending(bench, destination, delivery("C2"))
    assert len(bench.reactor.tcpClients) == 1
    assert wire.said() == frame(HELLO)
    peer.dataReceived(ack(b"CA", b"C2"))
    assert again.result == "CA"
    assert bench.stream.getvalue() == ""


@pytest.mark.parametrize("code", ["AE", "AR", "CE", "CR"])
def test_a_refusal_says_code_and_place_and_nothing_else(bench: Bench, code: str) -> None:
    sending = Sending(bench, bench.destination())
    peer, wire = sending.connected()
    peer.dataReceived(ack(code.encode(), more=b"ERR||PID^1^5|101^Jane Doe has no name|E||||Jane Doe\r"))
    assert isinstance(sending.result, Refused)
    assert str(sending.result) == f"{code}: PID-5: 101 Required field missing"
    assert not wire.disconnecting


def test_an_unknown_code_is_a_refusal(bench: Bench) -> None:
    sending = Sending(bench, bench.destination())
    sending.connected()[0].dataReceived(ack(b"Jane"))
    assert isinstance(sending.result, Refused)
    assert "Jane" not in str(sending.result)


def test_a_stranger_s_answer_settles_nothing(bench: Bench) -> None:
    destination = bench.destination()
    sending = Sending(bench, destination)
    peer, _ = sending.connected()
    peer.dataReceived(ack(b"AA", b"OLD") + ack(b"AE", b""))
    assert sending.result is None
    assert bench.faults("stranger") == 2
    peer.dataReceived(ack(b"AA") + ack(b"AA"))
    assert sending.result == "AA"
    assert bench.faults("stranger") == 3


def test_the_control_id_is_taken_from_the_message_when_the_delivery_names_none(bench: Bench) -> None:
    sending = Sending(bench, bench.destination(), delivery(""))
    peer, _ = sending.connected()
    peer.dataReceived(ack(b"AA", b"OTHER"))
    assert sending.result is None
    peer.dataReceived(ack(b"AA", b"C1"))
    assert sending.result == "AA"


def test_no_answer_cuts_the_connection_so_that_a_late_one_is_lost(bench: Bench) -> None:
    destination = bench.destination(answer_timeout="30s")
    first = Sending(bench, destination)
    peer, wire = first.connected()
    bench.reactor.advance(20)
    peer.dataReceived(ack(b"AA"))
    second = Sending(bench, destination)
    bench.reactor.advance(29)
    assert second.result is None
    bench.reactor.advance(1)
    assert isinstance(second.result, Retry)
    assert "within 30 s" in str(second.result)
    assert wire.aborted
    third = Sending(bench, destination, delivery())
    peer.dataReceived(ack(b"AA"))
    assert third.result is None
    lose(peer)
    assert third.result is None
    late, _ = third.connected()
    late.dataReceived(ack(b"AA"))
    assert third.result == "AA"


def test_a_refused_connection_is_tried_again_later(bench: Bench) -> None:
    destination = bench.destination()
    sending = Sending(bench, destination)
    factory, connector = bench.reactor.tcpClients[0][2], bench.reactor.connectors[0]
    factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
    assert isinstance(sending.result, Retry)
    assert "refused" in str(sending.result)
    again = Sending(bench, destination)
    again.connected()[0].dataReceived(ack(b"AA"))
    assert again.result == "AA"


def test_a_lost_connection_is_opened_again(bench: Bench) -> None:
    destination = bench.destination()
    sending = Sending(bench, destination)
    peer, _ = sending.connected()
    lose(peer)
    assert isinstance(sending.result, Retry)
    again = Sending(bench, destination)
    peer, _ = again.connected()
    peer.dataReceived(ack(b"AA"))
    lose(peer)  # between two deliveries it is nobody's matter
    Sending(bench, destination)
    assert len(bench.reactor.tcpClients) == 3


@pytest.mark.parametrize(("data", "fault"), [(frame(b"OK"), "no_answer"), (b"\x0b" + b"x" * 200, "too_long")])
def test_an_answer_that_is_none_cuts_the_connection(bench: Bench, data: bytes, fault: str) -> None:
    sending = Sending(bench, bench.destination(limit="100 B"))
    peer, wire = sending.connected()
    peer.dataReceived(data)
    assert isinstance(sending.result, Retry)
    assert wire.aborted
    assert bench.faults(fault) == 1


def test_one_delivery_at_a_time(bench: Bench) -> None:
    destination = bench.destination()
    Sending(bench, destination)
    assert isinstance(Sending(bench, destination).result, LocalProtocolError)


def test_what_would_break_the_framing_is_refused(bench: Bench) -> None:
    sending = Sending(bench, bench.destination(), delivery(payload=HELLO + b"NTE|1||\x1c\r"))
    assert isinstance(sending.result, Refused)
    assert bench.reactor.tcpClients == []


def test_the_next_delivery_may_start_from_the_answer_of_the_last(bench: Bench) -> None:
    destination, results = bench.destination(), []

    def sent(answer: str, left: int) -> None:
        results.append(answer)
        if left:
            destination.send(delivery(f"C{left}")).addCallback(sent, left - 1)

    destination.send(delivery("C3")).addCallback(sent, 2)
    factory, wire = bench.reactor.tcpClients[0][2], Wire()
    peer = factory.buildProtocol(None)
    peer.makeConnection(wire)
    for control_id in (b"C3", b"C2", b"C1"):
        assert wire.said() == frame(HELLO)
        peer.dataReceived(ack(b"AA", control_id))
    assert results == ["AA"] * 3


def test_close_while_idle(bench: Bench) -> None:
    destination, closed = bench.destination(), []
    sending = Sending(bench, destination)
    peer, wire = sending.connected()
    peer.dataReceived(ack(b"AA"))
    destination.close().addCallback(closed.append)
    assert wire.disconnecting
    assert closed == []
    lose(peer)
    assert closed == [None]
    assert bench.reactor.getDelayedCalls() == []
    Sending(bench, destination)
    assert len(bench.reactor.tcpClients) == 2


def test_close_while_waiting_or_connecting(bench: Bench) -> None:
    destination, closed = bench.destination(), []
    connecting = Sending(bench, destination)
    destination.close().addCallback(closed.append)
    assert isinstance(connecting.result, Retry)
    assert closed == [None]
    waiting = Sending(bench, destination)
    _, wire = waiting.connected()
    destination.close()
    assert isinstance(waiting.result, Retry)
    bench.reactor.advance(10)
    assert wire.aborted
