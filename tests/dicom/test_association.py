"""The association core: both roles back to back, whatever way the bytes are cut, and every limit."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.dicom import dimse
from broker.dicom.associate import write_request
from broker.dicom.association import Association
from broker.dicom.dimse import Field, Status
from broker.dicom.happenings import (
    Aborted,
    Accepted,
    Data,
    Fault,
    Happening,
    Message,
    Rejected,
    Released,
    ReleaseRequested,
    Requested,
)
from broker.dicom.negotiation import CALLED_NOT_RECOGNISED, Context, Offer, Rejection, Request
from broker.dicom.pdus import Limits, abort_pdu
from broker.dicom.states import State
from broker.errors import LocalProtocolError
from tests.dicom.cores import CT, ECHO, EXPLICIT, IMPLICIT, REQUEST, VERIFICATION, acceptor, feed, first, requestor, written

STORE = dimse.request(Field.C_STORE, 7, CT, "1.2.3")


def pdu(*pdvs: tuple[int, int, bytes]) -> bytes:
    """Return one P-DATA-TF of (context, control, data)."""
    body = b"".join(struct.pack(">IBB", len(data) + 2, context, control) + data for context, control, data in pdvs)
    return struct.pack(">BxI", 4, len(body)) + body


def dataset_of(happenings: list[Happening]) -> bytes:
    return b"".join(bytes(h.view) for h in happenings if isinstance(h, Data))


def test_two_cores_associate_talk_and_release() -> None:
    asking, answering = Association(acceptor=False), Association(acceptor=True)
    asking.associate(REQUEST)
    answering.connected()
    [requested] = [h for h in feed(answering, written(asking.connected())) if isinstance(h, Requested)]
    assert requested.request == REQUEST
    [accepted] = [h for h in feed(asking, written(answering.accept(first))) if isinstance(h, Accepted)]
    assert accepted.answer.contexts == {1: Context(1, VERIFICATION, IMPLICIT), 3: Context(3, CT, EXPLICIT)}
    assert accepted.answer.refused == {5: 4}
    assert asking.contexts == answering.contexts
    [message] = [h for h in feed(answering, asking.message(1, ECHO)) if isinstance(h, Message)]
    assert (message.context.id, message.command.field, message.command.message_id) == (1, Field.C_ECHO, 1)
    [answer] = [h for h in feed(asking, answering.message(1, dimse.response(message.command, 0))) if isinstance(h, Message)]
    assert (answer.command.is_response, answer.command.message_id, answer.command.status) == (True, 1, Status.SUCCESS)
    assert ReleaseRequested() in feed(answering, written(asking.release()))
    assert Released() in feed(asking, written(answering.release_answer()))
    assert (asking.state, answering.state) == (State.IDLE, State.AWAIT_CLOSE)


def test_a_rejection_tells_why() -> None:
    asking, answering = Association(acceptor=False), Association(acceptor=True)
    asking.associate(REQUEST)
    answering.connected()
    feed(answering, written(asking.connected()))
    assert Rejected(CALLED_NOT_RECOGNISED) in feed(asking, written(answering.reject(CALLED_NOT_RECOGNISED)))
    assert CALLED_NOT_RECOGNISED.text == "called AE title not recognised"
    assert Rejection(1, 2, 9).text == "source 2 reason 9"


def test_a_release_collision_ends_on_both_sides() -> None:
    asking, answering = requestor(), acceptor()
    to_answering, to_asking = written(asking.release()), written(answering.release())
    assert ReleaseRequested() in feed(asking, to_asking)
    assert ReleaseRequested() in feed(answering, to_answering)
    assert Released() in feed(answering, written(asking.release_answer()))
    assert Released() in feed(asking, written(answering.release_answer()))
    assert (asking.state, answering.state) == (State.IDLE, State.AWAIT_CLOSE)


def test_another_protocol_version_is_rejected_by_the_core() -> None:
    core = Association(acceptor=True)
    core.connected()
    request = bytearray(write_request(REQUEST))
    request[6:8] = b"\0\2"
    happenings = feed(core, bytes(request))
    assert written(happenings)[:10] == bytes((3, 0, 0, 0, 0, 4, 0, 1, 2, 2))
    assert not [h for h in happenings if isinstance(h, Requested)]
    assert core.state is State.AWAIT_CLOSE


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=3000), cuts=st.lists(st.integers(0, 4000), max_size=12), size=st.integers(64, 400), echo_after=st.booleans())
def test_a_dataset_comes_out_as_it_went_in_however_it_is_cut(data: bytes, cuts: list[int], size: int, echo_after: bool) -> None:
    asking, answering = requestor(), acceptor()
    asking.max_data = size
    sent = asking.message(3, STORE, data or b"\0") + (asking.message(1, ECHO) if echo_after else b"")
    places = sorted({min(cut, len(sent)) for cut in cuts} | {0, len(sent)})
    happenings: list[Happening] = []
    for start, stop in pairwise(places):
        happenings += feed_copied(answering, sent[start:stop])
    assert b"".join(h for h in happenings if isinstance(h, bytes)) == (data or b"\0")
    assert sum(isinstance(h, Message) for h in happenings) == 1 + echo_after


def feed_copied(core: Association, data: bytes) -> list:  # type: ignore[type-arg]
    """Feed, with the views turned into bytes before the buffer is gone."""
    return [bytes(h.view) if isinstance(h, Data) else h for h in feed(core, data)]


def test_data_is_not_copied() -> None:
    core = acceptor()
    sent = bytearray(pdu((3, 3, STORE)) + pdu((3, 2, b"abcd")))
    [data] = [h for h in feed(core, sent) if isinstance(h, Data)]  # type: ignore[arg-type]
    sent[-4:] = b"wxyz"
    assert (bytes(data.view), data.last) == (b"wxyz", True)


def test_reading_stops_after_each_whole_message() -> None:
    core = acceptor()
    twice = pdu((1, 3, ECHO)) * 2
    assert sum(isinstance(h, Message) for h in core.receive(memoryview(twice))) == 1
    assert bytes(core.rest) == twice[len(twice) // 2 :]
    assert sum(isinstance(h, Message) for h in core.receive(core.rest)) == 1
    assert not core.rest


def test_several_fragments_in_one_pdu_and_an_empty_last_one() -> None:
    core = acceptor()
    happenings = feed(core, pdu((3, 1, STORE[:10]), (3, 3, STORE[10:]), (3, 0, b"ab"), (3, 0, b"cd")) + pdu((3, 2, b"")))
    assert dataset_of(happenings) == b"abcd"
    assert [h.last for h in happenings if isinstance(h, Data)] == [False, False, True]


HUGE = struct.pack(">BxI", 4, 0xFFFFFFFF)
FAULTS = {
    "P-DATA longer than agreed": (struct.pack(">BxI", 4, (1 << 17) + 1), "P-DATA length", 6),
    "P-DATA of 4 GB": (HUGE, "P-DATA length", 6),
    "P-DATA too short for a PDV": (struct.pack(">BxI", 4, 5), "P-DATA length", 6),
    "PDV longer than its PDU": (struct.pack(">BxIIBB", 4, 10, 200, 1, 3), "PDV length", 6),
    "PDV of length 0": (struct.pack(">BxIIBB", 4, 10, 0, 1, 3), "PDV length", 6),
    "PDV that leaves a scrap": (struct.pack(">BxIIBB", 4, 13, 6, 1, 3), "PDV length", 6),
    "context never accepted": (pdu((9, 3, ECHO)), "presentation context not accepted", 6),
    "context refused": (pdu((5, 3, ECHO)), "presentation context not accepted", 6),
    "context changed inside a command": (pdu((1, 1, ECHO[:10]), (3, 3, ECHO[10:])), "presentation context changed inside a message", 6),
    "context changed before the data": (pdu((3, 3, STORE), (1, 2, b"ab")), "presentation context changed inside a message", 6),
    "data without a command": (pdu((3, 2, b"ab")), "command and data out of order", 5),
    "command instead of data": (pdu((3, 3, STORE), (3, 3, STORE)), "command and data out of order", 5),
    "command set cut": (pdu((1, 3, ECHO[:-3])), "command set", 6),
    "command set of another group": (pdu((1, 3, b"\x08\0" + ECHO[2:])), "command set", 6),
    "command set too long": (pdu(*[(1, 1, bytes(8000))] * 3), "command set too long", 6),
    "release of a wrong length": (struct.pack(">BxI", 5, 8) + bytes(8), "PDU length", 6),
    "abort of 4 GB": (struct.pack(">BxI", 7, 0xFFFFFFFF), "PDU length", 6),
    "unknown type": (b"\x63\0\0\0\0\4abcd", "unrecognised PDU", 1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_aborts_and_says_what_it_was(name: str) -> None:
    data, fault, reason = FAULTS[name]
    core = acceptor()
    happenings = feed(core, data)
    assert Fault(fault) in happenings
    assert abort_pdu(2, reason) in written(happenings)
    assert Aborted("local", 2, reason) in happenings
    assert core.state is State.AWAIT_CLOSE
    assert feed(core, pdu((1, 3, ECHO)) * 3) == []  # whatever else comes is not looked at


def test_an_association_request_has_its_limit() -> None:
    core = Association(acceptor=True)
    core.connected()
    assert Fault("PDU length") in feed(core, struct.pack(">BxI", 1, (1 << 18) + 1))


def test_an_association_request_of_nonsense_aborts() -> None:
    core = Association(acceptor=True)
    core.connected()
    assert Fault("A-ASSOCIATE cannot be decoded") in feed(core, struct.pack(">BxI", 1, 80) + b"\xff" * 80)


def test_an_empty_association_request_aborts() -> None:
    core = Association(acceptor=True)
    core.connected()
    assert Fault("A-ASSOCIATE cannot be decoded") in feed(core, struct.pack(">BxI", 1, 0))


def test_an_answer_with_a_context_never_proposed_aborts() -> None:
    core = Association(acceptor=False)
    core.associate(Request("SCU", "SCP", (Offer(7, CT, (IMPLICIT,)),), 0))
    core.connected()
    answering = Association(acceptor=True)
    answering.connected()
    feed(answering, write_request(REQUEST))
    assert Fault("A-ASSOCIATE cannot be decoded") in feed(core, written(answering.accept(first)))


def test_nothing_of_a_message_comes_out_after_an_abort() -> None:
    core = acceptor()
    feed(core, pdu((3, 3, STORE)))
    core.abort()
    assert [h for h in feed(core, pdu((3, 0, b"abcd")) + pdu((3, 2, b"ef"))) if isinstance(h, Data)] == []


def test_data_obeys_the_peers_limit() -> None:
    core = acceptor()
    core.contexts = {3: Context(3, CT, EXPLICIT)}
    core.max_data = 100
    sent = core.message(3, STORE, bytes(250))
    at, lengths = 0, []
    while at < len(sent):
        (length,) = struct.unpack_from(">I", sent, at + 2)
        lengths.append(length)
        at += 6 + length
    assert at == len(sent)
    assert max(lengths) == 106


@pytest.mark.parametrize(("limit", "expected"), [(0, (1 << 17) - 6), (16384, 16378), (16385, 16378), (1, 58), (1 << 30, (1 << 17) - 6)])
def test_the_peers_limit_makes_even_fragments_within_reason(limit: int, expected: int) -> None:
    core = Association(acceptor=True)
    core.connected()
    feed(core, write_request(Request("SCU", "SCP", REQUEST.offers, limit)))
    core.accept(first)
    assert core.max_data == expected


@pytest.mark.parametrize(("context", "length"), [(9, 10), (3, 1 << 20), (3, -1)])
def test_a_fragment_that_must_not_be_sent_is_refused(context: int, length: int) -> None:
    with pytest.raises(LocalProtocolError):
        acceptor().data_head(context, length, last=True)


def test_this_sides_limit_is_told_and_kept() -> None:
    core = acceptor(Limits(max_pdu=1000))
    assert Fault("P-DATA length") in feed(core, pdu((1, 3, bytes(1000))))
