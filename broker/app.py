"""The only place that builds things: in order, and stops them in reverse."""

from __future__ import annotations

import hashlib
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydicom.uid import generate_uid
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from broker.config.load import load
from broker.config.models import Config, Destination, Listener
from broker.connectors import base, dicom, mllp, registry
from broker.dicom.scan import ROUTING
from broker.engine.again import Again
from broker.engine.clock import SiteClock
from broker.engine.couriers import Couriers
from broker.engine.delivery import LEASE, Courier, RetryPolicy
from broker.engine.dicomintake import Dicom
from broker.engine.hl7intake import Charset, Hl7
from broker.engine.intake import Intake
from broker.engine.passage import Site
from broker.engine.router import Router
from broker.engine.status import Part, Status
from broker.errors import BrokerError, StoreError
from broker.obs.capture import TwistedObserver, capture
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.pipeline.header import PSEUDO
from broker.ris.context import SlotRules
from broker.store import journal, outbox
from broker.store.database import Database, open_database
from broker.store.spool import Spool
from broker.web.site import LOOPBACK, build_site

FILE_THREADS = 8  # syncs of the spool that may be under way at a time
DRAIN_SECONDS = 20.0  # for what is under way when the process is told to end

WELCOME = """The broker listens on
{listening}

Next: broker send samples/adt_a04.hl7 samples/orm_ct.hl7
                                    registers a patient and orders a CT
      broker status                 queues, exams by state, what waits for a person
      broker messages               what arrived, and what became of it
      broker trace ACCESSION        one exam, from the order to the charge
      http://{web}/        the console; /metrics for Prometheus
      Ctrl-C                        ends it; nothing acknowledged is lost
"""


