"""Bytes cut into segments, and joined again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.hl7.lines import cut, join
from broker.hl7.message import Message

LONG = b"OBX|1|ED|||" + b"A" * 30_000


def lines_of(raw: bytes) -> list[bytes]:
    return [bytes(line) for line in cut(raw, b"|")[0]]


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (b"MSH|\rPID|\r", [b"MSH|", b"PID|", b""]),
        (b"MSH|\nPID|\n", [b"MSH|", b"PID|", b""]),
        (b"MSH|\r\nPID|\r\n", [b"MSH|", b"PID|", b""]),
        (b"MSH|\rOBX|a\nb\rPID|", [b"MSH|", b"OBX|a\nb", b"PID|"]),
        (b"MSH|\rOBX|a\nPID|1\rZZZ|", [b"MSH|", b"OBX|a", b"PID|1", b"ZZZ|"]),
        (b"MSH|\rOBX|a\nMRI: normal\rZZZ|", [b"MSH|", b"OBX|a\nMRI: normal", b"ZZZ|"]),
        (b"MSH|\r\nOBX|a\nb\r\nZZZ|\r", [b"MSH|", b"OBX|a\nb", b"ZZZ|", b""]),
        (b"MSH|\r\n\r\nPID|\r\r", [b"MSH|", b"", b"PID|", b"", b""]),
        (b"MSH|\rPID|\n\rZZZ|", [b"MSH|", b"PID|", b"", b"ZZZ|"]),
        (b"MSH|", [b"MSH|"]),
    ],
)
def test_where_segments_end(raw: bytes, lines: list[bytes]) -> None:
    assert lines_of(raw) == lines


PIECES = st.lists(st.sampled_from([b"MSH|", b"PID|1", b"\r", b"\n", b"\r\n", b"a b", b"OBX", b"\x85", b"x" * 50, LONG]), max_size=14)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(PIECES.map(b"".join))
def test_what_is_cut_joins_to_the_same(raw: bytes) -> None:
    assert join(*cut(raw, b"|")) == raw


@settings(max_examples=200, deadline=None, derandomize=True)
@given(PIECES.map(b"".join))
def test_a_long_message_is_cut_like_a_short_one(raw: bytes) -> None:
    short, long = raw.replace(LONG, b"OBX|1"), raw + b"\rZZZ|" + b"z" * 40_000
    assert lines_of(raw.replace(LONG, b"OBX|1") + b"\rZZZ|" + b"z" * 40_000) == [*lines_of(short + b"\rZZZ|")[:-1], b"ZZZ|" + b"z" * 40_000]
    assert join(*cut(long, b"|")) == long


def test_a_long_segment_is_not_copied() -> None:
    raw = b"MSH|^~\\&|||||||ORU^R01|1|P|2.5\rPID|1||4711\r" + LONG + b"\rOBX|2\r"
    found = cut(raw, b"|")[0][2]
    assert isinstance(found, memoryview)
    assert found.obj is raw


def test_a_message_that_is_not_changed_is_the_very_bytes_that_came() -> None:
    raw = b"MSH|^~\\&|||||||ORU^R01|1|P|2.5\rPID|1||4711\r" + LONG + b"\r"
    message = Message.parse(raw)
    message.get("OBX-5")
    message.set("PID-3", "4711")
    assert message.encode() is raw
    message.set("PID-3", "4712")
    assert message.encode() == raw.replace(b"4711", b"4712")
    assert message.encode() is message.encode()
