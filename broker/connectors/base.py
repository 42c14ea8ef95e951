"""What a connector offers to the engine, and what the engine offers to a connector."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from broker.hl7 import charset
from broker.hl7.recode import POLICIES
from broker.model import Delivery, Spooled
from broker.spec import Option

RETRY = Option(
    "retry",
    "mapping",
    "When a delivery that could not be made is tried again, and when it is parked for a person.",
    default={},
    example={"first": "1s", "most": "5m", "park_after": "24h"},
    options=(
        Option("first", "duration", "Wait before the second attempt; each further wait is twice as long.", default="1s", example="1s"),
        Option("most", "duration", "Longest wait between two attempts.", default="5m", example="5m"),
        Option("park_after", "duration", "Time after which a failing delivery is parked; never when absent.", default=None, example="24h"),
    ),
)

READ_IN = (
    Option("charset", "text", "Character set of messages whose MSH-18 names none.", charset.DEFAULT, choices=charset.NAMES),
    Option("fallback", "text", "Character set of bytes that do not decode.", charset.FALLBACK, choices=charset.SINGLE_BYTE),
)

WRITTEN_IN = (
    Option(
        "charset",
        "text",
        "Character set that messages are sent in, named in their MSH-18; without it, each in its own.",
        default=None,
        choices=charset.NAMES,
        example="8859/1",
    ),
    Option(
        "unencodable",
        "text",
        "What happens to a character that `charset` does not have: `refuse` answers the sender AE with its place, `transliterate` "
        "writes the nearest and refuses where there is none, `escape` writes `\\X..\\` with its UTF-8 bytes.",
        default="refuse",
        choices=tuple(POLICIES),
    ),
)


Defer = Callable[..., Deferred[Any]]  # calls a function with its arguments on another thread
Later = Callable[[bytes], None] | None  # sends a further answer over the connection that a message came by


class Listener(Protocol):
    """Something that receives: it binds when started and lets open work finish when stopped."""

    name: str

    def start(self) -> Deferred[str]:
        """Bind, and fire with what to show a person: "mllp 127.0.0.1:2575"; fails with OSError when it cannot bind."""

    def stop(self) -> Deferred[None]:
        """Take nothing new, answer what is being worked on, close."""


class Destination(Protocol):
    """Something that delivers, `width` deliveries at a time."""

    name: str
    width: int

    def send(self, delivery: Delivery) -> Deferred[str]:
        """Fire with the peer's answer ("AA", "0x0000"); fail with `Retry` or `Refused`."""

    def close(self) -> Deferred[None]:
        """Close the connection; a later `send` opens it again."""


class Hl7Intake(Protocol):
    """Where an HL7 listener hands over what it received."""

    def receive_hl7(self, listener: str, peer: str, raw: bytes, later: Later = None) -> Deferred[bytes]:
        """Fire with the answer (an unframed ACK) once the message is durable; b"" means that none is due.

        `later` sends an application acknowledgment that follows it over the same connection (enhanced mode).
        Fails with `StoreError` when nothing could be kept: the connection must then close without an answer.
        """


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of an association."""

    listener: str
    ae_title: str  # calling
    called: str
    peer: str  # "127.0.0.1:50112"


class DicomIntake(Protocol):
    """Where a DICOM listener hands over what it received; each fires with a DIMSE status after the commit."""

    def receive_instance(self, caller: Caller, spooled: Spooled) -> Deferred[int]:
        """C-STORE: the object is durable in the spool."""

    def find_worklist(self, caller: Caller, identifier: Dataset) -> Deferred[list[Dataset]]:
        """C-FIND Modality Worklist: fire with the matching entries; the identifier carries the keys asked for."""

    def receive_performed(self, caller: Caller, create: bool, uid: str, attributes: Dataset) -> Deferred[int]:
        """MPPS N-CREATE (`create`) or N-SET of the given SOP instance."""


def not_bound(error: CannotListenError) -> OSError:
    """Return why an address cannot be listened on, as `Listener.start` fails with it."""
    why = error.socketError
    return OSError(getattr(why, "errno", None) or errno.EADDRINUSE, f"{error.interface}:{error.port}: {why}")
