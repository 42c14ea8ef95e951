"""One node: the only place that builds things, in order, and stops them in reverse."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from broker.app.imaging import Imaging
from broker.config import callbacks
from broker.config.load import load
from broker.config.models import Config, Destination, Listener, Web
from broker.config.outline import outline
from broker.config.versions import Versions
from broker.connectors import base, dicom, file, mllp, registry
from broker.connectors.dicom_callback import CallBack
from broker.connectors.dicom_commitment import Hearing, Lines
from broker.connectors.hours import hours_of
from broker.engine.again import Again
from broker.engine.attachments import Attaching
from broker.engine.batchintake import Batches
from broker.engine.changeover import WEB, Changeover, Key, Parts
from broker.engine.clock import SiteClock
from broker.engine.corrections import Corrections
from broker.engine.couriers import Couriers
from broker.engine.deidentification import Deidentifier
from broker.engine.delivery import LEASE, Courier
from broker.engine.doors import Doors
from broker.engine.heartbeat import Heartbeat
from broker.engine.hl7intake import Hl7
from broker.engine.intake import Intake
from broker.engine.outcomes import Outcomes
from broker.engine.pixels import Pixels
from broker.engine.reload import POLL, Reload
from broker.engine.renewal import Renewal
from broker.engine.rules import rules_of
from broker.engine.status import Part, Status
from broker.engine.troubles import RetryPolicy
from broker.errors import BrokerError, StoreError
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.store import attachments, journal, outbox, receipts
from broker.store.database import Database, open_database
from broker.store.spool import Spool
from broker.web.port import WebPort
from broker.web.site import LOOPBACK, build_site

FILE_THREADS = 8  # syncs of the spool that may be under way at a time


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
        self.pixels = Pixels(reactor, config.data / "derived")
        self._doors = Doors(reactor)
        self.switchboard = mllp.Switchboard()
        self.lines = Lines()
        self.couriers = Couriers(self.courier(destination) for destination in config.queues)
        rules = rules_of(config)
        intake = Intake(self.db, rules.router, rules.site, self.clock, self.metrics, log, self.couriers.deliver, rules.unmatched)
        outcomes = Outcomes(self.db, reactor)
        self.couriers.on_ended = outcomes.ended
        self.hl7 = Hl7(intake, self.clock, self.metrics, rules.manners, outcomes, log)
        shared = (self.couriers, self.db, self.clock, self.spool, self._in_file_thread, reactor, self.metrics, log)
        self.imaging = Imaging(config, intake, *shared, rules, self.node, self.pixels)
        self.dicom = self.imaging.intake
        self.again = Again(self.db, self.hl7, self.dicom, log)
        intake.on_resolved = lambda exam_id: self.again.release(exam_id)
        intake.on_patient = Renewal(self.db, self.clock, intake, self.dicom, self.couriers, log).patient
        self.corrections = Corrections(self.db, self.clock, self.spool, intake, self.couriers, self.again, self._in_file_thread)
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
        self.pixels.start()
        self.couriers.start()
        for job in self.imaging.jobs:
            job.start()
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
        for job in reversed(self.imaging.jobs):
            await job.stop()
        await self.couriers.stop()
        with suppress(StoreError):
            if self._delivering:  # else the leases in this name are another process's, which keeps this one from starting
                await self.db.run("outbox.release", outbox.release, self.node)
        await web.stop()
        await self.pixels.stop()
        await self.db.close()
        self.spool.release()

    def _renew(self) -> None:
        self.couriers.poll()
        self.hl7.route_waiting()

    async def _tidy_spool(self) -> None:
        """Take the spool for this process, and remove what a crash left in it."""
        await self.db.run("attachments.sweep", attachments.sweep)
        ours = self.spool.claim(await self.db.run("journal.identity", journal.identity))
        self._parts.intake.spool = self.spool.mark
        # only now, as the process before this one may have taken objects in until it let the folder go; and as a writer, who waits for
        # the transaction of a process that was killed
        used = await self.db.run("journal.spooled", journal.spooled)
        if not ours:
            self.log.warning("spool of another store", what="objects that the store does not name are kept")
        self.spool.sweep(used if ours else None)

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
        heartbeat: Heartbeat | None = None
        if destination.kind == "mllp":
            peer = Attaching(mllp.MllpDestination(*shared, self.metrics, self.log, self.switchboard), self.db)
        elif destination.kind == "file":
            peer = Attaching(file.FileDestination(destination.name, destination.settings, self._in_file_thread), self.db)
        elif destination.kind == callbacks.KIND:
            peer = CallBack(*shared, self.lines, self.metrics, self.log)
        else:
            serve = Hearing(destination.name, destination.settings["ae_title"], self.reactor, lambda: self.dicom)
            deidentifier = self._deidentifier(destination)
            common = self.spool, self.metrics, self.log
            peer = dicom.DicomDestination(*shared, *common, transcoder=self.pixels, deidentifier=deidentifier, serve=serve)
            if destination.settings["echo"]:
                named = destination.name, peer.echo, destination.settings["echo"]
                heartbeat = Heartbeat(*named, self.reactor, self.metrics, self.log)
        policy = RetryPolicy(**destination.settings["retry"])
        settles = receipts.delivered if destination.settings.get("commitment") else outbox.delivered
        settings = self.db, self.reactor, self.clock, policy, self.node, self.metrics, self.log
        hours = hours_of(destination.settings.get("window"), self.clock.zone)
        return Courier(peer, *settings, hours, settles=settles, heartbeat=heartbeat)

    def _deidentifier(self, destination: Destination) -> Deidentifier | None:
        settings, given = destination.settings, destination.settings["deidentify"]
        if not given:
            return None
        said = (destination.name, settings["calling_ae_title"], given["key"], given["rules"])
        return Deidentifier(*said, self.pixels, self.db, self.clock)

    def listener(self, listener: Listener, hl7: Any, dicom_intake: Any) -> base.Listener:
        """Return a listener that hands over to these."""
        shared = (listener.name, listener.settings, self._doors)
        if listener.kind == "mllp":
            batches = Batches(hl7, self.clock, self.metrics, self.log)
            return mllp.MllpListener(*shared, batches, self.metrics, self.log, self.switchboard)
        if listener.kind == "file":
            return file.FileListener(*shared, hl7, self._in_file_thread, self.clock.text, self.metrics, self.log)
        return dicom.DicomListener(*shared, dicom_intake, self.spool, self.metrics, self.log, self.lines, self.pixels)

    def web(self, web: Web) -> base.Listener:
        """Return what serves the web port."""
        hosts = LOOPBACK if web.bind in LOOPBACK else frozenset[str]()
        figures = (self.status, self.metrics, self._refresh, self.log, self.reactor)
        site = build_site(*figures, hosts=hosts, configuration=self.reload, reconciliation=self.corrections)
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
            self.imaging.room.status,
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
        self.imaging.configure(config)
        self.status.configure(config.site.name, _channels(config), _destinations(config))


def _channels(config: Config) -> list[Part]:
    return [Part(channel.name, channel.source, channel.route.description) for channel in config.channels]


def _destinations(config: Config) -> list[Part]:
    return [Part(one.name, one.kind, _place(one)) for one in config.queues]


def _place(one: Listener | Destination) -> str:
    return registry.where(one.settings)


def _node_name(data: Path) -> str:
    """Return a name that no other process has that shares the store: of this machine and, as several may run here, the data folder."""
    return f"{socket.gethostname()[:50]}-{hashlib.blake2b(bytes(data.resolve()), digest_size=3).hexdigest()}"
