"""The short way to read an answer says what the long one says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import MessageError
from broker.hl7 import ack

HEAD = "MSH|^~\\&|A|B|C|D|2026||ACK^O01|1|P|2.5.1"
PIECES = st.lists(
    st.sampled_from(
        ["AA", "AE", "M1", "|", "^", "~", "\\", "\\F\\", "&", " ", "é", "\r", "\n", "\x1b", "MSA|", "ERR|", "\rMSA|AA|M1", HEAD]
    ),
    max_size=8,
)


def read(raw: bytes) -> object:
    try:
        return ack.read_answer(raw)
    except MessageError as error:
        return error.path, error.why


@given(
    head=st.sampled_from([HEAD, HEAD.replace("|", "#"), "MSH|^~\\&|A", HEAD + "||||||8859/1"]),
    pieces=PIECES,
    end=st.sampled_from(["", "\r"]),
)
def test_both_ways_agree(head: str, pieces: list[str], end: str) -> None:
    raw = f"{head}\rMSA|{''.join(pieces)}{end}".encode()
    short = read(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ack, "_COMMON", ack.re.compile(rb"(?!)"))
        assert read(raw) == short


def test_a_plain_answer_is_read() -> None:
    assert ack.read_answer(f"{HEAD}\rMSA|AA|M1|text\r".encode()) == ("AA", "M1", "")
