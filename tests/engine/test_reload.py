"""A whole broker over a reactor in memory takes another configuration: all of it, or nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, ensureDeferred, fail
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from broker.config.versions import Versions
from broker.engine import changeover
from broker.engine.changeover import Gate
from broker.engine.reload import chosen
from broker.errors import BrokerError, ConfigError, StoreError
from broker.model import Outgoing
from broker.obs.log import Log
from broker.store import outbox
from broker.store.database import Transaction
from tests.connectors.mllp_bench import Wire
from tests.engine.house import ROOT
from tests.memory import Reactor, made, start, stop, wait

HL7, DICOM, WEB = 2575, 11112, 8080
ADT = (ROOT / "samples" / "adt_a04.hl7").read_bytes().replace(b"\n", b"\r")


class Line(Wire):
    """A connection in memory that is lost once this side has closed it."""

    protocol: Any = None

    def loseConnection(self) -> None:
        super().loseConnection()
        self.protocol.connectionLost(Failure(ConnectionDone()))


class Site:
    """A running broker, and its files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reactor = folder, Reactor()
        for name in ("routes", "mappings"):
            shutil.copytree(ROOT / name, folder / name)
        self.channels = folder / "channels.yaml"
        shutil.copy(ROOT / "channels.yaml", self.channels)
        self.broker = made(folder / "data", self.reactor, self.channels)
        start(self.broker, self.reactor)
        self.versions = Versions(folder / "data")

    def spoil(self, name: str, old: str, new: str) -> None:
        """Change a file."""
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def wait(self, doing: Any) -> Any:
        return wait(self.reactor, doing if isinstance(doing, Deferred) else ensureDeferred(doing))

    def apply(self, **more: str) -> Any:
        return self.wait(self.broker.reload.apply("ann", **more))

    def connect(self, port: int) -> tuple[Any, Line]:
        """Connect to the listener at a port; the last one that was bound there answers."""
        factory = [one[1] for one in self.reactor.tcpServers if one[0] == port][-1]
        protocol, transport = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 50000)), Line()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return protocol, transport

    def say(self, connection: tuple[Any, Line], control_id: str) -> str:
        """Send a registration over a connection, and return the code of its answer."""
        protocol, transport = connection
        transport.clear()
        protocol.dataReceived(b"\x0b" + ADT.replace(ADT.split(b"|")[9], control_id.encode(), 1) + b"\x1c\r")
        for _ in range(20):
            self.reactor.advance(0)
        return transport.value().partition(b"MSA|")[2][:2].decode()

    def enqueue(self, destination: str) -> None:
        """Let a delivery wait for a destination."""

        def queue(tx: Transaction) -> None:
            outbox.enqueue(tx, [(1, Outgoing(destination, "", "notices", "ORM^O01", b"MSH|^~\\&|\r", "1.1"))], 1000.0)

        self.wait(self.broker.db.run("test", queue))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    stop(made.broker, made.reactor)


def test_what_starts_is_the_first_version_and_an_unchanged_folder_changes_nothing(site: Site) -> None:
    assert [(one.number, one.by) for one in site.versions.all()] == [(1, "start")]
    plan, version = site.apply()
    assert (plan.changes, version.number) == (False, 1)
    status = site.wait(site.broker.reload.status())
    assert (status.version, status.by, status.differing) == (1, "start", ())


def test_a_route_is_exchanged_under_an_open_connection(site: Site) -> None:
    connection = site.connect(HL7)
    assert site.say(connection, "A1") == "AA"
    site.spoil("routes/registration.yaml", "accept: ", "accept: PID-3.1 = NOBODY and ")
    assert site.say(connection, "A2") == "AA"
    plan, version = site.apply(comment="no registrations")
    assert (version.number, version.by, version.comment, plan.effects) == (2, "ann", "no registrations", ())
    assert site.say(connection, "A3") == "AR"
    assert not connection[1].disconnecting
    assert len(site.reactor.tcpServers) == 3


