"""The only place that builds things: in order, and stops them in reverse."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from broker.config.load import load
from broker.config.models import Config, Destination, Listener, Web
from broker.config.outline import outline
from broker.config.versions import Versions
from broker.connectors import base, dicom, file, mllp, registry
from broker.engine.again import Again
from broker.engine.attachments import Attaching
from broker.engine.batchintake import Batches
from broker.engine.changeover import WEB, Changeover, Key, Parts
from broker.engine.clock import SiteClock
from broker.engine.couriers import Couriers
from broker.engine.delivery import LEASE, Courier, RetryPolicy
from broker.engine.dicomintake import Dicom
from broker.engine.doors import Doors
from broker.engine.hl7intake import Hl7
from broker.engine.intake import Intake
from broker.engine.outcomes import Outcomes
from broker.engine.reload import POLL, Reload, chosen
from broker.engine.rules import rules_of
from broker.engine.status import Part, Status
from broker.errors import BrokerError, StoreError
from broker.obs.capture import TwistedObserver, capture
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.store import attachments, journal, outbox
from broker.store.database import Database, open_database
from broker.store.spool import Spool
from broker.web.port import WebPort
from broker.web.site import LOOPBACK, build_site

FILE_THREADS = 8  # syncs of the spool that may be under way at a time
COLLECT = 10_000, 20, 50  # objects before the youngest are collected, and rounds before older ones are
DRAIN_SECONDS = 20.0  # for what is under way when the process is told to end

SAMPLES = "samples/adt_a04.hl7", "samples/orm_ct.hl7"
SEND = f"""broker send {" ".join(SAMPLES)}
                                    registers a patient and orders a CT
      """
WELCOME = """The broker listens on
{listening}

Next: {send}broker status                 queues, exams by state, what waits for a person
      broker messages               what arrived, and what became of it
      broker trace ACCESSION        one exam, from the order to the charge
      http://{web}/        the console; /metrics for Prometheus
      Ctrl-C                        ends it; nothing acknowledged is lost
