"""The circuit breaker of a destination, as data: what its deliveries and its echoes say of the peer, and what follows."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """What is thought of the peer."""

    CLOSED = "it is there"
    HALF_OPEN = "a delivery did not reach it, which an echo is to explain"
    OPEN = "it is not there"


class Event(Enum):
    """What was found out."""

    DELIVERED = "it answered a delivery"
    FAILED = "a delivery did not reach it, or was not answered"
    ECHOED = "it answered an echo"
    SILENT = "it did not"


class Act(Enum):
    """What is to be done."""

    NOTHING = "go on"
    ASK = "send an echo now"
    DELIVER = "send what waits, without waiting for its time"


# A peer that answers echoes and fails deliveries is left to the deliveries' own waiting: they would be all too frequent otherwise.
TABLE: dict[tuple[State, Event], tuple[State, Act]] = {
    (State.CLOSED, Event.DELIVERED): (State.CLOSED, Act.NOTHING),
    (State.CLOSED, Event.FAILED): (State.HALF_OPEN, Act.ASK),
    (State.CLOSED, Event.ECHOED): (State.CLOSED, Act.NOTHING),
    (State.CLOSED, Event.SILENT): (State.OPEN, Act.NOTHING),
    (State.HALF_OPEN, Event.DELIVERED): (State.CLOSED, Act.NOTHING),
    (State.HALF_OPEN, Event.FAILED): (State.HALF_OPEN, Act.NOTHING),
    (State.HALF_OPEN, Event.ECHOED): (State.CLOSED, Act.NOTHING),
    (State.HALF_OPEN, Event.SILENT): (State.OPEN, Act.NOTHING),
    (State.OPEN, Event.DELIVERED): (State.CLOSED, Act.NOTHING),
    (State.OPEN, Event.FAILED): (State.OPEN, Act.NOTHING),
    (State.OPEN, Event.ECHOED): (State.CLOSED, Act.DELIVER),
    (State.OPEN, Event.SILENT): (State.OPEN, Act.NOTHING),
}
