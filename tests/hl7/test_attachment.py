"""Attachments out of OBX-5, and back, byte for byte."""

from __future__ import annotations

import hashlib

import pytest

from broker.hl7.attachment import MARK, filled, put_back, take_out, wanted
from broker.hl7.message import Message

HEAD = "MSH|^~\\&|RIS|H|B|R|2026||ORU^R01|C1|P|2.5.1\rPID|1||4711\rOBR|1\r"
PDF = "JVBERi0xLjQK" * 40


class Kept:
    """Keeps what is taken out, by its digest."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def __call__(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        self.contents[digest] = content
        return digest


def there_and_back(text: str, over: int = 0) -> tuple[bytes, bytes, bytes, Kept]:
    """Return the message with pointers, as it is queued with `restore`, and as it leaves."""
    kept = Kept()
    message = Message.parse(text.encode())
    take_out(message, kept, over)
    pointing = message.encode()
    put_back(message)
    queued = message.encode()
    return pointing, queued, filled(queued, kept.contents.__getitem__), kept


WHOLE = {
    "pdf": f"OBX|1|ED|PDF^Report||^application^pdf^Base64^{PDF}||||||F\r",
    "hex": "OBX|1|ED|X||^application^x-log^Hex^CAFEBABE||||||F\r",
    "plain text with escapes": "OBX|1|ED|X||^text^plain^A^one\\.br\\two\\T\\three||||||F\r",
    "an application of its own, and more behind the data": f"OBX|1|ED|X||SCAN&1.2&ISO^image^jpeg^Base64^{PDF}^extra^^more|||\r",
    "no type at all": f"OBX|1|ED|X||^^^Base64^{PDF}\r",
    "no encoding": f"OBX|1|ED|X||^application^pdf^^{PDF}\r",
    "two repetitions": f"OBX|1|ED|X||^application^pdf^Base64^{PDF}~^image^jpeg^Base64^{PDF[4:]}\r",
    "declared as a pointer": f"OBX|1|RP|X||^application^pdf^Base64^{PDF}\r",
    "text around it": f"OBX|1|TX|X||first\rOBX|2|ED|X||^application^pdf^Base64^{PDF}\rOBX|3|TX|X||lást ü\r",
    "several": f"OBX|1|ED|X||^application^pdf^Base64^{PDF}\rOBX|2|ED|X||^application^pdf^Base64^{PDF[8:]}\r",
}


@pytest.mark.parametrize("segments", WHOLE.values(), ids=WHOLE)
def test_what_is_taken_out_comes_back_byte_for_byte(segments: str) -> None:
    text = HEAD + segments
    pointing, queued, sent, kept = there_and_back(text)
    assert sent == text.encode()
    assert kept.contents
    for content in kept.contents.values():
        assert content not in pointing
        assert content not in queued


def test_a_pointer_says_what_it_points_to() -> None:
    pointing, queued, _, kept = there_and_back(HEAD + WHOLE["pdf"])
    message = Message.parse(pointing)
    [digest] = kept.contents
    assert message.get("OBX-2") == "RP"
    assert message.get("OBX-5.1") == f"attachment:ED:Base64:{digest}"
    assert message.raw("OBX-5").split("^")[1:] == ["", "application", "pdf"]
    assert message.get("OBX-11") == "F"
    assert wanted(queued) == [digest]
    assert wanted(pointing) == []


LEFT = {
    "a true pointer": "OBX|1|RP|X||http://archive/1^ARCHIVE^application^pdf\r",
    "no data": "OBX|1|ED|X||^application^pdf^Base64^\r",
    "data that is not ASCII": "OBX|1|ED|X||^text^plain^A^größer\r",
    "one repetition without data": f"OBX|1|ED|X||^application^pdf^Base64^{PDF}~x\r",
    "another type": f"OBX|1|TX|X||^application^pdf^Base64^{PDF}\r",
    "an encoding that is none": f"OBX|1|ED|X||^application^pdf^Base 64:^{PDF}\r",
    "small": "OBX|1|ED|X||^application^pdf^Base64^QUJD\r",
}


@pytest.mark.parametrize("segments", LEFT.values(), ids=LEFT)
def test_what_holds_no_data_stays_as_it_is(segments: str) -> None:
    text = HEAD + segments
    pointing, queued, sent, kept = there_and_back(text, over=30 if "QUJD" in segments else 0)
    assert pointing == queued == sent == text.encode()
    assert not kept.contents


def test_other_delimiters_are_no_obstacle_to_base64() -> None:
    text = "MSH!*+%$!RIS!H!B!R!2026!!ORU*R01!C1!P!2.5.1\rOBX!1!ED!PDF*x!!SCAN$1*application*pdf*Base64*" + PDF + "!!\r"
    pointing, _, sent, kept = there_and_back(text)
    assert sent == text.encode()
    assert PDF.encode() not in pointing
    assert len(kept.contents) == 1


def test_escapes_in_other_delimiters_stay_where_they_are() -> None:
    text = "MSH!*+%$!RIS!H!B!R!2026!!ORU*R01!C1!P!2.5.1\rOBX!1!ED!X!!*text*plain*A*one%F%two\r"
    pointing, _, _, kept = there_and_back(text)
    assert pointing == text.encode()
    assert not kept.contents


def test_a_pointer_of_somebody_else_is_left_alone() -> None:
    text = HEAD + "OBX|1|RP|X||attachment:ED:Base64:nothex^^application^pdf\r"
    message = Message.parse(text.encode())
    assert put_back(message) == 0
    assert message.encode() == text.encode()


def test_the_data_is_fetched_once_for_each_mark() -> None:
    mark = MARK + b"a" * 64
    assert filled(b"x" + mark + b"y" + mark, lambda digest: digest[:1].encode()) == b"xaya"
