"""The DICOM destination: what the outbox holds for a peer goes there over shared associations, and the answer is judged by policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.connectors.base import ECHO, RETRY, Deidentifier, Transcoder
from broker.connectors.dicom_commitment import INQUIRY, check_inquiry
from broker.connectors.dicom_confidential import DEIDENTIFY, check_confidential
from broker.connectors.dicom_dispatch import Dispatch
from broker.connectors.dicom_identity import IDENTITY, identity_of
from broker.connectors.dicom_outcomes import BUSY, OUTCOMES, REJECTED, Outcome, Outcomes, check_outcomes, settle
from broker.connectors.dicom_outflow import Pace
from broker.connectors.dicom_peers import check_ae_title, check_max_pdu
from broker.connectors.dicom_pool import Pool
from broker.connectors.dicom_requestor import Rejected, Requestor, Serve, connect, echo, serve_nothing
from broker.connectors.dicom_services import Spool
from broker.connectors.dicom_syntaxes import SYNTAXES, check_syntaxes, syntaxes_of
from broker.connectors.hours import HOURS, check_hours
from broker.connectors.tls import credentials
from broker.dicom.dataset import silence_libraries
from broker.dicom.negotiation import Request
from broker.errors import Aborted, DeliveryError, Refused, Retry
from broker.model import Delivery
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.security import tls
from broker.spec import Option, Spec

if TYPE_CHECKING:
    from broker.connectors.dicom_serving import Serving

DESTINATION = Spec(
    name="dicom",
    kind="destination",
    summary="Stores DICOM objects at a peer, and sends it other requests, over associations that are shared and kept while there is work.",
    options=(
        Option("host", "text", "Host name or address of the peer.", example="archive.example.org"),
        Option("port", "integer", "TCP port of the peer.", example=11112),
        Option("ae_title", "text", "AE title of the peer.", example="ARCHIVE"),
        Option("calling_ae_title", "text", "AE title this broker calls itself.", default="BROKER", example="BROKER"),
        tls.DESTINATION,
        IDENTITY,
        ECHO,
        Option("associations", "integer", "Most associations open at the same time; fewer where the peer rejects more.", 4, example=4),
        Option(
            "operations",
            "integer",
            "Most objects on their way over one association before the first is answered, where the peer agrees to more than one.",
            default=8,
            example=8,
        ),
        Option("max_pdu", "size", "Largest P-DATA-TF this side takes.", default="128 KB", example="128 KB"),
        Option("connect_timeout", "duration", "Give up connecting after so long, and try again later.", default="10s", example="10s"),
        Option("answer_timeout", "duration", "Abort when the peer neither reads nor answers for so long.", default="60s", example="60s"),
        Option("linger", "duration", "Keep an association open so long after the last object.", default="2s", example="2s"),
        *SYNTAXES,
        OUTCOMES,
        INQUIRY,
        DEIDENTIFY,
        HOURS,
        Option("bandwidth", "size", "Most bytes a second; no limit when absent.", default=None, example="2 MB"),
        RETRY,
    ),
    example="""\
dicom:
  host: archive.example.org
  port: 11112
  ae_title: ARCHIVE
  associations: 4
  outcomes: {A900: warning}
  retry: {first: 1s, most: 5m, park_after: 24h}
""",
)


def check_sending(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, what) that the schema cannot say of how a destination is sent to."""
    for key in ("associations", "operations"):
        if settings[key] < 1:
            yield key, "it must be 1 at least"
    if wrong := check_max_pdu(settings["max_pdu"]):
        yield "max_pdu", wrong
    if settings["bandwidth"] == 0:
        yield "bandwidth", "nothing would ever leave: leave it out where there is no limit"
    for wrong in check_inquiry(settings["commitment"] or {}):
        yield "commitment", wrong
    for wrong in check_hours(settings["window"]):
        yield "window", wrong
    for wrong in check_outcomes(settings["outcomes"]):
        yield "outcomes", wrong
    yield from check_syntaxes(settings)
    yield from check_confidential(settings)


