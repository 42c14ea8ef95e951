"""Blocks, `for_each`, `drop` and `reject`: what runs when, on what, and what never runs."""

from __future__ import annotations

import pytest

from broker.errors import MessageError
from broker.hl7.message import Message
from broker.model import Protocol
from broker.pipeline.header import Header
from tests.pipeline.test_route import RAW, Engine, compiled, route, run

ORU = (
    "MSH|^~\\&|RIS|H|B|R|2026||ORU^R01|C1|P|2.5.1\rPID|1||4711^^^H||DOE^JANE\r"
    "ORC|RE|P1\rOBR|1|P1||CT1\rOBX|1|TX|A||one\rNTE|1||of one\rOBX|2|TX|B||two\r"
    "ORC|RE|P2\rOBR|2|P2||MR1\rOBX|1|TX|C||three\rZAA|end\r"
)


def changed(steps: str, raw: str = ORU) -> list[str]:
    """Return the segments of what a route with these steps sends."""
    (sent,) = run(f"steps:\n{steps}\nto: [{{send: ehr}}]", raw.encode()).outgoing
    return sent.payload.decode().split("\r")[:-1]


def difference(steps: str, raw: str = ORU) -> tuple[list[str], list[str]]:
    """Return the segments that went, and those that came."""
    before, after = raw.split("\r")[:-1], changed(steps, raw)
    return [line for line in before if line not in after], [line for line in after if line not in before]


@pytest.mark.parametrize(("sex", "expected"), [("W", ["A", "B"]), ("M", ["C", ""])])
def test_a_block_runs_its_steps_and_otherwise_the_others(sex: str, expected: list[str]) -> None:
    steps = """
  - when: PID-8 = W
    steps:
      - set: {ZPI-1: A}
      - set: {ZPI-2: B}
    otherwise:
      - when: PID-8 exists
        steps: [{set: {ZPI-1: C}}]
"""
    raw = RAW.decode().replace("|W\r", f"|{sex}\r")
    message = Message.parse("\r".join(changed(steps, raw)).encode())
    assert [message.get("ZPI-1"), message.get("ZPI-2")] == expected


def test_for_each_segment_means_that_one_and_nothing_else_changes() -> None:
    assert difference("  - for_each: {segment: OBX, steps: [{when: 'OBX-3 in [B, C]', set: {OBX-8: N}}]}") == (
        ["OBX|2|TX|B||two", "OBX|1|TX|C||three"],
        ["OBX|2|TX|B||two|||N", "OBX|1|TX|C||three|||N"],
    )


def test_for_each_segment_sees_the_order_it_belongs_to() -> None:
    found = changed('  - for_each: {segment: OBX, steps: [{set: {OBX-4: "{ORC-2} {OBR-4} {PID-5.1}"}}]}')
    assert [line for line in found if line.startswith("OBX")] == [
        "OBX|1|TX|A|P1 CT1 DOE|one",
        "OBX|2|TX|B|P1 CT1 DOE|two",
        "OBX|1|TX|C|P2 MR1 DOE|three",
    ]


def test_for_each_group_changes_each_group_in_place() -> None:
    steps = """
  - for_each:
      group: ORC
      steps:
        - copy: {from: ORC-2, to: ORC-3}
        - when: OBR-4 = CT1
          remove: NTE
        - add: {segment: NTE, after: OBR, fields: {NTE-3: "{OBR-4}"}}
"""
    assert changed(steps) == [
        *ORU.split("\r")[:2],
        "ORC|RE|P1|P1",
        "OBR|1|P1||CT1",
        "NTE|||CT1",
        "OBX|1|TX|A||one",
        "OBX|2|TX|B||two",
        "ORC|RE|P2|P2",
        "OBR|2|P2||MR1",
        "NTE|||MR1",
        "OBX|1|TX|C||three",
        "ZAA|end",
    ]


def test_for_each_inside_for_each() -> None:
    steps = """
  - for_each:
      group: ORC
      steps:
        - for_each: {segment: OBX, steps: [{set: {OBX-4: "{ORC-2}"}}]}
        - set: {ORC-5: "{OBX-4}"}
"""
    assert difference(steps)[1] == [
        "ORC|RE|P1|||P1",
        "OBX|1|TX|A|P1|one",
        "OBX|2|TX|B|P1|two",
        "ORC|RE|P2|||P2",
        "OBX|1|TX|C|P2|three",
    ]


