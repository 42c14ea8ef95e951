"""A configuration that was checked: frozen, complete, and compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from broker.config.sources import Source, digest
from broker.errors import Problem
from broker.model import Protocol
from broker.pipeline.route import Route
from broker.pipeline.tables import Table
from broker.ris.context import Completion, Station
from broker.ris.priors import Relevance
from broker.spec import Capacity

Unmatched = Literal["reject", "park", "drop"]
Reload = Literal["on_request", "on_change"]
RIS = "ris"  # the source of channels that hear what happens in the department


@dataclass(frozen=True, slots=True)
class Site:
    """Whose broker this is."""

    name: str
    authority: str  # assigning authority of identifiers that name none
    timezone: str  # IANA name
    application: str  # MSH-3 of what the broker builds
    accession: str  # format with {number}
    uid_root: str  # "" lets the broker make UUID-derived UIDs (2.25)


@dataclass(frozen=True, slots=True)
class Web:
    """Where metrics, health and the API are."""

    port: int
    bind: str


@dataclass(frozen=True, slots=True)
class SpoolPolicy:
    """How much room the objects of the spool take, and when they go; times in seconds."""

    budget: Capacity
    low: float  # of the budget
    high: float  # of the budget
    free: Capacity
    keep: float
    age: float | None
    unfinished: float
    urgent: tuple[str, ...]  # calling AE titles


@dataclass(frozen=True, slots=True)
class Listener:
    """Something that receives; `settings` are those its Spec declares, complete and converted."""

    name: str
    kind: str  # "mllp", "dicom"
    settings: Mapping[str, Any]
    unmatched: Unmatched  # what happens to a message that no channel accepts
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Destination:
    """Something that delivers; `settings` are those its Spec declares, complete and converted."""

    name: str
    kind: str
    settings: Mapping[str, Any]
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Channel:
    """A route under a name, fed by a listener or by the RIS; messages run through all that accept them, in the order of the file."""

    name: str
    source: str  # a listener's name, or RIS
    protocol: Protocol
    route: Route
    cases: Path | None  # the file with the route's cases
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class PrefetchRule:
    """Which prior studies of which exams are moved where; an empty choice takes all."""

    name: str
    events: tuple[str, ...]
    modalities: tuple[str, ...]
    parts: tuple[str, ...]
    procedures: tuple[str, ...]
    sources: tuple[str, ...]  # destinations that are searched, the preferred one first
    target: str  # destination
    count: int
    age: float | None  # seconds
    relevance: Relevance


@dataclass(frozen=True, slots=True)
class Prefetch:
    """What is fetched ahead of exams."""

    rules: tuple[PrefetchRule, ...] = ()
    ahead: float = 0.0  # seconds
    late: float = 0.0  # seconds
    at_once: int = 1
    patience: float = 60.0  # seconds
    hours: tuple[str, ...] = ()  # of the week, in the site's time zone: `connectors.hours`


@dataclass(frozen=True, slots=True)
class Config:
    """What `channels.yaml` and the files it names say."""

    file: Path
    version: int
    site: Site
    data: Path
    store: str  # "sqlite" or a postgresql:// URL
    node: str
    web: Web
    tables: Mapping[str, Table]
    stations: tuple[Station, ...]
    listeners: tuple[Listener, ...]
    destinations: tuple[Destination, ...]
    channels: tuple[Channel, ...]
    spool: SpoolPolicy
    callbacks: tuple[Destination, ...] = ()  # peers of listeners that are called back with what they asked for
    prefetch: Prefetch = Prefetch()
    completion: Completion = field(default_factory=Completion)
    senders: Mapping[str, str] = field(default_factory=dict)  # calling AE title -> destination that is asked what it has
    reload: Reload = "on_request"
    sources: tuple[Source, ...] = ()  # every file it was read from
    warnings: tuple[Problem, ...] = ()

    @property
    def queues(self) -> tuple[Destination, ...]:
        """Return everything that deliveries wait for."""
        return self.destinations + self.callbacks

    @property
    def digest(self) -> str:
        """Return what tells this configuration from any other: of the content of all its files but the secrets."""
        return digest(self.sources)
