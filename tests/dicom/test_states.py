"""The state machine: the table itself, and the core in every state with every event."""

from __future__ import annotations

import pytest
from pynetdicom.fsm import TRANSITION_TABLE

from broker.dicom.happenings import Close, Fault, Happening, StartTimer, StopTimer, Timer, Write
from broker.dicom.pdus import abort_pdu
from broker.dicom.states import TABLE, Effect, Input, State
from broker.errors import LocalProtocolError
from tests.dicom.cores import LOCAL, MAKE, in_state

PAIRS = [(state, happened) for state in State for happened in Input]
PDU_TYPE = {"AE-2": 1, "AE-7": 2, "AE-8": 3, "DT-1": 4, "AR-7": 4, "AR-1": 5, "AR-4": 6, "AR-9": 6, "AA-1": 7, "AA-7": 7, "AA-8": 7}


def test_the_table_is_that_of_the_standard_as_pynetdicom_has_it() -> None:
    ours = {(f"Evt{happened.value}", f"Sta{state.value}"): action.name for (state, happened), action in TABLE.items()}
    assert ours == TRANSITION_TABLE


@pytest.mark.parametrize("state", State)
def test_every_state_can_be_reached(state: State) -> None:
    assert in_state(state).state is state


@pytest.mark.parametrize(("state", "happened"), [pair for pair in PAIRS if pair in TABLE])
def test_a_legal_pair_moves_and_sends_as_the_table_says(state: State, happened: Input) -> None:
    core = in_state(state)
    action = TABLE[state, happened]
    if action.name == "AR-8" and core.acceptor:
        assert action.otherwise is not None
        action = action.otherwise
    happenings = MAKE[happened](core)
    assert core.state is action.next
    sent = [h.data for h in happenings if isinstance(h, Write)]
    assert [data[0] for data in sent] == ([PDU_TYPE[action.name]] if action.name in PDU_TYPE else [])
    assert (Close() in happenings) == (Effect.CLOSE in action.effects)
    assert (StartTimer(Timer.ARTIM) in happenings) == (Effect.START_TIMER in action.effects)
    assert (StopTimer(Timer.ARTIM) in happenings) == (Effect.STOP_TIMER in action.effects)


@pytest.mark.parametrize(("state", "happened"), [pair for pair in PAIRS if pair not in TABLE and pair[1] in LOCAL])
def test_an_illegal_local_call_raises_and_changes_nothing(state: State, happened: Input) -> None:
    core = in_state(state)
    with pytest.raises(LocalProtocolError):
        MAKE[happened](core)
    assert core.state is state


@pytest.mark.parametrize(("state", "happened"), [pair for pair in PAIRS if pair not in TABLE and pair[1] not in LOCAL])
def test_what_the_table_does_not_know_of_the_peer_is_ignored(state: State, happened: Input) -> None:
    core = in_state(state)
    assert MAKE[happened](core) == []
    assert core.state is state


@pytest.mark.parametrize("state", [s for s in State if s not in (State.IDLE, State.CONNECTING, State.AWAIT_REQUEST, State.AWAIT_CLOSE)])
def test_an_unknown_pdu_aborts_as_provider_and_names_the_reason(state: State) -> None:
    happenings: list[Happening] = MAKE[Input.INVALID_PDU](in_state(state))
    assert Write(abort_pdu(2, 1)) in happenings
    assert Fault("unrecognised PDU") in happenings


def test_an_unexpected_pdu_aborts_as_provider_and_names_the_reason() -> None:
    assert Write(abort_pdu(2, 2)) in MAKE[Input.RQ_PDU](in_state(State.ESTABLISHED))


def test_before_the_association_a_fault_aborts_as_user() -> None:
    assert Write(abort_pdu(0, 0)) in MAKE[Input.DATA_PDU](in_state(State.AWAIT_REQUEST))


def test_the_idle_timer_runs_while_the_association_is_open() -> None:
    core = in_state(State.AWAIT_LOCAL_ANSWER)
    assert StartTimer(Timer.IDLE) in MAKE[Input.ANSWER_ACCEPT](core)
    assert StopTimer(Timer.IDLE) in MAKE[Input.RELEASE_RQ_PDU](core)


def test_an_expired_idle_timer_aborts_as_user() -> None:
    core = in_state(State.ESTABLISHED)
    assert Write(abort_pdu(0, 0)) in core.expired(Timer.IDLE)
    assert core.expired(Timer.IDLE) == []
