"""Hostile bytes as batches and with attachments: cut without losing one, answered, and put back as they were."""

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import MessageError
from broker.hl7.attachment import filled, put_back, take_out
from broker.hl7.batch import Tally, is_batch, parts
from broker.hl7.convert import VERSIONS, convert
from broker.hl7.message import Message

PIECES = st.sampled_from(
    b"FHS|^~\\&| BHS|^~\\&| BHS MSH|^~\\&|E|H|B|R|2026||ADT^A04|1|P|2.5.1 BTS|1 BTS FTS|x FTS PID|1 OBX|1|ED|x||^a^b^Base64^QUJD "
    b"OBX|2|RP|x||attachment:ED:Base64: ~^a^^Hex^FF | ^ ~ \\ & ORC|NW|1 OBR|1 TQ1|1 IPC|A ZDS|1.2 ERR|PID^1^2^101&x".split(b" ")
    + b"\r;\n;\r\n;\x00;\x0b;\x1c;\xef\xbb\xbf;\xff".split(b";")
)
HOSTILE = st.lists(PIECES | st.binary(max_size=4), max_size=40).map(b"".join)
HEADER = st.sampled_from(VERSIONS).map(lambda version: b"MSH|^~\\&|E|H|B|R|2026||ORM^O01|1|P|" + version.encode() + b"\r")


@settings(max_examples=400, deadline=None, derandomize=True)
@given(HOSTILE)
def test_a_batch_is_cut_counted_and_answered(raw: bytes) -> None:
    found, tally = list(parts(raw)), Tally()
    assert b"".join(part.raw for part in found) == raw
    for part in found:
        batch = tally.see(part)
        if batch is not None:
            batch.answers.append(b"MSH|\r")
    assert all(fault.isascii() for fault in tally.close())
    answer = tally.answer("20260302", "A1")
    assert answer.endswith(b"\r") == bool(tally.batches or tally.header)
    assert sum(batch.count for batch in tally.batches) == sum(part.kind == "MSH" for part in found)
    is_batch(raw)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(HEADER, HOSTILE)
def test_what_is_taken_out_is_put_back(header: bytes, body: bytes) -> None:
    raw, kept = header + body, dict[str, bytes]()

    def keep(content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        kept[digest] = content
        return digest

    message = Message.parse(raw)
    taken = take_out(message, keep)
    if not taken:
        assert message.encode() == raw
        return
    assert put_back(message) >= taken
    assert filled(message.encode(), kept.__getitem__) == raw


@settings(max_examples=300, deadline=None, derandomize=True)
@given(HEADER, HOSTILE, st.sampled_from(VERSIONS), st.sampled_from(["OMG", "OMI", "ORM"]))
def test_any_message_is_converted_or_refused(header: bytes, body: bytes, version: str, order: str) -> None:
    message = Message.parse(header + body)
    try:
        left = convert(message, version, order)
    except MessageError:
        return
    assert message.version == version
    assert all(isinstance(path, str) for path in left)
    Message.parse(message.encode())
