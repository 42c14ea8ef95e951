"""A-ASSOCIATE PDUs: against pynetdicom's own coding, and against bytes that are wrong."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext

from broker.dicom.associate import read_accept, read_request, write_accept, write_reject, write_request
from broker.dicom.negotiation import (
    CALLED_NOT_RECOGNISED,
    LIMIT_EXCEEDED,
    Context,
    Identity,
    IdentityKind,
    Offer,
    Rejection,
    Request,
    Role,
    Window,
)
from broker.errors import RemoteProtocolError
from tests.dicom.cores import CT, EXPLICIT, IMPLICIT, REQUEST, REQUEST_PDU, VERIFICATION, first

FULL = Request(
    "SCU",
    "SCP",
    REQUEST.offers,
    16384,
    roles={CT: Role(True, True), VERIFICATION: Role(False, True)},
    window=Window(5, 0),
    identity=Identity(IdentityKind.PASSCODE, b"anna", b"secret", wants_answer=True),
)


def primitive(*items: Any) -> A_ASSOCIATE:
    """Return a request as pynetdicom has it."""
    made = A_ASSOCIATE()
    made.application_context_name = UID("1.2.840.10008.3.1.1.1")
    made.calling_ae_title, made.called_ae_title = "SCU", "SCP"
    length, uid, name = MaximumLengthNotification(), ImplementationClassUIDNotification(), ImplementationVersionNameNotification()
    length.maximum_length_received, uid.implementation_class_uid, name.implementation_version_name = 16384, UID("1.2.3"), "OTHER"
    made.user_information = [length, uid, name, *items]
    contexts = []
    for offer in REQUEST.offers:
        context = PresentationContext()
        context.context_id, context.abstract_syntax, context.transfer_syntax = offer.id, UID(offer.abstract), list(offer.syntaxes)
        contexts.append(context)
    made.presentation_context_definition_list = contexts
    return made


def theirs() -> bytes:
    """Return the full request as pynetdicom writes it."""
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 5, 0
    roles = []
    for name, role in FULL.roles.items():
        one = SCP_SCU_RoleSelectionNegotiation()
        one.sop_class_uid, one.scu_role, one.scp_role = UID(name), role.scu, role.scp
        roles.append(one)
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = UID(CT), b"\2\0"
    user = UserIdentityNegotiation()
    user.user_identity_type, user.primary_field, user.secondary_field, user.positive_response_requested = 2, b"anna", b"secret", True
    return bytes(A_ASSOCIATE_RQ(primitive(window, *roles, extended, user)).encode())


def test_what_pynetdicom_asks_for_is_read() -> None:
    assert read_request(theirs()) == FULL


def test_what_is_asked_for_is_read_by_pynetdicom() -> None:
    read = A_ASSOCIATE_RQ()
    read.decode(write_request(FULL))
    asked = read.to_primitive()
    assert (read.calling_ae_title, read.called_ae_title, asked.maximum_length_received) == ("SCU", "SCP", 16384)
    offers = [(c.context_id, c.abstract_syntax, tuple(c.transfer_syntax)) for c in asked.presentation_context_definition_list]
    assert offers == [(offer.id, offer.abstract, offer.syntaxes) for offer in FULL.offers]
    items = {type(item): item for item in asked.user_information}
    assert items[AsynchronousOperationsWindowNegotiation].maximum_number_operations_invoked == 5
    assert items[UserIdentityNegotiation].secondary_field == b"secret"
    roles = [item for item in asked.user_information if isinstance(item, SCP_SCU_RoleSelectionNegotiation)]
    assert [(one.sop_class_uid, one.scu_role, one.scp_role) for one in roles] == [(CT, True, True), (VERIFICATION, False, True)]


def test_what_is_granted_is_read_by_both_sides() -> None:
    pdu, answer = write_accept(FULL, first, 1 << 17, identified=True)
    assert answer.contexts == {1: Context(1, VERIFICATION, IMPLICIT), 3: Context(3, CT, EXPLICIT)}
    assert (answer.refused, answer.roles, answer.identified) == ({5: 4}, FULL.roles, True)
    read = A_ASSOCIATE_AC()
    read.decode(pdu)
    results = read.to_primitive().presentation_context_definition_results_list
    assert [(c.context_id, c.result) for c in results] == [(1, 0), (3, 0), (5, 4)]
    ours = read_accept(pdu, FULL)
    assert (ours.contexts, ours.refused, ours.max_pdu, ours.roles, ours.identified) == (
        answer.contexts,
        answer.refused,
        1 << 17,
        FULL.roles,
        True,
    )


@pytest.mark.parametrize("identity", [None, Identity(IdentityKind.USER, b"anna")])
def test_who_does_not_ask_hears_nothing_of_its_user(identity: Identity | None) -> None:
    request = Request("SCU", "SCP", REQUEST.offers, 0, identity=identity)
    pdu, answer = write_accept(request, first, 1 << 17, identified=True)
    assert not answer.identified
    assert not read_accept(pdu, request).identified


def test_a_role_is_not_granted_where_the_class_is_not() -> None:
    pdu, answer = write_accept(FULL, lambda offer: 3, 1 << 17)
    assert (answer.contexts, answer.roles) == ({}, {})
    assert read_accept(pdu, FULL).refused == {1: 3, 3: 3, 5: 3}


@pytest.mark.parametrize("rejection", [CALLED_NOT_RECOGNISED, LIMIT_EXCEEDED])
def test_a_rejection_is_what_pynetdicom_writes(rejection: Rejection) -> None:
    made = A_ASSOCIATE()
    made.result, made.result_source, made.diagnostic = rejection.result, rejection.source, rejection.reason
    assert write_reject(rejection) == A_ASSOCIATE_RJ(made).encode()


def test_a_rejections_own_reason_is_not_sent() -> None:
    rejection = Rejection(1, 1, 1, "user identity not accepted")
    assert (rejection.text, write_reject(rejection)[-3:]) == ("user identity not accepted", bytes((1, 1, 1)))


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(FULL)
    assert "anna" not in repr(FULL)


def with_items(*items: tuple[int, bytes]) -> bytes:
    """Return a request of these items."""
    body = b"".join(struct.pack(">BxH", kind, len(value)) + value for kind, value in items)
    return struct.pack(">BxI", 1, 68 + len(body)) + REQUEST_PDU[6:74] + body


def context(number: int, abstract: bytes, *syntaxes: bytes) -> tuple[int, bytes]:
    """Return a presentation context item."""
    items = [(0x30, abstract), *((0x40, syntax) for syntax in syntaxes)]
    return 0x20, bytes((number, 0, 0, 0)) + b"".join(struct.pack(">BxH", kind, len(value)) + value for kind, value in items)


@pytest.mark.parametrize("text", ["../../etc/passwd", "1.2/3", "1..2", "1." * 33 + "1", "", "é", "1.2\n", "²"])
def test_what_is_no_uid_is_left_out(text: str) -> None:
    wrong, right = text.encode(), EXPLICIT.encode()
    request = read_request(with_items(context(1, wrong, right), context(3, CT.encode(), wrong, right), context(5, CT.encode(), wrong)))
    assert request.offers == (Offer(1, "", (EXPLICIT,)), Offer(3, CT, (EXPLICIT,)), Offer(5, CT, ()))
    answer = write_accept(request, lambda offer: offer.syntaxes[0], 1 << 17)[1]
    assert (answer.contexts, answer.refused) == ({3: Context(3, CT, EXPLICIT)}, {1: 3, 5: 4})


def test_padded_uids_and_titles_are_read_without_their_padding() -> None:
    pdu = bytearray(with_items(context(1, CT.encode() + b"\0", EXPLICIT.encode() + b" ")))
    pdu[26:42] = b" CT1\0\0\0\0\0\0\0\0\0\0\0\0"
    request = read_request(bytes(pdu))
    assert (request.calling, request.offers) == ("CT1", (Offer(1, CT, (EXPLICIT,)),))


def test_a_title_never_carries_what_a_terminal_obeys() -> None:
    pdu = bytearray(REQUEST_PDU)
    pdu[26:42] = b"\x1b[2JCT\r\n\xff".ljust(16)
    assert read_request(bytes(pdu)).calling == "?[2JCT???"


def test_items_that_are_not_known_are_passed_over() -> None:
    item = (0x50, struct.pack(">BxHI", 0x51, 4, 4096) + struct.pack(">BxH", 0x77, 3) + b"abc")
    assert read_request(with_items((0x99, b"xyz"), item)).max_pdu == 4096


USER_ITEMS = {
    "maximum length of 3 bytes": struct.pack(">BxH", 0x51, 3) + b"abc",
    "window of 1 byte": struct.pack(">BxH", 0x53, 1) + b"a",
    "role longer than its item": struct.pack(">BxHH", 0x54, 6, 200) + b"1.2.",
    "role of one byte": struct.pack(">BxH", 0x54, 1) + b"a",
    "identity whose user ends behind it": struct.pack(">BxHBBH", 0x58, 8, 2, 0, 500) + b"anna",
    "identity with bytes to spare": struct.pack(">BxHBBH", 0x58, 9, 1, 0, 0) + struct.pack(">H", 0) + b"xyz",
    "item longer than the user information": struct.pack(">BxH", 0x55, 400) + b"abc",
    "item cut in its head": b"\x55\0",
}


@pytest.mark.parametrize("name", USER_ITEMS)
def test_user_information_that_does_not_add_up_is_an_error(name: str) -> None:
    with pytest.raises(RemoteProtocolError):
        read_request(with_items((0x50, USER_ITEMS[name])))


@pytest.mark.parametrize(
    "items",
    [
        (context(1, CT.encode(), EXPLICIT.encode()), context(1, CT.encode(), IMPLICIT.encode())),
        (context(2, CT.encode(), EXPLICIT.encode()),),
        ((0x20, b"\1\0"),),
        ((0x20, b"\1\0\0\0\x30\0\xff\xff1.2"),),
    ],
)
def test_contexts_that_do_not_add_up_are_an_error(items: tuple[tuple[int, bytes], ...]) -> None:
    with pytest.raises(RemoteProtocolError):
        read_request(with_items(*items))


@given(data=st.binary(max_size=400))
def test_nonsense_is_read_or_is_an_error(data: bytes) -> None:
    try:
        request = read_request(REQUEST_PDU[:74] + data)
    except RemoteProtocolError:
        return
    assert len(request.offers) <= 128