def test_a_listener_with_other_settings_takes_the_socket_over_and_lets_its_connections_go(site: Site) -> None:
    old = site.connect(HL7)
    site.spoil("channels.yaml", "fallback: windows-1252 #", "idle: 90s #")
    plan, _ = site.apply()
    assert [(one.name, one.connections) for one in plan.effects] == [("hospital", 1)]
    assert old[1].disconnecting
    assert len(site.reactor.tcpServers) == 3  # the same socket
    assert site.say(site.connect(HL7), "A1") == "AA"


def test_a_listener_on_another_port_is_bound_before_the_old_one_closes(site: Site) -> None:
    site.spoil("channels.yaml", "${HL7_PORT:-2575}", "2600")
    site.apply()
    assert site.say(site.connect(2600), "A1") == "AA"
    assert site.wait(site.broker.reload.plan()).changes is False
    (listener,) = [one for one in site.wait(site.broker.status.status()).listeners if one.name == "hospital"]
    assert (listener.bound, listener.address) == (True, "0.0.0.0:2600")


def test_two_listeners_may_exchange_their_ports(site: Site) -> None:
    site.spoil("channels.yaml", "${HL7_PORT:-2575}", "11112")
    site.spoil("channels.yaml", "${DICOM_PORT:-11112}", "2575")
    site.apply()
    assert len(site.reactor.tcpServers) == 3
    assert site.say(site.connect(DICOM), "A1") == "AA"


def test_the_web_port_can_move(site: Site) -> None:
    site.spoil("channels.yaml", "${WEB_PORT:-8080}", "8081")
    site.apply()
    assert [one[0] for one in site.reactor.tcpServers] == [HL7, DICOM, WEB, 8081]


def test_a_port_that_is_taken_leaves_everything_as_it_was(site: Site) -> None:
    connection = site.connect(HL7)
    site.spoil("channels.yaml", "${HL7_PORT:-2575}", "2600")
    site.spoil("channels.yaml", "${DICOM_PORT:-11112}", "2601")
    site.spoil("routes/registration.yaml", "accept: ", "accept: PID-3.1 = NOBODY and ")
    site.reactor.taken.add(2601)
    with pytest.raises(BrokerError, match=r"cannot listen.*2601.*goes on unchanged"):
        site.apply()
    assert site.say(connection, "A1") == "AA"
    assert not connection[1].disconnecting
    assert [one.number for one in site.versions.all()] == [1]
    assert not list((site.folder / "data/configurations").glob(".*"))
    status = site.wait(site.broker.reload.status())
    assert (status.version, len(status.differing)) == (1, 2)
    site.reactor.taken.clear()
    assert site.apply()[1].number == 2


def test_a_listener_that_cannot_be_made_leaves_everything_as_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def listener(*_: Any) -> Any:
        raise ValueError("certificate: it is encrypted")

    monkeypatch.setattr(site.broker, "listener", listener)
    site.spoil("channels.yaml", "fallback: windows-1252 #", "idle: 90s #")
    with pytest.raises(BrokerError, match="it is encrypted; what ran goes on unchanged"):
        site.apply()
    assert site.say(site.connect(HL7), "A1") == "AA"


def test_files_that_are_not_in_order_change_nothing(site: Site) -> None:
    site.spoil("channels.yaml", "from: hospital", "from: hospitl")
    with pytest.raises(ConfigError, match="there is no listener hospitl"):
        site.apply()
    assert site.say(site.connect(HL7), "A1") == "AA"


