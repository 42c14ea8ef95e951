"""Storage commitment on the wire: its settings, and the requests and reports that come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred

from broker.connectors.base import Caller, DicomIntake
from broker.connectors.dicom_services import Gathering, Receiver, refuse_reason
from broker.dicom.commitment import FAILURES_EXIST, PUSH_INSTANCE, PUSH_MODEL, REQUEST, SUCCESSFUL
from broker.dicom.dimse import Field, Status
from broker.dicom.happenings import Message
from broker.dicom.negotiation import Context
from broker.spec import Option

if TYPE_CHECKING:
    from broker.connectors.dicom_exchange import Exchange
    from broker.connectors.dicom_serving import Serving

# How a listener serves storage commitment.
SERVICE = Option(
    "commitment",
    "mapping",
    "How the service `commitment` decides and answers.",
    default={},
    example={"by": "archive", "within": "24h"},
    options=(
        Option(
            "by",
            "text",
            "What makes an instance committed: `archive`, that the destinations with `commitment` which it went to have committed it; "
            "`spool`, that it is durable here.",
            default="archive",
            choices=("archive", "spool"),
        ),
        Option("within", "duration", "What is not committed by then is told as failed.", default="24h", example="24h"),
        Option(
            "answer",
            "text",
            "Where the report goes: `same`, over the association that asked while it is open, else over a new one to the `host` and "
            "`port` of the peer; `new`, always over a new one where the peer has an address.",
            default="same",
            choices=("same", "new"),
        ),
        Option(
            "give_up", "duration", "A report that could not be delivered for so long is parked for a person.", default="3d", example="3d"
        ),
    ),
)
# What is asked of a destination that is an archive.
INQUIRY = Option(
    "commitment",
    "switch",
    "Ask the destination for storage commitment of what it took; `true` stands for the defaults.",
    default=None,
    example={"quiet": "1m", "within": "6h"},
    options=(
        Option("quiet", "duration", "Ask when nothing more of an exam was delivered for so long.", default="1m", example="1m"),
        Option("batch", "integer", "Most instances of one request; so many are asked about at once.", default=500, example=500),
        Option("within", "duration", "Time the destination has to report.", default="6h", example="6h"),
        Option(
            "resend",
            "integer",
            "How often an object is sent again that was not committed; then its delivery is parked for a person.",
            default=1,
            example=1,
        ),
    ),
)


def check_inquiry(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with how a destination is asked, where it is."""
    if settings and settings["batch"] < 1:
        yield "batch: at least one is needed"
    if settings and settings["resend"] < 0:
        yield "resend: write 0 or more"


class Requesting(Gathering):
    """N-ACTION of a modality."""

    def work(self, dataset: Any) -> Deferred[None] | None:
        """Hand over, then answer; where it came is remembered for the report."""
        if wrong := _wrong(self, self.command.type_id == REQUEST, Status.NO_SUCH_ACTION_TYPE):
            self.answer(wrong)
            return None
        serving = self.acceptor.serving
        serving.lines.asked(self.acceptor, self.context)
        done = serving.intake.request_commitment(self.acceptor.caller, dataset)
        return done.addCallback(self.answer)


class Reporting(Gathering):
    """N-EVENT-REPORT of an archive."""

    def work(self, dataset: Any) -> Deferred[None] | None:
        """Hand over, then answer."""
        known = self.command.type_id in (SUCCESSFUL, FAILURES_EXIST)
        if wrong := _wrong(self, known, Status.NO_SUCH_EVENT_TYPE):
            self.answer(wrong)
            return None
        done = self.acceptor.serving.intake.report_commitment(self.acceptor.caller, dataset)
        return done.addCallback(self.answer)


def _wrong(receiver: Gathering, type_is_known: bool, otherwise: int) -> int | None:
    if receiver.command.sop_instance != PUSH_INSTANCE:
        return Status.NO_SUCH_OBJECT
    return None if type_is_known else otherwise


class Hearing:
    """Takes the reports that an archive sends over an association of ours; what the `serve` of a destination is."""

    def __init__(self, name: str, ae_title: str, reactor: Any, intake: Callable[[], DicomIntake]) -> None:
        self.reactor, self._intake = reactor, intake
        self._caller = Caller(name, ae_title, "", "")

    @property
    def intake(self) -> DicomIntake:
        """Where reports are handed over."""
        return self._intake()

    def __call__(self, exchange: Exchange, message: Message) -> Receiver | None:
        """Return what takes a report; None for any other request."""
        if message.command.field != Field.N_EVENT_REPORT or message.context.abstract != PUSH_MODEL:
            return None
        exchange.caller, exchange.serving = self._caller, cast("Serving", self)  # of which a report needs these two things only
        wrong = refuse_reason(message)
        return Reporting(exchange, message) if wrong is None else Receiver(exchange, message, wrong)


class Lines:
    """The associations over which commitment was asked for last, by listener and calling AE title, while they are open."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], tuple[Exchange, Context]] = {}

    def asked(self, exchange: Exchange, context: Context) -> None:
        """Commitment was asked for over this context; what has closed meanwhile is forgotten."""
        self._lines = {who: line for who, line in self._lines.items() if line[0].core.can_send}
        self._lines[exchange.caller.listener, exchange.caller.ae_title] = exchange, context

    def find(self, listener: str, title: str) -> tuple[Exchange, Context] | None:
        """Return where a caller may still be answered."""
        found = self._lines.get((listener, title))
        return found if found is not None and found[0].core.can_send else None
