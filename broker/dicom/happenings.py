"""What the association core tells its shell: orders to carry out, and what the peer said."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from broker.dicom.dimse import Command
from broker.dicom.negotiation import Answer, Context, Rejection, Request


class Timer(Enum):
    """The timers the core asks for; how long they run is the shell's affair."""

    ARTIM = "association request, reject, release"
    IDLE = "nothing heard on an open association"


@dataclass(frozen=True, slots=True)
class Connect:
    """Open the transport connection."""


@dataclass(frozen=True, slots=True)
class Write:
    """Send these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Start the timer, or start it anew."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class StopTimer:
    """Stop the timer if it runs."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class Close:
    """Close the transport connection once all is written."""


@dataclass(frozen=True, slots=True)
class Requested:
    """The peer asks for an association; answer by `accept` or `reject`."""

    request: Request


@dataclass(frozen=True, slots=True)
class Accepted:
    """The peer accepted the association asked for."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Rejected:
    """The peer rejected the association asked for."""

    rejection: Rejection


@dataclass(frozen=True, slots=True)
class Message:
    """A whole command set; when it has a dataset, `Data` follows."""

    context: Context
    command: Command


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of the dataset of the last `Message`; the view is valid only until the next read."""

    view: memoryview
    last: bool


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """The peer wants to release; answer by `release_answer`."""


@dataclass(frozen=True, slots=True)
class Released:
    """The release this side asked for is confirmed."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The association is gone without a release.

    by: "peer" (A-ABORT received), "local" (this side found a fault and aborted) or "transport" (connection lost).
    """

    by: str
    source: int = 0
    reason: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """The peer broke the protocol; `what` is a short name without any of the peer's bytes."""

    what: str


Happening = (
    Connect
    | Write
    | StartTimer
    | StopTimer
    | Close
    | Requested
    | Accepted
    | Rejected
    | Message
    | Data
    | ReleaseRequested
    | Released
    | Aborted
    | Fault
)