"""


class Broker:
    """One node: everything `channels.yaml` names, wired together."""

    def __init__(
        self,
        config: Config,
        reactor: Any,
        log: Log,
        now: Callable[[], float] = time.time,
        *,
        path: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`path`: the channels file that a person edits, where it is not the one that runs; `environment`: what its variables mean."""
        self.config, self.reactor, self.log = config, reactor, log
        self.metrics = Metrics()
        self.metrics.watch_disk(config.data)
        self.clock = SiteClock(now, config.site.timezone)
        self.node = config.node or _node_name(config.data)
        self.on_failure: Callable[[StoreError], None] = lambda error: None
        self._files = ThreadPool(0, FILE_THREADS, "files")
        self.db: Database = self._open_store()
        self.spool = Spool(config.data / "spool", self._in_file_thread, now)
        self._doors = Doors(reactor)
        self.switchboard = mllp.Switchboard()
        self.couriers = Couriers(self.courier(destination) for destination in config.destinations)
        rules = rules_of(config)
        intake = Intake(self.db, rules.router, rules.site, self.clock, self.metrics, log, self.couriers.deliver, rules.unmatched)
        outcomes = Outcomes(self.db, reactor)
        self.couriers.on_ended = outcomes.ended
        self.hl7 = Hl7(intake, self.clock, self.metrics, rules.manners, outcomes, log)
        self.dicom = Dicom(intake, self.db, self.clock, self.spool, self.metrics, rules.keywords)
        self.again = Again(self.db, self.hl7, self.dicom, log)
        intake.on_resolved = lambda exam_id: self.again.release(exam_id)
        self.status = self._status()
        listeners: dict[Key, base.Listener] = {
            ("listeners", one.name): self.listener(one, self.hl7, self.dicom) for one in config.listeners
        }
        self._parts = Parts(intake, self.hl7, self.dicom, self.couriers, self.clock, listeners, {}, rules)
        self.reload = self._reload(path or config.file, environment)
        listeners[WEB] = self.web(config.web)
        self._upkeep = [LoopingCall(self._renew), LoopingCall(lambda: ensureDeferred(self.reload.poll()))]
        for call in self._upkeep:
            call.clock = reactor
        self._delivering = False

    async def start(self) -> list[str]:
        """Go on with what the store holds, then listen; return what to show a person. Raises BrokerError."""
        self._files.start()
        # whatever ends the reactor must end these threads, or the process would wait for them for ever
        self.reactor.addSystemEventTrigger("after", "shutdown", self._files.stop)
        await self._tidy_spool()
        self._delivering = True
        self.couriers.start()
        await self.again.release()
        await self.again.resume()
        shown = []
        try:
            for key, listener in self._parts.listeners.items():
                shown.append(await listener.start())
                self._parts.addresses[key] = shown[-1].partition(" ")[2]
        except (OSError, CannotListenError) as error:
            raise BrokerError(f"cannot listen: {error}") from error
        await self.reload.begin()
        for call, seconds in zip(self._upkeep, (LEASE / 3, POLL), strict=True):
            call.start(seconds, now=False)
        return shown

    async def stop(self) -> None:
        """Take nothing new, answer and settle what is under way, give up the leases, close the store."""
        self.status.draining = True
        await self.reload.end()
        web = self._parts.listeners.pop(WEB)
        for listener in self._parts.listeners.values():
            await listener.stop()
        self._parts.addresses.clear()
        for call in self._upkeep:
            if call.running:
                call.stop()
        await self.couriers.stop()
        with suppress(StoreError):
            if self._delivering:  # else the leases in this name are another process's, which keeps this one from starting
                await self.db.run("outbox.release", outbox.release, self.node)
        await web.stop()
        await self.db.close()
        self.spool.release()

    def _renew(self) -> None:
        self.couriers.poll()
        self.hl7.route_waiting()

    async def _tidy_spool(self) -> None:
        """Take the spool for this process, and remove what a crash left in it."""
        await self.db.run("attachments.sweep", attachments.sweep)
        used = await self.db.read("journal.spooled", journal.spooled)
        if self.spool.claim(await self.db.run("journal.identity", journal.identity)):
            self.spool.sweep(used)
        else:
            self.log.warning("spool of another store", what="objects that the store does not name are kept")
            self.spool.sweep(None)

    def _open_store(self) -> Database:
        config = self.config
        try:
            config.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BrokerError(f"{config.data}: {error.strerror}") from error
        return open_database(
            config.data / "broker.db" if config.store == "sqlite" else config.store,
            metrics=self.metrics,
            call_later=self.reactor.callLater,
            call_from_thread=self.reactor.callFromThread,
            on_failure=lambda error: self.on_failure(error),
        )

    def _in_file_thread(self, fn: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return deferToThreadPool(self.reactor, self._files, fn, *args)

    def courier(self, destination: Destination) -> Courier:
        """Return the courier of a destination."""
        shared = (destination.name, destination.settings, self._doors)
        peer: base.Destination
        if destination.kind == "mllp":
            peer = Attaching(mllp.MllpDestination(*shared, self.metrics, self.log, self.switchboard), self.db)
        elif destination.kind == "file":
            peer = Attaching(file.FileDestination(destination.name, destination.settings, self._in_file_thread), self.db)
        else:
            peer = dicom.DicomDestination(*shared, self.spool, self.metrics, self.log)
        policy = RetryPolicy(**destination.settings["retry"])
        return Courier(peer, self.db, self.reactor, self.clock, policy, self.node, self.metrics, self.log)

    def listener(self, listener: Listener, hl7: Any, dicom_intake: Any) -> base.Listener:
        """Return a listener that hands over to these."""
        shared = (listener.name, listener.settings, self._doors)
        if listener.kind == "mllp":
            batches = Batches(hl7, self.clock, self.metrics, self.log)
            return mllp.MllpListener(*shared, batches, self.metrics, self.log, self.switchboard)
        if listener.kind == "file":
            return file.FileListener(*shared, hl7, self._in_file_thread, self.clock.text, self.metrics, self.log)
        return dicom.DicomListener(*shared, dicom_intake, self.spool, self.metrics, self.log)

    def web(self, web: Web) -> base.Listener:
        """Return what serves the web port."""
        hosts = LOOPBACK if web.bind in LOOPBACK else frozenset[str]()
        site = build_site(self.status, self.metrics, self._refresh, self.log, self.reactor, hosts=hosts, configuration=self.reload)
        return WebPort(web.bind, web.port, site, self._doors)

    async def _refresh(self) -> None:
        await self.reload.refresh()
        await self.status.refresh()

    def _status(self) -> Status:
        config = self.config
        return Status(
            self.db,
            self.clock,
            self.metrics,
            config.site.name,
            version("broker"),
            _channels(config),
            _destinations(config),
            lambda: [(self._listening(one), ("listeners", one.name) in self._parts.addresses) for one in self.config.listeners],
            self.again,
            self.couriers,
            lambda: self.reload.status(),
        )

    def _listening(self, listener: Listener) -> Part:
        place = self._parts.addresses.get(("listeners", listener.name)) or _place(listener)
        return Part(listener.name, listener.kind, place)

    def _reload(self, path: Path, environment: Mapping[str, str] | None) -> Reload:
        environment = {} if environment is None else environment
        return Reload(
            path,
            self.config,
            Versions(self.config.data),
            Changeover(self._parts, self, self.db, self._doors, self._in_file_thread, self.log),
            lambda path: load(path, environment, registry),
            lambda sources: outline(sources, environment, registry),
            self.db,
            self.clock,
            self._in_file_thread,
            self.metrics,
            self.log,
            self.status.connections,
            self._configured,
        )

    def _configured(self, config: Config) -> None:
        self.config = config
        self.status.configure(config.site.name, _channels(config), _destinations(config))


def welcome(listening: Sequence[str]) -> str:
    """Return what a person reads who starts the broker: where it listens, the web port last, and what can be done next, here."""
    send = SEND if all(map(os.path.isfile, SAMPLES)) else ""
    return WELCOME.format(listening="\n".join(f"  {line}" for line in listening), send=send, web=listening[-1].split()[-1])


def _channels(config: Config) -> list[Part]:
    return [Part(channel.name, channel.source, channel.route.description) for channel in config.channels]


def _destinations(config: Config) -> list[Part]:
    return [Part(one.name, one.kind, _place(one)) for one in config.destinations]


def _place(one: Listener | Destination) -> str:
    return registry.where(one.settings)


def _node_name(data: Path) -> str:
    """Return a name that no other process has that shares the store: of this machine and, as several may run here, the data folder."""
    return f"{socket.gethostname()[:50]}-{hashlib.blake2b(bytes(data.resolve()), digest_size=3).hexdigest()}"


def run(path: Path, environment: Mapping[str, str], log_format: str = "auto") -> int:
    """Run the broker until SIGTERM, SIGINT or a failure of its store; return the exit code. Raises BrokerError."""
    from twisted.internet import reactor  # the reactor is chosen here and nowhere else

    runs = chosen(path, Versions.of(path, environment, registry))
    config = load(runs, environment, registry)
    log = Log(terminal={"json": False, "text": True}.get(log_format))
    capture(log)
    for warning in config.warnings:
        log.warning("configuration", file=warning.file, line=warning.line, what=warning.what)
    if runs != path:
        log.warning("earlier version", file=str(runs), what="it was taken up again, and the files it was taken for have not changed since")
    return _Process(Broker(config, reactor, log, path=path, environment=environment)).run()


class _Process:
    """A broker as a process: it says where it listens, and ends in order."""

    def __init__(self, broker: Broker) -> None:
        self._broker, self._reactor, self._log = broker, broker.reactor, broker.log
        self._ending = False
        self._error: BrokerError | None = None
        globalLogPublisher.addObserver(TwistedObserver(broker.log))  # type: ignore[arg-type]
        broker.on_failure = self._store_failed

    def run(self) -> int:
        """Return the exit code; raises BrokerError when the broker could not start or its store failed."""
        self._reactor.callWhenRunning(self._start)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda got, frame: self._reactor.callFromThread(self._end))
        signal.signal(signal.SIGHUP, lambda got, frame: self._reactor.callFromThread(self._apply))
        self._reactor.run(installSignalHandlers=False)
        if self._error:
            raise self._error
        return 0

    def _start(self) -> None:
        ensureDeferred(self._broker.start()).addCallbacks(self._say, self._failed)

    def _say(self, listening: list[str]) -> None:
        # what was built so far stays: the collector need not look at it again, nor at each message's few hundred objects at once
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT)
        self._log.info("started", node=self._broker.node, count=len(listening))
        print(welcome(listening), flush=True)

    def _apply(self) -> None:
        ensureDeferred(self._broker.reload.apply_for("SIGHUP"))

    def _failed(self, failure: Failure) -> None:
        if not failure.check(BrokerError):
            self._log.failure("start failed", failure)
        error = failure.value
        self._error = error if isinstance(error, BrokerError) else BrokerError(f"could not start: {type(error).__name__}")
        self._end()

    def _store_failed(self, error: StoreError) -> None:
        self._log.error("store failed", reason=str(error))
        self._error = error
        self._end()

    def _end(self) -> None:
        if self._ending:
            return
        self._ending = True
        self._log.info("stopping", node=self._broker.node)
        # a peer that never lets go must not keep the process: what is unsettled goes on at the next start
        self._reactor.callLater(DRAIN_SECONDS, self._halt)
        ensureDeferred(self._broker.stop()).addErrback(lambda failure: self._log.failure("stop failed", failure)).addBoth(self._halt)

    def _halt(self, _: object = None) -> None:
        if self._reactor.running:
            self._reactor.stop()
