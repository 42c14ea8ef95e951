"""The frozen values that cross packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Protocol = Literal["hl7", "dicom", "ris"]


@dataclass(frozen=True, slots=True)
class Spooled:
    """One DICOM object as received, durable in the spool under a name the broker generated."""

    name: str
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    size: int  # bytes of the file
    digest: str  # hex, of the dataset as received


@dataclass(frozen=True, slots=True)
class Received:
    """One thing that arrived on a listener: an HL7 message, a DICOM object or a DICOM request."""

    listener: str
    protocol: Protocol
    kind: str  # "ORM^O01", "C-STORE", "N-CREATE", "N-SET", "C-FIND"
    sender: str  # who sent it: "MSH-3|MSH-4", or the calling AE title
    peer: str  # the address it came from, "127.0.0.1:50112"
    control_id: str  # MSH-10, or the SOP Instance UID
    raw: bytes  # as received; for C-STORE the header up to the pixel data is in the spool and this is empty
    digest: str  # hex, of the content; tells a retransmission from another message under the same id
    spooled: Spooled | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One delivery a route asks for."""

    destination: str
    lane: str  # deliveries of one lane keep their order
    channel: str
    kind: str  # "ADT^A04", "C-STORE"
    payload: bytes  # the HL7 message, or the JSON of `StoreRequest`
    control_id: str = ""  # MSH-10 of the outgoing message; a resend keeps it
    accession: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One row of the outbox, claimed for sending."""

    id: int
    message_id: int
    destination: str
    lane: str
    channel: str
    kind: str
    payload: bytes
    control_id: str
    accession: str
    attempts: int


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What a C-STORE delivery sends: a spooled object and the header attributes to set on the way out."""

    spooled: Spooled
    changes: Mapping[str, str] = field(default_factory=dict)  # path (dicom.path) -> value, "" empties
    reason: str = "COERCE"  # Reason for the Attribute Modification (0400,0565)
    removals: tuple[str, ...] = ()  # of the paths in `changes`, those that go away instead of being emptied
    source: str = ""  # who sent the object: Source of Previous Values (0400,0564)
    reissue: str = ""  # of a corrected copy: what the UIDs of its study are made from; its own are among the changes
    originator: tuple[str, int] = ("", 0)  # who asks for it by C-MOVE, and the message id of that


@dataclass(frozen=True, slots=True)
class Journaled:
    """One row of the journal."""

    id: int
    received_at: float  # seconds since the epoch
    listener: str
    protocol: str
    kind: str
    sender: str
    peer: str
    control_id: str
    digest: str
    raw: bytes
    state: str  # see the comments of the table `message`
    answer: bytes
    reason: str
    accession: str
    spool: str = ""  # the name of its object, as long as the spool has it


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the timeline of an accession."""

    at: float  # seconds since the epoch
    what: str  # "received", "answered", "delivered", "parked", "exam.scheduled", "worklist", …
    kind: str  # "ORM^O01", "C-FIND", "exam"
    source: str
    target: str
    message_id: int | None
    detail: str  # free of patient data


@dataclass(frozen=True, slots=True)
class Change:
    """One place where two versions of a message or header differ."""

    path: str  # "PID-3.4", "OBX[2]" for a whole segment, "PatientName" in DICOM
    before: str  # "" when there was nothing
    after: str
    kind: Literal["changed", "added", "removed", "moved"]  # moved: a whole segment, which stands among others now

    @classmethod
    def between(cls, path: str, before: str, after: str) -> Change:
        """Return what happened to a value that stayed in its place."""
        return cls(path, before, after, "added" if not before else "changed" if after else "removed")
