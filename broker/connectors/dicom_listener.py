"""The DICOM listener: settings, start and stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory

from broker.connectors.base import DicomIntake, Transcoder, not_bound
from broker.connectors.dicom_acceptor import Acceptor
from broker.connectors.dicom_commitment import SERVICE, Lines
from broker.connectors.dicom_peers import check_ae_title, check_max_pdu, check_peers, read_peers
from broker.connectors.dicom_query import RETRIEVE
from broker.connectors.dicom_services import Spool
from broker.connectors.dicom_serving import SERVICES, USUAL, Serving
from broker.connectors.dicom_terms import OPTIONS
from broker.connectors.dicom_transport import read_buffer
from broker.connectors.tls import credentials, secured
from broker.dicom.dataset import silence_libraries
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.security import tls
from broker.spec import Option, Spec

_GRACE = 10.0  # seconds for open work when stopping
_BACKLOG = 128

LISTENER = Spec(
    name="dicom",
    kind="listener",
    summary="Accepts DICOM associations: verification always; storage, modality worklist and performed procedure steps as listed.",
    options=(
        Option("port", "integer", "TCP port to listen on.", example=11112),
        Option("bind", "text", "Address to listen on.", default="127.0.0.1", example="0.0.0.0"),
        Option("ae_title", "text", "AE title of this broker.", default="BROKER", example="BROKER"),
        Option("check_called", "boolean", "Whether callers must name that AE title.", default=True, example=True),
        Option("services", "texts", "What is offered beside C-ECHO.", default=list(USUAL), example=["store", "mpps"], choices=SERVICES),
        Option("max_pdu", "size", "Largest P-DATA-TF this side takes.", default="128 KB", example="128 KB"),
        Option(
            "max_object",
            "size",
            "Largest object; of a larger one nothing is kept, and its answer is 0xA700. It also ends one that has no end.",
            default="4 GB",
            example="16 GB",
        ),
        Option("associations", "integer", "Most associations open at the same time.", default=64, example=64),
        Option(
            "associations_per_peer",
            "integer",
            "Most of these that one calling AE title may have, and everyone else (`*`) together, where `peers` says nothing else; when "
            "absent, all but a quarter, so that nobody takes every place.",
            default=None,
            example=16,
        ),
        Option(
            "durable",
            "boolean",
            "Whether the sender hears of success only when an object is synced to the disk and journaled; `false` answers as soon as the "
            "object is written, and what was answered in the last moments may be lost when the power or the broker fails.",
            default=True,
            example=False,
        ),
        Option("idle", "duration", "An association on which nothing was heard for so long is aborted.", default="10m", example="10m"),
        Option(
            "artim",
            "duration",
            "Wait for an association request, and for the close at the end.",
            default="30s",
            example="30s",
        ),
        Option(
            "worklist", "mapping", "How worklist queries are answered.", default={}, options=OPTIONS, example={"most": 500, "ahead": "14d"}
        ),
        Option(
            "peers",
            "mapping",
            "Calling AE titles, each with `from` (address, network or a list), `charset` (of worklist answers to a query that names "
            "none), `unencodable` (a text that does not fit is written with the nearest letters: `transliterate`; or `unicode`: "
            "its entry goes to ISO_IR 192, as one does whose characters have no nearest letters), `associations` (most at "
            "once), `private` (take SOP classes the standard does not know), `host` and `port` (where it is called back with the report of "
            "a storage commitment, or sent what it retrieves), `tls` and `identify_as` (how it is called there: what `tls` and `identity` "
            "are for a destination), `certificate` (names, of which its certificate must carry one, or `sha256:` with its fingerprint; "
            "needs `tls`), `identity` (`user` it must say it is, and its `passcode`, which a file "
            "may hold: `${file:…}`), `worklist` (the `stations` whose steps it is shown, the `modality` of queries that name none, and "
            'its own values for what stands in `worklist` of the listener); or `refuse`. "*" is everyone else.',
            default={"*": {"from": ["127.0.0.0/8", "::1"]}},
            example={"CT1": {"from": "10.1.3.0/24", "charset": "ISO_IR 100", "associations": 4}, "*": "refuse"},
        ),
        tls.LISTENER,
        SERVICE,
        RETRIEVE,
    ),
    example="""\
dicom:
  port: 11112
  ae_title: BROKER
  services: [store, worklist, mpps]
  peers:
    CT1: {from: 10.1.3.0/24, charset: ISO_IR 100, associations: 4}
    "*": refuse
