"""The association state machine of PS3.8 table 9-10, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum


class State(IntEnum):
    """States of PS3.8 table 9-1 to 9-5; the value is the number behind "Sta"."""

    IDLE = 1
    AWAIT_REQUEST = 2  # transport open, no A-ASSOCIATE-RQ yet
    AWAIT_LOCAL_ANSWER = 3  # request seen, the local user decides
    CONNECTING = 4
    AWAIT_ANSWER = 5  # request sent
    ESTABLISHED = 6
    AWAIT_RELEASE = 7  # release asked for by this side
    AWAIT_LOCAL_RELEASE = 8  # release asked for by the peer
    COLLISION_REQUESTOR_LOCAL = 9
    COLLISION_ACCEPTOR_PEER = 10
    COLLISION_REQUESTOR_PEER = 11
    COLLISION_ACCEPTOR_LOCAL = 12
    AWAIT_CLOSE = 13


class Input(IntEnum):
    """Events of PS3.8 table 9-10; the value is the number behind "Evt"."""

    ASSOCIATE = 1
    CONNECTED = 2
    AC_PDU = 3
    RJ_PDU = 4
    ACCEPTED_CONNECTION = 5
    RQ_PDU = 6
    ANSWER_ACCEPT = 7
    ANSWER_REJECT = 8
    SEND_DATA = 9
    DATA_PDU = 10
    RELEASE = 11
    RELEASE_RQ_PDU = 12
    RELEASE_RP_PDU = 13
    ANSWER_RELEASE = 14
    ABORT = 15
    ABORT_PDU = 16
    LOST = 17
    TIMER_EXPIRED = 18
    INVALID_PDU = 19


class Effect(Enum):
    """What an action makes the core do, in order."""

    CONNECT = "ask for the transport connection"
    SEND = "send the PDU at hand"
    REJECT = "send the A-ASSOCIATE-RJ at hand"
    TELL = "tell the local user what came"
    TELL_ABORT = "tell the local user that the association is aborted"
    ABORT_AS_USER = "send A-ABORT, source service-user"
    ABORT_AS_PROVIDER = "send A-ABORT, source service-provider, with the reason at hand"
    START_TIMER = "start or restart ARTIM"
    STOP_TIMER = "stop ARTIM"
    CLOSE = "close the transport connection"


@dataclass(frozen=True, slots=True)
class Action:
    """One action of PS3.8 tables 9-6 to 9-9: its name, its effects, and the state after it.

    otherwise: of the two actions with two outcomes; AE-6 takes it when the request is not acceptable, AR-8 for the acceptor.
    """

    name: str
    next: State
    effects: tuple[Effect, ...] = ()
    otherwise: Action | None = None


def _actions() -> dict[str, Action]:
    e, s = Effect, State
    told = (e.TELL,)
    listed = (
        Action("AE-1", s.CONNECTING, (e.CONNECT,)),
        Action("AE-2", s.AWAIT_ANSWER, (e.SEND,)),
        Action("AE-3", s.ESTABLISHED, told),
        Action("AE-4", s.IDLE, (e.TELL, e.CLOSE)),
        Action("AE-5", s.AWAIT_REQUEST, (e.START_TIMER,)),
        Action(
            "AE-6",
            s.AWAIT_LOCAL_ANSWER,
            (e.STOP_TIMER, e.TELL),
            Action("AE-6", s.AWAIT_CLOSE, (e.STOP_TIMER, e.REJECT, e.START_TIMER)),
        ),
        Action("AE-7", s.ESTABLISHED, (e.SEND,)),
        Action("AE-8", s.AWAIT_CLOSE, (e.SEND, e.START_TIMER)),
        Action("DT-1", s.ESTABLISHED, (e.SEND,)),
        Action("DT-2", s.ESTABLISHED, told),
        Action("AR-1", s.AWAIT_RELEASE, (e.SEND,)),
        Action("AR-2", s.AWAIT_LOCAL_RELEASE, told),
        Action("AR-3", s.IDLE, (e.TELL, e.CLOSE)),
        Action("AR-4", s.AWAIT_CLOSE, (e.SEND, e.START_TIMER)),
        Action("AR-5", s.IDLE, (e.STOP_TIMER,)),
        Action("AR-6", s.AWAIT_RELEASE, told),
        Action("AR-7", s.AWAIT_LOCAL_RELEASE, (e.SEND,)),
        Action("AR-8", s.COLLISION_REQUESTOR_LOCAL, told, Action("AR-8", s.COLLISION_ACCEPTOR_PEER, told)),
        Action("AR-9", s.COLLISION_REQUESTOR_PEER, (e.SEND,)),
        Action("AR-10", s.COLLISION_ACCEPTOR_LOCAL, told),
        Action("AA-1", s.AWAIT_CLOSE, (e.ABORT_AS_USER, e.START_TIMER)),
        Action("AA-2", s.IDLE, (e.STOP_TIMER, e.CLOSE)),
        Action("AA-3", s.IDLE, (e.TELL_ABORT, e.CLOSE)),
        Action("AA-4", s.IDLE, (e.TELL_ABORT,)),
        Action("AA-5", s.IDLE, (e.STOP_TIMER,)),
        Action("AA-6", s.AWAIT_CLOSE),
        Action("AA-7", s.AWAIT_CLOSE, (e.ABORT_AS_PROVIDER,)),
        Action("AA-8", s.AWAIT_CLOSE, (e.ABORT_AS_PROVIDER, e.TELL_ABORT, e.START_TIMER)),
    )
    return {action.name: action for action in listed}


ACTIONS = _actions()

# One line per event: the action by the numbers of the states it is legal in.
_LATER = (8, 9, 10, 11, 12)
_ROWS: dict[Input, dict[str, tuple[int, ...]]] = {
    Input.ASSOCIATE: {"AE-1": (1,)},
    Input.CONNECTED: {"AE-2": (4,)},
    Input.AC_PDU: {"AA-1": (2,), "AE-3": (5,), "AA-8": (3, 6, 7, *_LATER), "AA-6": (13,)},
    Input.RJ_PDU: {"AA-1": (2,), "AE-4": (5,), "AA-8": (3, 6, 7, *_LATER), "AA-6": (13,)},
    Input.ACCEPTED_CONNECTION: {"AE-5": (1,)},
    Input.RQ_PDU: {"AE-6": (2,), "AA-8": (3, 5, 6, 7, *_LATER), "AA-7": (13,)},
    Input.ANSWER_ACCEPT: {"AE-7": (3,)},
    Input.ANSWER_REJECT: {"AE-8": (3,)},
    Input.SEND_DATA: {"DT-1": (6,), "AR-7": (8,)},
    Input.DATA_PDU: {"AA-1": (2,), "DT-2": (6,), "AR-6": (7,), "AA-8": (3, 5, *_LATER), "AA-6": (13,)},
    Input.RELEASE: {"AR-1": (6,)},
    Input.RELEASE_RQ_PDU: {"AA-1": (2,), "AR-2": (6,), "AR-8": (7,), "AA-8": (3, 5, *_LATER), "AA-6": (13,)},
    Input.RELEASE_RP_PDU: {"AA-1": (2,), "AR-3": (7, 11), "AR-10": (10,), "AA-8": (3, 5, 6, 8, 9, 12), "AA-6": (13,)},
    Input.ANSWER_RELEASE: {"AR-4": (8, 12), "AR-9": (9,)},
    Input.ABORT: {"AA-1": (3, 5, 6, 7, *_LATER), "AA-2": (4,)},
    Input.ABORT_PDU: {"AA-2": (2, 13), "AA-3": (3, 5, 6, 7, *_LATER)},
    Input.LOST: {"AA-5": (2,), "AA-4": (3, 4, 5, 6, 7, *_LATER), "AR-5": (13,)},
    Input.TIMER_EXPIRED: {"AA-2": (2, 13)},
    Input.INVALID_PDU: {"AA-1": (2,), "AA-8": (3, 5, 6, 7, *_LATER), "AA-7": (13,)},
}

TABLE: dict[tuple[State, Input], Action] = {
    (State(number), happened): ACTIONS[name] for happened, row in _ROWS.items() for name, numbers in row.items() for number in numbers
}
