"""HL7 over MLLP: what may be configured, and the listener and destination that it configures."""

from __future__ import annotations

from broker.connectors.base import RETRY
from broker.connectors.mllp_destination import MllpDestination
from broker.connectors.mllp_listener import MllpListener
from broker.hl7 import charset
from broker.spec import Option, Spec

__all__ = ["DESTINATION", "LISTENER", "MllpDestination", "MllpListener"]

_LIMIT = Option("limit", "size", "The most bytes of one message; a longer one closes the connection.", "16 MB")

LISTENER = Spec(
    "mllp",
    "listener",
    "Receives HL7 v2 over MLLP and answers each message, in their order, once it is kept.",
    (
        Option("port", "integer", "TCP port.", example=2575),
        Option("bind", "text", "Address to listen on.", "127.0.0.1"),
        Option("charset", "text", "Character set of messages whose MSH-18 names none.", charset.DEFAULT, choices=charset.NAMES),
        Option("fallback", "text", "Character set of bytes that do not decode.", charset.FALLBACK, choices=charset.SINGLE_BYTE),
        _LIMIT,
        Option("connections", "integer", "The most connections at a time; a further one is closed at once.", 256),
        Option("outstanding", "integer", "Messages of one connection that may wait for their answer before it is read on.", 64),
        Option("idle", "duration", "Close a connection on which nothing came for so long; without it, never.", None, "1h"),
        Option("stalled", "duration", "Close a connection that stays inside an unfinished message for so long.", "60s"),
    ),
    'mllp: {port: 2575, charset: "UNICODE UTF-8", fallback: windows-1252, limit: 4 MB}',
)

DESTINATION = Spec(
    "mllp",
    "destination",
    "Delivers HL7 v2 over one MLLP connection, kept open, one message after the other.",
    (
        Option("host", "text", "Name or address of the receiver.", example="archive.example.org"),
        Option("port", "integer", "TCP port of the receiver.", example=2576),
        Option("connect_timeout", "duration", "Give up connecting after so long, and try again later.", "10s"),
        Option("answer_timeout", "duration", "Close the connection when no answer came for so long, and send again later.", "30s"),
        _LIMIT,
        RETRY,
    ),
    "mllp: {host: archive.example.org, port: 2576, answer_timeout: 20s, retry: {first: 1s, most: 5m, park_after: 24h}}",
)
