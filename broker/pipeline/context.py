"""What the engine gives to a route while it runs, and what the route gives back."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from broker.hl7.message import Message
from broker.model import Outgoing, Spooled
from broker.pipeline.functions import Function
from broker.pipeline.header import Header
from broker.pipeline.references import Scope
from broker.pipeline.subject import EventSubject
from broker.ris.entities import Instance, Performed
from broker.ris.events import Event, Request


class Context(Protocol):
    """One received message (or one RIS event) inside the transaction that takes it in.

    The engine makes one per message and passes it to every route that accepts the message.
    """

    @property
    def now(self) -> str:
        """The time as an HL7 timestamp in the site's time zone, the same for the whole message."""

    @property
    def spooled(self) -> Spooled | None:
        """The stored object of a C-STORE."""

    def apply(self, request: Request) -> list[Event]:
        """Move the RIS inside the transaction and return what happened; raises MessageError.

        The engine hands the events to the channels that are `from: ris`, after the route has run, in the same transaction.
        """

    def view(self) -> Mapping[str, Any]:
        """Return `ris.view.view` of the event a `from: ris` route handles, or of the last event that `apply` returned; {} before."""

    @property
    def instance(self) -> Instance | None:
        """What the RIS keeps of the object, with the exam where it has placed it; None before `apply` has recorded it."""

    def exam(self, id: int, sps_id: str = "") -> Mapping[str, Any]:
        """Return the view of an exam, with the step of this id, or its only one, as `step`."""

    def find_exam(self, *, study_uid: str = "", accession: str = "") -> Mapping[str, Any] | None:
        """Return the view of the one exam with this Study Instance UID or accession number, None when there is none."""

    def performed(self, uid: str) -> tuple[Performed, bytes] | None:
        """Return an MPPS and its attributes (explicit VR little endian), None when there is none with this SOP Instance UID."""

    def images(self, exam_id: int) -> tuple[list[Instance], tuple[str, ...]]:
        """Return the images of an exam, and the SOP Instance UIDs of what was performed for it."""

    def control_id(self) -> str:
        """Return a new, unique MSH-10 of at most 20 characters."""

    def call(self, function: Function, message: Message) -> Message:
        """Return the message as a function of the site leaves it; raises MessageError that names its place, nothing of the message."""

    def keep_attachment(self, content: bytes) -> str:
        """Keep what was taken out of the message, inside the transaction, and return its SHA-256 in hex."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The message goes no further in this route, on purpose."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is sent until a person has said where the object belongs; the engine parks the message."""

    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a route asks for. `dropped` or `held` say why nothing is sent."""

    outgoing: tuple[Outgoing, ...] = ()
    dropped: str = ""
    held: str = ""
    accession: str = ""


AnySubject = Message | Header | EventSubject


@dataclass(slots=True)
class Work:
    """One pass of one message through the steps of one route."""

    subject: Any  # Message, Header or EventSubject, as the route's protocol says; steps were compiled for it
    context: Context
    site: Mapping[str, str]
    exam: Mapping[str, Any] | None = None  # the view that `link` found
    accession: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def scope(self) -> Scope:
        """Return what references are resolved against."""
        own = {"subject": self.subject, "site": self.site, "now": self.context.now, **self.extra}
        if self.exam is None:
            return {**self.context.view(), **own}
        return ChainMap(own, self.exam)  # type: ignore[arg-type]  # the view is only read, and reads no more than is asked of it


Step = Callable[[Work], Drop | Hold | None]
