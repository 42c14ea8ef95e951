"""The framer: frames and faults out of a stream, however it is cut."""

import pytest

from broker.hl7.mllp import STRIKES, TAIL, Fault, Frame, Framer, frame

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
    (b"\x0ba\x1c\x0bb\x1c\r", [b"a", b"b"]),  # an end block without its CR
    (b"\x0ba\x1c\x0b\x1c\x0bb\x1c\r", [b"a", b"", b"b"]),
    (b"\x0b" + b"x" * LIMIT + b"\x1c\x0bb\x1c\r", [b"x" * LIMIT, b"b"]),
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
    for stream, found in ((b"\x0bMSH", "truncated"), (b"\x0b", "truncated"), (b"GET /", "garbage"), (b"\x0ba\x1c", b"a")):
        framer = Framer(LIMIT)
        framer.receive(stream)
        assert names(framer.end()) == [found]
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


def test_a_pause_ends_a_message_that_lacks_but_the_cr_of_its_end_block() -> None:
    framer = Framer(LIMIT)
    framer.receive(b"\x0bMSH|")
    assert not framer.may_be_whole
    assert framer.pause() == []
    assert framer.receive(b"a\x1c") == []
    assert framer.may_be_whole
    assert framer.pause() == [Frame(b"MSH|a")]
    assert framer.pause() == []
    assert framer.receive(b"\r" + frame(b"b")) == [Frame(b"b")]  # the CR that came late is one line end too many


def test_an_end_block_in_two_reads_is_no_pause() -> None:
    framer = Framer(LIMIT)
    assert framer.receive(b"\x0ba\x1c") == []
    assert framer.receive(b"\r") == [Frame(b"a")]
    assert framer.receive(b"\x0ba\x1c") == []
    assert framer.receive(b"b\x1c\r") == [Frame(b"a\x1cb")]  # content, as it always was


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10000])
@pytest.mark.parametrize(
    ("stream", "tail"),
    [
        (b"PID|1||4711^DOE\x1c\r\x0b", "xxx|9||9999^xxx"),
        (b"DOE\rJANE\x0b", "xxxxxxx"),  # line ends between frames are not counted, nor shown
        (b"\x0bNM1^D\xc3\x96E\r\x0b", "xx9^xxxx<CR>"),
        (b"\x0b" + b"1" * LIMIT + b"DOE^JANE" * 9, "9" * LIMIT),
        (b"1" * LIMIT + b"DOE^JANE" * 9, "9" * LIMIT),
        (b"\x0b\x00\t~\x1f&\\ -\n\x0b", "<00><TAB>~<1F>&\\ -<LF>"),
    ],
)
def test_a_fault_shows_the_last_bytes_masked(stream: bytes, tail: str, size: int) -> None:
    framer = Framer(LIMIT)
    found = [item for at in range(0, len(stream), size) for item in framer.receive(stream[at : at + size])]
    assert [fault.tail for fault in found if isinstance(fault, Fault)] == [tail]


def test_the_end_of_a_connection_shows_what_came_last() -> None:
    framer = Framer(1000)
    framer.receive(b"\x0bMSH|^~\\&|" + b"A" * 100 + b"|DOE^JANE|19610615")
    [fault] = framer.end()
    assert isinstance(fault, Fault)
    assert fault.tail == "x" * (TAIL - 18) + "|xxx^xxxx|99999999"


def test_a_fault_shows_no_content() -> None:
    framer = Framer(10)
    faults = [*framer.receive(b"DOE\x1c\rDOE\x0bDOE\x0bDOE" + b"DOE" * 9), *framer.end()]
    assert len(faults) == 4
    assert all(isinstance(fault, Fault) and "DOE" not in fault.detail + fault.tail for fault in faults)
