"""DIMSE command sets (PS3.7), coded by hand: C-STORE, C-FIND, C-CANCEL, C-ECHO, N-CREATE, N-SET."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from broker.errors import RemoteProtocolError


class Field(IntEnum):
    """Command Field (0000,0100), PS3.7 annex E; a response has the high bit set."""

    C_STORE = 0x0001
    C_FIND = 0x0020
    C_ECHO = 0x0030
    N_SET = 0x0120
    N_CREATE = 0x0140
    C_CANCEL = 0x0FFF


class Status(IntEnum):
    """Statuses this broker gives, PS3.7 annex C and PS3.4."""

    SUCCESS = 0x0000
    PENDING = 0xFF00
    CANCELLED = 0xFE00
    PROCESSING_FAILURE = 0x0110
    INVALID_ATTRIBUTE_VALUE = 0x0106
    DUPLICATE_INSTANCE = 0x0111
    NO_SUCH_OBJECT = 0x0112
    INVALID_INSTANCE = 0x0117
    NO_SUCH_SOP_CLASS = 0x0118
    MISSING_ATTRIBUTE = 0x0120
    NOT_AUTHORISED = 0x0124
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    UNRECOGNISED_OPERATION = 0x0211
    MISTYPED_ARGUMENT = 0x0212
    RESOURCE_LIMITATION = 0x0213
    OUT_OF_RESOURCES = 0xA700
    MISMATCH = 0xA900  # the dataset or identifier does not match the SOP class
    CANNOT_UNDERSTAND = 0xC000


RESPONSE = 0x8000
NO_DATASET = 0x0101
_DATASET = 0x0001

_ELEMENT = struct.Struct("<HHI")
_SHORT = struct.Struct("<HHIH")
_LONG = struct.Struct("<HHII")

# elements of group 0000 by number
_AFFECTED_CLASS, _REQUESTED_CLASS, _FIELD, _MESSAGE, _RESPONDED = 0x0002, 0x0003, 0x0100, 0x0110, 0x0120
_DESTINATION, _PRIORITY, _TYPE, _STATUS, _COMMENT = 0x0600, 0x0700, 0x0800, 0x0900, 0x0902
_AFFECTED_INSTANCE, _REQUESTED_INSTANCE = 0x1000, 0x1001


@dataclass(frozen=True, slots=True)
class Command:
    """One command set; texts are empty and `status` is 0 where the element is absent."""

    field: int
    message_id: int  # of a response: the message responded to
    has_dataset: bool
    sop_class: str = ""  # affected or requested, whichever the command carries
    sop_instance: str = ""
    status: int = 0

    @property
    def is_response(self) -> bool:
        """Whether this answers a request."""
        return bool(self.field & RESPONSE)


def parse(data: bytes) -> Command:
    """Return the command of a whole command set (implicit VR little endian); raises RemoteProtocolError."""
    found = _elements(data)
    field = _number(found, _FIELD)
    kind = _number(found, _TYPE)
    response = bool(field & RESPONSE) or field == Field.C_CANCEL
    return Command(
        field=field,
        message_id=_number(found, _RESPONDED if response else _MESSAGE),
        has_dataset=kind != NO_DATASET,
        sop_class=_text(found.get(_AFFECTED_CLASS) or found.get(_REQUESTED_CLASS, b"")),
        sop_instance=_text(found.get(_AFFECTED_INSTANCE) or found.get(_REQUESTED_INSTANCE, b"")),
        status=_number(found, _STATUS) if _STATUS in found else 0,
    )


def _elements(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at, end = 0, len(data)
    while at + 8 <= end:
        group, number, length = _ELEMENT.unpack_from(data, at)
        at += 8
        if group or length > end - at:
            raise RemoteProtocolError("command set with an element of another group or of a wrong length")
        found[number] = data[at : at + length]
        at += length
    if at != end:
        raise RemoteProtocolError("command set cut inside an element")
    return found


def _number(found: dict[int, bytes], element: int) -> int:
    value = found.get(element, b"")
    if len(value) != 2:
        raise RemoteProtocolError(f"command set without a valid (0000,{element:04X})")
    return int.from_bytes(value, "little")


def _text(value: bytes) -> str:
    try:
        return value.rstrip(b"\0 ").decode("ascii")
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("command set with a UID that is not ASCII") from error


def _put_text(number: int, text: str) -> bytes:
    value = text.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return _ELEMENT.pack(0, number, len(value)) + value


def _put(number: int, value: int) -> bytes:
    return _SHORT.pack(0, number, 2, value)


def _with_length(body: bytes) -> bytes:
    return _LONG.pack(0, 0, 4, len(body)) + body


def request(field: Field, message_id: int, sop_class: str, instance: str = "") -> bytes:
    """Return the command set of a C-STORE, C-FIND, C-ECHO, N-CREATE or N-SET request."""
    requested = field == Field.N_SET
    body = _put_text(_REQUESTED_CLASS if requested else _AFFECTED_CLASS, sop_class) + _put(_FIELD, field) + _put(_MESSAGE, message_id)
    if field in (Field.C_STORE, Field.C_FIND):
        body += _put(_PRIORITY, 0)
    body += _put(_TYPE, NO_DATASET if field == Field.C_ECHO else _DATASET)
    if instance:
        body += _put_text(_REQUESTED_INSTANCE if requested else _AFFECTED_INSTANCE, instance)
    return _with_length(body)


def cancel(message_id: int) -> bytes:
    """Return the command set of a C-CANCEL of that C-FIND."""
    return _with_length(_put(_FIELD, Field.C_CANCEL) + _put(_RESPONDED, message_id) + _put(_TYPE, NO_DATASET))


def response(command: Command, status: int, *, instance: str = "", with_dataset: bool = False, comment: str = "") -> bytes:
    """Return the command set that answers `command`; `comment` is cut to the 64 characters of its VR."""
    body = _put_text(_AFFECTED_CLASS, command.sop_class) if command.sop_class else b""
    body += _put(_FIELD, command.field | RESPONSE) + _put(_RESPONDED, command.message_id)
    body += _put(_TYPE, _DATASET if with_dataset else NO_DATASET) + _put(_STATUS, status)
    if comment:
        body += _put_text(_COMMENT, comment[:64])
    instance = instance or command.sop_instance
    if instance and command.field != Field.C_FIND:
        body += _put_text(_AFFECTED_INSTANCE, instance)
    return _with_length(body)


def is_warning(status: int) -> bool:
    """Whether a storage status says that the object was stored, with a remark."""
    return status & 0xF000 == 0xB000 or status in (0x0001, 0x0107, 0x0116)


def is_refusal_for_now(status: int) -> bool:
    """Whether a storage status says out of resources: the same object may be taken later."""
    return status & 0xFF00 == 0xA700
