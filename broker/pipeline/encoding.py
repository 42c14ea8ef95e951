"""The character set in which a destination is sent its messages."""

from __future__ import annotations

from collections.abc import Callable

from broker.errors import MessageError
from broker.hl7.message import Message
from broker.pipeline.compilation import Receiver

Write = Callable[[Message], bytes]


def as_it_is(message: Message) -> bytes:
    """Write a message in the character set it has."""
    return message.encode()


def in_charset_of(name: str, receiver: Receiver | None) -> Write:
    """Return what writes messages for a destination; it raises MessageError for a character that its policy refuses."""
    if receiver is None or not receiver.charset:
        return as_it_is
    charset, policy = receiver.charset, receiver.unencodable

    def write(message: Message) -> bytes:
        try:
            return message.recoded(charset, policy).encode()
        except MessageError as error:
            raise MessageError(error.path, f"{error.why}, and destination {name} takes no other", error.code) from error

    return write