def test_drop_in_for_each_takes_the_one_out() -> None:
    assert difference("  - for_each: {segment: OBX, steps: [{when: OBX-3 = A, drop: not wanted}]}") == (["OBX|1|TX|A||one"], [])
    gone, came = difference("  - for_each: {group: ORC, steps: [{when: OBR-4 = CT1, drop: not wanted}]}")
    assert (gone[0], gone[-1], len(gone), came) == ("ORC|RE|P1", "OBX|2|TX|B||two", 5, [])


def test_for_each_without_such_a_segment_does_nothing() -> None:
    assert changed("  - for_each: {segment: FT1, steps: [{set: {FT1-4: X}}]}") == ORU.split("\r")[:-1]


def test_mixed_line_ends_stay_with_their_segments() -> None:
    raw = ORU.replace("of one\r", "of one\r\n")
    (sent,) = run("steps: [{for_each: {segment: OBX, steps: [{set: {OBX-8: N}}]}}]\nto: [{send: ehr}]", raw.encode()).outgoing
    assert sent.payload.decode() == raw.replace("one\rN", "one|||N\rN").replace("two", "two|||N").replace("three", "three|||N")


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        ("{segment: OBX, steps: [{when: OBX-3 = C, require: OBX-6}]}", "OBX[3]-6"),
        ("{segment: OBX, steps: [{when: OBX-3 = C, require: OBR-9}]}", "OBR[2]-9"),
        ("{group: ORC, steps: [{when: OBR-4 = MR1, require: OBX-6}]}", "OBX[3]-6"),
        ("{group: ORC, steps: [{when: OBR-4 = MR1, require: NTE-3}]}", "ORC[2]>NTE-3"),
        ("{group: ORC, steps: [{when: OBR-4 = MR1, require: PID-6}]}", "PID-6"),
        ("{group: OBR, steps: [{for_each: {segment: OBX, steps: [{when: OBX-3 = C, require: OBX-6}]}}]}", "OBX[3]-6"),
    ],
)
def test_an_error_inside_names_its_place_in_the_message(steps: str, path: str) -> None:
    with pytest.raises(MessageError) as caught:
        run(f"steps: [{{for_each: {steps}}}]", ORU.encode())
    assert caught.value.path == path


def test_what_stands_outside_is_never_changed_also_where_the_check_cannot_know() -> None:
    with pytest.raises(MessageError) as caught:
        run("steps: [{for_each: {group: OBR, steps: [{set: {ORC-5: X}}]}}]", ORU.encode())
    assert (caught.value.path, caught.value.why) == ("ORC", "changed by a step that may only change one group OBR")


def test_reject_answers_with_place_code_and_text() -> None:
    with pytest.raises(MessageError) as caught:
        run("steps: [{when: PID-3.4 = H, reject: {at: PID-3, text: not ours, code: 204}}]")
    error = caught.value
    assert (error.path, error.why, error.code, error.reject) == ("PID-3", "not ours", 204, False)
    with pytest.raises(MessageError) as caught:
        run("steps: [{reject: {text: never, answer: AR}}]")
    assert (caught.value.path, caught.value.why, caught.value.reject) == ("", "never", True)
    with pytest.raises(MessageError) as caught:
        route("steps: [{when: Modality = OT, reject: not wanted}]", "dicom").run(Header({"Modality": "OT"}), Engine())
    assert caught.value.code == 207


