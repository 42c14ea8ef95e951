"""The listening sockets, apart from who answers at them: a listener of a new configuration takes a socket over without closing it."""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from zope.interface import directlyProvides, providedBy

Address = tuple[str, int]  # interface and port


class _Entrance(Factory):
    """What the reactor knows of a socket: it leads to whoever has it now."""

    noisy = False

    def __init__(self) -> None:
        self.claims: list[Factory] = []  # all that have asked for the socket, in that order
        self.inside: Factory | None = None

    def buildProtocol(self, addr: Any) -> Any:
        return None if self.inside is None else self.inside.buildProtocol(addr)


class _Claim:
    """A listener's part in a socket, in the place of the reactor's own port."""

    def __init__(self, doors: Doors, address: Address, factory: Factory) -> None:
        self._doors, self._address, self.factory = doors, address, factory
        factory.doStart()

    def getHost(self) -> Any:
        """Return the address that is bound."""
        return self._doors.bound(self._address).getHost()

    def stopListening(self) -> Deferred[None]:
        """Give the socket up; it is closed when nobody else has asked for it."""
        self.factory.doStop()
        return self._doors.leave(self._address, self.factory)


class Doors:
    """A reactor whose `listenTCP` shares a socket among listeners that follow each other; all else is the reactor's own."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))
        self._bound: dict[Address, Any] = {}
        self._entrances: dict[Address, _Entrance] = {}
        self._unnamed = 0  # sockets whose port the system chose, counted down, so that none is taken for another
        self._waiting: list[tuple[_Entrance, Factory]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def hold(self) -> None:
        """From now on a socket that somebody has may be asked for, too; `open` hands it over."""
        self._waiting = []

    def open(self) -> None:
        """Let those that have waited have their sockets; new connections are theirs, open ones stay with whom they are."""
        waiting, self._waiting = self._waiting or [], None
        for entrance, factory in waiting:
            if factory in entrance.claims:
                entrance.inside = factory

    def listenTCP(self, port: int, factory: Factory, backlog: int = 50, interface: str = "") -> _Claim:
        """Bind, or take part in the socket that is bound there; raises CannotListenError."""
        self._unnamed -= not port
        address = (interface, port or self._unnamed)
        entrance = self._entrances.get(address)
        if entrance is None:
            entrance = _Entrance()
            self._bound[address] = self._reactor.listenTCP(port, entrance, backlog=backlog, interface=interface)
            self._entrances[address] = entrance
            entrance.inside = factory
        elif self._waiting is None:
            raise CannotListenError(interface, port, OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)))
        else:
            self._waiting.append((entrance, factory))
        entrance.claims.append(factory)
        return _Claim(self, address, factory)

    def bound(self, address: Address) -> Any:
        """Return the reactor's port."""
        return self._bound[address]

    def leave(self, address: Address, factory: Factory) -> Deferred[None]:
        """Take a listener's part in a socket back."""
        entrance = self._entrances[address]
        entrance.claims.remove(factory)
        if entrance.claims:
            if entrance.inside is factory:
                entrance.inside = entrance.claims[-1]
            return succeed(None)
        del self._entrances[address]
        return maybeDeferred(self._bound.pop(address).stopListening)
