"""Hostile streams: the same result however they are cut, and never more memory than the limit."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.hl7.mllp import Frame, Framer, frame

LIMIT = 12
STREAM = st.lists(
    st.sampled_from([b"\x0b", b"\x1c", b"\r", b"\x1c\r", b"\n", b"MSH|", b"x", b"\x0bMSH|1\x1c\r", b"y" * 11]), max_size=60
).map(b"".join)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(STREAM, st.integers(0, 2**32))
def test_fragments_do_not_matter(stream: bytes, seed: int) -> None:
    whole, cut, dice = Framer(LIMIT), Framer(LIMIT), random.Random(seed)
    expected, found, at = whole.receive(stream), [], 0
    while at < len(stream):
        step = dice.randint(1, 5)
        found += cut.receive(stream[at : at + step])
        at += step
        assert len(cut._buffer) <= LIMIT + 1
    assert found == expected
    assert cut.end() == whole.end()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(STREAM, st.integers(0, 2**32))
def test_pauses_only_end_what_an_end_block_has_ended(stream: bytes, seed: int) -> None:
    framer, dice, at = Framer(LIMIT), random.Random(seed), 0
    while at < len(stream):
        step = dice.randint(1, 5)
        framer.receive(stream[at : at + step])
        at += step
        if dice.random() < 0.3:
            ended = framer.may_be_whole
            assert [type(item) for item in framer.pause()] == [Frame] * ended
            assert not (ended and framer.open)
        assert len(framer._buffer) <= LIMIT + 1
    framer.end()
    assert framer.receive(frame(b"late")) == []


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=LIMIT).filter(lambda raw: b"\x0b" not in raw and b"\x1c" not in raw), max_size=20))
def test_whole_frames_come_out_as_they_went_in(contents: list[bytes]) -> None:
    assert Framer(LIMIT).receive(b"".join(map(frame, contents))) == [Frame(raw) for raw in contents]


def test_a_large_message_byte_by_byte_and_many_in_one_read() -> None:
    large = b"x" * 200_000
    framer = Framer(len(large))
    found = [item for byte in frame(large) for item in framer.receive(bytes([byte]))]
    assert found == [Frame(large)]
    assert len(framer.receive(frame(b"") * 100_000)) == 100_000
