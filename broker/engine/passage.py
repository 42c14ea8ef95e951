"""One message inside the transaction that takes it in: what the routes may ask of the engine, and what they did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.engine.calls import Calls
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.model import Spooled
from broker.pipeline.functions import Function
from broker.ris import apply as ris
from broker.ris import view as views
from broker.ris.context import RisContext, SlotRules, Station
from broker.ris.entities import Exam, Instance
from broker.ris.events import Event, Request, StoreInstance
from broker.store import attachments, audit, journal
from broker.store.database import Transaction
from broker.store.records import RecordStore


@dataclass(frozen=True, slots=True)
class Site:
    """What the configuration says of the site, as the RIS needs it."""

    authority: str
    new_uid: Callable[[], str]
    accession_format: str
    stations: tuple[Station, ...]
    slots: SlotRules
    calls: Calls = field(default_factory=Calls)


class Passage:
    """The context of one message (`pipeline.context.Context`); a fork of it handles one RIS event."""

    __slots__ = (
        "_at",
        "_count",
        "_event",
        "_message_id",
        "_parent",
        "_placed",
        "_protect",
        "_records",
        "_site",
        "_tx",
        "_view",
        "events",
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
    ) -> None:
        """`protect` is called before the first change to the store: what only passes through needs no savepoint.

        `sent`: how many messages this one has caused before, when it is routed once more.
        """
        self.now, self.spooled = now, spooled
        self._protect: Callable[[], object] | None = protect
        self.events: list[Event] = []
        self._tx, self._site, self._message_id, self._at = tx, site, message_id, at
        self._records: RecordStore | None = None
        self._event: Event | None = None
        self._view: Mapping[str, Any] | None = None
        self._parent: Passage | None = None
        self._placed = ""  # UID of the instance the RIS has placed, or could not place
        self._count = sent

    def of(self, event: Event) -> Passage:
        """Return the context of the channels that hear of this event."""
        child = Passage(self._tx, _nothing, self._site, self._message_id, self.now, self._at, self.spooled)
        child._records, child._event, child._parent = self._records, event, self
        return child

    def apply(self, request: Request) -> list[Event]:
        """Move the RIS inside the transaction and return what happened; raises MessageError."""
        context = RisContext(
            now=self.now,
            at=self._at,
            message_id=self._message_id,
            authority=self._site.authority,
            new_uid=self._site.new_uid,
            accession_format=self._site.accession_format,
            stations=self._site.stations,
            slots=self._site.slots,
        )
        self._guard()
        events = ris.apply(self.records, request, context)
        if isinstance(request, StoreInstance):
            self._placed = request.uid
        self.events += events
        if events:
            self._event, self._view = events[-1], None
        self._note(events)
        return events

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
        """Return the view of the one exam with this Study Instance UID or accession number.

        An image that the RIS could not place belongs to no exam, whatever its header says: its patient may be another one.
        """
        if self._placed and not self._is_placed():
            return None
        match = {"study_uid": study_uid} if study_uid else {"accession": accession}
        found = self.records.find(Exam, **match)
        if len(found) != 1:
            return None
        exam = found[0]
        event = Event("exam", patient_id=exam.patient_id, order_id=exam.order_id, exam_id=exam.id, accession=exam.accession)
        return views.view(self.records, event, self._message_id)

    def _is_placed(self) -> bool:
        instance = self.records.one(Instance, uid=self._placed)
        return instance is not None and instance.exam_id is not None

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

    def _note(self, events: list[Event]) -> None:
        patients = {event.patient_id for event in events if event.patient_id is not None}
        for patient_id in patients:
            journal.about(self._tx, self._message_id, patient_id)
        for event in events:
            if event.accession:
                kind = event.name.partition(".")[0]
                audit.note(self._tx, event.accession, self._at, event.name, kind, "ris", "", self._message_id, event.reason)


def _nothing() -> None:
    """What protects a context that only reads."""
