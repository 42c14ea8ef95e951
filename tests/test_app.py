"""The broker as a whole over a reactor in memory: how it starts, fails to start, and lets go."""

from __future__ import annotations

import errno
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from broker.app import Broker
from broker.config.load import load
from broker.connectors import registry
from broker.errors import BrokerError, StoreError
from broker.obs.log import Log
from broker.store import outbox
from broker.store.database import look
from broker.store.spool import Spool
from tests.engine.house import ROOT, now_in_memory


class Reactor(MemoryReactorClock):
    """A reactor in memory that knows which ports are taken, and what to do at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[int] = set()
        self.ending: list[Any] = []

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port in self.taken:
            raise CannotListenError(interface, port, OSError(errno.EADDRINUSE, "Address already in use"))
        return super().listenTCP(port, factory, backlog, interface)

    def callFromThread(self, call: Any, *args: Any) -> None:
        self.callLater(0, call, *args)

    def addSystemEventTrigger(self, phase: str, event: str, what: Any, *args: Any, **kwargs: Any) -> Any:
        self.ending.append(what)
        return super().addSystemEventTrigger(phase, event, what, *args, **kwargs)


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


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


def made(folder: Path, reactor: Reactor) -> Broker:
    environment = {"BROKER_DATA": str(folder), "WEB_PORT": "8080"}
    config = load(ROOT / "channels.yaml", environment, registry)
    broker = Broker(config, reactor, Log(StringIO(), terminal=False), lambda: 1000.0, environment=environment)
    broker._files = NoThreads()  # type: ignore[assignment]
    return broker


def wait(reactor: Reactor, waiting: Deferred[Any]) -> Any:
    results: list[Any] = []
    errors: list[Any] = []
    waiting.addCallbacks(results.append, errors.append)
    for _ in range(50):
        reactor.advance(0)
    if errors:
        raise errors[0].value
    return results[0]


def start(broker: Broker, reactor: Reactor) -> Any:
    return wait(reactor, ensureDeferred(broker.start()))


def stop(broker: Broker, reactor: Reactor) -> None:
    wait(reactor, ensureDeferred(broker.stop()))
    for end in reactor.ending:
        end()


def test_the_threads_end_with_the_reactor_even_when_the_broker_could_not_stop(tmp_path: Path, reactor: Reactor) -> None:
    broker = made(tmp_path, reactor)
    broker._files = ThreadPool(0, 1)
    ensureDeferred(broker.start())
    assert broker._files.started
    for end in reactor.ending:
        end()
    assert broker._files.joined


def test_a_web_port_that_is_taken_is_named(tmp_path: Path, reactor: Reactor) -> None:
    broker = made(tmp_path, reactor)
    reactor.taken.add(8080)
    with pytest.raises(BrokerError, match=r"cannot listen.*:8080"):
        start(broker, reactor)
    stop(broker, reactor)


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path, reactor: Reactor) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match="file/data"):
        made(tmp_path / "file" / "data", reactor)


def test_a_broker_that_finds_its_folder_taken_leaves_the_other_ones_leases_alone(tmp_path: Path, reactor: Reactor) -> None:
    other = Spool(tmp_path / "spool", now_in_memory)
    assert other.claim("")
    broker = made(tmp_path, reactor)
    wait(reactor, broker.db.run("test", outbox.lease, "archive", broker.node, 1000.0, 30.0))
    with pytest.raises(StoreError, match="another broker is using this folder"):
        start(broker, reactor)
    stop(broker, reactor)
    leases = look(tmp_path / "broker.db", lambda tx: tx.all("select destination from queue_lease"))
    assert leases == [("archive",)]


def test_two_brokers_of_one_machine_have_names_of_their_own(tmp_path: Path, reactor: Reactor) -> None:
    first, second = (made(tmp_path / name, reactor) for name in ("a", "b"))
    assert first.node != second.node
    for broker in (first, second):
        wait(reactor, broker.db.close())


def test_what_another_store_has_spooled_is_kept(tmp_path: Path, reactor: Reactor) -> None:
    spool = Spool(tmp_path / "spool", now_in_memory)
    assert spool.claim("another store")
    file = spool.begin()
    file.write([b"an image that is still owed to somebody"])
    file.finish()
    spool.release()
    broker = made(tmp_path, reactor)
    start(broker, reactor)
    assert len(list(spool.names())) == 1
    stop(broker, reactor)
