"""Prior studies are found at the archives and moved where they are wanted, before the exam starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from broker.config.models import Config, Destination, PrefetchRule
from broker.connectors.dicom_retrieval import Task
from broker.connectors.hours import hours_of
from broker.engine.clock import SiteClock
from broker.engine.prefetchplan import part_of
from broker.engine.priorsearch import Found, PriorSearch
from broker.engine.retrieval import Retrievals
from broker.errors import DeliveryError, Retry, StoreError
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.ris import patients, times
from broker.ris.entities import Exam, Patient, PatientIdentifier
from broker.store import audit, outbox, prefetches
from broker.store.database import Database, Transaction
from broker.store.prefetches import Prefetch
from broker.store.records import RecordStore

ROUND = 5.0  # seconds between two looks at what is due
LEASE = 30.0  # seconds for which one node does the fetching
QUEUE = "(prefetch)"  # the name of that lease: no destination is called so
FIRST, MOST = 30.0, 600.0  # seconds before the second attempt, and at most between two
_LOOKED_AT = 100  # prefetches read in one round

_OVER = frozenset({"cancelled", "discontinued"})  # states of an exam


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose priors are wanted, beside which exam."""

    exam: Exam
    patient: Patient
    identifiers: tuple[PatientIdentifier, ...]


