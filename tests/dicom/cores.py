"""Association cores in every state, and what moves them."""

from __future__ import annotations

from collections.abc import Callable

from broker.dicom import dimse
from broker.dicom.associate import write_accept, write_reject, write_request
from broker.dicom.association import Association
from broker.dicom.dimse import Field
from broker.dicom.happenings import Happening, Timer, Write
from broker.dicom.negotiation import CALLING_NOT_RECOGNISED, TRANSFER_NOT_SUPPORTED, Offer, Request
from broker.dicom.pdus import RELEASE_RP, RELEASE_RQ, Limits, abort_pdu
from broker.dicom.states import Input, State

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
REQUEST = Request(
    "SCU", "SCP", (Offer(1, VERIFICATION, (IMPLICIT,)), Offer(3, CT, (EXPLICIT, IMPLICIT)), Offer(5, CT, ("1.2.3",))), 1 << 17
)
ECHO = dimse.request(Field.C_ECHO, 1, VERIFICATION)


def first(offer: Offer) -> str | int:
    """Take the first transfer syntax, but none of 1.2.3."""
    return TRANSFER_NOT_SUPPORTED if offer.syntaxes[0] == "1.2.3" else offer.syntaxes[0]


ACCEPT_PDU = write_accept(REQUEST, first, 1 << 17)[0]
REQUEST_PDU = write_request(REQUEST)
REJECT_PDU = write_reject(CALLING_NOT_RECOGNISED)


def written(happenings: list[Happening]) -> bytes:
    """Return all bytes to be sent."""
    return b"".join(h.data for h in happenings if isinstance(h, Write))


def feed(core: Association, data: bytes) -> list[Happening]:
    """Give the core all bytes, as its shell does."""
    happenings: list[Happening] = []
    view = memoryview(data)
    while len(view):
        happenings += core.receive(view)
        view = core.rest
    return happenings


def acceptor(limits: Limits | None = None) -> Association:
    """Return an acceptor with an open association."""
    core = Association(acceptor=True, limits=limits)
    core.connected()
    feed(core, REQUEST_PDU)
    core.accept(first)
    return core


def requestor() -> Association:
    """Return a requestor with an open association."""
    core = Association(acceptor=False)
    core.associate(REQUEST)
    core.connected()
    feed(core, ACCEPT_PDU)
    return core


def _after(core: Association, *steps: Callable[[Association], object]) -> Association:
    for step in steps:
        step(core)
    return core


def in_state(state: State) -> Association:
    """Return a core in that state."""
    asked = lambda core: core.associate(REQUEST)  # noqa: E731
    connected, release, answer = Association.connected, Association.release, Association.release_answer
    released = lambda core: feed(core, RELEASE_RQ)  # noqa: E731
    return {
        State.IDLE: lambda: Association(acceptor=True),
        State.AWAIT_REQUEST: lambda: _after(Association(acceptor=True), connected),
        State.AWAIT_LOCAL_ANSWER: lambda: _after(Association(acceptor=True), connected, lambda core: feed(core, REQUEST_PDU)),
        State.CONNECTING: lambda: _after(Association(acceptor=False), asked),
        State.AWAIT_ANSWER: lambda: _after(Association(acceptor=False), asked, connected),
        State.ESTABLISHED: acceptor,
        State.AWAIT_RELEASE: lambda: _after(requestor(), release),
        State.AWAIT_LOCAL_RELEASE: lambda: _after(acceptor(), released),
        State.COLLISION_REQUESTOR_LOCAL: lambda: _after(requestor(), release, released),
        State.COLLISION_ACCEPTOR_PEER: lambda: _after(acceptor(), release, released),
        State.COLLISION_REQUESTOR_PEER: lambda: _after(requestor(), release, released, answer),
        State.COLLISION_ACCEPTOR_LOCAL: lambda: _after(acceptor(), release, released, lambda core: feed(core, RELEASE_RP)),
        State.AWAIT_CLOSE: lambda: _after(acceptor(), Association.abort),
    }[state]()


def data_pdu() -> bytes:
    """Return a P-DATA-TF with a C-ECHO."""
    return requestor().message(1, ECHO)


def _connected_as(is_acceptor: bool) -> Callable[[Association], list[Happening]]:
    def connect(core: Association) -> list[Happening]:
        core.acceptor = is_acceptor
        return core.connected()

    return connect


def _message(core: Association) -> list[Happening]:
    return [Write(core.message(1, ECHO))]


MAKE: dict[Input, Callable[[Association], list[Happening]]] = {
    Input.ASSOCIATE: lambda core: core.associate(REQUEST),
    Input.CONNECTED: _connected_as(False),
    Input.AC_PDU: lambda core: feed(core, ACCEPT_PDU),
    Input.RJ_PDU: lambda core: feed(core, REJECT_PDU),
    Input.ACCEPTED_CONNECTION: _connected_as(True),
    Input.RQ_PDU: lambda core: feed(core, REQUEST_PDU),
    Input.ANSWER_ACCEPT: lambda core: core.accept(first),
    Input.ANSWER_REJECT: lambda core: core.reject(CALLING_NOT_RECOGNISED),
    Input.SEND_DATA: _message,
    Input.DATA_PDU: lambda core: feed(core, data_pdu()),
    Input.RELEASE: Association.release,
    Input.RELEASE_RQ_PDU: lambda core: feed(core, RELEASE_RQ),
    Input.RELEASE_RP_PDU: lambda core: feed(core, RELEASE_RP),
    Input.ANSWER_RELEASE: Association.release_answer,
    Input.ABORT: Association.abort,
    Input.ABORT_PDU: lambda core: feed(core, abort_pdu(0, 0)),
    Input.LOST: Association.lost,
    Input.TIMER_EXPIRED: lambda core: core.expired(Timer.ARTIM),
    Input.INVALID_PDU: lambda core: feed(core, b"\x99\0\0\0\0\4abcd"),
}

LOCAL = frozenset(
    (
        Input.ASSOCIATE,
        Input.CONNECTED,
        Input.ACCEPTED_CONNECTION,
        Input.ANSWER_ACCEPT,
        Input.ANSWER_REJECT,
        Input.SEND_DATA,
        Input.RELEASE,
        Input.ANSWER_RELEASE,
        Input.ABORT,
    )
)