def test_a_store_that_fails_while_rules_are_exchanged_leaves_the_old_ones(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.spoil("routes/registration.yaml", "accept: ", "accept: PID-3.1 = NOBODY and ")

    def swap(self: changeover.Changeover, tx: Transaction, rules: Any, *rest: Any) -> None:
        self._parts.intake.change(rules.router, rules.site, rules.unmatched)
        raise StoreError("gone")

    monkeypatch.setattr(changeover.Changeover, "_swap", swap)
    with pytest.raises(StoreError, match="gone"):
        site.apply()
    assert site.say(site.connect(HL7), "A1") == "AA"


def test_a_destination_that_still_holds_deliveries_stays(site: Site) -> None:
    site.enqueue("billing")
    text = (site.folder / "channels.yaml").read_text()
    billing = text[text.index("  billing:") : text.index("channels:\n")]
    site.spoil("channels.yaml", billing, "\n")
    site.spoil("channels.yaml", "  charges: {from: ris, route: routes/charges.yaml}\n", "")
    plan = site.wait(site.broker.reload.plan())
    assert [problem.where for problem in plan.refusals] == ["destinations.billing"]
    with pytest.raises(ConfigError, match=r"destinations.billing: still holds 1 waiting .*broker plan"):
        site.apply()
    assert "billing" in site.broker.couriers.by_name


def test_a_delivery_that_comes_between_plan_and_exchange_is_seen_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (site.folder / "channels.yaml").read_text()
    site.spoil("channels.yaml", text[text.index("  billing:") : text.index("channels:\n")], "\n")
    site.spoil("channels.yaml", "  charges: {from: ris, route: routes/charges.yaml}\n", "")
    site.enqueue("billing")
    monkeypatch.setattr("broker.store.queues.held", lambda tx: {})
    with pytest.raises(ConfigError, match=r"destinations.billing: still holds deliveries"):
        site.apply()
    assert "billing" in site.broker.couriers.by_name


def test_an_empty_destination_may_go_and_come_back(site: Site) -> None:
    text = (site.folder / "channels.yaml").read_text()
    site.broker.metrics.queue_depth.labels("billing").set(0)
    site.spoil("channels.yaml", text[text.index("  billing:") : text.index("channels:\n")], "\n")
    site.spoil("channels.yaml", "  charges: {from: ris, route: routes/charges.yaml}\n", "")
    site.apply()
    assert "billing" not in site.broker.couriers.by_name
    assert 'destination="billing"' not in str(list(site.broker.metrics.queue_depth.collect()))
    (site.folder / "channels.yaml").write_text(text)
    site.apply()
    assert "billing" in site.broker.couriers.by_name


def test_a_destination_that_moves_gets_a_courier_of_its_own_and_others_keep_theirs(site: Site) -> None:
    before = dict(site.broker.couriers.by_name)
    site.enqueue("ehr")
    site.spoil("channels.yaml", "${EHR_HL7_PORT:-2577}", "2600")
    plan, _ = site.apply()
    assert [(one.name, one.waiting) for one in plan.effects] == [("ehr", 1)]
    after = site.broker.couriers.by_name
    assert after["ehr"] is not before["ehr"]
    assert all(after[name] is before[name] for name in before if name != "ehr")
    assert [client[1] for client in site.reactor.tcpClients] == [2600]


def test_settings_of_the_start_are_refused(site: Site) -> None:
    site.spoil("channels.yaml", "${BROKER_DATA:-./data}", "elsewhere")
    with pytest.raises(ConfigError, match=r"data: takes effect at the start only"):
        site.apply()


def test_only_what_was_planned_is_applied(site: Site) -> None:
    site.spoil("routes/registration.yaml", "description: ", "description: Well, ")
    planned = site.wait(site.broker.reload.plan())
    site.spoil("routes/orders.yaml", "description: ", "description: Well, ")
    with pytest.raises(BrokerError, match="have changed since they were planned"):
        site.apply(expect=planned.candidate)
    assert site.apply(expect=site.wait(site.broker.reload.plan()).candidate)[1].number == 2


def test_a_rollback_takes_up_the_version_before_and_names_what_the_folder_says(site: Site) -> None:
    site.spoil("routes/registration.yaml", "accept: ", "accept: PID-3.1 = NOBODY and ")
    site.apply()
    _, version = site.wait(site.broker.reload.rollback(None, "bob", "it is 3 a.m."))
    assert (version.number, version.of, version.by) == (3, 1, "bob")
    assert site.say(site.connect(HL7), "A1") == "AA"
    status = site.wait(site.broker.reload.status())
    assert status.differing == ("routes/registration.yaml",)
    exposed = {(s.name, *s.labels.values()): s.value for m in site.broker.metrics.registry.collect() for s in m.samples}
    assert exposed["broker_configuration_drift",] == 1
    assert exposed["broker_configuration_info", "3", version.digest] == 1
    with pytest.raises(BrokerError, match="nothing is kept that ran before version 3"):
        site.wait(site.broker.reload.rollback(None, "bob"))
    with pytest.raises(BrokerError, match="there is no version 9"):
        site.wait(site.broker.reload.rollback(9, "bob"))
    assert site.wait(site.broker.reload.rollback(2, "bob"))[1].of == 2


def test_a_version_whose_files_were_touched_is_not_taken_up_again(site: Site) -> None:
    site.spoil("routes/registration.yaml", "accept: ", "accept: PID-3.1 = NOBODY and ")
    site.apply()
    path = site.folder / "data/configurations/0001/files/routes/registration.yaml"
    path.write_text(path.read_text() + "# touched\n")
    with pytest.raises(BrokerError, match="its files are not what they were"):
        site.wait(site.broker.reload.rollback(1, "bob"))


def test_the_next_start_is_on_the_version_taken_up_again_until_the_folder_changes(site: Site) -> None:
    assert chosen(site.channels, site.versions) == site.channels
    site.spoil("routes/registration.yaml", "accept: ", "acept: ")  # and so it could not even be started
    assert chosen(site.channels, site.versions) == site.channels
    site.spoil("routes/registration.yaml", "acept: ", "accept: PID-3.1 = NOBODY and ")
    site.apply()
    site.wait(site.broker.reload.rollback(None, "bob"))
    kept = site.versions.latest()
    assert kept is not None
    assert chosen(site.channels, site.versions) == site.versions.channels(kept)
    site.spoil("routes/orders.yaml", "description: ", "description: Well, ")
    assert chosen(site.channels, site.versions) == site.channels


def test_a_damaged_version_does_not_keep_the_broker_from_starting(site: Site) -> None:
    site.spoil("routes/registration.yaml", "accept: ", "accept: PID-3.1 = NOBODY and ")
    site.apply()
    site.wait(site.broker.reload.rollback(None, "bob"))
    (site.folder / "data/configurations/0003/files/routes/orders.yaml").unlink()
    assert chosen(site.channels, site.versions) == site.channels


def test_a_restart_after_a_rollback_is_no_new_version_and_still_differs_from_the_folder(site: Site) -> None:
    site.spoil("routes/registration.yaml", "accept: ", "accept: PID-3.1 = NOBODY and ")
    site.apply()
    site.wait(site.broker.reload.rollback(None, "bob"))
    stop(site.broker, site.reactor)
    site.reactor = Reactor()
    site.broker = made(site.folder / "data", site.reactor, site.channels, chosen(site.channels, site.versions))
    start(site.broker, site.reactor)
    assert [one.number for one in site.versions.all()] == [1, 2, 3]
    assert site.wait(site.broker.reload.status()).differing == ("routes/registration.yaml",)
    assert site.apply()[1].number == 4


def test_what_is_asked_for_during_the_start_waits_for_its_end(site: Site) -> None:
    stop(site.broker, site.reactor)
    site.broker = made(site.folder / "data", site.reactor, site.channels)
    begin, asked = site.broker.again.resume, list[Deferred[Any]]()

    def resuming() -> Deferred[None]:  # the last thing before the listeners
        site.spoil("channels.yaml", "fallback: windows-1252", "fallback: 8859/1")
        asked.append(ensureDeferred(site.broker.reload.apply("SIGHUP")))
        return begin()

    site.broker.again.resume = resuming  # type: ignore[method-assign]
    start(site.broker, site.reactor)
    _, version = site.wait(asked[0])
    assert (version.number, version.by) == (2, "SIGHUP")
    assert site.say(site.connect(HL7), "A1") == "AA"


def test_a_start_that_fails_can_be_stopped_all_the_same(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    stop(site.broker, site.reactor)
    site.broker = made(site.folder / "data", site.reactor, site.channels)
    monkeypatch.setattr(site.broker.again, "resume", lambda: fail(BrokerError("no")))
    with pytest.raises(BrokerError):
        start(site.broker, site.reactor)
    asked = ensureDeferred(site.broker.reload.apply("SIGHUP"))
    stop(site.broker, site.reactor)
    assert not asked.called
    site.broker = made(site.folder / "data", site.reactor, site.channels)
    start(site.broker, site.reactor)


def test_changed_files_are_taken_once_they_are_whole_where_that_is_wanted(site: Site) -> None:
    site.spoil("channels.yaml", "version: 1\n", "version: 1\nreload: on_change\n")
    site.apply()
    poll = site.broker.reload.poll
    site.spoil("routes/registration.yaml", "accept: ", "accept: [")  # half written
    site.wait(poll())
    site.spoil("routes/registration.yaml", "accept: [", "accept: PID-3.1 = NOBODY and ")
    site.wait(poll())
    assert len(site.versions.all()) == 2
    site.wait(poll())
    assert [one.by for one in site.versions.all()] == ["start", "ann", "file change"]
    site.wait(site.broker.reload.rollback(None, "bob"))
    for _ in range(3):
        site.wait(poll())
    assert len(site.versions.all()) == 4  # what was rolled back is not taken again by itself


def test_the_log_says_which_version_runs_and_who_asked_for_it(site: Site) -> None:
    stream = StringIO()
    site.broker.reload._log = Log(stream, strict=True, terminal=False)
    site.spoil("routes/registration.yaml", "accept: ", "accept: PID-3.1 = NOBODY and ")
    site.wait(site.broker.reload.apply("file change"))
    told = json.loads(stream.getvalue().splitlines()[-1])
    assert (told["event"], told["version"], told["by"]) == ("configuration applied", 2, "file change")


def test_files_that_cannot_be_taken_are_told_once(site: Site) -> None:
    site.spoil("channels.yaml", "version: 1\n", "version: 1\nreload: on_change\n")
    site.apply()
    printed = site.broker.log
    site.spoil("channels.yaml", "from: hospital", "from: hospitl")
    told: list[dict[str, Any]] = []
    site.broker.reload._log = type("Told", (), {"error": lambda self, event, **fields: told.append(fields)})()  # type: ignore[assignment]
    for _ in range(4):
        site.wait(site.broker.reload.poll())
    site.broker.reload._log = printed
    assert len(told) == 3  # a problem for each channel
    assert told[0]["file"].endswith("channels.yaml")
    assert told[0]["line"] > 0


def test_a_folder_is_left_alone_where_nobody_wants_it_watched(site: Site) -> None:
    site.spoil("routes/registration.yaml", "description: ", "description: Well, ")
    for _ in range(4):
        site.wait(site.broker.reload.poll())
    assert len(site.versions.all()) == 1


def test_a_gate_lets_through_what_has_waited_in_its_order() -> None:
    class Intake:
        taken: list[bytes] = []

        def receive_hl7(self, listener: str, peer: str, raw: bytes) -> Deferred[bytes]:
            self.taken.append(raw)
            done: Deferred[bytes] = Deferred()
            done.callback(raw)
            return done

    gate, answers = Gate(Intake()), []
    for raw in (b"1", b"2"):
        gate.receive_hl7("a", "b", raw).addCallback(answers.append)
    assert Intake.taken == []
    gate.open()
    gate.receive_hl7("a", "b", b"3").addCallback(answers.append)
    assert Intake.taken == answers == [b"1", b"2", b"3"]
