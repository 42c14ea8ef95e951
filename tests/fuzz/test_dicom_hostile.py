"""A hostile peer at a listener: each thing it may do gets its answer, leaves nothing in the spool, and everybody else is served."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from broker.connectors.dicom import DicomListener
from broker.connectors.dicom_serving import HALF_OPEN
from broker.dicom import dimse
from broker.dicom.dimse import Field
from broker.dicom.happenings import Aborted, Accepted, Fault, Happening, Message, Rejected
from broker.dicom.pdus import RELEASE_RQ, abort_pdu
from broker.dicom.states import State
from broker.obs.metrics import Metrics
from tests.connectors.dicom_shell import Intake, Modality, left, listener_settings, quiet, spool, statuses
from tests.dicom.cores import ACCEPT_PDU, CT, ECHO, EXPLICIT, IMPLICIT, REJECT_PDU, REQUEST_PDU, VERIFICATION, acceptor, feed, in_state
from tests.fuzz.conftest import TIMES

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom and pynetdicom, silenced in the product by `silence_libraries`

WORKLIST, MPPS, DEFLATED = "1.2.840.10008.5.1.4.31", "1.2.840.10008.3.1.2.3.3", "1.2.840.10008.1.2.1.99"
CONTEXTS = ((VERIFICATION, IMPLICIT), (CT, EXPLICIT), (WORKLIST, EXPLICIT), (MPPS, EXPLICIT))
ECHO_ID, STORE_ID, FIND_ID, MPPS_ID = 1, 3, 5, 7
STORE = dimse.request(Field.C_STORE, 7, CT, "1.2.3")
FIND = dimse.request(Field.C_FIND, 7, WORKLIST)
CORE_PDUS, LISTENER_PDUS = 9_000 * TIMES, 1_000 * TIMES  # a million by `make fuzz`


class Place:
    """A listener, somebody well-behaved who is connected all the time, and whoever else comes."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.reactor, self.intake, self.metrics, self.spool = MemoryReactorClock(), Intake(), Metrics(), spool(folder)
        self.log, self.logged = quiet()
        shared = (self.reactor, self.intake, self.spool, self.metrics, self.log)
        self.listener = DicomListener("modalities", listener_settings(**settings), *shared)
        self.listener.start()
        self.good = Modality(self.listener, calling="CT2")
        self.good.associate((VERIFICATION, IMPLICIT))

    def bad(self, *contexts: tuple[str, str]) -> Modality:
        """Return a modality that has associated so far as to be believed."""
        modality = Modality(self.listener)
        assert any(isinstance(h, Accepted) for h in modality.associate(*(contexts or CONTEXTS)))
        return modality

    def is_well(self) -> None:
        """Nothing is in the spool that was not answered for, and the other modality is served."""
        assert len(left(self.spool)) == len(self.intake.stored)
        assert self.good.request(Field.C_ECHO, VERIFICATION) == [0]
        assert "association failed" not in self.logged.getvalue()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def pdv(context: int, control: int, data: bytes) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context, control) + data


