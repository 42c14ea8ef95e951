"""The simulated MLLP sender and sink over in-memory transports."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as WaitedTooLong
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from broker.errors import RemoteProtocolError
from broker.hl7.message import Message
from broker.hl7.mllp import frame
from broker.simulate import answers
from broker.simulate.billing import Billing
from broker.simulate.ehr import Ehr
from broker.simulate.mllp import MllpSender, MllpSink


class Socket(StringTransport):
    """A transport in memory with what a TCP transport has besides."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled


def message(number: int, kind: str = "ADT^A04") -> bytes:
    return f"MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|2026||{kind}|C{number}|P|2.5.1\rPID|1||P{number}\r".encode()


def taken(transport: StringTransport) -> bytes:
    sent = transport.value()
    transport.clear()
    return sent


@pytest.fixture
def reactor() -> Any:
    return MemoryReactorClock()


class Connected:
    """A sender and the connections it makes."""

    def __init__(self, reactor: Any) -> None:
        self.reactor, self.sender, self.lost = reactor, MllpSender(reactor, "127.0.0.1", 2575, timeout=5), 0

    def accept(self) -> tuple[Any, Socket]:
        _, _, factory, _, _ = self.reactor.tcpClients.pop(0)
        protocol, transport = factory.buildProtocol(None), Socket()
        protocol.makeConnection(transport)
        return protocol, transport

    def refuse(self) -> None:
        _, _, factory, _, _ = self.reactor.tcpClients.pop(0)
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))


def result(waiting: Deferred[Any]) -> Any:
    """Return what the Deferred has fired with, its exception when it failed."""
    found: list[Any] = []
    waiting.addBoth(found.append)
    assert found, "has not fired"
    return found[0].value if isinstance(found[0], Failure) else found[0]


def test_messages_go_one_after_the_other(reactor: Any) -> None:
    peer = Connected(reactor)
    first, second = peer.sender.send(message(1)), peer.sender.send(message(2))
    wire, transport = peer.accept()
    assert taken(transport) == frame(message(1))
    wire.dataReceived(frame(answers.acknowledge(message(1), "AA")))
    assert answers.code(result(first)) == "AA"
    assert taken(transport) == frame(message(2))
    wire.dataReceived(frame(answers.acknowledge(message(2), "AE", "no")))
    assert answers.code(result(second)) == "AE"
    assert reactor.tcpClients == []
    assert reactor.getDelayedCalls() == []


def test_a_lost_connection_fails_the_message_and_the_next_one_connects_anew(reactor: Any) -> None:
    peer = Connected(reactor)
    first = peer.sender.send(message(1))
    wire, _ = peer.accept()
    wire.connectionLost(Failure(ConnectionDone()))
    assert isinstance(result(first), ConnectionLost)
    second = peer.sender.send(message(2))
    wire, _ = peer.accept()
    wire.dataReceived(frame(answers.acknowledge(message(2), "AA")))
    assert answers.answered(result(second)) == "C2"


def test_a_refused_connection_fails_everything_that_waits(reactor: Any) -> None:
    peer = Connected(reactor)
    waiting = [peer.sender.send(message(n)) for n in range(2)]
    peer.refuse()
    assert [type(result(each)) for each in waiting] == [ConnectionRefusedError] * 2


def test_silence_fails_the_message_and_closes_the_connection(reactor: Any) -> None:
    peer = Connected(reactor)
    waiting = peer.sender.send(message(1))
    _, transport = peer.accept()
    reactor.advance(5)
    assert isinstance(result(waiting), TimeoutError)
    assert transport.disconnecting or transport.disconnected


def test_an_answer_to_another_message_is_not_taken(reactor: Any) -> None:
    peer = Connected(reactor)
    waiting = peer.sender.send(message(1))
    wire, transport = peer.accept()
    wire.dataReceived(frame(answers.acknowledge(message(9), "AA")))
    assert isinstance(result(waiting), RemoteProtocolError)
    assert transport.disconnecting or transport.disconnected


def test_what_is_not_hl7_can_be_sent_too(reactor: Any) -> None:
    peer = Connected(reactor)
    waiting = peer.sender.send(b"this is not HL7")
    wire, _ = peer.accept()
    wire.dataReceived(frame(answers.acknowledge(message(9), "AR")))
    assert answers.code(result(waiting)) == "AR"


def connect(sink: MllpSink) -> tuple[Any, Socket]:
    wire, transport = sink.connected(), Socket()
    wire.makeConnection(transport)
    return wire, transport


