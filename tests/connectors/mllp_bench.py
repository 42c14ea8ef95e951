"""In-memory transports, a clock, and an intake for the MLLP shells."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from broker.connectors.mllp import DESTINATION, LISTENER, MllpDestination, MllpListener, Switchboard
from broker.hl7.mllp import frame
from broker.model import Delivery
from broker.obs.log import Log
from broker.obs.metrics import Metrics

HELLO = b"MSH|^~\\&|EHR|GH|||2026||ADT^A04|C1|P|2.5\r"


class Wire(StringTransport):
    """A transport that remembers socket options and an abort."""

    def __init__(self, port: int = 50112, host: str = "10.0.0.9") -> None:
        super().__init__(peerAddress=(IPv6Address if ":" in host else IPv4Address)("TCP", host, port))
        self.no_delay = self.aborted = False
        self.options: dict[int, int] = {}

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.keep_alive = enabled

    def getHandle(self) -> Any:
        return self

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options[option] = value

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def said(self) -> bytes:
        said = self.value()
        self.clear()
        return said


class Intake:
    """Keeps what it got, and answers when told; `at_once` answers by itself."""

    def __init__(self, at_once: bytes | None = None) -> None:
        self.got: list[bytes] = []
        self.peers: list[tuple[str, str]] = []
        self.later: list[Any] = []
        self.waiting: list[Deferred[bytes]] = []
        self.at_once = at_once

    def receive_hl7(self, listener: str, peer: str, raw: bytes, later: Callable[[bytes], None] | None = None) -> Deferred[bytes]:
        self.got.append(raw)
        self.later.append(later)
        self.peers.append((listener, peer))
        if self.at_once is not None:
            return succeed(self.at_once + raw)
        self.waiting.append(Deferred())
        return self.waiting[-1]


class Bench:
    """What both shells are built with."""

    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        self.metrics = Metrics()
        self.stream = io.StringIO()
        self.log = Log(self.stream, strict=True, terminal=False)
        self.switchboard = Switchboard()

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"broker_{name}", labels) or 0.0

    def faults(self, fault: str) -> float:
        return self.count("protocol_errors_total", listener="x", fault=fault)

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def listener(self, intake: Intake, **settings: Any) -> MllpListener:
        where = {} if "connect" in settings else {"port": 2575}
        read = LISTENER.read({**where, **settings})
        return MllpListener("x", read, self.reactor, intake, self.metrics, self.log, self.switchboard)

    def destination(self, name: str = "x", **settings: Any) -> MllpDestination:
        where = {} if "over" in settings else {"host": "10.0.0.5", "port": 2576}
        read = DESTINATION.read({**where, **settings})
        return MllpDestination(name, read, self.reactor, self.metrics, self.log, self.switchboard)


def connect(listener: MllpListener, port: int = 50112, host: str = "10.0.0.9") -> tuple[Any, Wire]:
    wire = Wire(port, host)
    receiver = listener.buildProtocol(wire.getPeer())
    assert receiver
    receiver.makeConnection(wire)
    return receiver, wire


def lose(protocol: Any) -> None:
    protocol.connectionLost(Failure(ConnectionDone()))


def delivery(control_id: str = "C1", payload: bytes = HELLO) -> Delivery:
    return Delivery(1, 1, "x", "", "ch", "ADT^A04", payload, control_id, "", 0)


def ack(code: bytes, control_id: bytes = b"C1", more: bytes = b"") -> bytes:
    return frame(b"MSH|^~\\&|||||||ACK|9|P|2.5\rMSA|" + code + b"|" + control_id + b"|Jane Doe\r" + more)


class Sending:
    """One delivery and what came of it."""

    def __init__(self, bench: Bench, destination: MllpDestination, what: Delivery | None = None) -> None:
        self.result: Any = None
        destination.send(what or delivery()).addBoth(self.done)
        self.bench = bench

    def done(self, result: Any) -> None:
        self.result = result.value if isinstance(result, Failure) else result

    def connected(self) -> tuple[Any, Wire]:
        factory, wire = self.bench.reactor.tcpClients[-1][2], Wire()
        protocol = factory.buildProtocol(IPv4Address("TCP", "10.0.0.5", 2576))
        protocol.makeConnection(wire)
        return protocol, wire
