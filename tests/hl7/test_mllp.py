"""The framer: frames and faults out of a stream, however it is cut."""

import pytest

from broker.hl7.mllp import STRIKES, Fault, Frame, Framer, frame

LIMIT = 20


def names(items: list[Frame | Fault]) -> list[object]:
    return [item.raw if isinstance(item, Frame) else item.name for item in items]


STREAMS = [
    (b"\x0bMSH|a\x1c\r", [b"MSH|a"]),
    (b"\x0ba\x1c\r\x0bb\x1c\r", [b"a", b"b"]),
    (b"\x0ba\x1c\r\r\n\n\x0bb\x1c\r", [b"a", b"b"]),
    (b"\x0b\x1c\r", [b""]),
    (b"MSH|a\x1c\r\x0bb\x1c\r", ["no_start", b"b"]),
    (b"\x0ba\x1c\rxyz\x0bb\x1c\r", [b"a", "garbage", b"b"]),
    (b"\x0bMSH|a\r\x0bMSH|b\x1c\r", ["no_end", b"MSH|b"]),
    (b"\x0ba\x1cb\rc\x1c\r", [b"a\x1cb\rc"]),
    (b"\x0ba\x1c\x1c\r", [b"a\x1c"]),
    (b"\x0ba\x1c\x0bb\x1c\r", ["no_end", b"b"]),
    (b"\x0b" + b"x" * LIMIT + b"\x1c\r\x0bb\x1c\r", [b"x" * LIMIT, b"b"]),
    (b"\x0b" + b"x" * (LIMIT + 1) + b"\x1c\r\x0bb\x1c\r", ["too_long"]),
    (b"\x0b" + b"x" * 500 + b"\x0bb\x1c\r", ["too_long"]),
    (b"x" * (LIMIT + 1) + b"\x0bb\x1c\r", ["too_long"]),
    (b"x" * LIMIT + b"\x1c\r\x0bb\x1c\r", ["no_start", b"b"]),
    (b"GET / HTTP", []),
    (b"\x0b" * 100 + b"a\x1c\r", ["no_end"] * STRIKES + ["too_many"]),
    (b"\x1c" * 100, ["no_start"] * STRIKES + ["too_many"]),
    (b"x\x0ba\x1c\r" * 40, ["garbage", b"a"] * 40),
]


@pytest.mark.parametrize(("stream", "expected"), STREAMS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10000])
def test_a_stream_is_cut_the_same_however_it_comes(stream: bytes, expected: list[object], size: int) -> None:
    framer = Framer(LIMIT)
    found = [item for at in range(0, len(stream), size) for item in framer.receive(stream[at : at + size])]
    assert names(found) == expected


def test_after_a_fatal_fault_nothing_is_taken() -> None:
    framer = Framer(LIMIT)
    (fault,) = framer.receive(b"\x0b" + b"x" * 50)
    assert isinstance(fault, Fault)
    assert fault.fatal
    assert framer.receive(frame(b"a")) == []
    assert framer.end() == []


def test_only_what_goes_too_far_is_fatal() -> None:
    assert [item.fatal for item in Framer(LIMIT).receive(b"junk\x1c\rjunk\x0ba\x0bb\x1c\r") if isinstance(item, Fault)] == [False] * 3


def test_the_end_of_a_connection() -> None:
    assert Framer(LIMIT).end() == []
    for stream, name in ((b"\x0bMSH", "truncated"), (b"\x0b", "truncated"), (b"GET /", "garbage"), (b"\x0ba\x1c", "truncated")):
        framer = Framer(LIMIT)
        framer.receive(stream)
        assert [fault.name for fault in framer.end()] == [name]
    framer = Framer(LIMIT)
    framer.receive(frame(b"a") + b"\r\n")
    assert framer.end() == []


def test_open_says_whether_a_frame_is_unfinished() -> None:
    framer = Framer(LIMIT)
    assert not framer.open
    framer.receive(b"\x0bMSH")
    assert framer.open
    framer.receive(b"|\x1c\r")
    assert not framer.open


def test_a_fault_shows_no_content() -> None:
    framer = Framer(10)
    faults = [*framer.receive(b"DOE\x1c\rDOE\x0bDOE\x0bDOE" + b"DOE" * 9), *framer.end()]
    assert len(faults) == 4
    assert all(isinstance(fault, Fault) and "DOE" not in fault.detail for fault in faults)