def test_a_sink_answers_aa_and_keeps_what_came(reactor: Any) -> None:
    sink = MllpSink(reactor)
    wire, transport = connect(sink)
    waiting = sink.wait_for(2)
    wire.dataReceived(frame(message(1)))
    assert not waiting.called
    assert answers.code(taken(transport)[1:]) == "AA"
    wire.dataReceived(frame(message(2, "ORM^O01")))
    assert result(waiting) == sink.received == [message(1), message(2, "ORM^O01")]
    assert sink.of_kind("ORM^O01") == [message(2, "ORM^O01")]
    assert reactor.getDelayedCalls() == []


def test_a_sink_can_refuse_stay_silent_or_decide(reactor: Any) -> None:
    sink = MllpSink(reactor, answer="AE")
    wire, transport = connect(sink)
    wire.dataReceived(frame(message(1)))
    refusal = Message.parse(taken(transport)[1:-2])
    assert (refusal.get("MSA-1"), refusal.get("MSA-2"), refusal.get("ERR-8")) == ("AE", "C1", "told to refuse")
    sink.answer = None
    wire.dataReceived(frame(message(2)))
    assert taken(transport) == b""
    sink.answer = lambda raw: "AA" if answers.control_id(raw) == "C4" else "AR"
    wire.dataReceived(frame(message(3)) + frame(message(4)))
    assert [answers.code(b"MSH|" + part) for part in taken(transport).split(b"MSH|")[1:]] == ["AR", "AA"]
    assert len(sink.received) == 4
    assert list(sink.accepted) == ["C4"]


def test_a_repeated_message_is_received_twice_and_accepted_once(reactor: Any) -> None:
    sink = MllpSink(reactor)
    wire, _ = connect(sink)
    wire.dataReceived(frame(message(1)) * 2)
    assert (len(sink.received), len(sink.accepted)) == (2, 1)


def test_waiting_in_vain_fails(reactor: Any) -> None:
    sink = MllpSink(reactor)
    waiting = sink.wait_for(lambda received: any(b"DFT" in raw for raw in received), timeout=3)
    wire, _ = connect(sink)
    wire.dataReceived(frame(message(1)))
    assert not waiting.called
    reactor.advance(3)
    assert isinstance(result(waiting), WaitedTooLong)
    wire.dataReceived(frame(message(2)))
    assert result(sink.wait_for(2)) == [message(1), message(2)]


def test_a_broken_frame_closes_the_connection(reactor: Any) -> None:
    sink = MllpSink(reactor)
    wire, transport = connect(sink)
    wire.dataReceived(b"no start block\x1c\r")
    assert transport.disconnecting or transport.disconnected
    assert sink.received == []


def test_a_sink_binds_where_it_was_told(reactor: Any) -> None:
    sink = MllpSink(reactor, 2576, host="127.0.0.2")
    assert result(sink.start()) == 2576
    [(port, _, _, interface)] = reactor.tcpServers
    assert (port, interface) == (2576, "127.0.0.2")
    assert result(sink.stop()) is None
    assert result(sink.stop()) is None


def test_billing_reads_the_charges_it_took(reactor: Any) -> None:
    billing = Billing(reactor)
    wire, _ = connect(billing)
    charge = message(1, "DFT^P03") + b"FT1|1|||2026||CG|71260" + b"|" * 18 + b"71260^CT^C4\r"
    wire.dataReceived(frame(charge) + frame(message(2)))
    assert billing.charges == [charge]
    assert billing.codes == ["71260"]


def test_the_ehr_counts_the_answers_it_got(reactor: Any) -> None:
    ehr = Ehr(reactor, "127.0.0.1", 2575)
    waiting = ehr.send(message(1))
    _, _, factory, _, _ = reactor.tcpClients.pop()
    wire = factory.buildProtocol(None)
    wire.makeConnection(Socket())
    wire.dataReceived(frame(answers.acknowledge(message(1), "AE")))
    assert answers.code(result(waiting)) == "AE"
    assert ehr.codes == {"AE": 1}
    assert result(ehr.start()) is None


@pytest.mark.parametrize(
    ("raw", "segment", "number", "expected"),
    [
        (message(1), "MSH", 9, "ADT^A04"),
        (message(1), "PID", 3, "P1"),
        (message(1), "PID", 30, ""),
        (message(1), "ZZZ", 1, ""),
        (b"MSH#*~\\&#A\nPID#1##P\n", "PID", 3, "P"),
        (b"", "MSH", 10, ""),
        (b"garbage", "MSH", 10, ""),
    ],
)
def test_a_field_is_found_whatever_the_separator(raw: bytes, segment: str, number: int, expected: str) -> None:
    assert answers.field(raw, segment, number) == expected
