"""TLS around a connector's connections: the credentials of a listener or destination, reported on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from twisted.internet import tcp
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.security.tls import Credentials

READ_SIZE = 1 << 18


class Wire(TLSMemoryBIOProtocol):
    """TLS over one connection; a protocol with `on_read_done` hears when it has all records of a read."""

    def makeConnection(self, transport: Any) -> None:
        """Read much at a time: a record is 16 KB at most."""
        if isinstance(transport, tcp.Connection):
            transport.bufferSize = READ_SIZE
        super().makeConnection(transport)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        """Decrypt."""
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        done = getattr(self.wrappedProtocol, "on_read_done", None)
        if done is not None:
            done()


class Secured(TLSMemoryBIOFactory):
    """Puts TLS below the protocols of another factory, which may turn a connection away as before."""

    noisy = False

    def buildProtocol(self, addr: Any) -> TLSMemoryBIOProtocol | None:  # type: ignore[override]
        """Return the protocol in TLS, or None, which closes the connection."""
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else Wire(self, inner)  # type: ignore[no-untyped-call]


def secured(factory: Any, credentials: Credentials | None, *, client: bool = False) -> Any:
    """Return the factory, in TLS where there are credentials."""
    return factory if credentials is None else Secured(credentials, client, factory)  # type: ignore[arg-type]


def credentials(name: str, settings: Mapping[str, Any] | None, metrics: Metrics, log: Log, host: str = "") -> Credentials | None:
    """Return the credentials of a `tls` setting, None without one; `host` is the peer when this side connects. Raises Unusable."""
    if settings is None:
        return None

    def loaded(expires: datetime | None) -> None:
        if expires is not None:
            metrics.certificate_expires.labels(name).set(expires.timestamp())

    def kept(why: str) -> None:
        log.error("changed certificate not taken", name=name, what=why)

    return Credentials(settings, host, loaded, kept)