class Prefetching:
    """Works through the prefetches, the next exam first (`connectors.base.Job`). Of several nodes one does it."""

    def __init__(
        self,
        retrievals: Retrievals,
        reactor: Any,
        db: Database,
        clock: SiteClock,
        config: Callable[[], Config],
        node: str,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._retrievals, self._reactor, self._db, self._clock = retrievals, reactor, db, clock
        self._config, self._node, self._metrics, self._log = config, node, metrics, log
        self._call = LoopingCall(self._round)
        self._call.clock = reactor
        self._running: dict[int, tuple[Task, Deferred[None]]] = {}

    def start(self) -> None:
        """Begin with what the store holds."""
        self._call.start(ROUND)

    def stop(self) -> Deferred[None]:
        """Give up the moves under way, which the next start begins anew; what was moved is known."""
        if self._call.running:
            self._call.stop()
        ending = []
        for task, done in tuple(self._running.values()):
            task.cancel()
            ending.append(done)
        return DeferredList(ending).addCallback(lambda _: None)

    def _round(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._look()).addErrback(self._could_not_look)

    def _could_not_look(self, failure: Failure) -> None:
        self._log.failure("prefetch failed", failure, what="the next round begins anew")

    async def _look(self) -> None:
        wanted = self._config().prefetch
        if not wanted.rules:
            return
        now = self._clock()
        until = self._text(now + wanted.ahead)
        claimed = await self._db.run("prefetch.due", self._claim, until, now)
        if claimed is None:
            return
        count, due = claimed
        self._metrics.prefetches_waiting.set(count)
        for one in due:
            if len(self._running) >= wanted.at_once or not self._call.running:
                return
            if one.id not in self._running and self._may_begin(one, now):
                self._begin(one)

    def _claim(self, tx: Transaction, until: str, now: float) -> tuple[int, list[Prefetch]] | None:
        if not outbox.lease(tx, QUEUE, self._node, now, LEASE):
            return None
        return prefetches.waiting(tx), prefetches.due(tx, until, now, _LOOKED_AT)

    def _may_begin(self, one: Prefetch, now: float) -> bool:
        """Whether these are the hours for it; an exam that begins before the next hours do cannot wait for them."""
        config = self._config()
        hours = hours_of(config.prefetch.hours, self._zone)
        wait = hours.wait(now) if hours else 0.0
        return not wait or now + wait > self._seconds(one.starts)

    def _begin(self, one: Prefetch) -> None:
        task = Task()
        done: Deferred[None] = Deferred()
        self._running[one.id] = (task, done)
        Deferred.fromCoroutine(self._work(one, task)).addErrback(self._crashed, one).addBoth(self._ended, one.id, done)

    def _crashed(self, failure: Failure, one: Prefetch) -> Deferred[None] | None:
        self._log.failure("prefetch failed", failure, accession=one.accession)
        if failure.check(StoreError):
            return None
        return self._put_off(one, f"internal error: {type(failure.value).__name__}").addErrback(lambda _: None)

    def _ended(self, _: object, id: int, done: Deferred[None]) -> None:
        del self._running[id]
        done.callback(None)

    async def _work(self, one: Prefetch, task: Task) -> None:
        config = self._config()
        rule = next((rule for rule in config.prefetch.rules if rule.name == one.rule), None)
        subject = await self._db.read("prefetch.subject", _subject, one.exam_id)
        if rule is None or subject is None or subject.exam.status in _OVER:
            await self._settle(one, "cancelled", "")
        elif self._clock() > self._seconds(one.starts) + config.prefetch.late:
            await self._settle(one, "late", "given up after the exam")
        else:
            try:
                await self._fetch(one, rule, subject, config, task)
            except DeliveryError as error:
                if not task.cancelled:
                    await self._put_off(one, str(error))

    async def _fetch(self, one: Prefetch, rule: PrefetchRule, subject: Subject, config: Config, task: Task) -> None:
        known = {destination.name: destination for destination in config.destinations}
        target, patience = known[rule.target], config.prefetch.patience
        archives = [self._retrievals.archive(known[name], patience) for name in rule.sources]
        search = PriorSearch(archives, rule.relevance, config.site.authority, task, self._log)
        found = await search.run(subject.patient, subject.identifiers, without=subject.exam.study_uid)
        chosen = rule.relevance.choose(
            subject.exam.modality,
            part_of(rule, subject.exam),
            [prior.study for prior in found.values()],
            count=rule.count,
            since=self._since(rule),
        )
        there = 0
        for place, study in enumerate(chosen, 1):
            if study.uid in one.moved:
                continue
            prior = found[study.uid]
            if await self._has(target, prior, patience, task):
                there += 1
                await self._note(one, study.uid, "")
            else:
                await self._move(prior, known[prior.archive], target, patience, task)
                self._metrics.priors.labels(rule.name).inc()
                what = f"{place} of {len(chosen)}: {' '.join(study.modalities)}, {study.instances or 'some'} images, from {prior.archive}"
                await self._note(one, study.uid, what, target.name)
        if search.failed:
            raise Retry(f"no answer from {', '.join(search.failed)}")
        await self._settle(one, "done", f"{len(chosen)} wanted, {there} there already" if chosen else "none is relevant", target.name)

    async def _has(self, target: Destination, prior: Found, patience: float, task: Task) -> bool:
        """Whether the target says that it has all of a study; one that cannot be asked is taken to have nothing."""
        archive = self._retrievals.archive(target, patience)
        search = PriorSearch([archive], None, "", task, self._log)
        count = await search.count(archive, prior.study.uid)
        return count is not None and count >= prior.study.instances

    async def _move(self, prior: Found, source: Destination, target: Destination, patience: float, task: Task) -> None:
        """Have a study moved; raises Retry when not all of it got there."""
        done = await self._retrievals.deliver(prior.study.uid, source, target, patience, task)
        if task.cancelled:
            raise Retry("the broker ends")
        if done.status != 0:
            raise Retry(done.comment or f"{prior.archive}: status 0x{done.status:04X}, {done.counts.failed} failed")

    # what becomes of it

    async def _note(self, one: Prefetch, study: str, what: str, target: str = "") -> None:
        def note(tx: Transaction) -> None:
            prefetches.is_there(tx, one.id, study)
            if what:
                audit.note(tx, one.accession, self._clock(), "prior.moved", "C-MOVE", "prefetch", target, None, what)

        await self._db.run("prefetch.moved", note)

    async def _settle(self, one: Prefetch, state: str, what: str, target: str = "") -> None:
        def settle(tx: Transaction) -> None:
            if prefetches.end(tx, one.id, state) and what:
                audit.note(tx, one.accession, self._clock(), f"priors.{state}", "C-MOVE", "prefetch", target, None, what)

        await self._db.run("prefetch.end", settle)
        self._metrics.prefetches.labels(one.rule, state).inc()

    def _put_off(self, one: Prefetch, why: str) -> Deferred[None]:
        """Try again later; the first failure is on the timeline."""
        self._log.warning("prefetch put off", accession=one.accession, reason=why, attempts=one.attempts + 1)

        def put_off(tx: Transaction) -> None:
            prefetches.failed(tx, one.id, why, self._clock() + min(FIRST * 2.0 ** min(one.attempts, 30), MOST))
            if not one.attempts:
                audit.note(tx, one.accession, self._clock(), "priors.waiting", "C-MOVE", "prefetch", "", None, why)

        return self._db.run("prefetch.failed", put_off)

    # the site's time

    @property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self._config().site.timezone)

    def _text(self, seconds: float) -> str:
        return datetime.fromtimestamp(seconds, self._zone).strftime("%Y%m%d%H%M")

    def _seconds(self, text: str) -> float:
        time = times.read(text)
        return time.replace(tzinfo=self._zone).timestamp() if time else 0.0

    def _since(self, rule: PrefetchRule) -> str:
        if rule.age is None:
            return ""
        return (datetime.fromtimestamp(self._clock(), self._zone) - timedelta(seconds=rule.age)).strftime("%Y%m%d")


def _subject(tx: Transaction, exam_id: int) -> Subject | None:
    records = RecordStore(tx)
    exam = records.one(Exam, id=exam_id)
    if exam is None or exam.patient_id is None:
        return None
    patient = records.get(Patient, exam.patient_id)
    return Subject(exam, patient, tuple(patients.identifiers_of(records, patient.id, retired=True)))
