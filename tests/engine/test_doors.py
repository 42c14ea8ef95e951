"""Sockets that outlive those who answer at them."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

from broker.engine.doors import Doors


class Listening:
    """A port of the reactor, that knows whether it is open."""

    def __init__(self) -> None:
        self.open = True

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 4000)

    def stopListening(self) -> None:
        self.open = False


class Reactor(MemoryReactorClock):
    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Listening] = []

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        super().listenTCP(port, factory, backlog, interface)
        self.ports.append(Listening())
        return self.ports[-1]


class Named(Factory):
    """Makes protocols that know whose they are."""

    def __init__(self, name: str) -> None:
        self.name = name

    def buildProtocol(self, addr: Any) -> Any:
        protocol = Protocol()
        protocol.factory = self
        return protocol


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


def caller(reactor: Reactor, at: int = 0) -> str:
    """Return who answers a new connection at the n-th socket, "" when nobody does."""
    protocol = reactor.tcpServers[at][1].buildProtocol(IPv4Address("TCP", "127.0.0.1", 50000))
    return protocol.factory.name if protocol is not None else ""


def test_a_socket_is_handed_over_without_being_closed(reactor: Reactor) -> None:
    doors, old, new = Doors(reactor), Named("old"), Named("new")
    first = doors.listenTCP(4000, old, backlog=7, interface="127.0.0.1")
    assert first.getHost().port == 4000
    doors.hold()
    second = doors.listenTCP(4000, new, interface="127.0.0.1")
    assert caller(reactor) == "old"
    doors.open()
    assert caller(reactor) == "new"
    first.stopListening()
    assert (len(reactor.ports), reactor.ports[0].open, caller(reactor)) == (1, True, "new")
    second.stopListening()
    assert not reactor.ports[0].open
    doors.listenTCP(4000, old, interface="127.0.0.1")
    assert len(reactor.ports) == 2
    assert (old.numPorts, new.numPorts) == (1, 0)


def test_who_gives_up_waiting_changes_nothing(reactor: Reactor) -> None:
    doors, old = Doors(reactor), Named("old")
    doors.listenTCP(4000, old)
    doors.hold()
    doors.listenTCP(4000, Named("new")).stopListening()
    doors.open()
    assert (caller(reactor), reactor.ports[0].open) == ("old", True)


def test_a_new_socket_answers_at_once_and_is_closed_when_given_up(reactor: Reactor) -> None:
    doors = Doors(reactor)
    doors.hold()
    claim = doors.listenTCP(4001, Named("new"))
    assert caller(reactor) == "new"
    claim.stopListening()
    assert not reactor.ports[0].open


def test_two_may_not_share_a_socket_but_while_one_follows_the_other(reactor: Reactor) -> None:
    doors = Doors(reactor)
    doors.listenTCP(4000, Named("one"), interface="127.0.0.1")
    with pytest.raises(CannotListenError, match="4000"):
        doors.listenTCP(4000, Named("other"), interface="127.0.0.1")
    doors.listenTCP(0, Named("third"))
    doors.listenTCP(0, Named("fourth"))
    assert len(reactor.ports) == 3


def test_all_else_is_the_reactors(reactor: Reactor) -> None:
    assert Doors(reactor).seconds() == reactor.seconds()
