"""Query/Retrieve as a proxy: asked at the archives and in the spool, answered as one (`connectors.base.DicomIntake`)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred, succeed

from broker.config.models import Config, Destination, Listener
from broker.connectors import base
from broker.connectors.base import Caller
from broker.connectors.dicom import DESTINATION
from broker.connectors.dicom_archive import Archive
from broker.connectors.dicom_peers import address_of
from broker.connectors.dicom_retrieval import Progress, Retrieved, Return, Searched, Send, Task
from broker.connectors.dicom_transport import off_core
from broker.dicom.dimse import Status
from broker.dicom.query import IMAGE, STUDY, STUDY_ROOT, Merging, Query, Retrieval, without
from broker.engine.clock import SiteClock
from broker.engine.expected import Expected
from broker.engine.kept import asked_for, entries, narrowed
from broker.engine.moving import Moving, Target, together
from broker.errors import DeliveryError, StoreError
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.store import audit
from broker.store.database import Database, Transaction
from broker.store.kept import Kept, kept
from broker.store.spool import Spool

MOST_LOOKED_AT = 2000  # series, or images, of the spool whose headers one query may read
MOST_SENT = 20_000  # instances of the spool that one retrieval may send

Build = Callable[[Destination], base.Destination]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a listener's queries and retrievals are answered from."""

    archives: tuple[Destination, ...]
    spool: bool
    limit: int  # matches
    strict: bool  # whether an archive that cannot be asked is a failure
    patience: float  # seconds
    through: str
    ae_title: str


def _listener(config: Config, name: str) -> Listener:
    for one in config.listeners:
        if one.name == name:
            return one
    raise LookupError(f"listener {name}")


def sources_of(config: Config, listener: str) -> Sources:
    """Return the sources of a DICOM listener; raises LookupError when there is none of that name."""
    settings = _listener(config, listener).settings
    known = {one.name: one for one in config.destinations}
    retrieve: Mapping[str, Any] = settings["retrieve"]
    return Sources(
        archives=tuple(known[name] for name in retrieve["from"] if name in known),
        spool=retrieve["spool"],
        limit=retrieve["limit"],
        strict=retrieve["absent"] == "fail",
        patience=retrieve["patience"],
        through=retrieve["through"],
        ae_title=settings["ae_title"],
    )


