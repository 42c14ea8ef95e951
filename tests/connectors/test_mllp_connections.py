"""Who may connect, when a connection ends, which side opens it, and several at a time; over in-memory transports and a clock."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from OpenSSL import SSL
from service_identity.exceptions import VerificationError
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.python.failure import Failure

from broker.connectors.mllp import DESTINATION, LISTENER, check_destination, check_listener
from broker.connectors.mllp_wire import PROBES, read_address, tls_failure
from broker.errors import LocalProtocolError, Refused, Retry
from broker.hl7.message import Message
from broker.hl7.mllp import Frame, Framer, frame
from tests.connectors.mllp_bench import HELLO, Bench, Intake, Sending, Wire, ack, connect, delivery, lose


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- who may connect


def test_only_who_is_listed_may_connect(bench: Bench) -> None:
    listener = bench.listener(Intake(b""), **{"from": ["10.1.0.0/16", "fd00::/8"]})
    for number, host in enumerate(("10.2.0.1", "10.2.0.1", "fe80::1")):
        address = (IPv6Address if ":" in host else IPv4Address)("TCP", host, number)
        assert listener.buildProtocol(address) is None
    assert bench.faults("not_allowed") == 3
    assert [line["peer"] for line in bench.logged()] == ["10.2.0.1:0", "[fe80::1]:2"]  # one that comes again is logged once
    connect(listener, host="10.1.7.7")
    connect(listener, host="fd00::7")
    connect(listener, host="::ffff:10.1.7.7")
    assert bench.count("connections", listener="x") == 3


def test_an_address_has_its_share_of_the_connections(bench: Bench) -> None:
    listener = bench.listener(Intake(b""), connections_per_peer=2)
    first, _ = connect(listener, 1)
    connect(listener, 2)
    assert listener.buildProtocol(IPv4Address("TCP", "10.0.0.9", 3)) is None
    connect(listener, host="10.0.0.8")
    lose(first)
    connect(listener, 4)
    assert bench.faults("too_many_connections") == 1


def test_who_is_turned_away_is_not_remembered_without_limit(bench: Bench) -> None:
    listener = bench.listener(Intake(b""), **{"from": "::1"})
    for number in range(2000):
        listener.buildProtocol(IPv4Address("TCP", f"10.0.{number // 250}.{number % 250}", 1))
    assert len(listener._told) <= 256


# -- probes, silence, half an end


@pytest.mark.parametrize("reset", [True, False])
def test_a_health_probe_is_counted_and_not_logged(bench: Bench, reset: bool) -> None:
    receiver, wire = connect(bench.listener(Intake()))
    if not reset:
        receiver.readConnectionLost()
        assert wire.disconnecting
    lose(receiver)
    assert bench.count("probes_total", listener="x") == 1
    assert bench.stream.getvalue() == ""
    assert bench.reactor.getDelayedCalls() == []


def test_a_connection_that_spoke_or_was_closed_from_here_is_no_probe(bench: Bench) -> None:
    listener = bench.listener(Intake(b""), idle="30s")
    receiver, _ = connect(listener)
    receiver.dataReceived(frame(b"1"))
    lose(receiver)
    idle, wire = connect(listener)
    bench.reactor.pump([10] * 7)
    assert wire.disconnecting
    lose(idle)
    assert bench.count("probes_total", listener="x") == 0


def test_an_end_block_without_its_cr_ends_the_message_after_a_pause(bench: Bench) -> None:
    intake = Intake(b"ok ")
    receiver, wire = connect(bench.listener(intake))
    receiver.dataReceived(b"\x0b1\x1c")
    bench.reactor.advance(0.04)
    assert intake.got == []
    bench.reactor.advance(0.02)
    assert wire.said() == frame(b"ok 1")
    receiver.dataReceived(b"\r\x0b2\x1c")
    bench.reactor.advance(0.04)
    receiver.dataReceived(b"\r")
    bench.reactor.advance(1)
    receiver.dataReceived(b"\x0b3\x1c")
    bench.reactor.advance(0.04)
    receiver.dataReceived(b"\x0b4\x1c")
    bench.reactor.advance(1)
    assert intake.got == [b"1", b"2", b"3", b"4"]
    assert bench.stream.getvalue() == ""


def test_a_sender_that_ends_its_half_gets_its_answers(bench: Bench) -> None:
    intake = Intake()
    receiver, wire = connect(bench.listener(intake))
    receiver.dataReceived(frame(b"1") + b"\x0b2\x1c")
    receiver.readConnectionLost()
    assert intake.got == [b"1", b"2"]
    assert not wire.disconnecting
    bench.reactor.advance(20)
    intake.waiting[1].callback(b"b")
    intake.waiting[0].callback(b"a")
    assert wire.said() == frame(b"a") + frame(b"b")
    assert wire.disconnecting
    assert not wire.aborted
    lose(receiver)
    assert bench.reactor.getDelayedCalls() == []


def test_a_whole_message_is_taken_though_its_connection_is_gone(bench: Bench) -> None:
    intake = Intake()
    receiver, wire = connect(bench.listener(intake))
    receiver.dataReceived(b"\x0b1\x1c")
    lose(receiver)
    assert intake.got == [b"1"]
    intake.waiting[0].callback(b"a")
    assert wire.said() == b""


def test_a_fault_is_logged_with_its_last_bytes_masked(bench: Bench) -> None:
    receiver, _ = connect(bench.listener(Intake(b"")))
    receiver.dataReceived(b"\x0bMSH|^~\\&|EHR\rPID|1||4711^DOE^JANE||19610615\x0b")
    [line] = bench.logged()
    assert (line["fault"], line["reason"]) == ("no_end", "a message of 43 bytes without an end block")
    assert line["tail"] == "|^~\\&|xxx<CR>xxx|9||9999^xxx^xxxx||99999999"


def test_an_answer_that_breaks_the_framing_is_shown_the_same_way(bench: Bench) -> None:
    sending = Sending(bench, bench.destination())
    peer, _ = sending.connected()
    peer.dataReceived(b"MSA|AE|4711^DOE\x1c\r")
    assert [line["tail"] for line in bench.logged()] == ["xxx|xx|9999^xxx"]


@pytest.mark.parametrize(
    ("data", "fault", "tail"),
    [
        (b"\x0bMSH|^~\\&|||||||ACK|9|P|2.5\rMSA|AA|C1|DOE", "truncated", "|xxx|9|x|9.9<CR>xxx|xx|x9|xxx"),
        (b"MSA|AA|C1\r", "garbage", "xxx|xx|x9"),
    ],
)
@pytest.mark.parametrize("end", ["silence", "close"])
def test_an_answer_that_never_ends_is_told_as_what_it_is(bench: Bench, data: bytes, fault: str, tail: str, end: str) -> None:
    sending = Sending(bench, bench.destination(answer_timeout="10s"))
    peer, _ = sending.connected()
    peer.dataReceived(data)
    if end == "silence":
        bench.reactor.advance(10)
    lose(peer)
    assert isinstance(sending.result, Retry)
    assert bench.faults(fault) == 1
    assert [(line["fault"], line["tail"][-len(tail) :]) for line in bench.logged()] == [(fault, tail)]
    assert bench.reactor.getDelayedCalls() == []


@pytest.mark.parametrize("end", ["pause", "close"])
def test_an_answer_without_the_cr_of_its_end_block_settles(bench: Bench, end: str) -> None:
    destination = bench.destination()
    sending = Sending(bench, destination)
    peer, wire = sending.connected()
    peer.dataReceived(ack(b"AA")[:-1])
    if end == "pause":
        bench.reactor.advance(0.06)
        assert sending.result == "AA"
        again = Sending(bench, destination)
        peer.dataReceived(b"\r" + ack(b"CA")[:-1])
        bench.reactor.advance(0.04)
        assert again.result is None
        bench.reactor.advance(0.02)
        assert again.result == "CA"
        assert not wire.aborted
    lose(peer)
    assert sending.result == "AA"
    assert bench.stream.getvalue() == ""
    assert bench.reactor.getDelayedCalls() == []


@pytest.mark.parametrize("over", [True, False])
def test_a_handshake_that_does_not_end_is_told_as_what_it_is(bench: Bench, over: bool) -> None:
    destination = bench.destination(answer_timeout="10s")
    sending = Sending(bench, destination)
    destination._lines._credentials = object()  # type: ignore[union-attr, assignment]  # TLS below, which says nothing yet
    peer, wire = sending.connected()
    assert IHandshakeListener.providedBy(peer)
    if over:
        peer.handshakeCompleted()
    bench.reactor.advance(10)
    assert wire.aborted
    lose(peer)
    assert isinstance(sending.result, Retry)
    assert bench.faults("tls") == (not over)


def test_a_receiver_that_says_everything_twice_does_not_fill_the_log(bench: Bench) -> None:
    destination = bench.destination()
    peer = Sending(bench, destination).connected()[0]
    for _ in range(5):
        peer.dataReceived(ack(b"CA") + ack(b"AA") + b"junk")
        Sending(bench, destination)
    assert (bench.faults("stranger"), bench.faults("garbage")) == (5, 4)
    assert [line["fault"] for line in bench.logged()] == ["stranger", "garbage"]


def test_what_is_late_settles_nothing_even_without_its_cr(bench: Bench) -> None:
    sending = Sending(bench, bench.destination(answer_timeout="10s"))
    peer, _ = sending.connected()
    bench.reactor.advance(9.98)
    peer.dataReceived(ack(b"AA")[:-1])
    bench.reactor.advance(0.02)
    assert isinstance(sending.result, Retry)
    lose(peer)
    assert bench.reactor.getDelayedCalls() == []


@pytest.mark.parametrize("said", [b"C1 ", b" C1"])
def test_an_answer_may_pad_the_control_id(bench: Bench, said: bytes) -> None:
    sending = Sending(bench, bench.destination())
    peer, _ = sending.connected()
    peer.dataReceived(ack(b"AA", said))
    assert sending.result == "AA"


def test_a_peer_that_is_gone_without_a_word_is_noticed(bench: Bench) -> None:
    _, wire = connect(bench.listener(Intake(), keepalive="2m"))
    assert wire.keep_alive
    wanted = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": PROBES, "TCP_USER_TIMEOUT": 120_000}
    assert wire.options == {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}
    sending = Sending(bench, bench.destination(keepalive="1s"))
    _, wire = sending.connected()
    assert set(wire.options.values()) == {1, PROBES, 1000}
    _, wire = connect(bench.listener(Intake(), keepalive="7d"))
    assert wire.options[socket.TCP_KEEPIDLE] == 32767


# -- a further answer, later


def test_a_later_answer_follows_the_first_one(bench: Bench) -> None:
    intake = Intake()
    receiver, wire = connect(bench.listener(intake))
    receiver.dataReceived(frame(b"1") + frame(b"2") + frame(b"3"))
    intake.later[1](b"AA 2")  # before its own CA, which waits for that of 1
    intake.waiting[1].callback(b"CA 2")
    assert wire.said() == b""
    intake.waiting[0].callback(b"CA 1")
    assert wire.said() == frame(b"CA 1") + frame(b"CA 2") + frame(b"AA 2")
    intake.later[0](b"AA 1")
    assert wire.said() == frame(b"AA 1")
    intake.waiting[2].callback(b"")
    intake.later[2](b"AA 3")
    assert wire.said() == frame(b"AA 3")
    lose(receiver)
    intake.later[2](b"AA 3")
    assert wire.said() == b""


# -- several connections


def test_as_many_deliveries_are_under_way_as_there_may_be_connections(bench: Bench) -> None:
    destination = bench.destination(connections=2)
    assert (destination.width, bench.destination().width) == (2, 1)
    first, second = Sending(bench, destination), Sending(bench, destination, delivery("C2"))
    assert isinstance(Sending(bench, destination).result, LocalProtocolError)
    wires = []
    for _, _, factory, *_ in bench.reactor.tcpClients:
        wire = Wire()
        peer = factory.buildProtocol(None)
        peer.makeConnection(wire)
        wires.append((peer, wire))
    assert [wire.said() for _, wire in wires] == [frame(HELLO)] * 2
    wires[1][0].dataReceived(ack(b"AA", b"C1"))  # an answer counts on its own connection only
    assert bench.faults("stranger") == 1
    wires[1][0].dataReceived(ack(b"AA", b"C2"))
    assert (first.result, second.result) == (None, "AA")
    third = Sending(bench, destination, delivery("C3"))
    assert wires[1][1].said() == frame(HELLO)
    wires[0][0].dataReceived(ack(b"AE", b"C1"))
    wires[1][0].dataReceived(ack(b"AA", b"C3"))
    assert isinstance(first.result, Refused)
    assert third.result == "AA"
    assert len(bench.reactor.tcpClients) == 2


def test_a_connection_that_times_out_leaves_the_others(bench: Bench) -> None:
    destination = bench.destination(connections=2, answer_timeout="10s")
    first = Sending(bench, destination)
    _, late = first.connected()
    bench.reactor.advance(5)
    second = Sending(bench, destination, delivery("C2"))
    peer, wire = second.connected()
    bench.reactor.advance(6)
    assert isinstance(first.result, Retry)
    assert late.aborted
    assert not wire.aborted
    peer.dataReceived(ack(b"AA", b"C2"))
    assert second.result == "AA"


def test_an_idle_connection_of_a_destination_is_closed_when_wanted(bench: Bench) -> None:
    destination = bench.destination(idle="60s")
    sending = Sending(bench, destination)
    peer, wire = sending.connected()
    peer.dataReceived(ack(b"AA"))
    bench.reactor.pump([10] * 5)
    busy = Sending(bench, destination)
    bench.reactor.pump([5] * 5)
    peer.dataReceived(ack(b"AA"))
    assert busy.result == "AA"
    bench.reactor.pump([10] * 5)
    assert not wire.disconnecting
    bench.reactor.pump([10] * 5)
    assert wire.disconnecting
    lose(peer)
    bench.reactor.pump([10] * 10)
    assert bench.reactor.getDelayedCalls() == []
    again = Sending(bench, destination)
    again.connected()[0].dataReceived(ack(b"AA"))
    assert again.result == "AA"


def test_an_ipv6_receiver(bench: Bench) -> None:
    Sending(bench, bench.destination(host="::1"))
    assert bench.reactor.tcpClients[0][0] == "::1"


# -- what settles a message


def test_an_accept_acknowledgment_is_asked_for_and_settles(bench: Bench) -> None:
    sending = Sending(bench, bench.destination(answer="accept"))
    peer, wire = sending.connected()
    [sent] = Framer(1000).receive(wire.said())
    assert isinstance(sent, Frame)
    assert [Message.parse(sent.raw).get(path) for path in ("MSH-10", "MSH-15", "MSH-16")] == ["C1", "AL", "NE"]
    peer.dataReceived(ack(b"CA"))
    assert sending.result == "CA"


@pytest.mark.parametrize(("code", "result"), [(b"AA", "AA"), (b"AE", "AE"), (b"AR", "AR")])
def test_the_application_acknowledgment_is_waited_for(bench: Bench, code: bytes, result: str) -> None:
    sending = Sending(bench, bench.destination(answer="application", answer_timeout="10s", application_timeout="60s"))
    peer, wire = sending.connected()
    assert b"|P|2.5|||AL|AL\r" in wire.said()
    bench.reactor.advance(9)
    peer.dataReceived(ack(b"CA"))
    bench.reactor.advance(59)
    assert sending.result is None
    peer.dataReceived(ack(code))
    assert str(sending.result) == result


def test_a_refused_commit_settles_and_a_missing_application_acknowledgment_does_not(bench: Bench) -> None:
    destination = bench.destination(answer="application", answer_timeout="100s", application_timeout="10s")
    sending = Sending(bench, destination)
    peer, wire = sending.connected()
    peer.dataReceived(ack(b"CR"))
    assert isinstance(sending.result, Refused)
    again = Sending(bench, destination)
    peer.dataReceived(ack(b"CA"))
    bench.reactor.advance(10)  # sooner than the timer of the first wait
    assert isinstance(again.result, Retry)
    assert wire.aborted


def test_what_is_no_hl7_is_sent_as_it_is(bench: Bench) -> None:
    sending = Sending(bench, bench.destination(answer="accept"), delivery("", b"junk"))
    peer, wire = sending.connected()
    assert wire.said() == frame(b"junk")
    peer.dataReceived(ack(b"CA", b"whatever"))
    assert sending.result == "CA"


# -- over the connection of a listener


def test_a_destination_sends_over_the_connection_of_a_listener(bench: Bench) -> None:
    intake = Intake(b"ok ")
    receiver, wire = connect(bench.listener(intake))
    sending = Sending(bench, bench.destination("ehr", over="x"))
    assert wire.said() == frame(HELLO)
    receiver.dataReceived(frame(b"MSH|a message") + ack(b"AA", b"OLD")[:-2])
    receiver.dataReceived(b"\x1c\r" + ack(b"AA"))
    assert sending.result == "AA"
    assert [raw[:10] for raw in intake.got] == [b"MSH|a mess", b"MSH|^~\\&||"]  # an answer to something else is a message
    assert bench.reactor.tcpClients == []


def test_without_a_destination_waiting_an_answer_is_a_message(bench: Bench) -> None:
    intake = Intake(b"")
    receiver, _ = connect(bench.listener(intake))
    receiver.dataReceived(ack(b"AA"))
    assert len(intake.got) == 1


def test_it_waits_for_the_peer_to_connect(bench: Bench) -> None:
    listener = bench.listener(Intake(b""))
    destination = bench.destination("ehr", over="x", connect_timeout="10s")
    early = Sending(bench, destination)
    bench.reactor.advance(9)
    assert early.result is None
    receiver, wire = connect(listener)
    assert wire.said() == frame(HELLO)
    receiver.dataReceived(ack(b"AA"))
    assert early.result == "AA"
    lose(receiver)
    late = Sending(bench, destination)
    bench.reactor.advance(10)
    assert isinstance(late.result, Retry)
    assert "no connection of listener x" in str(late.result)
    assert bench.reactor.getDelayedCalls() == []


def test_the_application_acknowledgment_over_a_listener_has_the_time_that_the_destination_gives(bench: Bench) -> None:
    receiver, wire = connect(bench.listener(Intake(b""), stalled="5s"))
    sending = Sending(bench, bench.destination("ehr", over="x", answer="application", answer_timeout="10s", application_timeout="60s"))
    receiver.dataReceived(ack(b"CA"))
    bench.reactor.pump([1] * 59)
    assert (sending.result, wire.aborted) == (None, False)
    receiver.dataReceived(ack(b"AA"))
    assert sending.result == "AA"


def test_two_destinations_share_a_connection_one_after_the_other(bench: Bench) -> None:
    receiver, wire = connect(bench.listener(Intake(b"")))
    first = Sending(bench, bench.destination("a", over="x"))
    second = Sending(bench, bench.destination("b", over="x"), delivery("C2", HELLO.replace(b"C1", b"C2")))
    assert wire.said() == frame(HELLO)
    receiver.dataReceived(ack(b"AA"))
    assert wire.said() == frame(HELLO.replace(b"C1", b"C2"))
    receiver.dataReceived(ack(b"AA", b"C2"))
    assert (first.result, second.result) == ("AA", "AA")


def test_no_answer_cuts_the_shared_connection_too(bench: Bench) -> None:
    listener = bench.listener(Intake(b""))
    receiver, wire = connect(listener)
    destination = bench.destination("ehr", over="x", answer_timeout="10s")
    sending = Sending(bench, destination)
    bench.reactor.advance(10)
    assert isinstance(sending.result, Retry)
    assert wire.aborted
    again = Sending(bench, destination)
    lose(receiver)
    assert again.result is None
    receiver, wire = connect(listener)
    receiver.dataReceived(ack(b"AA"))
    assert again.result == "AA"


@pytest.mark.parametrize("end", ["readConnectionLost", "finish"])
def test_what_waits_on_a_connection_that_ends_is_sent_again_later(bench: Bench, end: str) -> None:
    receiver, _ = connect(bench.listener(Intake(b"")))
    sending = Sending(bench, bench.destination("ehr", over="x"))
    getattr(receiver, end)()
    assert isinstance(sending.result, Retry)


def test_closing_a_destination_leaves_the_listener_s_connection(bench: Bench) -> None:
    _, wire = connect(bench.listener(Intake(b"")))
    destination = bench.destination("ehr", over="y")
    sending, closed = Sending(bench, destination), []
    destination.close().addCallback(closed.append)
    assert isinstance(sending.result, Retry)
    assert closed == [None]
    assert not wire.disconnecting


# -- a listener that connects itself


def dialled(bench: Bench, at: int = -1) -> tuple[Any, Wire]:
    factory, wire = bench.reactor.tcpClients[at][2], Wire()
    peer = factory.buildProtocol(IPv4Address("TCP", "10.0.0.5", 2575))
    peer.makeConnection(wire)
    return peer, wire


def test_a_listener_connects_receives_and_connects_again(bench: Bench) -> None:
    intake, shown = Intake(b"ok "), []
    listener = bench.listener(intake, connect="10.0.0.5:2575")
    listener.start().addCallback(shown.append)
    assert shown == ["mllp to 10.0.0.5:2575"]
    assert bench.reactor.tcpServers == []
    assert bench.reactor.tcpClients[0][:2] == ("10.0.0.5", 2575)
    peer, wire = dialled(bench)
    peer.dataReceived(frame(b"1"))
    assert wire.said() == frame(b"ok 1")
    assert intake.peers == [("x", "10.0.0.5:2575")]
    lose(peer)
    assert bench.count("probes_total", listener="x") == 0
    bench.reactor.pump([1] * 3)
    assert len(bench.reactor.tcpClients) == 2
    factory, connector = bench.reactor.tcpClients[1][2], bench.reactor.connectors[1]
    factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
    bench.reactor.pump([1] * 5)
    assert len(bench.reactor.tcpClients) == 3
    assert [line["event"] for line in bench.logged()] == ["peer not connected"]


def test_it_stops_after_the_answers_and_connects_no_more(bench: Bench) -> None:
    intake, stopped = Intake(), []
    listener = bench.listener(intake, connect="10.0.0.5:2575")
    listener.start()
    peer, wire = dialled(bench)
    peer.dataReceived(frame(b"1"))
    listener.stop().addCallback(stopped.append)
    intake.waiting[0].callback(b"ok")
    assert wire.said() == frame(b"ok")
    assert wire.disconnecting
    lose(peer)
    assert stopped == [None]
    bench.reactor.pump([10] * 10)
    assert len(bench.reactor.tcpClients) == 1
    assert bench.reactor.getDelayedCalls() == []


def test_a_destination_may_send_over_it(bench: Bench) -> None:
    bench.listener(Intake(b""), connect="10.0.0.5:2575").start()
    sending = Sending(bench, bench.destination("ehr", over="x"))
    peer, wire = dialled(bench)
    assert wire.said() == frame(HELLO)
    peer.dataReceived(ack(b"AA"))
    assert sending.result == "AA"


# -- TLS, whose handshakes are tested with real sockets


def test_half_an_end_and_a_handshake_reach_the_receiver(bench: Bench) -> None:
    receiver, _ = connect(bench.listener(Intake()))
    assert IHalfCloseableProtocol.providedBy(receiver)
    assert IHandshakeListener.providedBy(receiver)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (SSL.Error([("SSL routines", "", "wrong version number")]), "wrong version number"),
        (SSL.Error([("SSL routines", "", "unexpected eof while reading")]), ""),  # the peer has left
        (SSL.Error([]), ""),
        (SSL.SysCallError(-1, "Unexpected EOF"), ""),
        (VerificationError(errors=[]), "the certificate of the peer is not for its name"),
        (ConnectionRefusedError(), ""),
    ],
)
def test_why_tls_has_failed(error: Exception, why: str) -> None:
    assert tls_failure(Failure(error)) == why


# -- settings that no schema can check


@pytest.mark.parametrize(
    ("text", "address"),
    [("ehr.example.org:2575", ("ehr.example.org", 2575)), ("10.1.1.1:1", ("10.1.1.1", 1)), ("[::1]:2575", ("::1", 2575))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert read_address(text) == address


@pytest.mark.parametrize("text", ["", "ehr", "ehr:", ":2575", "ehr:0", "ehr:65536", "ehr:x", "::1:2575", "ehr:2575/x"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="like"):
        read_address(text)


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"port": 2575}, []),
        ({"connect": "ehr:2575"}, []),
        ({"port": 2575, "from": ["10.0.0.0/8", "::1"], "connections_per_peer": 3}, []),
        ({}, ["port"]),
        ({"port": 2575, "connect": "ehr:2575"}, ["port"]),
        ({"connect": "ehr"}, ["connect"]),
        ({"connect": "ehr:2575", "from": "::1", "connections_per_peer": 1}, ["from", "connections_per_peer"]),
        ({"port": 2575, "from": "ehr.example.org"}, ["from"]),
        (
            {"port": 2575, "connections": 0, "outstanding": 0, "connections_per_peer": 0},
            ["connections", "connections_per_peer", "outstanding"],
        ),
        ({"port": 2575, "tls": {}}, ["tls"]),
        ({"connect": "ehr:2575", "tls": {}}, []),
    ],
)
def test_listeners_that_make_no_sense(settings: dict[str, Any], keys: list[str]) -> None:
    assert [key for key, _ in check_listener(LISTENER.read(settings))] == keys


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"host": "h", "port": 1}, []),
        ({"over": "hospital"}, []),
        ({"host": "h"}, ["port"]),
        ({}, ["host", "port"]),
        ({"over": "hospital", "host": "h", "port": 1, "tls": {}, "idle": "1m"}, ["host", "port", "tls", "idle"]),
        ({"host": "h", "port": 1, "connections": 0}, ["connections"]),
        ({"host": "h", "port": 1, "tls": {"certificate": "/none.pem"}}, ["tls"]),
    ],
)
def test_destinations_that_make_no_sense(settings: dict[str, Any], keys: list[str]) -> None:
    assert [key for key, _ in check_destination(DESTINATION.read(settings))] == keys
