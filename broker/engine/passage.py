"""One message inside the transaction that takes it in: what the routes may ask of the engine, and what they did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.config.models import Prefetch
from broker.engine import prefetchplan
from broker.engine.calls import Calls
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.model import Spooled
from broker.pipeline.functions import Function
from broker.ris import apply as ris
from broker.ris import performed
from broker.ris import view as views
from broker.ris.context import Completion, RisContext, SlotRules, Station
from broker.ris.entities import Exam, Instance, Performed, PerformedItem
from broker.ris.events import Event, Request, StoreInstance
from broker.store import attachments, audit, journal
from broker.store.database import Transaction
from broker.store.records import RecordStore

_NO_PREFETCH = Prefetch()


@dataclass(frozen=True, slots=True)
class Site:
    """What the configuration says of the site, as the RIS needs it."""

    authority: str
    new_uid: Callable[[], str]
    accession_format: str
    stations: tuple[Station, ...]
    slots: SlotRules
    calls: Calls = field(default_factory=Calls)
    prefetch: Prefetch = _NO_PREFETCH
    completion: Completion = field(default_factory=Completion)

    def ris(self, now: str, at: float, message_id: int) -> RisContext:
        """Return what the RIS is given for one request."""
        return RisContext(
            now=now,
            at=at,
            message_id=message_id,
            authority=self.authority,
            new_uid=self.new_uid,
            accession_format=self.accession_format,
            stations=self.stations,
            slots=self.slots,
            completion=self.completion,
        )


class Passage:
    """The context of one message (`pipeline.context.Context`); a fork of it handles one RIS event."""

    __slots__ = (
        "_at",
        "_count",
        "_event",
        "_message_id",
        "_parent",
        "_protect",
        "_records",
        "_site",
        "_tx",
        "_view",
        "events",
        "instance",
        "now",
        "spooled",
    )

    def __init__(
        self,
        tx: Transaction,
        protect: Callable[[], object],
        site: Site,
        message_id: int,
        now: str,
        at: float,
        spooled: Spooled | None = None,
        sent: int = 0,
        records: RecordStore | None = None,
    ) -> None:
        """`protect` is called before the first change to the store: what only passes through needs no savepoint.

        `sent`: how many messages this one has caused before, when it is routed once more. `records`: of its transaction,
        when other messages share it.
        """
        self.now, self.spooled = now, spooled
        self._protect: Callable[[], object] | None = protect
        self.events: list[Event] = []
        self._tx, self._site, self._message_id, self._at = tx, site, message_id, at
        self._records = records
        self._event: Event | None = None
        self._view: Mapping[str, Any] | None = None
        self._parent: Passage | None = None
        self.instance: Instance | None = None  # as the RIS has recorded the object that is taken in
        self._count = sent

    def of(self, event: Event) -> Passage:
        """Return the context of the channels that hear of this event."""
        child = Passage(self._tx, _nothing, self._site, self._message_id, self.now, self._at, self.spooled)
        child._records, child._event, child._parent = self._records, event, self
        return child

    def apply(self, request: Request) -> list[Event]:
        """Move the RIS inside the transaction and return what happened; raises MessageError."""
        context = self._site.ris(self.now, self._at, self._message_id)
        self._guard()
        if isinstance(request, StoreInstance):
            self.instance, events = ris.store(self.records, request, context)
        else:
            events = ris.apply(self.records, request, context)
        self.told(events)
        return events

    def told(self, events: Sequence[Event]) -> None:
        """Take in what has happened."""
        self.events += events
        if events:
            self._event, self._view = events[-1], None
        self._note(events)
        if events and self._site.prefetch.rules:
            prefetchplan.follow(self._tx, self.records, self._site.prefetch, events, self.now)

    @property
    def records(self) -> RecordStore:
        """The RIS entities in this transaction."""
        if self._records is None:
            self._records = RecordStore(self._tx)
        return self._records

    def view(self) -> Mapping[str, Any]:
        """Return what the RIS knows around the event that is handled, or around the last one that happened."""
        if self._view is None:
            self._view = views.view(self.records, self._event, self._message_id) if self._event else {}
        return self._view

    def find_exam(self, *, study_uid: str = "", accession: str = "") -> Mapping[str, Any] | None:
        """Return the view of the one exam with this Study Instance UID or accession number, None when there is none."""
        match = {"study_uid": study_uid} if study_uid else {"accession": accession}
        found = self.records.find(Exam, **match)
        return views.ExamView(self.records, found[0], self._message_id) if len(found) == 1 else None

    def exam(self, id: int, sps_id: str = "") -> Mapping[str, Any]:
        """Return the view of an exam, with the step of this id, or its only one, as `step`."""
        return views.ExamView(self.records, self.records.get(Exam, id), self._message_id, sps_id)

    def performed(self, uid: str) -> tuple[Performed, bytes] | None:
        """Return an MPPS and its attributes (explicit VR little endian), None when there is none with this SOP Instance UID."""
        return performed.kept(self.records, uid)

    def images(self, exam_id: int) -> tuple[list[Instance], tuple[str, ...]]:
        """Return the images of an exam, and the SOP Instance UIDs of what was performed for it."""
        steps = dict.fromkeys(item.performed_id for item in self.records.find(PerformedItem, exam_id=exam_id))
        return self.records.find(Instance, exam_id=exam_id), tuple(self.records.get(Performed, id).uid for id in steps)

    def control_id(self) -> str:
        """Return a new MSH-10: the number of the message that caused it, and a count."""
        if self._parent is not None:
            return self._parent.control_id()
        self._count += 1
        made = f"{self._message_id}.{self._count}"
        if len(made) > 20:
            raise MessageError("MSH-10", "a control id of more than 20 characters", 207)
        return made

    def call(self, function: Function, message: Message) -> Message:
        """Return the message as a function of the site leaves it; raises MessageError."""
        return self._site.calls.call(function, message)

    def keep_attachment(self, content: bytes) -> str:
        """Keep what was taken out of the message, inside the transaction, and return its SHA-256 in hex."""
        self._guard()
        return attachments.keep(self._tx, self._message_id, content)

    def _guard(self) -> None:
        """Make what follows undoable, before the first change to the store."""
        if self._protect is not None:
            self._protect()
            self._protect = None

    def _note(self, events: Sequence[Event]) -> None:
        patients = {event.patient_id for event in events if event.patient_id is not None}
        for patient_id in patients:
            journal.about(self._tx, self._message_id, patient_id)
        for event in events:
            if event.accession:
                kind = event.name.partition(".")[0]
                audit.note(self._tx, event.accession, self._at, event.name, kind, "ris", "", self._message_id, event.reason)


def _nothing() -> None:
    """What protects a context that only reads."""
