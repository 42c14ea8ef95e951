"""The broker as a whole over a reactor in memory: no socket, no thread, and a clock that stands until it is turned."""

from __future__ import annotations

import errno
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from broker.app import Broker
from broker.config.load import load
from broker.connectors import registry
from broker.obs.log import Log
from tests.engine.house import ROOT


class Reactor(MemoryReactorClock):
    """A reactor in memory that knows which ports are taken, and what to do at its end; nobody listens anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[int] = set()
        self.ending: list[Any] = []

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port in self.taken:
            raise CannotListenError(interface, port, OSError(errno.EADDRINUSE, "Address already in use"))
        return super().listenTCP(port, factory, backlog, interface)

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        connector = super().connectTCP(host, port, factory, timeout, bindAddress)
        self.callLater(0, factory.clientConnectionFailed, connector, Failure(ConnectionRefusedError()))
        return connector

    def callFromThread(self, call: Any, *args: Any) -> None:
        self.callLater(0, call, *args)

    def addSystemEventTrigger(self, phase: str, event: str, what: Any, *args: Any, **kwargs: Any) -> Any:
        self.ending.append(what)
        return super().addSystemEventTrigger(phase, event, what, *args, **kwargs)


class NoThreads:
    """Does the work of a pool of threads here and now."""

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def callInThreadWithCallback(self, done: Any, call: Any, *args: Any) -> None:
        try:
            found = call(*args)
        except Exception:
            done(False, Failure())
        else:
            done(True, found)


def made(folder: Path, reactor: Reactor, channels: Path = ROOT / "channels.yaml", runs: Path | None = None) -> Broker:
    """Return a broker with its data in the folder, on a channels file, or on another one in its place."""
    environment = {"BROKER_DATA": str(folder), "WEB_PORT": "8080"}
    config = load(runs or channels, environment, registry)
    broker = Broker(config, reactor, Log(StringIO(), terminal=False), lambda: 1000.0, path=channels, environment=environment)
    broker._files = NoThreads()  # type: ignore[assignment]
    return broker


def wait(reactor: Reactor, waiting: Deferred[Any]) -> Any:
    results: list[Any] = []
    errors: list[Any] = []
    waiting.addCallbacks(results.append, errors.append)
    for _ in range(100):
        reactor.advance(0)
    if errors:
        raise errors[0].value
    return results[0]


def start(broker: Broker, reactor: Reactor) -> Any:
    return wait(reactor, ensureDeferred(broker.start()))


def stop(broker: Broker, reactor: Reactor) -> None:
    wait(reactor, ensureDeferred(broker.stop()))
    while reactor.ending:  # each once, whatever runs on this reactor next
        reactor.ending.pop(0)()