class DicomDestination:
    """Sends deliveries to a DICOM peer; raises ValueError when an AE title makes no sense.

    Deliveries are under way side by side, in no order; those that need one share a lane, of which the engine sends one at a time.
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        reactor: Any,
        spool: Spool,
        metrics: Metrics,
        log: Log,
        *,
        transcoder: Transcoder | None = None,
        deidentifier: Deidentifier | None = None,
        serve: Serve = serve_nothing,
        serving: Serving | None = None,
    ) -> None:
        """`serve` takes requests that the peer sends back over its associations, with `serving`: see `Requestor`."""
        self.name = name
        for title in ("ae_title", "calling_ae_title"):
            if wrong := check_ae_title(settings[title]):
                raise ValueError(f"{title}: {wrong}")
        self._settings, self._reactor, self._metrics = settings, reactor, metrics
        self._log = log.bind(destination=name)
        self._credentials = credentials(name, settings["tls"], metrics, log, settings["host"])
        self._serve, self._serving = serve, serving
        self._outcomes = Outcomes(settings["outcomes"])
        self._pace = Pace(settings["bandwidth"], reactor) if settings["bandwidth"] else None
        self._pool = Pool(settings, reactor, self._begin)
        self._pool.on_change = metrics.destination_associations.labels(name).set
        system, syntaxes = settings["calling_ae_title"], syntaxes_of(settings)
        self._dispatch = Dispatch(self._pool, spool, self._outcomes, syntaxes, system, reactor, transcoder, deidentifier)
        silence_libraries()

    @property
    def width(self) -> int:
        """As many as may be on their way, and for each association one that is made ready meanwhile."""
        return int(self._settings["associations"]) * (self._pool.room + 1)

    def send(self, delivery: Delivery) -> Deferred[str]:
        """Fire with the status, "0x0000", and what it means when it is a warning; fail with `Retry` or `Refused`."""
        return Deferred.fromCoroutine(self._send(delivery))

    def echo(self) -> Deferred[None]:
        """Fire when the peer answers C-ECHO, or has an association without one; fails with `Retry`."""
        settings = self._settings
        return echo(
            self._reactor,
            settings["host"],
            settings["port"],
            called=settings["ae_title"],
            calling=settings["calling_ae_title"],
            timeout=settings["connect_timeout"],
            log=self._log,
            credentials=self._credentials,
            identity=identity_of(settings),
        ).addCallbacks(_verify, _is_there)

    def close(self) -> Deferred[None]:
        """Release the associations, and give up those being opened; a later `send` opens new ones."""
        return self._pool.close()

    async def _send(self, delivery: Delivery) -> str:
        try:
            outcome, answer = await self._dispatch.run(delivery)
        except Rejected as error:
            self._count("rejected")
            return settle(self._outcomes.of_word(REJECTED if error.permanent else BUSY), str(error))
        except DeliveryError as error:
            self._count("aborted" if isinstance(error, Aborted) else "unreachable" if isinstance(error, Retry) else Outcome.REFUSE)
            raise
        self._count(outcome)
        return settle(outcome, answer)

    def _count(self, outcome: str) -> None:
        self._metrics.dicom_outcomes.labels(self.name, outcome).inc()

    def _begin(self, request: Request) -> tuple[Requestor, Deferred[Requestor]]:
        """Begin to open an association."""
        settings = self._settings
        requestor = Requestor(
            request,
            self._reactor,
            self._log,
            patience=settings["answer_timeout"],
            on_fault=self._faulty,
            serve=self._serve,
            serving=self._serving,
        )
        requestor.requests.pace = self._pace
        address, secrets = (settings["host"], settings["port"]), self._credentials
        opening = connect(self._reactor, *address, requestor, settings["connect_timeout"], credentials=secrets)
        return requestor, Deferred.fromCoroutine(opening)

    def _faulty(self, what: str) -> None:
        self._metrics.rejected_bytes.labels(self.name, what).inc()
        self._log.warning("protocol error", fault=what)


def _verify(status: int) -> None:
    if status:
        raise Retry(f"C-ECHO was answered with status 0x{status:04X}")


def _is_there(failure: Failure) -> None:
    """A peer that has associations and no verification is there."""
    failure.trap(Refused)