""",
)


def check_listener(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, what) that the schema cannot say of a listener's settings."""
    if wrong := check_ae_title(settings["ae_title"]):
        yield "ae_title", wrong
    for key in ("associations", "associations_per_peer"):
        if settings[key] is not None and settings[key] < 1:
            yield key, "at least one is needed"
    for key in ("idle", "artim"):
        if not settings[key]:
            yield key, "nobody would have time for anything: write it such as 30s or 10m"
    if wrong := check_max_pdu(settings["max_pdu"]):
        yield "max_pdu", wrong
    if settings["retrieve"]["limit"] < 1:
        yield "retrieve", "limit: at least one is needed"
    if not settings["durable"] and "commitment" in settings["services"]:
        yield "durable", "storage commitment promises what is safely kept: remove commitment from services, or write durable: true"
    if settings["worklist"]["most"] < 1:
        yield "worklist", "most: at least one is needed"
    for wrong in check_peers(settings["peers"]):
        yield "peers", wrong
    for title, value in settings["peers"].items():
        if isinstance(value, Mapping) and bool(value.get("host")) != bool(value.get("port")):
            yield "peers", f"{title}: host and port go together: where the peer is called back"
        for key in ("tls", "identify_as"):
            if isinstance(value, Mapping) and value.get(key) and not value.get("host"):
                yield "peers", f"{title}.{key}: it is for calling the peer back: add host and port, or remove it"
    if settings["tls"] is not None:
        for option, what in tls.problems(settings["tls"], accepts=True):
            yield "tls", f"{option}: {what}"
    elif named := [title for title, value in settings["peers"].items() if isinstance(value, Mapping) and value.get("certificate")]:
        yield "peers", f"{named[0]}.certificate: without TLS nobody shows one: add tls: with certificate: and authorities:"


def _share(settings: Mapping[str, Any]) -> int:
    """Return what one peer may have; all when it is the only one."""
    most: int = settings["associations"]
    return most - most // 4 if len(settings["peers"]) > 1 else most


class _Acceptors(Factory):
    noisy = False

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def buildProtocol(self, addr: Any) -> Acceptor | None:
        serving = self._serving
        return None if serving.stopping else Acceptor(serving, addr)


class DicomListener:
    """Listens for associations; raises ValueError when its AE title or peers make no sense."""

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        reactor: Any,
        intake: DicomIntake,
        spool: Spool,
        metrics: Metrics,
        log: Log,
        lines: Lines | None = None,
        transcoder: Transcoder | None = None,
    ) -> None:
        """`lines` remembers who asked for storage commitment over which association; `transcoder` serves C-GET."""
        self.name = name
        if wrong := check_ae_title(settings["ae_title"]):
            raise ValueError(f"ae_title: {wrong}")
        self._bind, self._port, self._reactor = settings["bind"], settings["port"], reactor
        self._serving = Serving(
            name=name,
            reactor=reactor,
            intake=intake,
            spool=spool,
            metrics=metrics,
            log=log.bind(listener=name),
            peers=read_peers(settings["peers"]),
            ae_title=settings["ae_title"],
            check_called=settings["check_called"],
            services=frozenset(settings["services"]),
            max_pdu=settings["max_pdu"],
            most=settings["associations"],
            share=settings["associations_per_peer"] or _share(settings),
            artim=settings["artim"],
            idle=settings["idle"],
            buffer=read_buffer(),
            max_object=settings["max_object"],
            transcoder=transcoder,
            durable=settings["durable"],
            lines=lines or Lines(),
            worklist=settings["worklist"],
            credentials=credentials(name, settings["tls"], metrics, log),
        )
        self.factory = secured(_Acceptors(self._serving), self._serving.credentials)
        self._listening: Any = None

    @property
    def port(self) -> int:
        """The port listened on; the one the system chose when the setting is 0."""
        return int(self._listening.getHost().port) if self._listening is not None else int(self._port)

    def start(self) -> Deferred[str]:
        """Bind; fires with what to show a person, fails with OSError."""
        silence_libraries()
        self._serving.stopping = False
        try:
            self._listening = self._reactor.listenTCP(self._port, self.factory, backlog=_BACKLOG, interface=self._bind)
        except CannotListenError as error:
            return fail(not_bound(error))
        return succeed(f"dicom {self._bind}:{self.port} {self._serving.ae_title}")

    def stop(self) -> Deferred[None]:
        """Take nothing new, answer what is being worked on, close; what takes longer than the grace is cut."""
        self._serving.stopping = True
        listening, self._listening = self._listening, None
        closing = maybeDeferred(listening.stopListening) if listening is not None else succeed(None)
        for acceptor in tuple(self._serving.open):
            acceptor.finish()
        deadline = self._reactor.callLater(_GRACE, self._cut)
        drained = self._serving.drained().addCallback(lambda _: deadline.cancel() if deadline.active() else None)
        return closing.addCallback(lambda _: drained)

    def _cut(self) -> None:
        for acceptor in tuple(self._serving.open):
            acceptor.transport.abortConnection()
