"""What a connector offers to the engine, and what the engine offers to a connector."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from broker.connectors.dicom_retrieval import Progress, Retrieved, Return, Searched, Send, Task
from broker.dicom.charset import TRANSLITERATE
from broker.dicom.query import Query, Retrieval
from broker.hl7 import charset
from broker.hl7.recode import POLICIES
from broker.model import Delivery, Spooled, StoreRequest
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
        Option("tries", "integer", "Attempts after which a delivery is parked that alone fails, while others get through.", 5, example=5),
    ),
)

ECHO = Option(
    "echo",
    "duration",
    "How often C-ECHO asks whether the peer is there; when it is again after it was not, what waits for it is sent at once. `0s`: never.",
    default="1m",
    example="1m",
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
Early = Callable[[], None] | None
Later = Callable[[bytes], None] | None  # sends a further answer over the connection that a message came by


class Listener(Protocol):
    """Something that receives: it binds when started and lets open work finish when stopped."""

    name: str

    def start(self) -> Deferred[str]:
        """Bind, and fire with what to show a person: "mllp 127.0.0.1:2575"; fails with OSError when it cannot bind."""

    def stop(self) -> Deferred[None]:
        """Take nothing new, answer what is being worked on, close."""


class Job(Protocol):
    """Something that works in the background of a running node."""

    def start(self) -> None:
        """Begin; what a former run left open goes on."""

    def stop(self) -> Deferred[None]:
        """Begin nothing new, and fire when what was under way has ended."""


class Destination(Protocol):
    """Something that delivers."""

    name: str

    @property
    def width(self) -> int:
        """How many deliveries it takes at a time, by what is known of its peer."""

    def send(self, delivery: Delivery) -> Deferred[str]:
        """Fire with the peer's answer ("AA", "0x0000"); fail with `Retry` or `Refused`."""

    def close(self) -> Deferred[None]:
        """Close the connection; a later `send` opens it again."""


class Transcoder(Protocol):
    """What turns a DICOM file into another transfer syntax, away from the reactor."""

    def transcode(self, path: str, target: str) -> Deferred[str]:
        """Fire with the path of a temporary file in that transfer syntax, which is the caller's; fails with MessageError."""


class Deidentifier(Protocol):
    """What makes objects that do not tell who the patient is, away from the reactor."""

    def deidentified(self, path: str, request: StoreRequest) -> Deferred[tuple[str, StoreRequest]]:
        """Fire with the path of the de-identified object, which is the caller's, and what to send of it; fails with MessageError."""


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


@dataclass(frozen=True, slots=True)
class WorklistTerms:
    """How a caller's worklist queries are answered."""

    charset: tuple[str, ...] = ()  # of a query that names none
    unencodable: str = TRANSLITERATE
    most: int = 1000  # entries; a query that more of them match ends with 0xA700
    stations: tuple[str, ...] = ()  # whose steps it is shown; (): those it asks for
    modality: str = ""  # of a query that names none
    started: bool = False  # also steps that have begun
    past: float | None = None  # seconds; None: as far as it asks
    ahead: float | None = None


class WorklistSearch(Protocol):
    """The answer to one worklist query, a page at a time."""

    @property
    def exceeded(self) -> bool:
        """Whether more match than may be told."""

    def page(self) -> Deferred[list[bytes]]:
        """Fire with the next entries, encoded; with none after the last. Fails with StoreError."""


@dataclass(frozen=True, slots=True)
class PerformedAnswer:
    """The answer to an N-CREATE, N-SET or N-GET of a performed procedure step."""

    status: int
    error_id: int = 0
    attributes: tuple[int, ...] = ()  # tags that the status is about
    comment: str = ""  # ASCII, without patient data
    dataset: bytes = b""  # of an N-GET, in the syntax asked for


class DicomIntake(Protocol):
    """Where a DICOM listener hands over what it received; each fires with a DIMSE status after the commit."""

    def receive_instance(self, caller: Caller, spooled: Spooled, header: bytes = b"", early: Early = None) -> Deferred[int]:
        """C-STORE: the object is durable in the spool.

        `header`: the first bytes of its dataset, which spare a look into the file. `early` is called when the sender may hear of
        success before the commit; the object is then kept whatever its channels say.
        """

    def find_worklist(self, caller: Caller, identifier: bytes, syntax: str, terms: WorklistTerms) -> WorklistSearch:
        """C-FIND Modality Worklist: return what gives the matching entries in that syntax; raises MessageError.

        The encoded identifier carries the keys asked for.
        """

    def receive_performed(self, caller: Caller, create: bool, uid: str, attributes: Dataset, raw: bytes = b"") -> Deferred[PerformedAnswer]:
        """MPPS N-CREATE (`create`) or N-SET of the given SOP instance; `raw`: its bytes, where they came in explicit VR little endian."""

    def get_performed(self, caller: Caller, uid: str, tags: tuple[int, ...], syntax: str) -> Deferred[PerformedAnswer]:
        """MPPS N-GET: fire with the attributes asked for, all without tags, in that transfer syntax."""

    def receive_availability(self, caller: Caller, uid: str, dataset: Dataset, /) -> Deferred[int]:
        """Instance Availability Notification, N-CREATE: keep what the archive says of where instances are."""

    def association_ended(self, caller: Caller, released: bool, /) -> None:
        """The association of the caller is gone, in order or not."""

    def request_commitment(self, caller: Caller, action: Dataset, /) -> Deferred[int]:
        """Storage commitment, N-ACTION: keep the request; the report follows."""

    def search(self, caller: Caller, query: Query, task: Task, send: Send, /) -> Deferred[Searched]:
        """Query/Retrieve, C-FIND: send the matches as they are known, and fire with how it ended."""

    def move(self, caller: Caller, wanted: Retrieval, destination: str, task: Task, progress: Progress, /) -> Deferred[Retrieved]:
        """Query/Retrieve, C-MOVE to an AE title: fire with how it ended."""

    def get(self, caller: Caller, wanted: Retrieval, task: Task, progress: Progress, back: Return, /) -> Deferred[Retrieved]:
        """Query/Retrieve, C-GET: bring each object `back`, and fire with how it ended."""

    def report_commitment(self, caller: Caller, event: Dataset, /) -> Deferred[int]:
        """Storage commitment, N-EVENT-REPORT: keep what the archive says."""


def not_bound(error: CannotListenError) -> OSError:
    """Return why an address cannot be listened on, as `Listener.start` fails with it."""
    why = error.socketError
    return OSError(getattr(why, "errno", None) or errno.EADDRINUSE, f"{error.interface}:{error.port}: {why}")