class Retrievals:
    """Answers C-FIND, C-MOVE and C-GET of all listeners."""

    def __init__(
        self,
        reactor: Any,
        db: Database,
        spool: Spool,
        expected: Expected,
        config: Callable[[], Config],
        build: Build,
        clock: SiteClock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        """`expected`: what the intake passes on; `config` gives what runs at the moment; `build` makes a destination of its own
        for the objects of one retrieval.
        """
        self.reactor, self.db, self.spool, self.metrics, self.log = reactor, db, spool, metrics, log
        self._expected, self._config, self._build, self._clock = expected, config, build, clock

    def search(self, caller: Caller, query: Query, task: Task, send: Send) -> Deferred[Searched]:
        """C-FIND: send the matches as they are known, and fire with how it ended."""
        self.metrics.received.labels(caller.listener, "C-FIND").inc()
        sources = sources_of(self._config(), caller.listener)
        return Deferred.fromCoroutine(_Search(self, sources, query, task, send).run())

    def move(self, caller: Caller, wanted: Retrieval, destination: str, task: Task, progress: Progress) -> Deferred[Retrieved]:
        """C-MOVE to the AE title of a configured destination."""
        self.metrics.received.labels(caller.listener, "C-MOVE").inc()
        found = self._named(caller.listener, destination)
        if found is None:
            return succeed(Retrieved(Status.UNKNOWN_DESTINATION, comment="no destination has this AE title"))
        target = Target(destination, self._build(found), originator=(caller.ae_title, task.message_id))
        return Deferred.fromCoroutine(self._retrieve(caller, wanted, target, task, progress))

    def _named(self, listener: str, ae_title: str) -> Destination | None:
        """Return the destination with an AE title: one that is configured, or a peer of the listener that has an address."""
        config = self._config()
        asked = _listener(config, listener)
        allowed = asked.settings["retrieve"]["to"]
        for one in config.destinations:
            if one.kind == "dicom" and one.settings["ae_title"] == ae_title and (not allowed or one.name in allowed):
                return None if one.settings["deidentify"] else one  # which must not get what an archive has as it is
        peer = asked.settings["peers"].get(ae_title)
        if not isinstance(peer, Mapping) or not {"host", "port"} <= peer.keys():
            return None
        titles = {"ae_title": ae_title, "calling_ae_title": asked.settings["ae_title"]}
        settings = DESTINATION.read({"host": peer["host"], "port": peer["port"], **titles}) | address_of(peer)
        return Destination(ae_title, "dicom", settings, asked.file, asked.line)

    def get(self, caller: Caller, wanted: Retrieval, task: Task, progress: Progress, back: Return) -> Deferred[Retrieved]:
        """C-GET: each object goes `back`."""
        self.metrics.received.labels(caller.listener, "C-GET").inc()
        return Deferred.fromCoroutine(self._retrieve(caller, wanted, Target("", back=back), task, progress))

    async def _retrieve(self, caller: Caller, wanted: Retrieval, target: Target, task: Task, progress: Progress) -> Retrieved:
        sources = sources_of(self._config(), caller.listener)
        held = await self.held(sources, wanted) if sources.spool else []
        moving = Moving(self.spool, self._expected, self.metrics, self.log, sources, target, task, progress)
        try:
            done = await moving.run(wanted, [self.archive(one, sources.patience) for one in sources.archives], held)
        finally:
            await target.close()
        counts = done.counts
        for outcome, count in (("completed", counts.completed), ("failed", counts.failed), ("warning", counts.warning)):
            self.metrics.suboperations.labels(caller.listener, outcome).inc(count)
        kind, to = ("C-MOVE", target.ae_title) if target.ae_title else ("C-GET", caller.ae_title)
        what = f"{counts.completed + counts.warning} sent, {counts.failed} failed, for {caller.ae_title}"
        with suppress(StoreError):
            studies, accessions = wanted.keys.get(STUDY, ()), {one.accession for one in held}
            await self.db.run("audit.retrieved", _note, studies, accessions, self._clock(), kind, caller.listener, to, what)
        return done

    async def deliver(self, study: str, source: Destination, target: Destination, patience: float, task: Task) -> Retrieved:
        """Have a study moved from one archive to another destination, for nobody who waits for it."""
        sources = Sources((source,), False, 0, True, patience, "archive", source.settings["calling_ae_title"])
        to = Target(target.settings["ae_title"], self._build(target))
        moving = Moving(self.spool, self._expected, self.metrics, self.log, sources, to, task, lambda counts: None)
        try:
            return await moving.run(Retrieval(STUDY_ROOT, STUDY, {STUDY: (study,)}), [self.archive(source, patience)], [])
        finally:
            await to.close()

    def archive(self, destination: Destination, patience: float) -> Archive:
        """Return the archive that a destination is."""
        return Archive(destination.name, destination.settings, self.reactor, self.metrics, self.log, patience)

    def absent(self, archive: Archive, why: str) -> None:
        """Note that an archive could not be asked."""
        self.metrics.archive_failures.labels(archive.name).inc()
        self.log.warning("archive cannot be asked", destination=archive.name, reason=why)

    async def held(self, sources: Sources, wanted: Retrieval) -> list[Kept]:
        """Return what of a retrieval is in the spool."""
        names = [one.name for one in sources.archives]
        rows = await self.db.read("spool.wanted", kept, names, wanted.keys, MOST_SENT)
        found: list[Kept] = await off_core(self.reactor, asked_for, wanted, rows, self.spool.path)
        return found

    async def entries(self, sources: Sources, query: Query) -> list[Dataset]:
        """Return what the spool knows of a query."""
        names = [one.name for one in sources.archives]
        by_series = query.level != IMAGE
        rows = await self.db.read("spool.query", kept, names, narrowed(query), MOST_LOOKED_AT, by_series=by_series)
        found: list[Dataset] = await off_core(self.reactor, entries, query, rows, self.spool.path)
        return found


class _Search:
    """One query under way."""

    def __init__(self, retrievals: Retrievals, sources: Sources, query: Query, task: Task, send: Send) -> None:
        self._of, self._sources, self._query, self._send = retrievals, sources, query, send
        self._task = Task()  # cancelled by the peer, or when there are enough
        task.watch(self._task.cancel)
        self._merging = Merging(query.level, len(sources.archives) + sources.spool)
        self._absent: list[str] = []
        self._sent = 0
        self._full = False

    async def run(self) -> Searched:
        asked: list[Coroutine[Any, Any, None]] = [self._ask(at, one) for at, one in enumerate(self._sources.archives)]
        if self._sources.spool:
            asked.append(self._look(len(self._sources.archives)))
        try:
            await together(asked)
        except BaseException:
            self._task.cancel()
            raise
        if self._full:
            return Searched(Status.OUT_OF_RESOURCES, f"more than {self._sources.limit} matches: narrow the query")
        if self._absent and (self._sources.strict or len(self._absent) == len(asked)):
            return Searched(Status.UNABLE_TO_PROCESS, f"no answer from {', '.join(self._absent)}")
        return Searched()

    async def _ask(self, at: int, destination: Destination) -> None:
        archive = self._of.archive(destination, self._sources.patience)
        try:
            async with archive:
                await archive.open(*dict.fromkeys((self._query.model.find, STUDY_ROOT.find)))
                model = self._query.model if archive.offers(self._query.model.find) else STUDY_ROOT
                if self._query.level in model.levels:
                    identifier = without(self._query.identifier, "RetrieveAETitle")  # which is the broker's in all answers
                    status = await archive.find(model, identifier, lambda found: self._take(at, found), self._task)
                    if status not in (Status.SUCCESS, Status.CANCELLED):
                        self._missed(archive, f"status 0x{status:04X}")
                else:
                    self._missed(archive, "it does not know this information model")
        except DeliveryError as error:
            self._missed(archive, str(error))
        await self._out(self._merging.end(at))

    def _missed(self, archive: Archive, why: str) -> None:
        if not self._task.cancelled:
            self._absent.append(archive.name)
            self._of.absent(archive, why)

    async def _look(self, at: int) -> None:
        found = await self._of.entries(self._sources, self._query)
        await self._take(at, found)
        await self._out(self._merging.end(at))

    async def _take(self, at: int, found: Sequence[Dataset]) -> None:
        ready = []
        for entry in found:
            if not self._full and not self._task.cancelled:
                ready += self._merging.take(at, entry)
                if self._merging.count > self._sources.limit:
                    self._full = True
                    self._task.cancel()
        await self._out(ready)

    async def _out(self, ready: Sequence[Dataset]) -> None:
        batch = list(ready[: self._sources.limit - self._sent])
        self._sent += len(batch)
        for entry in batch:
            entry.QueryRetrieveLevel, entry.RetrieveAETitle = self._query.level, self._sources.ae_title
        if batch:
            await self._send(batch)


def _note(
    tx: Transaction, studies: Sequence[str], accessions: set[str], at: float, kind: str, listener: str, target: str, what: str
) -> None:
    """Put a retrieval on the timelines of the exams it is of."""
    for study in studies:
        accessions.update(row[0] for row in tx.all("select accession from exams where study_uid = ?", (study,)))
    for accession in sorted(filter(None, accessions)):
        audit.note(tx, accession, at, "retrieved", kind, listener, target, None, what)
