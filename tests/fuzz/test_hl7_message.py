"""Hostile bytes: a message is rejected, or comes back byte for byte and answers every question."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import MessageError
from broker.hl7 import ack, charset
from broker.hl7.message import Message
from broker.hl7.parts import Parts

PIECES = st.sampled_from(
    b"MSH|^~\\&| PID| OBX|1| ORC| MSH MSH$%~?*$ | ^ ~ \\ & \\F\\ \\X0D\\ \\.sp999\\".split(b" ")
    + b"\x1b$B \x1b(B \x81| \xff\xfe \xc3\xa9 \x81\x30\x81\x30".split(b" ")
    + b"\r;\n;\r\n;\x00;\x0b;\x1c".split(b";")
)
HOSTILE = st.lists(PIECES | st.binary(max_size=4), max_size=30).map(b"".join)
HEADER = st.builds(
    lambda delimiters, name: (
        b"MSH" + delimiters + delimiters[:1] * 6 + b"ADT^A04|C1|P|2.5||||||".replace(b"|", delimiters[:1]) + name + b"\r"
    ),
    st.sampled_from([b"|^~\\&|", b"$%~?*$", b"|^~\\\\&|", b"|^|", b"|^~\\&#|"]),
    st.sampled_from([b"", b"ASCII", b"UNICODE UTF-8", b"8859/1", b"GB18030", b"~ISO IR87", b"KS X 1001", b"ISO IR14", b"?"]),
)
PATHS = [
    "MSH-1",
    "MSH-2",
    "MSH-9.1",
    "PID-3[*].4.2",
    "OBX[*]-5[*]",
    "OBX[2]-5.1",
    "ORC",
    "PID-1[3].2.1",
    "ORC[2]>OBX[*]-5",
    "PID[*]>ORC>OBX-1",
]
PLACES = st.sampled_from(["PID-3", "PID-3[2].1", "OBX[*]-5.1.2", "OBX[*]-6", "ORC[*]>OBX-1[2]", "ORC[2]>OBX[2]-1", "PID>ORC-2.1", "ZZZ-1"])


@settings(max_examples=400, deadline=None, derandomize=True)
@given(HEADER, HOSTILE)
def test_a_hostile_body(header: bytes, body: bytes) -> None:
    raw = header + body
    message = Message.parse(raw)
    for path in PATHS:
        for text in (message.get(path), message.raw(path), *message.all(path)):
            text.encode()  # never a lone surrogate
        message.exists(path)
    assert message.encode() == raw
    for group in Parts(message, "ORC", group=True):
        group.encode()
    message.charset_doubt  # noqa: B018 - whatever it is, it is told without an error
    ack.read_answer(ack.answer(message, "AE", MessageError("PID-3", "why"), now="1", control_id="2"))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(HEADER, HOSTILE, st.sampled_from(["PID-3", "PID-3[2].1", "OBX[2]-5.1.2", "ZZZ-1"]), st.text(max_size=12))
def test_whatever_is_set_is_read_again_and_breaks_nothing(header: bytes, body: bytes, path: str, value: str) -> None:
    message = Message.parse(header + body)
    others = [name for name in message.segment_names() if name != path[:3]]
    with contextlib.suppress(MessageError):
        message.set(path, value)
        again = Message.parse(message.encode())
        assert message.get(path) == again.get(path) == value.replace("\r\n", "\n")
        assert [name for name in again.segment_names() if name != path[:3]] == others


CHANGES = st.lists(
    st.tuples(st.just("set"), PLACES, st.text(max_size=4))
    | st.tuples(st.sampled_from(["copy", "move"]), PLACES, PLACES)
    | st.tuples(st.just("remove"), PLACES | st.sampled_from(["OBX", "ORC[*]>OBX", "PID[1]"]))
    | st.tuples(st.just("add"), st.sampled_from(["NTE", "ORC[*]>NTE", "OBX"])),
    max_size=6,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(HEADER, HOSTILE, CHANGES, st.sampled_from(charset.NAMES))
def test_whatever_is_done_the_rest_stays(header: bytes, body: bytes, changes: list[tuple[str, ...]], target: str) -> None:
    raw = header + b"ZZY|before|" + body + b"\rZZX|after|\xe9\r"
    message, kept = Message.parse(raw), Message.parse(raw)
    clone = message.clone()
    for name, *arguments in changes:
        with contextlib.suppress(MessageError, ValueError):
            getattr(message, name)(*arguments)
    changed = message.encode()
    again = Message.parse(changed)
    assert clone.encode() == raw
    for path in ("MSH-9", "ZZY-1", "ZZX"):
        assert again.raw(path) == message.raw(path) == kept.raw(path)
    for path in PATHS:
        assert again.all(path) == message.all(path)
    with contextlib.suppress(MessageError):
        Message.parse(message.recoded(target, "escape").encode())
    assert message.encode() == changed


@settings(max_examples=300, deadline=None, derandomize=True)
@given(HOSTILE, st.sampled_from([None, *charset.NAMES]))
def test_anything_at_all(raw: bytes, name: str | None) -> None:
    answered = ack.answer_raw(raw, now="1", control_id="2")
    assert ack.read_answer(answered).code == "AR"
    with contextlib.suppress(MessageError):
        assert Message.parse(raw, name).encode() == raw


@settings(max_examples=300, deadline=None, derandomize=True)
@given(HOSTILE.filter(lambda raw: b"MSH" not in raw[:3] and not raw.lstrip(b"\r\n").startswith(b"MSH")))
def test_what_does_not_begin_with_a_header_is_rejected(raw: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        Message.parse(raw)
    assert caught.value.reject
