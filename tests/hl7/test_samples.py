"""Messages as they come: each is parsed, answered and given back byte for byte."""

from pathlib import Path

import pytest

from broker.errors import MessageError
from broker.hl7 import ack
from broker.hl7.message import Message

SAMPLES = sorted((Path(__file__).parent.parent / "samples" / "hl7").glob("*.hl7"))


def test_there_are_samples() -> None:
    assert len(SAMPLES) > 12


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.stem)
def test_a_sample_leaves_as_it_came(file: Path) -> None:
    raw = file.read_bytes()
    message = Message.parse(raw)
    assert message.encode() == raw
    for name in ("MSH", "PID", "PV1", "OBX", "ORC", "OBR", "NTE", "ZRD", "ZZZ"):
        for number in message.segments(name):
            message.copy(f"{name}[{number}]-3", f"{name}[{number}]-3")
        message.all(f"{name}[*]-3[*].1")
    assert message.encode() == raw
    assert message.clone().encode() == raw


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.stem)
def test_a_change_changes_one_field(file: Path) -> None:
    raw = file.read_bytes()
    message = Message.parse(raw)
    control_id = message.control_id.encode()
    assert raw.count(control_id) == 1
    message.set("MSH-10", "CHANGED")
    assert message.encode() == raw.replace(control_id, b"CHANGED")


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.stem)
def test_a_sample_is_answered(file: Path) -> None:
    message = Message.parse(file.read_bytes())
    error = MessageError("PID-3.1", "required", 101)
    answer = ack.answer(message, "AE", error, now="20260302", control_id="9")
    assert ack.read_answer(answer) == ("AE", message.control_id, "PID-3.1: 101 Required field missing")