@pytest.mark.parametrize(
    ("steps", "place", "what"),
    [
        ("[{steps: [{drop: x}]}]", "steps.0", "a block of steps needs a condition"),
        ("[{when: PID-8 = M, steps: []}]", "steps.0.steps", "no step stands here"),
        ("[{when: PID-8 = M, otherwise: [{drop: x}]}]", "steps.0.steps", "no step stands here"),
        ("[{when: PID-8 = M, steps: [{drop: x}], set: {PID-8: X}}]", "steps.0.set", "set cannot stand beside steps:"),
        ("[{when: PID-8 = M, steps: [{when: PID-8 = F, steps: [{sett: x}]}]}]", "steps.0.steps.0.steps.0.sett", "unknown step"),
        ("[{when: 5, drop: x}]", "steps.0.when", "a condition is text"),
        ("[{for_each: {steps: [{drop: x}]}}]", "steps.0.for_each", "either segment: or group: is needed"),
        ("[{for_each: {segment: OBX-5, steps: [{drop: x}]}}]", "steps.0.for_each.segment", "OBX-5 is no name of a segment"),
        ("[{for_each: {segment: MSH, steps: [{drop: x}]}}]", "steps.0.for_each.segment", "there is one MSH"),
        ("[{for_each: {segment: OBX, steps: []}}]", "steps.0.for_each.steps", "no step stands here"),
        ("[{for_each: {segment: OBX, steps: {drop: x}}}]", "steps.0.for_each.steps", "a list of steps is needed here"),
        ("[{for_each: {segment: OBX, steps: [{set: {PID-8: X}}]}}]", "steps.0.for_each.steps.0.set.PID-8", "only one OBX can be changed"),
        ("[{for_each: {group: ORC, steps: [{remove: PV1}]}}]", "steps.0.for_each.steps.0.remove", "only one group ORC can be changed"),
        ("[{for_each: {segment: OBX, steps: [{require: 'OBX[2]-5'}]}}]", "steps.0.for_each.steps.0.require", "there is one OBX"),
        ("[{for_each: {segment: OBX, steps: [{when: 'OBX[2]-5 = 1', drop: x}]}}]", "steps.0.for_each.steps.0.when", "there is one OBX"),
        (
            "[{for_each: {segment: OBX, steps: [{for_each: {segment: NTE, steps: [{drop: x}]}}]}}]",
            "steps.0.for_each.steps.0.for_each.segment",
            "only one OBX can be changed",
        ),
        ("[{reject: {text: sorry, code: 1}}]", "steps.0.reject.code", "1 is not in HL7 table 0357"),
        ("[{reject: '{PID-5}'}]", "steps.0.reject.text", "a constant text"),
    ],
)
def test_mistakes_have_their_place(steps: str, place: str, what: str) -> None:
    _, mistakes = compiled(f"steps: {steps}")
    assert any(".".join(map(str, one.place)) == place and what in one.what for one in mistakes.found), mistakes.found


@pytest.mark.parametrize(
    ("text", "protocol", "what"),
    [
        ("steps: [{reject: never}]", "ris", "reject does not work on RIS events"),
        ("each: order\nsteps: [{for_each: {segment: OBX, steps: [{drop: x}]}}]", "hl7", "cannot stand under each:"),
    ],
)
def test_what_cannot_stand_in_a_route_is_a_mistake(text: str, protocol: Protocol, what: str) -> None:
    assert [what in mistake.what for mistake in compiled(text, protocol)[1].found][:1] == [True]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("steps: [{drop: x}, {set: {MSH-5: X}}, {set: {MSH-6: X}}]", ("steps", 1)),
        ("steps: [{reject: x}, {drop: x}]", ("steps", 1)),
        ("steps: [{when: PID-8 = M, steps: [{drop: x}], otherwise: [{drop: y}]}, {set: {MSH-5: X}}]", ("steps", 1)),
        ("steps: [{for_each: {segment: OBX, steps: [{drop: x}, {set: {OBX-5: X}}]}}]", ("steps", 0, "for_each", "steps", 1)),
        ("steps: [{drop: x}]\nto: [{send: ehr}]", ("to",)),
        ("to: [{send: ehr, steps: [{drop: x}]}]", ("to", 0, "send")),
    ],
)
def test_what_is_never_reached_is_a_warning(text: str, place: tuple[str | int, ...]) -> None:
    _, mistakes = compiled(text)
    assert [(mistake.place, mistake.warning) for mistake in mistakes.found] == [(place, True)]


@pytest.mark.parametrize(
    "text",
    [
        "steps: [{when: PID-8 = M, drop: x}, {set: {MSH-5: X}}]",
        "steps: [{when: PID-8 = M, steps: [{drop: x}]}, {set: {MSH-5: X}}]",
        "steps: [{for_each: {segment: OBX, steps: [{drop: x}]}}, {set: {MSH-5: X}}]",
        "each: order\nsteps: [{for_each: {segment: OBX, steps: [{require: OBX-2}]}}]",
    ],
)
def test_what_can_be_reached_is_in_order(text: str) -> None:
    assert compiled(text)[1].found == []
