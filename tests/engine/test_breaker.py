"""The circuit breaker's table: every state knows what to make of every event."""

from __future__ import annotations

from itertools import product

import pytest

from broker.engine.breaker import TABLE, Act, Event, State


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_pair_leads_somewhere(state: State, event: Event) -> None:
    assert (state, event) in TABLE


@pytest.mark.parametrize("state", State)
def test_a_delivery_that_arrives_closes(state: State) -> None:
    assert TABLE[state, Event.DELIVERED] == (State.CLOSED, Act.NOTHING)


@pytest.mark.parametrize("state", State)
def test_silence_opens(state: State) -> None:
    assert TABLE[state, Event.SILENT][0] is State.OPEN


def test_only_a_peer_that_was_away_is_delivered_to_at_once() -> None:
    assert [pair for pair, (_, act) in TABLE.items() if act is Act.DELIVER] == [(State.OPEN, Event.ECHOED)]


def test_only_the_first_failure_is_asked_about() -> None:
    assert [pair for pair, (_, act) in TABLE.items() if act is Act.ASK] == [(State.CLOSED, Event.FAILED)]
