"""The broker as a whole over a reactor in memory: how it starts, fails to start, and lets go."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import ensureDeferred
from twisted.python.threadpool import ThreadPool

from broker.app import welcome
from broker.errors import BrokerError, StoreError
from broker.store import outbox
from broker.store.database import look
from broker.store.spool import Spool
from tests.engine.house import now_in_memory
from tests.memory import Reactor, made, start, stop, wait
from tests.store.taken import name_of, take


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


def test_the_samples_are_offered_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listening = ["mllp 127.0.0.1:2575", "web 127.0.0.1:8080"]
    monkeypatch.chdir(tmp_path)
    assert "samples" not in welcome(listening)
    assert "\nNext: broker status      " in welcome(listening)
    (tmp_path / "samples").mkdir()
    for name in ("adt_a04.hl7", "orm_ct.hl7"):
        (tmp_path / "samples" / name).touch()
    shown = welcome(listening)
    assert "\nNext: broker send samples/adt_a04.hl7 samples/orm_ct.hl7\n   " in shown
    assert "\n      broker status      " in shown
    assert "http://127.0.0.1:8080/ " in shown


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


def test_what_the_process_before_this_one_took_in_at_its_very_end_is_kept(tmp_path: Path, reactor: Reactor) -> None:
    broker = made(tmp_path, reactor)
    claim = broker.spool.claim

    def claim_late(store: str) -> bool:
        """The other process lets the folder go only now, and its last object is in the store that they share."""
        path = broker.spool.path(name_of(1))
        path.parent.mkdir()
        path.touch()
        wait(reactor, broker.db.run("test", take, 1, at=0.0))
        (tmp_path / "spool.owner").write_text(store)
        return claim(store)

    broker.spool.claim = claim_late  # type: ignore[method-assign]
    start(broker, reactor)
    assert list(broker.spool.names()) == [name_of(1)]
    stop(broker, reactor)


def test_what_is_taken_in_names_the_spool_that_has_it(tmp_path: Path, reactor: Reactor) -> None:
    broker = made(tmp_path, reactor)
    start(broker, reactor)
    assert broker._parts.intake.spool == broker.spool.mark != ""
    stop(broker, reactor)
