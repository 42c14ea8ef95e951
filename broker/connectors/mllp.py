"""HL7 over MLLP: what may be configured, and the listener and destination that it configures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from broker.connectors.base import READ_IN, RETRY, WRITTEN_IN
from broker.connectors.hours import HOURS, check_hours
from broker.connectors.mllp_destination import MllpDestination
from broker.connectors.mllp_exchange import Switchboard
from broker.connectors.mllp_listener import MllpListener
from broker.connectors.mllp_wire import read_address
from broker.security import tls
from broker.security.addresses import Addresses
from broker.spec import Option, Spec

__all__ = ["DESTINATION", "LISTENER", "MllpDestination", "MllpListener", "Switchboard"]

_LIMIT = Option("limit", "size", "The most bytes of one message; a longer one closes the connection.", "16 MB")
_KEEPALIVE = Option(
    "keepalive", "duration", "Give up a peer that is gone without a word after about so long (TCP keepalive and user timeout).", "2m"
)

LISTENER = Spec(
    "mllp",
    "listener",
    "Receives HL7 v2 over MLLP and answers each message, in their order, once it is kept.",
    (
        Option("port", "integer", "TCP port to listen on.", None, example=2575),
        Option("bind", "text", "Address to listen on.", "127.0.0.1"),
        Option(
            "connect",
            "text",
            "Instead of `port`: where to connect to, when the sender waits for that (roles reversed); tried until it succeeds.",
            None,
            "ehr.example.org:2575",
        ),
        *READ_IN,
        tls.LISTENER,
        Option("from", "texts", "Who may connect: addresses or networks; without it, everyone who can.", None, ["10.1.0.0/16", "::1"]),
        Option(
            "acknowledge",
            "text",
            "`asked` obeys MSH-15 and MSH-16 (enhanced mode: CA, CE or CR first, then AA, AE or AR); `original` answers each message "
            "once, whatever they say.",
            "asked",
            choices=("asked", "original"),
        ),
        Option(
            "acknowledge_to",
            "text",
            "The destination that gets the application acknowledgments of the enhanced mode, in its queue; without it they go back over "
            "the same connection.",
            None,
            "ehr",
        ),
        _LIMIT,
        Option("connections", "integer", "The most connections at a time; a further one is closed at once.", 256),
        Option("connections_per_peer", "integer", "The most connections of one address at a time.", None, 8),
        Option("outstanding", "integer", "Messages of one connection that may wait for their answer before it is read on.", 64),
        Option("idle", "duration", "Close a connection on which nothing came for so long; without it, never.", None, "1h"),
        Option(
            "stalled", "duration", "Close a connection that stays inside an unfinished message, or the TLS handshake, for so long.", "60s"
        ),
        _KEEPALIVE,
    ),
    'mllp: {port: 2575, charset: "UNICODE UTF-8", fallback: windows-1252, from: [10.1.0.0/16], limit: 4 MB}',
)

DESTINATION = Spec(
    "mllp",
    "destination",
    "Delivers HL7 v2 over MLLP connections, kept open, each with one message at a time.",
    (
        Option("host", "text", "Name or address of the receiver.", None, example="archive.example.org"),
        Option("port", "integer", "TCP port of the receiver.", None, example=2576),
        Option(
            "over",
            "text",
            "Instead of `host` and `port`: the listener over whose connections it sends, for a peer that has one for both directions, "
            "or that connects to be sent to (roles reversed).",
            None,
            "hospital",
        ),
        tls.DESTINATION,
        Option("connections", "integer", "The most connections at a time, and so of messages under way.", 1, 4),
        Option(
            "answer",
            "text",
            "What settles a message. `original`: whatever acknowledgment comes; `accept`: asks for an accept acknowledgment alone "
            "(MSH-15 AL, MSH-16 NE); `application`: asks for both (AL, AL) and waits for the second.",
            "original",
            choices=("original", "accept", "application"),
        ),
        *WRITTEN_IN,
        Option("connect_timeout", "duration", "Give up connecting, or waiting for a connection, after so long; try again later.", "10s"),
        Option("answer_timeout", "duration", "Close the connection when no answer came for so long, and send again later.", "30s"),
        Option("application_timeout", "duration", "The same for the application acknowledgment that follows an accept one.", "5m"),
        Option("idle", "duration", "Close a connection that had nothing to send for so long; without it, never.", None, "10m"),
        _KEEPALIVE,
        _LIMIT,
        HOURS,
        RETRY,
    ),
    "mllp: {host: archive.example.org, port: 2576, answer_timeout: 20s, retry: {first: 1s, most: 5m, park_after: 24h}}",
)


def check_listener(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, what) that the schema cannot say of a listener's settings."""
    if (settings["port"] is None) == (settings["connect"] is None):
        yield "port", "write either port:, to listen, or connect:, to connect to the sender"
    if settings["connect"] is not None:
        try:
            read_address(settings["connect"])
        except ValueError as error:
            yield "connect", f"{settings['connect']} is no address: {error}"
        for key in ("from", "connections_per_peer"):
            if settings[key] is not None:
                yield key, "there is but the one connection that connect: makes: remove it"
    try:
        Addresses.parse(settings["from"] or ())
    except ValueError as error:
        yield "from", f"{error}: write an address or a network, such as 10.1.0.0/16"
    yield from _check_common(settings, ("connections", "connections_per_peer", "outstanding"), accepts=settings["connect"] is None)


def check_destination(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, what) that the schema cannot say of a destination's settings."""
    for wrong in check_hours(settings["window"]):
        yield "window", wrong
    if settings["over"] is None:
        for key in ("host", "port"):
            if settings[key] is None:
                yield key, f"{key} is missing: add it, or over: with the listener whose connections are used"
    else:
        for key in ("host", "port", "tls", "idle"):
            if settings[key] is not None:
                yield key, f"that is the matter of listener {settings['over']}, whose connections are used: remove it"
    yield from _check_common(settings, ("connections",), accepts=False)


def _check_common(settings: Mapping[str, Any], counts: tuple[str, ...], *, accepts: bool) -> Iterator[tuple[str, str]]:
    for key in counts:
        if settings[key] is not None and settings[key] < 1:
            yield key, "at least one is needed"
    if settings["tls"] is not None:
        for option, what in tls.problems(settings["tls"], accepts=accepts):
            yield "tls", f"{option}: {what}"
