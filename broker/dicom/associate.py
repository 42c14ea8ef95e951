"""A-ASSOCIATE PDUs to and from bytes, PS3.8 9.3.2 to 9.3.4 and the user information of PS3.7 annex D.

An item that is not known is passed over, as the standard asks; one whose length does not fit ends the association.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache

from broker.dicom.negotiation import (
    ABSTRACT_NOT_SUPPORTED,
    ACCEPTED,
    IMPLEMENTATION_UID,
    IMPLEMENTATION_VERSION,
    NO_REASON,
    TRANSFER_NOT_SUPPORTED,
    Answer,
    Context,
    Decide,
    Identity,
    IdentityKind,
    Offer,
    Rejection,
    Request,
    Role,
    Window,
    is_uid,
)
from broker.errors import RemoteProtocolError

_APPLICATION, _OFFER, _RESULT, _ABSTRACT, _TRANSFER, _USER = 0x10, 0x20, 0x21, 0x30, 0x40, 0x50
_MAX_PDU, _IMPLEMENTATION, _WINDOW, _ROLE, _VERSION, _IDENTITY, _IDENTIFIED = 0x51, 0x52, 0x53, 0x54, 0x55, 0x58, 0x59

_PDU = struct.Struct(">BxI")
_FIXED = struct.Struct(">H2x16s16s32x")  # what stands before the items
_ITEM = struct.Struct(">BxH")
_CONTEXT = struct.Struct(">BxBx")
_LONG = struct.Struct(">I")
_SHORT = struct.Struct(">H")
_TWO = struct.Struct(">HH")
_BODY = _PDU.size + _FIXED.size
_UNKNOWN = str.maketrans(dict.fromkeys((*range(32), *range(127, 256)), "?"))

_Items = Iterator[tuple[int, bytes]]


def read_request(pdu: bytes) -> Request:
    """Return what a whole A-ASSOCIATE-RQ PDU asks for; raises RemoteProtocolError."""
    version, called, calling = _fixed(pdu)
    offers: dict[int, Offer] = {}
    application, user = "", _User()
    for kind, body in _items(pdu, _BODY):
        if kind == _OFFER:
            offer = _read_offer(body)
            if offer.id in offers or not offer.id & 1:
                raise RemoteProtocolError("a presentation context id that is even, or there twice")
            offers[offer.id] = offer
        elif kind == _APPLICATION:
            application = _uid(body)
        elif kind == _USER:
            user = _User(body)
    return Request(
        calling=_title(calling),
        called=_title(called),
        offers=tuple(offers.values()),
        max_pdu=user.max_pdu,
        application=application,
        version=version,
        roles=user.roles,
        window=user.window,
        identity=user.identity,
    )


def write_request(request: Request) -> bytes:
    """Return the A-ASSOCIATE-RQ PDU."""
    items = [_item(_APPLICATION, request.application.encode())]
    for offer in request.offers:
        syntaxes = b"".join(_item(_TRANSFER, syntax.encode()) for syntax in offer.syntaxes)
        items.append(_item(_OFFER, _CONTEXT.pack(offer.id, 0) + _item(_ABSTRACT, offer.abstract.encode()) + syntaxes))
    extra = b"" if request.identity is None else _write_identity(request.identity)
    items.append(_user_information(request.max_pdu, request.roles, request.window, extra))
    return _pdu(1, request, b"".join(items))


def write_accept(
    request: Request,
    decide: Decide,
    max_pdu: int,
    *,
    identified: bool = False,
    window: Window = Window(),  # noqa: B008 - it is frozen
) -> tuple[bytes, Answer]:
    """Return the A-ASSOCIATE-AC PDU and what it grants; `max_pdu` is what this side takes, in bytes.

    Proposed roles are agreed to where the SOP class is. identified: this side knows the user, which it says when asked to.
    """
    granted: dict[int, Context] = {}
    refused: dict[int, int] = {}
    items = [_item(_APPLICATION, request.application.encode())]
    for offer in request.offers:
        verdict = decide(offer) if offer.syntaxes and offer.abstract else _without(offer)
        if isinstance(verdict, str):
            granted[offer.id] = Context(offer.id, offer.abstract, verdict)
            result, syntax = ACCEPTED, verdict
        else:
            result, syntax = verdict, next(iter(offer.syntaxes), "")  # which no one may look at (PS3.8 9.3.3.2)
            refused[offer.id] = verdict
        items.append(_item(_RESULT, _CONTEXT.pack(offer.id, result) + _item(_TRANSFER, syntax.encode())))
    classes = {context.abstract for context in granted.values()}
    roles = {name: role for name, role in request.roles.items() if name in classes}
    identified = identified and request.identity is not None and request.identity.wants_answer
    extra = _item(_IDENTIFIED, _SHORT.pack(0)) if identified else b""
    items.append(_user_information(max_pdu, roles, window, extra))
    return _pdu(2, request, b"".join(items)), Answer(granted, refused, request.max_pdu, roles, window, identified)


def _without(offer: Offer) -> int:
    return TRANSFER_NOT_SUPPORTED if offer.abstract else ABSTRACT_NOT_SUPPORTED


def read_accept(pdu: bytes, request: Request) -> Answer:
    """Return what a whole A-ASSOCIATE-AC PDU grants of the request; raises RemoteProtocolError."""
    _fixed(pdu)
    offers = {offer.id: offer for offer in request.offers}
    granted: dict[int, Context] = {}
    refused: dict[int, int] = {}
    user = _User()
    for kind, body in _items(pdu, _BODY):
        if kind == _RESULT:
            number, result = _context(body)
            if number not in offers:
                raise RemoteProtocolError("a presentation context that was not proposed")
            syntax = next((_uid(value) for one, value in _items(body, _CONTEXT.size) if one == _TRANSFER), "")
            if result == ACCEPTED and syntax in offers[number].syntaxes:
                granted[number] = Context(number, offers[number].abstract, syntax)
            else:
                refused[number] = result or NO_REASON
        elif kind == _USER:
            user = _User(body)
    roles = {name: role for name, role in user.roles.items() if name in request.roles}
    return Answer(granted, refused, user.max_pdu, roles, user.window, user.identified)


def write_reject(rejection: Rejection) -> bytes:
    """Return the A-ASSOCIATE-RJ PDU."""
    return _PDU.pack(3, 4) + bytes((0, rejection.result, rejection.source, rejection.reason))


# reading


def _fixed(pdu: bytes) -> tuple[int, bytes, bytes]:
    if len(pdu) < _BODY:
        raise RemoteProtocolError("an A-ASSOCIATE PDU that is too short")
    fixed: tuple[int, bytes, bytes] = _FIXED.unpack_from(pdu, _PDU.size)
    return fixed


def _items(data: bytes, at: int) -> _Items:
    end = len(data)
    while at < end:
        if at + _ITEM.size > end:
            raise RemoteProtocolError("an item that is cut")
        kind, length = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        if at + length > end:
            raise RemoteProtocolError("an item that is longer than what holds it")
        yield kind, data[at : at + length]
        at += length


def _context(body: bytes) -> tuple[int, int]:
    if len(body) < _CONTEXT.size:
        raise RemoteProtocolError("a presentation context that is cut")
    number, result = _CONTEXT.unpack_from(body)
    return number, result


def _read_offer(body: bytes) -> Offer:
    abstract, syntaxes = "", []
    for kind, value in _items(body, _CONTEXT.size):
        if kind == _ABSTRACT:
            abstract = _uid(value)
        elif kind == _TRANSFER and (syntax := _uid(value)):
            syntaxes.append(syntax)
    return Offer(_context(body)[0], abstract, tuple(syntaxes))


@lru_cache(maxsize=1024)
def _uid(value: bytes) -> str:
    """Return the UID; "" when it is none."""
    text = value.decode("latin-1").strip("\0 ")
    return text if is_uid(text) else ""


def _title(value: bytes) -> str:
    return value.decode("latin-1").strip("\0 ").translate(_UNKNOWN)


class _User:
    """The user information item."""

    def __init__(self, body: bytes = b"") -> None:
        self.max_pdu = 0
        self.roles: dict[str, Role] = {}
        self.window = Window()
        self.identity: Identity | None = None
        self.identified = False
        try:
            for kind, value in _items(body, 0):
                if kind == _MAX_PDU:
                    self.max_pdu = _LONG.unpack(value)[0]
                elif kind == _ROLE:
                    self._role(value)
                elif kind == _WINDOW:
                    self.window = Window(*_TWO.unpack(value))
                elif kind == _IDENTITY:
                    self.identity = _read_identity(value)
                elif kind == _IDENTIFIED:
                    self.identified = True
        except struct.error as error:
            raise RemoteProtocolError("an item of user information of a wrong length") from error

    def _role(self, value: bytes) -> None:
        (length,) = _SHORT.unpack_from(value)
        if len(value) != _SHORT.size + length + 2:
            raise RemoteProtocolError("a role of a wrong length")
        if name := _uid(value[2:-2]):
            self.roles[name] = Role(value[-2] == 1, value[-1] == 1)


def _read_identity(value: bytes) -> Identity:
    kind, wants_answer, length = struct.unpack_from(">BBH", value)
    (second,) = _SHORT.unpack_from(value, 4 + length)
    if len(value) != 6 + length + second:
        raise RemoteProtocolError("a user identity of a wrong length")
    return Identity(kind, value[4 : 4 + length], value[6 + length :] if kind == IdentityKind.PASSCODE else b"", wants_answer == 1)


# writing


def _item(kind: int, body: bytes) -> bytes:
    return _ITEM.pack(kind, len(body)) + body


def _pdu(kind: int, request: Request, items: bytes) -> bytes:
    called, calling = (title.encode("latin-1", "replace").ljust(16) for title in (request.called, request.calling))
    return _PDU.pack(kind, _FIXED.size + len(items)) + _FIXED.pack(1, called, calling) + items


def _user_information(max_pdu: int, roles: Mapping[str, Role], window: Window, extra: bytes) -> bytes:
    """Return the item, its parts in the order of their numbers; `extra` is about the user's identity."""
    parts = [_item(_MAX_PDU, _LONG.pack(max_pdu)), _item(_IMPLEMENTATION, IMPLEMENTATION_UID.encode())]
    if window != Window():
        parts.append(_item(_WINDOW, _TWO.pack(window.invoked, window.performed)))
    for name, role in roles.items():
        parts.append(_item(_ROLE, _SHORT.pack(len(name)) + name.encode() + bytes((role.scu, role.scp))))
    parts += [_item(_VERSION, IMPLEMENTATION_VERSION.encode()), extra]
    return _item(_USER, b"".join(parts))


def _write_identity(identity: Identity) -> bytes:
    head = struct.pack(">BBH", identity.kind, identity.wants_answer, len(identity.primary))
    return _item(_IDENTITY, head + identity.primary + _SHORT.pack(len(identity.secondary)) + identity.secondary)