class Broker:
    """One node: everything `channels.yaml` names, wired together."""

    def __init__(self, config: Config, reactor: Any, log: Log, now: Callable[[], float] = time.time) -> None:
        self.config, self.reactor, self.log = config, reactor, log
        self.metrics = Metrics()
        self.metrics.watch_disk(config.data)
        self.clock = SiteClock(now, config.site.timezone)
        self.node = config.node or _node_name(config.data)
        self.on_failure: Callable[[StoreError], None] = lambda error: None
        self._files = ThreadPool(0, FILE_THREADS, "files")
        self.db: Database = self._open_store()
        self.spool = Spool(config.data / "spool", self._in_file_thread, now)
        self.router = Router(config.channels)
        self.couriers = Couriers(self._courier(destination) for destination in config.destinations)
        intake = self._intake()
        charsets = {one.name: Charset(one.settings["charset"], one.settings["fallback"]) for one in config.listeners if one.kind == "mllp"}
        self.hl7 = Hl7(intake, self.clock, self.metrics, charsets)
        self.dicom = Dicom(intake, self.db, self.clock, self.spool, self.metrics, _keywords(config))
        self.again = Again(self.db, self.hl7, self.dicom, log)
        intake.on_resolved = lambda exam_id: self.again.release(exam_id)
        self._addresses: dict[str, str] = {}  # of the listeners that are bound
        self.listeners = [self._listener(listener) for listener in config.listeners]
        self.status = self._status()
        self._upkeep = LoopingCall(self.couriers.poll)
        self._upkeep.clock = reactor
        self._web: Any = None
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
        shown = []
        try:
            for listener in self.listeners:
                shown.append(await listener.start())
                self._addresses[listener.name] = shown[-1].partition(" ")[2]
            shown.append(self._serve_web())
        except (OSError, CannotListenError) as error:
            raise BrokerError(f"cannot listen: {error}") from error
        self._upkeep.start(LEASE / 3, now=False)
        return shown

    async def stop(self) -> None:
        """Take nothing new, answer and settle what is under way, give up the leases, close the store."""
        self.status.draining = True
        for listener in self.listeners:
            await listener.stop()
        self._addresses.clear()
        if self._upkeep.running:
            self._upkeep.stop()
        await self.couriers.stop()
        with suppress(StoreError):
            if self._delivering:  # else the leases in this name are another process's, which keeps this one from starting
                await self.db.run("outbox.release", outbox.release, self.node)
        if self._web is not None:
            await maybeDeferred(self._web.stopListening)
        await self.db.close()
        self.spool.release()

    async def _tidy_spool(self) -> None:
        """Take the spool for this process, and remove what a crash left in it."""
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

    def _intake(self) -> Intake:
        site = self.config.site
        root = f"{site.uid_root}." if site.uid_root else None
        unmatched = {listener.name: listener.unmatched for listener in self.config.listeners}
        known = Site(site.authority, lambda: str(generate_uid(prefix=root)), site.accession, self.config.stations, SlotRules())
        return Intake(self.db, self.router, known, self.clock, self.metrics, self.log, self.couriers.deliver, unmatched)

    def _courier(self, destination: Destination) -> Courier:
        shared = (destination.name, destination.settings, self.reactor)
        peer: base.Destination
        if destination.kind == "mllp":
            peer = mllp.MllpDestination(*shared, self.metrics, self.log)
        else:
            peer = dicom.DicomDestination(*shared, self.spool, self.metrics, self.log)
        policy = RetryPolicy(**destination.settings["retry"])
        return Courier(peer, self.db, self.reactor, self.clock, policy, self.node, self.metrics, self.log)

    def _listener(self, listener: Listener) -> base.Listener:
        shared = (listener.name, listener.settings, self.reactor)
        if listener.kind == "mllp":
            return mllp.MllpListener(*shared, self.hl7, self.metrics, self.log)
        return dicom.DicomListener(*shared, self.dicom, self.spool, self.metrics, self.log)

    def _status(self) -> Status:
        config = self.config
        return Status(
            self.db,
            self.clock,
            self.metrics,
            config.site.name,
            version("broker"),
            [Part(channel.name, channel.source, channel.route.description) for channel in config.channels],
            [Part(one.name, one.kind, f"{one.settings['host']}:{one.settings['port']}") for one in config.destinations],
            lambda: [(self._listening(one), one.name in self._addresses) for one in config.listeners],
            self.again,
            self.couriers,
        )

    def _listening(self, listener: Listener) -> Part:
        return Part(
            listener.name, listener.kind, self._addresses.get(listener.name, f"{listener.settings['bind']}:{listener.settings['port']}")
        )

    def _serve_web(self) -> str:
        web = self.config.web
        hosts = LOOPBACK if web.bind in LOOPBACK else frozenset[str]()
        site = build_site(self.status, self.metrics, self.status.refresh, self.log, self.reactor, hosts=hosts)
        self._web = self.reactor.listenTCP(web.port, site, interface=web.bind)
        return f"http {web.bind}:{self._web.getHost().port}"


def _node_name(data: Path) -> str:
    """Return a name that no other process has that shares the store: of this machine and, as several may run here, the data folder."""
    return f"{socket.gethostname()[:50]}-{hashlib.blake2b(bytes(data.resolve()), digest_size=3).hexdigest()}"


def _keywords(config: Config) -> tuple[str, ...]:
    """Return the attributes of an object's header that some route reads, and those everybody wants."""
    read = {path for channel in config.channels if channel.protocol == "dicom" for path in channel.route.paths}
    return tuple(dict.fromkeys((*ROUTING, *sorted(read - set(PSEUDO)))))


def run(path: Path, environment: Mapping[str, str], log_format: str = "auto") -> int:
    """Run the broker until SIGTERM, SIGINT or a failure of its store; return the exit code. Raises BrokerError."""
    from twisted.internet import reactor  # the reactor is chosen here and nowhere else

    config = load(path, environment, registry)
    log = Log(terminal={"json": False, "text": True}.get(log_format))
    capture(log)
    for warning in config.warnings:
        log.warning("configuration", file=warning.file, line=warning.line, what=warning.what)
    return _Process(Broker(config, reactor, log)).run()


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
        self._reactor.run(installSignalHandlers=False)
        if self._error:
            raise self._error
        return 0

    def _start(self) -> None:
        ensureDeferred(self._broker.start()).addCallbacks(self._say, self._failed)

    def _say(self, listening: list[str]) -> None:
        self._log.info("started", node=self._broker.node, count=len(listening))
        print(WELCOME.format(listening="\n".join(f"  {line}" for line in listening), web=listening[-1].split()[-1]), flush=True)

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
