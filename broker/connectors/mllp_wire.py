"""What every MLLP connection needs, whoever opened it: socket options, endpoints, and why it ended."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from OpenSSL import SSL
from service_identity.exceptions import VerificationError
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.python.failure import Failure

MOST_SECONDS = 32767  # that Linux takes between two probes
PROBES = 4  # of the system's keepalive, before a silent peer is given up
_LEFT = "unexpected eof while reading"  # the peer has left without the farewell of TLS, as most do
GRACE = 5.0  # seconds in which a closing connection may send what is left
PAUSE = 0.05  # seconds of silence after which an end block without its CR is one


def tune(transport: Any, gone_after: float) -> None:
    """Send small messages at once, and notice a peer that is gone without a word after about `gone_after` seconds.

    Keepalive finds it on a silent connection, the user timeout on one where bytes wait for it; where the platform has them.
    """
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    handle = transport.getHandle()
    if isinstance(handle, SSL.Connection):
        handle = transport.transport.getHandle()
    for name, value in (
        ("TCP_KEEPIDLE", _bounded(gone_after / 2)),
        ("TCP_KEEPINTVL", _bounded(gone_after / (2 * PROBES))),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", round(gone_after * 1000)),
    ):
        if hasattr(socket, name):
            handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _bounded(seconds: float) -> int:
    return min(max(1, round(seconds)), MOST_SECONDS)


def endpoint(reactor: Any, host: str, port: int, timeout: float) -> Any:
    """Return how to reach a peer by name, IPv4 or IPv6 address."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return HostnameEndpoint(reactor, host, port, timeout)
    return (TCP4ClientEndpoint if version == 4 else TCP6ClientEndpoint)(reactor, host, port, timeout)


def read_address(text: str) -> tuple[str, int]:
    """Return host and port of `ehr.example.org:2575` or `[::1]:2575`; raises ValueError."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536) or (":" in host and not bracketed):
        raise ValueError("write it like ehr.example.org:2575 or [::1]:2575")
    return host[1:-1] if bracketed else host, int(port)


def shown(address: Any) -> str:
    """Return a peer's address as a person reads it, "10.1.3.7:50112"."""
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


def tls_failure(reason: Failure) -> str:
    """Return why TLS ended a connection, "" when that was not the cause; the words are OpenSSL's and hold nothing of the peer's."""
    error = reason.value
    if isinstance(error, VerificationError):
        return "the certificate of the peer is not for its name"
    words = error.args[0] if isinstance(error, SSL.Error) and error.args else None
    text = str(words[-1][-1]) if isinstance(words, list) and words else ""
    return "" if text == _LEFT else text
