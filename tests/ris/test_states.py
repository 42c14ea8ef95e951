"""Every pair of state and event, legal and not."""

from __future__ import annotations

import pytest

from broker.errors import MessageError
from broker.ris.states import EXAM, NEW, ORDER, PERFORMED, REPORT, STEP, TABLES, Table, allows, mermaid, next_state

# Written out once more as the department would say it: state -> event -> next; every pair that is not here must be refused.
EXPECTED: dict[str, dict[str, dict[str, str]]] = {
    "order": {
        "": {"place": "SC"},
        "SC": {"arrive": "SC", "change": "SC", "hold": "HD", "cancel": "CA", "discontinue": "DC", "start": "IP"},
        "HD": {"change": "HD", "hold": "HD", "release": "SC", "cancel": "CA", "discontinue": "DC", "start": "IP"},
        "IP": {"start": "IP", "change": "IP", "discontinue": "DC", "reschedule": "SC", "complete": "CM"},
        "CM": {"start": "CM", "complete": "CM"},
        "CA": {"cancel": "CA", "discontinue": "CA"},
        "DC": {"cancel": "DC", "discontinue": "DC", "start": "IP", "complete": "CM"},
    },
    "exam": {
        "": {"schedule": "scheduled", "start": "in_progress"},
        "scheduled": {
            "arrive": "arrived",
            "change": "scheduled",
            "hold": "on_hold",
            "cancel": "cancelled",
            "discontinue": "cancelled",
            "start": "in_progress",
        },
        "arrived": {
            "arrive": "arrived",
            "change": "arrived",
            "hold": "on_hold",
            "cancel": "cancelled",
            "discontinue": "cancelled",
            "start": "in_progress",
        },
        "on_hold": {
            "change": "on_hold",
            "hold": "on_hold",
            "release": "scheduled",
            "cancel": "cancelled",
            "discontinue": "cancelled",
            "start": "in_progress",
        },
        "in_progress": {
            "start": "in_progress",
            "change": "in_progress",
            "complete": "completed",
            "discontinue": "discontinued",
            "reschedule": "scheduled",
            "replace": "replaced",
        },
        "completed": {"start": "completed", "complete": "completed", "replace": "replaced"},
        "discontinued": {
            "start": "in_progress",
            "complete": "completed",
            "discontinue": "discontinued",
            "cancel": "discontinued",
            "replace": "replaced",
        },
        "replaced": {},
        "cancelled": {"cancel": "cancelled", "discontinue": "cancelled"},
    },
    "step": {
        "": {"schedule": "scheduled"},
        "scheduled": {"change": "scheduled", "arrive": "arrived", "cancel": "cancelled", "start": "started"},
        "arrived": {"change": "arrived", "arrive": "arrived", "cancel": "cancelled", "start": "started"},
        "started": {"start": "started", "complete": "completed", "discontinue": "discontinued", "reschedule": "scheduled"},
        "completed": {"start": "completed", "complete": "completed", "discontinue": "completed"},
        "discontinued": {"start": "started", "complete": "completed", "discontinue": "discontinued"},
        "cancelled": {},
    },
    "performed": {
        "": {"IN PROGRESS": "IN PROGRESS"},
        "IN PROGRESS": {"IN PROGRESS": "IN PROGRESS", "COMPLETED": "COMPLETED", "DISCONTINUED": "DISCONTINUED"},
        "COMPLETED": {},
        "DISCONTINUED": {},
    },
    "report": {
        "": {"preliminary": "preliminary", "final": "final", "corrected": "corrected"},
        "preliminary": {"preliminary": "preliminary", "final": "final", "corrected": "corrected", "cancelled": "cancelled"},
        "final": {"final": "final", "corrected": "corrected", "cancelled": "cancelled"},
        "corrected": {"corrected": "corrected", "final": "corrected", "cancelled": "cancelled"},
        "cancelled": {"preliminary": "preliminary", "final": "final", "corrected": "corrected", "cancelled": "cancelled"},
    },
    "images": {
        "": {"store": "open"},
        "open": {"store": "open", "complete": "complete", "fall_short": "incomplete"},
        "incomplete": {"store": "open", "complete": "complete", "fall_short": "incomplete"},
        "complete": {"store": "open"},
    },
}


def _pairs() -> list[tuple[str, str, str]]:
    return [
        (name, state, event)
        for name, states in EXPECTED.items()
        for state in states
        for event in sorted({event for events in states.values() for event in events})
    ]


@pytest.mark.parametrize(("name", "state", "event"), _pairs())
def test_every_pair(name: str, state: str, event: str) -> None:
    table, wanted = TABLES[name], EXPECTED[name][state].get(event)
    assert allows(table, state, event) == (wanted is not None)
    if wanted is not None:
        assert next_state(table, state, event) == wanted
        return
    with pytest.raises(MessageError) as refused:
        next_state(table, state, event, "ORC-1")
    assert refused.value.path == "ORC-1"
    assert refused.value.code == 207
    assert refused.value.why == f"{event} is not possible in state {state or 'new'}"


@pytest.mark.parametrize("name", list(TABLES))
def test_the_expectation_names_every_state_and_event(name: str) -> None:
    table = TABLES[name]
    assert {state for pair, after in table.items() for state in (pair[0], after)} == set(EXPECTED[name])
    assert {event for _, event in table} == {event for events in EXPECTED[name].values() for event in events}


@pytest.mark.parametrize("table", list(TABLES.values()), ids=list(TABLES))
def test_every_state_is_reached_from_new(table: Table) -> None:
    reached = {NEW}
    while more := {after for (state, _), after in table.items() if state in reached} - reached:
        reached |= more
    assert {state for state, _ in table} <= reached


def test_a_code_may_be_given() -> None:
    with pytest.raises(MessageError) as refused:
        next_state(PERFORMED, NEW, "COMPLETED", "PerformedProcedureStepStatus", code=103)
    assert refused.value.code == 103


def test_diagram_has_every_transition_once() -> None:
    for table in (ORDER, EXAM, STEP, REPORT):
        drawn = mermaid(table)
        arrows = [line.strip() for line in drawn.splitlines() if "-->" in line and not line.endswith("[*]")]
        told = [
            (before if before != "[*]" else NEW, event, after)
            for line in arrows
            for before, _, rest in [line.partition(" --> ")]
            for after, _, events in [rest.partition(": ")]
            for event in events.split(", ")
        ]
        assert sorted(told) == sorted((state, event, after) for (state, event), after in table.items())


def test_diagram_names_states_with_a_blank_and_ends() -> None:
    assert mermaid(PERFORMED).splitlines() == [
        "stateDiagram-v2",
        '    state "IN PROGRESS" as IN_PROGRESS',
        "    [*] --> IN_PROGRESS: IN PROGRESS",
        "    IN_PROGRESS --> IN_PROGRESS: IN PROGRESS",
        "    IN_PROGRESS --> COMPLETED: COMPLETED",
        "    IN_PROGRESS --> DISCONTINUED: DISCONTINUED",
        "    COMPLETED --> [*]",
        "    DISCONTINUED --> [*]",
    ]
