"""Hostile PDUs: nothing raises, nothing grows, nothing stays behind, everybody else is served."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.testing import MemoryReactorClock

from broker.connectors.dicom import DicomListener
from broker.dicom import dimse
from broker.dicom.association import Association
from broker.dicom.dimse import Field
from broker.dicom.happenings import Accepted
from broker.dicom.pdus import RELEASE_RP, RELEASE_RQ, abort_pdu
from broker.dicom.states import State
from broker.obs.metrics import Metrics
from tests.connectors.dicom_shell import Intake, Modality, left, listener_settings, quiet, spool
from tests.dicom.cores import ACCEPT_PDU, CT, ECHO, EXPLICIT, IMPLICIT, REJECT_PDU, REQUEST_PDU, VERIFICATION, feed, in_state, requestor

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom and pynetdicom, silenced in the product by `silence_libraries`

SEEDS = range(150)
STORE = dimse.request(Field.C_STORE, 7, CT, "1.2.3")
OPEN = [state for state in State if state is not State.CONNECTING]


def conversation(rng: random.Random) -> bytes:
    """Return what a requestor may say after the request, in any order."""
    core = requestor()
    core.max_data = rng.choice((64, 500, 100_000))
    parts = [
        core.message(1, ECHO),
        core.message(3, STORE, rng.randbytes(rng.randrange(1, 3000))),
        core.message(3, STORE, bytes(10)),
        core.message(1, dimse.cancel(1)),
        RELEASE_RQ,
        RELEASE_RP,
        abort_pdu(0, 0),
        ACCEPT_PDU,
        REJECT_PDU,
        REQUEST_PDU,
        struct.pack(">BxI", rng.randrange(256), rng.choice((0, 4, 1 << 16, 0xFFFFFFFF))) + rng.randbytes(20),
    ]
    return b"".join(rng.choices(parts, weights=[6, 6, 3, 2, 1, 1, 1, 1, 1, 1, 1], k=rng.randrange(1, 8)))


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Return the data with a few bytes changed, left out, doubled or cut off."""
    hurt = bytearray(data)
    for _ in range(rng.randrange(6)):
        at = rng.randrange(len(hurt) or 1)
        kind = rng.randrange(4)
        if kind == 0 and hurt:
            hurt[at % len(hurt)] = rng.randrange(256)
        elif kind == 1:
            del hurt[at : at + rng.randrange(1, 9)]
        elif kind == 2:
            hurt[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif rng.random() < 0.3:
            del hurt[at:]
    return bytes(hurt)


def cut(rng: random.Random, data: bytes) -> Iterator[bytes]:
    """Yield the data in pieces of any size."""
    at = 0
    while at < len(data):
        size = rng.choice((1, 3, 7, 100, 5000))
        yield data[at : at + size]
        at += size


def kept(core: Association) -> int:
    """Return the bytes a core holds on to."""
    return len(core._head) + len(core._command or b"") + (len(core._body[2]) if core._body else 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_core_in_any_state_survives_anything(seed: int) -> None:
    rng = random.Random(seed)
    core = in_state(rng.choice(OPEN))
    stream = mutated(rng, conversation(rng)) if rng.random() < 0.8 else rng.randbytes(2000)
    for piece in cut(rng, stream):
        feed(core, piece)
        assert kept(core) <= core.limits.associate
    core.lost()
    assert core.state is State.IDLE


@pytest.mark.parametrize("state", OPEN)
def test_an_abort_ends_every_state(state: State) -> None:
    core = in_state(state)
    feed(core, abort_pdu(0, 0))
    assert core.state is State.IDLE


@pytest.mark.parametrize("size", range(0, len(REQUEST_PDU), 7))
def test_a_request_that_never_ends_is_waited_for_and_no_more(size: int) -> None:
    core = in_state(State.AWAIT_REQUEST)
    assert feed(core, REQUEST_PDU[:size]) == []
    assert core.state is State.AWAIT_REQUEST


@pytest.mark.parametrize("seed", range(200))
def test_a_mutated_association_request_is_answered_or_aborted(seed: int) -> None:
    rng = random.Random(seed)
    hurt = bytearray(REQUEST_PDU)
    for _ in range(rng.randrange(1, 5)):
        hurt[rng.randrange(6, len(hurt))] = rng.randrange(256)
    core = in_state(State.AWAIT_REQUEST)
    feed(core, bytes(hurt))
    assert core.state in (State.AWAIT_LOCAL_ANSWER, State.AWAIT_CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_listener_survives_and_serves_everybody_else(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    reactor, intake, store = MemoryReactorClock(), Intake(), spool(tmp_path)
    log, logged = quiet()
    listener = DicomListener("modalities", listener_settings(), reactor, intake, store, Metrics(), log)
    listener.start()
    good, bad = Modality(listener, calling="CT2"), Modality(listener)
    good.associate((VERIFICATION, IMPLICIT))
    if rng.random() < 0.9:
        assert any(isinstance(h, Accepted) for h in bad.associate((VERIFICATION, IMPLICIT), (CT, EXPLICIT)))
    for piece in cut(rng, mutated(rng, conversation(rng))):
        bad.shell.dataReceived(piece)
    assert good.request(Field.C_ECHO, VERIFICATION) == [0]
    bad.lose()
    assert len(left(store)) == len(intake.stored)
    assert good.request(Field.C_ECHO, VERIFICATION) == [0]
    assert "association failed" not in logged.getvalue()
    good.lose()
    assert reactor.getDelayedCalls() == []
