"""What the console and the JSON interface show: plain values, free of patient data.

They stand here, below the engine that fills them and the web pages that show them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.model import Entry


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """One listener since the broker started; `received` leaves out retransmissions, which are `duplicates`."""

    name: str
    kind: str  # "mllp", "dicom"
    address: str  # "127.0.0.1:2575", the port it is really bound to
    bound: bool
    connections: int = 0
    received: Mapping[str, int] = field(default_factory=dict)  # kind -> how many: {"ORM^O01": 12}, {"C-STORE": 90}
    acknowledged: Mapping[str, int] = field(default_factory=dict)  # code -> how many answers, of duplicates too: {"AA": 13, "AE": 1}
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """One channel since the broker started."""

    name: str
    source: str  # the listener, or "ris"
    route: str
    routed: int = 0  # messages, objects and events it accepted
    dropped: int = 0  # of these, dropped on purpose


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """One destination; `waiting` and `oldest_seconds` are of now, the counts since the broker started."""

    name: str
    kind: str  # "mllp", "dicom"
    address: str  # "127.0.0.1:4242"
    up: bool | None = None  # None: nothing was sent yet
    waiting: int = 0
    oldest_seconds: float = 0.0
    delivered: int = 0
    retried: int = 0
    parked: int = 0


@dataclass(frozen=True, slots=True)
class ParkedItem:
    """A message (could not be applied) or a delivery (was refused) that waits for a person."""

    what: str  # "message", "delivery"
    id: int
    at: float  # seconds since the epoch
    where: str  # the listener or the destination
    kind: str
    accession: str
    reason: str


@dataclass(frozen=True, slots=True)
class UnmatchedItem:
    """An open entry of the reconciliation list."""

    id: int
    at: float  # seconds since the epoch
    kind: str  # images, performed, report
    key: str
    accession: str
    reason: str
    message_id: int


@dataclass(frozen=True, slots=True)
class CandidateItem:
    """An exam that an entry of the reconciliation list fits, and why in words."""

    accession: str
    score: int  # 100 is as good as certain
    reasons: tuple[str, ...]
    modality: str
    procedure_code: str
    scheduled_at: str
    status: str


@dataclass(frozen=True, slots=True)
class EntryItem:
    """An entry of the reconciliation list with the exams that fit it, the likeliest first."""

    id: int
    at: float  # seconds since the epoch
    kind: str
    key: str
    accession: str
    reason: str
    message_id: int
    images: int  # that wait
    state: str  # open, closed
    candidates: tuple[CandidateItem, ...] = ()


@dataclass(frozen=True, slots=True)
class CorrectionItem:
    """What a person has done about an entry or a study."""

    id: int
    what: str  # linked, corrected, released, moved
    accession: str  # of the exam, "" without one
    images: int
    sent: int  # messages and rejection notes that follow from it; the images themselves are not counted


@dataclass(frozen=True, slots=True)
class ExamItem:
    """An exam that something happened to lately."""

    accession: str
    status: str
    report_status: str
    modality: str
    procedure_code: str
    priority: str
    scheduled_at: str
    images: int


@dataclass(frozen=True, slots=True)
class ConfigurationStatus:
    """Which configuration runs, and whether its folder still says the same."""

    version: int = 0
    digest: str = ""  # of its files
    applied_at: float = 0.0  # seconds since the epoch
    by: str = ""
    comment: str = ""
    of: int | None = None  # the version that a rollback took up again
    differing: tuple[str, ...] = ()  # files that are other on disk
    path: str = ""  # the channels file that is compared


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """How full the spool is."""

    objects: int = 0
    size: int = 0  # bytes
    room: int = 0  # bytes it may hold now
    level: str = "open"  # open; low: what nobody needs goes; high: only urgent exams get in; full: nothing gets in


@dataclass(frozen=True, slots=True)
class Overview:
    """The broker at one moment; the lists hold the newest entries first and at most a screenful, the totals count all."""

    site: str
    version: str
    started_at: float  # seconds since the epoch
    now: float
    listeners: tuple[ListenerStatus, ...] = ()
    channels: tuple[ChannelStatus, ...] = ()
    destinations: tuple[DestinationStatus, ...] = ()
    exams: Mapping[str, int] = field(default_factory=dict)  # status -> how many
    recent: tuple[ExamItem, ...] = ()
    parked: tuple[ParkedItem, ...] = ()
    parked_total: int = 0
    unmatched: tuple[UnmatchedItem, ...] = ()
    unmatched_total: int = 0
    configuration: ConfigurationStatus = ConfigurationStatus()
    spool: SpoolStatus = SpoolStatus()


@dataclass(frozen=True, slots=True)
class Trace:
    """The timeline of one accession, in time order; without entries nothing is known of it."""

    accession: str
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages of the journal to list, newest first; an empty text or None does not narrow."""

    listener: str = ""
    kind: str = ""
    state: str = ""
    accession: str = ""
    since: float | None = None  # seconds since the epoch
    limit: int = 100


@dataclass(frozen=True, slots=True)
class MessageItem:
    """One row of the journal without the message itself."""

    id: int
    received_at: float  # seconds since the epoch
    listener: str
    protocol: str
    kind: str
    sender: str
    peer: str
    control_id: str
    state: str
    code: str  # of the answer: AA, AE, AR, 0x0000
    accession: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryItem:
    """One delivery without its payload."""

    id: int
    message_id: int
    destination: str
    channel: str
    kind: str
    control_id: str
    state: str  # waiting, delivered, parked
    attempts: int
    queued_at: float  # seconds since the epoch
    settled_at: float | None
    answer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the broker can take what is sent to it, and what is missing."""

    store: bool
    listeners: Mapping[str, bool] = field(default_factory=dict)  # name -> bound
    draining: bool = False

    @property
    def ready(self) -> bool:
        """Return whether the store is open and every listener bound."""
        return self.store and not self.draining and all(self.listeners.values())
