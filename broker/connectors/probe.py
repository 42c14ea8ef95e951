"""Is a peer there? Each probe connects as the broker would, asks for nothing, and leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from OpenSSL import SSL
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, DNSLookupError, NoRouteError, TimeoutError
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.connectors.dicom_identity import identity_of
from broker.connectors.dicom_requestor import VERIFICATION, Requestor, connect, offers
from broker.connectors.mllp_wire import endpoint, read_address, shown, tls_failure
from broker.connectors.tls import secured
from broker.dicom.negotiation import Request
from broker.dicom.pdus import Limits
from broker.errors import Refused, Retry
from broker.obs.log import Log
from broker.security.tls import Credentials

_IMAGE = "1.2.840.10008.5.1.4.1.1.2"  # CT, which hardly any archive refuses
_SYNTAXES: tuple[str, ...] = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a visit showed: the peer is there, and perhaps something that may go wrong later."""

    says: str
    doubt: str = ""


def probe_mllp(reactor: Any, settings: Mapping[str, Any], timeout: float, log: Log) -> Deferred[Seen]:
    """Connect, with the TLS handshake where one is configured, and leave; fires with the address, fails with Retry or Unusable."""

    async def run() -> Seen:
        host, port = read_address(settings["connect"]) if settings.get("connect") else (settings["host"], settings["port"])
        secrets = Credentials(settings["tls"], host) if settings.get("tls") else None
        visitor = _Visitor(secure=secrets is not None)
        factory = secured(Factory.forProtocol(lambda: visitor), secrets, client=True)
        try:
            await endpoint(reactor, host, port, timeout).connect(factory)
        except Exception as error:
            raise Retry(f"{host}:{port}: {_why(error)}") from error
        await visitor.arrived
        address = shown(visitor.transport.getPeer())
        visitor.transport.loseConnection()
        return Seen(f"{address} takes connections" + (" in TLS" if secrets else ""))

    return Deferred.fromCoroutine(run())


def probe_dicom(reactor: Any, settings: Mapping[str, Any], timeout: float, log: Log) -> Deferred[Seen]:
    """C-ECHO with the AE titles of a destination, and ask in which transfer syntaxes it takes images; fails with Retry."""

    async def run() -> Seen:
        host, port, called = settings["host"], settings["port"], settings["ae_title"]
        wanted = [(VERIFICATION, ImplicitVRLittleEndian), *((_IMAGE, syntax) for syntax in _SYNTAXES)]
        secrets = Credentials(settings["tls"], host) if settings.get("tls") else None
        request = Request(settings["calling_ae_title"], called, offers(wanted), Limits().max_pdu, identity=identity_of(settings))
        try:
            link = await connect(reactor, host, port, Requestor(request, reactor, log, patience=timeout), timeout, credentials=secrets)
            try:
                await _verify(link)
                taken = [syntax for syntax in _SYNTAXES if link.context_for(_IMAGE, syntax)]
            finally:
                link.release()
        except (Retry, Refused) as error:
            raise Retry(f"{called} at {host}:{port}: {_why(error.__cause__ or error)}") from error
        refused = [UID(syntax).name.partition(" (")[0].partition(",")[0] for syntax in _SYNTAXES if syntax not in taken] if taken else []
        doubt = f"{called} takes no images in {', '.join(refused)}: those that come in it are parked" if refused else ""
        return Seen(f"{called} at {host}:{port} answers C-ECHO", doubt)

    return Deferred.fromCoroutine(run())


async def _verify(link: Requestor) -> None:
    context = link.context_for(VERIFICATION, ImplicitVRLittleEndian)
    if context is None:
        raise Refused("it does not offer verification")
    status = (await link.requests.echo(context)).status
    if status:
        raise Refused(f"C-ECHO was answered with status 0x{status:04X}")


def probe_port(reactor: Any, settings: Mapping[str, Any]) -> Seen:
    """Return the address that can be listened on; raises CannotListenError."""
    listening = reactor.listenTCP(settings["port"], Factory(), interface=settings["bind"])
    listening.stopListening()
    return Seen(f"{settings['bind']}:{settings['port']} is free")


@implementer(IHandshakeListener)
class _Visitor(Protocol):
    """A connection that says nothing; `arrived` fires when it stands, with TLS once the handshake is done."""

    transport: Any

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        self.arrived: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        if not self._secure:
            self._arrive(None)

    def handshakeCompleted(self) -> None:
        self._arrive(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._arrive(Retry(f"no TLS: {tls_failure(reason) or 'the peer closed the connection'}"))

    def _arrive(self, error: Retry | None) -> None:
        if self.arrived.called:
            return  # it has arrived, and leaves
        if error is None:
            self.arrived.callback(None)
        else:
            self.arrived.errback(error)


_WHY: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "nobody listens there (connection refused)"),
    (DNSLookupError, "no such host"),
    (TimeoutError, "no answer"),
    (NoRouteError, "no way to that network"),
    (SSL.Error, "no TLS"),
)


def _why(error: BaseException) -> str:
    return next((text for kind, text in _WHY if isinstance(error, kind)), "") or str(error) or type(error).__name__