def pdata(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return struct.pack(">BxI", 4, len(body)) + body


def raw(kind: int, length: int, body: bytes = b"") -> bytes:
    return struct.pack(">BxI", kind, length) + body


# before the association

EARLY = {
    "data": (pdata(pdv(1, 3, ECHO)), (0, 0)),
    "release": (RELEASE_RQ, (0, 0)),
    "an answer": (ACCEPT_PDU, (0, 0)),
    "a rejection": (REJECT_PDU, (0, 0)),
    "an unknown PDU": (raw(0x42, 4, b"abcd"), (0, 0)),
    "an HTTP request": (b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n", (0, 0)),
    "a TLS handshake": (bytes.fromhex("16030100c8010000c40303"), (0, 0)),
    "a request of 4 GB": (raw(1, 0xFFFFFFFF), (0, 0)),
    "a request of no bytes": (raw(1, 0), (0, 0)),
    "a request cut behind its titles": (raw(1, 68, REQUEST_PDU[6:74]), None),  # no application context: rejected
}


@pytest.mark.parametrize("name", EARLY)
def test_what_comes_before_an_association(place: Place, name: str) -> None:
    data, abort = EARLY[name]
    modality = Modality(place.listener)
    modality.shell.dataReceived(data)
    said = modality.transport.value()
    assert said == (abort_pdu(*abort) if abort is not None else raw(3, 4, bytes((0, 1, 1, 2))))
    modality.lose()
    place.is_well()


@pytest.mark.parametrize("size", range(0, len(REQUEST_PDU), 11))
def test_a_request_that_is_cut_is_waited_for_as_long_as_artim(place: Place, size: int) -> None:
    modality = Modality(place.listener)
    modality.shell.dataReceived(REQUEST_PDU[:size])
    assert modality.transport.value() == b""
    place.reactor.advance(31)
    assert modality.transport.disconnecting
    place.is_well()


# inside one: (what it sends, why it is aborted)

INVALID, UNEXPECTED, UNRECOGNISED, ODD = 6, 2, 1, 5
LATE = {
    "an unknown PDU": (raw(0x42, 4, b"abcd"), UNRECOGNISED),
    "another request": (REQUEST_PDU, UNEXPECTED),
    "an answer": (ACCEPT_PDU, UNEXPECTED),
    "a rejection": (REJECT_PDU, UNEXPECTED),
    "data of 4 GB": (raw(4, 0xFFFFFFFF), INVALID),
    "data of no bytes": (raw(4, 0), INVALID),
    "data beyond what was agreed": (raw(4, (1 << 17) + 1), INVALID),
    "a PDV of length 0": (raw(4, 10, struct.pack(">IBB", 0, 1, 3) + bytes(4)), INVALID),
    "a PDV of length 1": (raw(4, 10, struct.pack(">IBB", 1, 1, 3) + bytes(4)), INVALID),
    "a PDV of 4 GB": (raw(4, 10, struct.pack(">IBB", 0xFFFFFFFF, 1, 3) + bytes(4)), INVALID),
    "a PDV longer than its PDU": (raw(4, 10, struct.pack(">IBB", 7, 1, 3) + bytes(4)), INVALID),
    "a context that nobody proposed": (pdata(pdv(99, 3, ECHO)), INVALID),
    "an even context": (pdata(pdv(2, 3, ECHO)), INVALID),
    "context 0": (pdata(pdv(0, 3, ECHO)), INVALID),
    "data without a command": (pdata(pdv(STORE_ID, 2, b"abcd")), ODD),
    "a command inside another's data": (pdata(pdv(STORE_ID, 3, STORE), pdv(STORE_ID, 3, STORE)), ODD),
    "data in another context": (pdata(pdv(STORE_ID, 3, STORE), pdv(FIND_ID, 2, b"abcd")), INVALID),
    "a command that never ends": (pdata(pdv(1, 1, bytes(16000))) * 2, INVALID),
    "a command cut in an element": (pdata(pdv(1, 3, ECHO[:-3])), INVALID),
    "a command with an element of 4 GB": (pdata(pdv(1, 3, struct.pack("<HHI", 0, 0x100, 0xFFFFFFFF))), INVALID),
    "a command of another group": (pdata(pdv(1, 3, struct.pack("<HHI2s", 8, 0x18, 2, b"1\0"))), INVALID),
    "a command of no bytes": (pdata(pdv(1, 3, b"")), INVALID),
    "an abort of the wrong length": (raw(7, 5, bytes(5)), INVALID),
}


@pytest.mark.parametrize("name", LATE)
def test_what_comes_inside_an_association(place: Place, name: str) -> None:
    data, reason = LATE[name]
    bad = place.bad()
    assert Aborted("peer", 2, reason) in bad.send(data)
    assert bad.send(pdata(pdv(1, 3, ECHO)) * 3) == []
    bad.lose()
    place.is_well()


def elements(command: bytes) -> list[bytes]:
    """Return the elements of a command set."""
    found, at = [], 0
    while at < len(command):
        (length,) = struct.unpack_from("<I", command, at + 4)
        found.append(command[at : at + 8 + length])
        at += 8 + length
    return found


COMMANDS = {
    "echo": (ECHO_ID, ECHO, b""),
    "store": (STORE_ID, STORE, b"\x08\0\x60\0CS\x02\0CT"),
    "find": (FIND_ID, FIND, b"\x10\0\x20\0LO\0\0"),
    "create": (MPPS_ID, dimse.request(Field.N_CREATE, 7, MPPS, "1.2.3"), b"\x10\0\x20\0LO\0\0"),
    "set": (MPPS_ID, dimse.request(Field.N_SET, 7, MPPS, "1.2.3"), b"\x10\0\x20\0LO\0\0"),
}
MISSING = [(name, at) for name, (_, command, _) in COMMANDS.items() for at in range(len(elements(command)))]


@pytest.mark.parametrize(("name", "at"), MISSING)
def test_a_command_without_one_of_its_elements_is_answered_or_aborted(place: Place, name: str, at: int) -> None:
    context, command, dataset = COMMANDS[name]
    parts = elements(command)
    bad = place.bad()
    answer = bad.send(
        pdata(pdv(context, 3, b"".join(parts[:at] + parts[at + 1 :]))) + (pdata(pdv(context, 2, dataset)) if dataset else b"")
    )
    place.reactor.advance(0)
    assert answer or bad.heard()
    bad.lose()
    place.is_well()


HOSTILE_UIDS = ("../../etc/passwd", "1.2/../3", "/etc/passwd", "1.2\\3", "1.2.3\0/x", "1." * 40, "1.2.3 x", "")


@pytest.mark.parametrize("uid", HOSTILE_UIDS)
def test_a_uid_that_is_none_names_no_object(place: Place, uid: str) -> None:
    bad = place.bad()
    assert statuses(bad.send(bad.ask(Field.C_STORE, CT, bytes(20), uid, context=STORE_ID))) == [0x0117]
    assert place.intake.stored == []
    place.is_well()


def nested(depth: int) -> bytes:
    head = struct.pack("<HH2sHI", 0x40, 0x100, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return head * depth


def bomb() -> bytes:
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return deflate.compress(bytes(50_000_000)) + deflate.flush()


IDENTIFIERS: dict[str, Callable[[], bytes]] = {
    "sequences in sequences": lambda: nested(20_000),
    "a sequence that never ends": lambda: nested(1),
    "a value of 4 GB": lambda: struct.pack("<HH2sHI", 0x10, 0x20, b"UT", 0, 0xFFFFFFFE) + b"abc",
    "an unknown value that never ends": lambda: struct.pack("<HH2sHI", 0x9, 0x10, b"UN", 0, 0xFFFFFFFF) + bytes(500_000),
    "cut inside a fragment": lambda: b"\x10\0\x20\0LO\x08\0AB",
    "too large": lambda: bytes(3_000_000),
    "nonsense": lambda: random.Random(7).randbytes(5000),
    "deflated": bomb,
}


@pytest.mark.parametrize("field", [Field.C_FIND, Field.N_CREATE, Field.N_SET])
@pytest.mark.parametrize("name", IDENTIFIERS)
def test_a_dataset_made_to_hurt_is_refused(place: Place, name: str, field: Field) -> None:
    bad = place.bad()
    abstract, context = (WORKLIST, FIND_ID) if field == Field.C_FIND else (MPPS, MPPS_ID)
    instance = "" if field == Field.C_FIND else "1.2.3"
    bad.shell.dataReceived(bad.ask(field, abstract, IDENTIFIERS[name](), instance, context=context))
    place.reactor.advance(0)
    [status] = statuses(bad.heard())
    assert status & 0xF000 in (0xA000, 0xC000) or status in (0x0106, 0x0110, 0x0213)
    assert place.intake.found == place.intake.performed == []
    place.is_well()


def test_no_query_or_step_comes_deflated(place: Place) -> None:
    modality = Modality(place.listener)
    [answer] = [h.answer for h in modality.associate((WORKLIST, DEFLATED), (MPPS, DEFLATED)) if isinstance(h, Accepted)]
    assert (answer.contexts, answer.refused) == ({}, {1: 4, 3: 4})


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_an_object_cut_inside_a_fragment_leaves_nothing(place: Place, size: int) -> None:
    bad = place.bad()
    data = bad.ask(Field.C_STORE, CT, bytes(1200), "1.2.3", context=STORE_ID)
    bad.send(data[: len(data) - size])
    bad.lose()
    assert left(place.spool) == []
    place.is_well()


@pytest.mark.parametrize("state", [state for state in State if state is not State.CONNECTING])
def test_an_abort_is_the_end_in_every_state(state: State) -> None:
    core = in_state(state)
    feed(core, abort_pdu(2, 1) + pdata(pdv(1, 3, ECHO)) * 2)
    assert core.state is State.IDLE


# many

LATER = (State.ESTABLISHED, State.AWAIT_LOCAL_RELEASE, State.AWAIT_CLOSE, State.IDLE)


def test_ten_thousand_connections_that_ask_for_nothing(place: Place) -> None:
    idle: list[Modality] = []
    for at in range(10_000):
        idle.append(Modality(place.listener, host=f"127.0.{at >> 8 & 3}.{at & 0xFF}"))
        for cut in [one for one in idle if one.transport.disconnected]:
            cut.lose()
            idle.remove(cut)
    served = Modality(place.listener, calling="CT3", host="127.0.9.9")
    assert any(isinstance(h, Accepted) for h in served.associate((VERIFICATION, IMPLICIT)))
    assert served.request(Field.C_ECHO, VERIFICATION) == [0]
    assert len(idle) <= HALF_OPEN
    assert len(place.reactor.getDelayedCalls()) <= HALF_OPEN + 3
    place.is_well()


def one_pdu(rng: random.Random) -> bytes:
    """Return a PDU as a peer sends it, or as none does."""
    kind = rng.randrange(12)
    if kind < 5:
        context, command, dataset = rng.choice(list(COMMANDS.values()))
        data = pdata(pdv(context, 3, command)) + (pdata(pdv(context, 2, dataset)) if dataset else b"")
    elif kind == 5:
        data = pdata(
            *(pdv(rng.choice((1, 3, 5, 7, 9)), rng.randrange(4), rng.randbytes(rng.randrange(60))) for _ in range(rng.randrange(1, 4)))
        )
    elif kind == 6:
        data = raw(rng.randrange(256), rng.choice((0, 4, 5, 1 << 16, 0xFFFFFFFF)), rng.randbytes(rng.randrange(20)))
    elif kind == 7:
        data = rng.choice((RELEASE_RQ, abort_pdu(0, 0), REQUEST_PDU, ACCEPT_PDU, REJECT_PDU))
    else:
        parts = elements(rng.choice(list(COMMANDS.values()))[1])
        rng.shuffle(parts)
        data = pdata(pdv(rng.choice((1, 3, 5, 7)), 3, b"".join(parts[: rng.randrange(len(parts) + 1)])))
    if rng.random() < 0.4:
        hurt = bytearray(data)
        hurt[rng.randrange(len(hurt))] = rng.randrange(256)
        data = bytes(hurt[: rng.randrange(1, len(hurt) + 1)] if rng.random() < 0.2 else hurt)
    return data


def seeded() -> random.Random:
    """Return other numbers each time when asked for more than the usual."""
    return random.Random(os.urandom(8) if TIMES > 1 else 4)


def test_a_core_makes_sense_of_pdus_of_all_kinds() -> None:
    rng, sent = seeded(), 0
    while sent < CORE_PDUS:
        core = acceptor()
        while core.state is State.ESTABLISHED and sent < CORE_PDUS:
            happenings = feed(core, one_pdu(rng))
            sent += 1
            assert len(core._command or b"") <= core.limits.command
            assert core._body is None or len(core._body[2]) <= core.limits.associate
            assert core.state in LATER
            assert (core.state is State.AWAIT_CLOSE) == any(isinstance(h, Fault) for h in happenings)


def test_a_listener_survives_pdus_of_all_kinds(tmp_path: Path) -> None:
    rng = seeded()
    place, sent, abandoned = Place(tmp_path, artim="1s"), 0, 0
    while sent < LISTENER_PDUS:
        bad = Modality(place.listener)
        if rng.random() < 0.95:
            bad.associate(*CONTEXTS)
        for _ in range(rng.randrange(1, 40)):
            bad.shell.dataReceived(one_pdu(rng))
            sent += 1
            if bad.shell.core.state in (State.IDLE, State.AWAIT_CLOSE):
                break
        bad.lose()
        place.reactor.advance(0.01)
        abandoned += 1
        if not abandoned % 50:
            place.is_well()
            for path in left(place.spool):
                path.unlink()
            place.intake.stored.clear()
            place.intake.found.clear()
            place.intake.performed.clear()
    assert place.good.request(Field.C_ECHO, VERIFICATION) == [0]
    assert "association failed" not in place.logged.getvalue()
    assert place.listener._serving.open == {place.good.shell}


def test_a_rejection_says_by_whom_and_why(place: Place) -> None:
    answer: list[Happening] = Modality(place.listener, called="OTHER").associate((VERIFICATION, IMPLICIT))
    [rejection] = [h.rejection for h in answer if isinstance(h, Rejected)]
    assert (rejection.result, rejection.source, rejection.reason) == (1, 1, 7)
    assert not [h for h in answer if isinstance(h, Message)]
