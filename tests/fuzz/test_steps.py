"""Hostile messages through every step that edits: a message comes out that can be read, or an error with its place."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import MessageError
from broker.hl7.message import Message
from broker.hl7.parts import Parts
from tests.fuzz.test_hl7_message import HEADER, HOSTILE
from tests.pipeline.test_route import Engine, route

STEPS = [
    'set: {"OBX[*]-5": "{PID-3}|{PID-5.1?}", PID-2: x}',
    'copy: {from: "PID-3[*].1", to: "PID-4[*].1"}',
    'move: {from: "OBX[*]-1", to: "OBX[*]-5"}',
    'move: {from: "PID-3[*]", to: "PID-4[*]"}',
    'remove: ["OBX[*]", PID-1]',
    'map: {path: "OBX[*]-1", table: sex, missing: default, default: U}',
    'format: {path: ["PID-1", "OBX[*]-1"], case: upper}',
    'format: {path: "PID-1", trim: {what: " 1"}}',
    'format: {path: "PID-1[*].1", pad: {length: 9}, otherwise: keep}',
    'format: {path: "OBX[*]-1", cut: {from: 2, to: 3}, otherwise: empty}',
    'format: {path: "PID-1", date: {to: YYYY}, otherwise: keep}',
    'format: {path: "PID-1", name: {to: family first}, otherwise: keep}',
    'split: {path: OBX-1, at: "1", into: "NTE[*]-3"}',
    'split: {path: PID-1, at: "I", into: "PID-2[*].2", trim: false}',
    'join: {from: ["OBX[*]-1", PID-1], with: "\\n", to: OBX-5}',
    'add: {segment: NTE, after: PID, fields: {NTE-3: "{PID-1?}"}}',
    'for_each: {segment: OBX, steps: [{set: {OBX-5: "{ORC-1?}x"}}, {when: OBX-1 = 1, drop: x}, {remove: OBX-1}]}',
    "for_each: {group: ORC, steps: [{add: {segment: NTE, after: ORC}}, {for_each: {segment: OBX, steps: [{set: {OBX-5: x}}]}}]}",
]
ROUTES = [route(f"lane: PID-3\nsteps:\n  - {step}\nto: [{{send: ehr}}]") for step in STEPS]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(HEADER, HOSTILE, st.sampled_from(ROUTES))
def test_a_hostile_message_through_a_step(header: bytes, body: bytes, made: object) -> None:
    raw = header + body
    message = Message.parse(raw)
    with suppress(MessageError):
        for sent in made.run(message, Engine()).outgoing:  # type: ignore[attr-defined]
            again = Message.parse(sent.payload)
            assert again.encode() == sent.payload
            assert again.control_id == message.control_id
    assert message.encode() == raw


@settings(max_examples=300, deadline=None, derandomize=True)
@given(HEADER, HOSTILE, st.sampled_from(["OBX", "ORC", "PID"]), st.booleans())
def test_what_is_taken_apart_and_not_changed_is_the_same_bytes(header: bytes, body: bytes, name: str, group: bool) -> None:
    message = Message.parse(header + body)
    parts = Parts(message, name, group=group)
    parts.put(list(parts))
    assert message.encode() == header + body
