"""DIMSE command sets (PS3.7), coded by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from broker.errors import RemoteProtocolError


class Field(IntEnum):
    """Command Field (0000,0100), PS3.7 annex E; a response has the high bit set."""

    C_STORE = 0x0001
    C_GET = 0x0010
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_GET = 0x0110
    N_SET = 0x0120
    N_ACTION = 0x0130
    N_CREATE = 0x0140
    N_DELETE = 0x0150
    C_CANCEL = 0x0FFF


class Status(IntEnum):
    """Statuses this broker gives, PS3.7 annex C and PS3.4."""

    SUCCESS = 0x0000
    ATTRIBUTES_NOT_SUPPORTED = 0x0001  # a warning: of the attributes asked for some are not there
    PENDING = 0xFF00
    CANCELLED = 0xFE00
    PROCESSING_FAILURE = 0x0110
    INVALID_ATTRIBUTE_VALUE = 0x0106
    DUPLICATE_INSTANCE = 0x0111
    NO_SUCH_OBJECT = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    INVALID_ARGUMENT = 0x0115
    INVALID_INSTANCE = 0x0117
    NO_SUCH_SOP_CLASS = 0x0118
    MISSING_ATTRIBUTE = 0x0120
    MISSING_ATTRIBUTE_VALUE = 0x0121
    NO_SUCH_ACTION_TYPE = 0x0123
    NOT_AUTHORISED = 0x0124
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    UNRECOGNISED_OPERATION = 0x0211
    MISTYPED_ARGUMENT = 0x0212
    RESOURCE_LIMITATION = 0x0213
    OUT_OF_RESOURCES = 0xA700
    MISMATCH = 0xA900  # the dataset or identifier does not match the SOP class
    CANNOT_UNDERSTAND = 0xC000
    UNABLE_TO_PROCESS = 0xC001
    NO_SUBOPERATION = 0xA702  # none of them could be done
    UNKNOWN_DESTINATION = 0xA801
    SOME_SUBOPERATIONS = 0xB000  # a warning: others failed


RESPONSE = 0x8000
NO_DATASET = 0x0101
_DATASET = 0x0001

_ELEMENT = struct.Struct("<HHI")
_SHORT = struct.Struct("<HHIH")
_LONG = struct.Struct("<HHII")

# elements of group 0000 by number
_AFFECTED_CLASS, _REQUESTED_CLASS, _FIELD, _MESSAGE, _RESPONDED = 0x0002, 0x0003, 0x0100, 0x0110, 0x0120
_DESTINATION, _PRIORITY, _TYPE, _STATUS, _COMMENT, _ERROR_ID = 0x0600, 0x0700, 0x0800, 0x0900, 0x0902, 0x0903
_AFFECTED_INSTANCE, _REQUESTED_INSTANCE, _EVENT_TYPE, _ATTRIBUTES, _ACTION_TYPE = 0x1000, 0x1001, 0x1002, 0x1005, 0x1008
_REMAINING, _COMPLETED, _FAILED, _WARNING, _ORIGINATOR, _ORIGINATOR_MESSAGE = 0x1020, 0x1021, 0x1022, 0x1023, 0x1030, 0x1031

_REQUESTED = frozenset(
    {Field.N_SET, Field.N_GET, Field.N_ACTION, Field.N_DELETE}
)  # these name the requested SOP instance, others the affected
_PRIORITISED = frozenset({Field.C_STORE, Field.C_FIND, Field.C_MOVE, Field.C_GET})
_TYPED = {Field.N_EVENT_REPORT: _EVENT_TYPE, Field.N_ACTION: _ACTION_TYPE}
_WITHOUT_INSTANCE = frozenset({Field.C_FIND, Field.C_MOVE, Field.C_GET})
_NEVER_DATASET = frozenset({Field.C_ECHO, Field.N_GET, Field.N_DELETE})


@dataclass(frozen=True, slots=True)
class Counts:
    """The sub-operations of a C-MOVE or C-GET."""

    remaining: int = 0
    completed: int = 0
    failed: int = 0
    warning: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """One command set; texts are empty and `status` is 0 where the element is absent."""

    field: int
    message_id: int  # of a response: the message responded to
    has_dataset: bool
    sop_class: str = ""  # affected or requested, whichever the command carries
    sop_instance: str = ""
    status: int = 0
    priority: int = 0  # 0 medium, 1 high, 2 low
    type_id: int = 0  # Event Type ID, Action Type ID
    destination: str = ""  # Move Destination
    attributes: tuple[int, ...] = ()  # tags of an N-GET
    originator: tuple[str, int] = ("", 0)  # Move Originator AE title and message id
    counts: Counts = Counts()
    comment: str = ""
    error_id: int = 0

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
        field,
        _number(found, _RESPONDED if response else _MESSAGE),
        kind != NO_DATASET,
        _text(found.get(_AFFECTED_CLASS) or found.get(_REQUESTED_CLASS, b"")),
        _text(found.get(_AFFECTED_INSTANCE) or found.get(_REQUESTED_INSTANCE, b"")),
        _number(found, _STATUS) if _STATUS in found else 0,
        **{name: read(found) for number, (name, read) in _RARE.items() if number in found},
    )


def _tags(found: dict[int, bytes]) -> tuple[int, ...]:
    value = found[_ATTRIBUTES]
    if len(value) % 4:
        raise RemoteProtocolError("command set with an attribute list of a wrong length")
    return tuple(group << 16 | element for group, element in struct.iter_unpack("<HH", value))


def _counts(found: dict[int, bytes]) -> Counts:
    return Counts(*(_number(found, n) if n in found else 0 for n in (_REMAINING, _COMPLETED, _FAILED, _WARNING)))


def _originator(found: dict[int, bytes]) -> tuple[str, int]:
    return _words(found[_ORIGINATOR]), _number(found, _ORIGINATOR_MESSAGE) if _ORIGINATOR_MESSAGE in found else 0


# what only some commands carry: the field of `Command`, and how it is read
_RARE: dict[int, tuple[str, Callable[[dict[int, bytes]], Any]]] = {
    _PRIORITY: ("priority", lambda found: _number(found, _PRIORITY)),
    _EVENT_TYPE: ("type_id", lambda found: _number(found, _EVENT_TYPE)),
    _ACTION_TYPE: ("type_id", lambda found: _number(found, _ACTION_TYPE)),
    _DESTINATION: ("destination", lambda found: _words(found[_DESTINATION])),
    _ATTRIBUTES: ("attributes", _tags),
    _ORIGINATOR: ("originator", _originator),
    _REMAINING: ("counts", _counts),
    _COMPLETED: ("counts", _counts),
    _ERROR_ID: ("error_id", lambda found: _number(found, _ERROR_ID)),
    _COMMENT: ("comment", lambda found: _words(found[_COMMENT])),
}


def _elements(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at, end, foreign = 0, len(data), False
    while at + 8 <= end:
        group, number, length = _ELEMENT.unpack_from(data, at)
        at += 8
        foreign = foreign or bool(group)  # at the end they do no harm: Orthanc says there which instances of a C-GET have failed
        if (foreign and not group) or length > end - at:
            raise RemoteProtocolError("command set with an element of another group or of a wrong length")
        if not foreign:
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


def _words(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")


def _put_text(number: int, text: str) -> bytes:
    value = text.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return _ELEMENT.pack(0, number, len(value)) + value


def _put(number: int, value: int) -> bytes:
    return _SHORT.pack(0, number, 2, value)


def _put_tags(tags: Iterable[int]) -> bytes:
    value = b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in tags)
    return _ELEMENT.pack(0, _ATTRIBUTES, len(value)) + value if value else b""


def _with_length(body: bytes) -> bytes:
    return _LONG.pack(0, 0, 4, len(body)) + body


def request(
    field: Field,
    message_id: int,
    sop_class: str,
    instance: str = "",
    *,
    with_dataset: bool = True,
    type_id: int = 0,
    destination: str = "",
    attributes: Iterable[int] = (),
    originator: tuple[str, int] = ("", 0),
    priority: int = 0,
) -> bytes:
    """Return the command set of a request; what its command does not carry is left out.

    type_id: of an event or action; destination: of a C-MOVE; attributes: the tags of an N-GET; originator: of a C-STORE that a C-MOVE
    asked for. An N-EVENT-REPORT or N-ACTION may come without a dataset, C-ECHO, N-GET and N-DELETE never have one.
    """
    requested = field in _REQUESTED
    body = _put_text(_REQUESTED_CLASS if requested else _AFFECTED_CLASS, sop_class) + _put(_FIELD, field) + _put(_MESSAGE, message_id)
    if destination:
        body += _put_text(_DESTINATION, destination)
    if field in _PRIORITISED:
        body += _put(_PRIORITY, priority)
    body += _put(_TYPE, _DATASET if with_dataset and field not in _NEVER_DATASET else NO_DATASET)
    if instance:
        body += _put_text(_REQUESTED_INSTANCE if requested else _AFFECTED_INSTANCE, instance)
    if field in _TYPED:
        body += _put(_TYPED[field], type_id)
    body += _put_tags(attributes)
    if originator[0]:
        body += _put_text(_ORIGINATOR, originator[0]) + _put(_ORIGINATOR_MESSAGE, originator[1])
    return _with_length(body)


def cancel(message_id: int) -> bytes:
    """Return the command set of a C-CANCEL of that C-FIND."""
    return _with_length(_put(_FIELD, Field.C_CANCEL) + _put(_RESPONDED, message_id) + _put(_TYPE, NO_DATASET))


def response(
    command: Command,
    status: int,
    *,
    instance: str = "",
    with_dataset: bool = False,
    comment: str = "",
    counts: Counts | None = None,
    error_id: int = 0,
    attributes: Iterable[int] = (),
) -> bytes:
    """Return the command set that answers `command`; `comment` is cut to the 64 characters of its VR, in ASCII.

    `counts`: of the sub-operations; those that remain are told in pending responses and after a cancel only (PS3.4 C.4.2.1.6).
    `error_id`: Error ID, unless it is 0. `attributes`: tags of the attributes that the status is about.
    """
    body = _put_text(_AFFECTED_CLASS, command.sop_class) if command.sop_class else b""
    body += _put(_FIELD, command.field | RESPONSE) + _put(_RESPONDED, command.message_id)
    body += _put(_TYPE, _DATASET if with_dataset else NO_DATASET) + _put(_STATUS, status)
    if comment:
        body += _put_text(_COMMENT, comment[:64].encode("ascii", "replace").decode())
    if error_id:
        body += _put(_ERROR_ID, error_id)
    instance = instance or command.sop_instance
    if instance and command.field not in _WITHOUT_INSTANCE:
        body += _put_text(_AFFECTED_INSTANCE, instance)
    if command.field in _TYPED:
        body += _put(_TYPED[Field(command.field)], command.type_id)
    body += _put_tags(attributes)
    if counts is not None:
        if status in (Status.PENDING, Status.CANCELLED):
            body += _put(_REMAINING, counts.remaining)
        body += _put(_COMPLETED, counts.completed) + _put(_FAILED, counts.failed) + _put(_WARNING, counts.warning)
    return _with_length(body)


def is_warning(status: int) -> bool:
    """Whether a storage status says that the object was stored, with a remark."""
    return status & 0xF000 == 0xB000 or status in (0x0001, 0x0107, 0x0116)


def is_refusal_for_now(status: int) -> bool:
    """Whether a storage status says out of resources: the same object may be taken later."""
    return status & 0xFF00 == 0xA700
