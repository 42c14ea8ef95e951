"""What the broker shows of itself: the figures behind the console, the JSON interface and the command line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from prometheus_client.metrics import MetricWrapperBase
from twisted.internet.defer import Deferred

from broker.engine.again import Again
from broker.engine.clock import SiteClock
from broker.engine.couriers import Couriers
from broker.obs.metrics import Metrics
from broker.obs.status import (
    ChannelStatus,
    ConfigurationStatus,
    DeliveryItem,
    DestinationStatus,
    ExamItem,
    ListenerStatus,
    MessageFilter,
    MessageItem,
    Overview,
    ParkedItem,
    Readiness,
    SpoolStatus,
    Trace,
    UnmatchedItem,
)
from broker.ris.entities import Exam, Unmatched
from broker.store import audit, journal, outbox
from broker.store.audit import answer_code
from broker.store.database import Database, Transaction
from broker.store.records import RecordStore, exam_counts, unmatched_counts

SCREENFUL = 50  # entries of a list


@dataclass(frozen=True, slots=True)
class Part:
    """A listener, channel or destination as it is configured: what the figures are about."""

    name: str
    kind: str  # of a connector; the source of a channel
    place: str  # address; the route file of a channel


@dataclass(frozen=True, slots=True)
class Figures:
    """What the store holds, read in one transaction."""

    depths: Mapping[str, tuple[int, float]]
    exams: Mapping[str, int]
    unmatched: Mapping[str, int]


class Status:
    """Answers `web.status.Status` from the store and the metrics."""

    def __init__(
        self,
        db: Database,
        clock: SiteClock,
        metrics: Metrics,
        site: str,
        version: str,
        channels: Sequence[Part],
        destinations: Sequence[Part],
        listeners: Callable[[], Sequence[tuple[Part, bool]]],
        again: Again,
        couriers: Couriers,
        configuration: Callable[[], Awaitable[ConfigurationStatus]],
        spool: Callable[[], SpoolStatus] = SpoolStatus,
    ) -> None:
        self._again, self._couriers, self._configuration, self._spool = again, couriers, configuration, spool
        self._db, self._clock, self._metrics = db, clock, metrics
        self._site, self._version, self._started = site, version, clock()
        self._channels, self._destinations, self._listeners = channels, destinations, listeners
        self.draining = False

    async def status(self) -> Overview:
        """Return the broker as it is now."""
        return replace(self._shown(await self._db.read("status.overview", _overview)), configuration=await self._configuration())

    def configure(self, site: str, channels: Sequence[Part], destinations: Sequence[Part]) -> None:
        """Show these from now on, and no gauge of a destination that is none any more."""
        for gone in {part.name for part in self._destinations} - {part.name for part in destinations}:
            for gauge in (self._metrics.queue_depth, self._metrics.queue_age, self._metrics.destination_up, self._metrics.peer_up):
                with suppress(KeyError):
                    gauge.remove(gone)
        self._site, self._channels, self._destinations = site, channels, destinations

    def connections(self) -> dict[str, int]:
        """Return how many connections each listener has open."""
        m = self._metrics
        return {part.name: _value(m.connections, part.name) + _value(m.associations, part.name) for part, _ in self._listeners()}

    def trace(self, accession: str) -> Deferred[Trace]:
        """Fire with the timeline of an accession."""
        return self._db.read("status.trace", trace, accession)

    def messages(self, filters: MessageFilter) -> Deferred[list[MessageItem]]:
        """Fire with the messages of the journal that match, newest first."""
        return self._db.read("status.messages", messages, filters)

    def deliveries(self, message_id: int) -> Deferred[list[DeliveryItem]]:
        """Fire with the deliveries of a message."""
        return self._db.read("status.deliveries", deliveries, message_id)

    def again(self, message_id: int) -> Deferred[str]:
        """Route a parked message once more and fire with its state; fails with LookupError or MessageError."""
        return self._again.route(message_id).addCallback(lambda accepted: accepted.verdict.state if accepted.verdict else "")

    def resend(self, delivery_id: int) -> Deferred[str]:
        """Let a delivery wait again and fire with its destination; fails with LookupError."""
        return self._db.run("outbox.resend", outbox.resend, delivery_id, self._clock()).addCallback(self._couriers.rescan)

    async def ready(self) -> Readiness:
        """Return whether the store answers and every listener is bound."""
        return Readiness(
            self._db.failed is None and self._db.reached, {part.name: bound for part, bound in self._listeners()}, self.draining
        )

    def refresh(self) -> Deferred[None]:
        """Bring the gauges that mirror the store up to date."""
        return self._db.read("status.gauges", _figures).addCallback(self._set_gauges)

    def _set_gauges(self, figures: Figures) -> None:
        now = self._clock()
        for part in self._destinations:
            depth, oldest = figures.depths.get(part.name, (0, now))
            self._metrics.queue_depth.labels(part.name).set(depth)
            self._metrics.queue_age.labels(part.name).set(max(0.0, now - oldest))
        for gauge, counts in ((self._metrics.exams, figures.exams), (self._metrics.unmatched, figures.unmatched)):
            gauge.clear()
            for label, count in counts.items():
                gauge.labels(label).set(count)

    def _shown(self, found: tuple[Figures, list[ParkedItem], int, list[UnmatchedItem], list[ExamItem]]) -> Overview:
        figures, parked, parked_total, unmatched, recent = found
        return Overview(
            site=self._site,
            version=self._version,
            started_at=self._started,
            now=self._clock(),
            listeners=tuple(self._listener(part, bound) for part, bound in self._listeners()),
            channels=tuple(self._channel(part) for part in self._channels),
            destinations=tuple(self._destination(part, figures) for part in self._destinations),
            exams=figures.exams,
            recent=tuple(recent),
            parked=tuple(parked),
            parked_total=parked_total,
            unmatched=tuple(unmatched),
            unmatched_total=sum(figures.unmatched.values()),
            spool=self._spool(),
        )

    def _listener(self, part: Part, bound: bool) -> ListenerStatus:
        m = self._metrics
        return ListenerStatus(
            part.name,
            part.kind,
            part.place,
            bound,
            connections=_value(m.connections, part.name) + _value(m.associations, part.name),
            received=_by_label(m.received, part.name),
            acknowledged=_by_label(m.acknowledged, part.name),
            duplicates=_value(m.duplicates, part.name),
        )

    def _channel(self, part: Part) -> ChannelStatus:
        m = self._metrics
        return ChannelStatus(part.name, part.kind, part.place, _value(m.routed, part.name), _value(m.filtered, part.name))

    def _destination(self, part: Part, figures: Figures) -> DestinationStatus:
        m = self._metrics
        now = self._clock()
        depth, oldest = figures.depths.get(part.name, (0, now))
        delivered, retried, parked = (_value(metric, part.name) for metric in (m.delivered, m.retried, m.parked))
        return DestinationStatus(
            part.name,
            part.kind,
            part.place,
            up=_both(bool(_value(m.destination_up, part.name)) if delivered or retried or parked else None, _known(m.peer_up, part.name)),
            waiting=depth,
            oldest_seconds=max(0.0, now - oldest),
            delivered=delivered,
            retried=retried,
            parked=parked,
        )


def trace(tx: Transaction, accession: str) -> Trace:
    """Return the timeline of an accession."""
    return Trace(accession, tuple(audit.timeline(tx, accession)))


def messages(tx: Transaction, filters: MessageFilter) -> list[MessageItem]:
    """Return the messages of the journal that match, newest first."""
    rows = journal.search(
        tx,
        listener=filters.listener or None,
        kind=filters.kind or None,
        state=filters.state or None,
        accession=filters.accession or None,
        since=filters.since,
        limit=filters.limit,
    )
    return [
        MessageItem(
            row.id, row.received_at, row.listener, row.protocol, row.kind, row.sender, row.peer, row.control_id, row.state,
            answer_code(row.answer), row.accession, row.reason,
        )
        for row in rows
    ]  # fmt: skip


def deliveries(tx: Transaction, message_id: int) -> list[DeliveryItem]:
    """Return the deliveries of a message, in the order in which they were queued."""
    return [
        DeliveryItem(
            row.id, row.message_id, row.destination, row.channel, row.kind, row.control_id, row.state, row.attempts, row.queued_at,
            row.settled_at, row.answer, row.reason,
        )
        for row in outbox.of_message(tx, message_id)
    ]  # fmt: skip


def _figures(tx: Transaction) -> Figures:
    return Figures(outbox.depths(tx), exam_counts(tx), unmatched_counts(tx))


def _overview(tx: Transaction) -> tuple[Figures, list[ParkedItem], int, list[UnmatchedItem], list[ExamItem]]:
    parked, total = _parked(tx)
    return _figures(tx), parked, total, _unmatched(tx), _recent(tx)


def _parked(tx: Transaction) -> tuple[list[ParkedItem], int]:
    rows = journal.search(tx, state="parked", limit=SCREENFUL)
    items = [ParkedItem("message", row.id, row.received_at, row.listener, row.kind, row.accession, row.reason) for row in rows]
    for delivery in outbox.parked(tx, SCREENFUL):
        at = delivery.settled_at or delivery.queued_at
        items.append(ParkedItem("delivery", delivery.id, at, delivery.destination, delivery.kind, delivery.accession, delivery.reason))
    items.sort(key=lambda item: item.at, reverse=True)
    return items[:SCREENFUL], journal.parked_count(tx) + outbox.parked_count(tx)


def _unmatched(tx: Transaction) -> list[UnmatchedItem]:
    found = RecordStore(tx).find(Unmatched, resolved_at=None)[-SCREENFUL:]
    return [UnmatchedItem(u.id, u.first_at, u.kind, u.key, u.accession, u.reason, u.message_id) for u in reversed(found)]


def _recent(tx: Transaction) -> list[ExamItem]:
    records = RecordStore(tx)
    accessions = audit.recent(tx, SCREENFUL)
    exams = [exam for accession in accessions for exam in records.find(Exam, accession=accession)]
    return [
        ExamItem(e.accession, e.status, e.report_status, e.modality, e.procedure_code, e.priority, e.scheduled_at, e.images) for e in exams
    ]


def _both(*seen: bool | None) -> bool | None:
    """Return whether all that is known is good; None when nothing is."""
    known = [one for one in seen if one is not None]
    return all(known) if known else None


def _known(gauge: MetricWrapperBase, name: str) -> bool | None:
    values = _by_label(gauge, name)
    return any(values.values()) if values else None


def _value(metric: MetricWrapperBase, name: str) -> int:
    """Return the metric's value where its first label is `name`, 0 when there is none."""
    return sum(_by_label(metric, name).values())


def _by_label(metric: MetricWrapperBase, name: str) -> dict[str, int]:
    """Return the metric's values where its first label is `name`, by the last label."""
    found: dict[str, int] = defaultdict(int)
    for family in metric.collect():
        for sample in family.samples:
            labels = list(sample.labels.values())
            if labels[:1] == [name] and not sample.name.endswith("_created"):
                found[labels[-1]] += int(sample.value)
    return dict(found)
