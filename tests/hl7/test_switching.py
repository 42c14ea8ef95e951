r"""Several character sets in one message: ISO 2022 escape sequences, and HL7's own `\C..\` and `\M..\`."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, decode_bytes

from broker.errors import MessageError
from broker.hl7 import charset
from broker.hl7.coder import coder
from broker.hl7.message import Message

HEADER = b"MSH|^~\\&|||||||ADT^A04|1|P|2.5||||||%b\rPID|1||4711||"


def message(declared: str, field: bytes) -> Message:
    return Message.parse(HEADER % declared.encode() + field + b"|tail\r")


# the examples of PS3.5 H to K, and what senders make of them
@pytest.mark.parametrize(
    ("declared", "field", "text"),
    [
        ("~ISO IR87", b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "山田^太郎"),
        ("ISO IR87", b"\x1b$B;3ED\x1b(B", "山田"),
        ("ISO IR14~ISO IR87", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        ("ISO IR14~ISO IR87", b"\xd4\xcf\xc0\xde \x1b$B;3ED\x1b(J!", "ﾔﾏﾀﾞ 山田!"),
        ("ASCII~ISO IR14~ISO IR87", b"\x1b)I\xd4\xcf\x1b$B;3ED\x1b(B", "ﾔﾏ山田"),
        ("~ISO IR87", b"\x1b(I\x54\x4f\x1b(B", "ﾔﾏ"),
        ("~ISO IR87~ISO IR159", b"\x1b$(D\x30\x21\x1b(B", "丂"),
        ("~ISO IR159", b"\x1b$(D\x30\x21\x1b(B", "丂"),
        ("~KS X 1001", b"\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "洪^吉洞"),
        ("~KS X 1001", b"\xc8\xab^\xb1\xe6\xb5\xbf", "홍^길동"),
        ("KS X 1001", b"\xc8\xab^\xb1\xe6\xb5\xbf", "홍^길동"),
        ("8859/1~8859/7", b"Dionysios \x1b-F\xc4\xe9\xef\xed\xfd\xf3\xe9\xef\xf2", "Dionysios Διονύσιος"),
        ("8859/5~8859/1", b"\xbb\xee\xda\x1b-AM\xfcller", "ЛюкMüller"),
        ("ASCII~UNICODE UTF-8", "Müller 山".encode(), "Müller 山"),
        ("~GB 18030-2000", "张^小".encode("gb18030"), "张^小"),
        ("~ISO IR87", b"\\M2442\\;3ED\\C2842\\^x", "山田^x"),
        ("~ISO IR87~ISO IR159", b"\\M242844\\\x30\x21\\C2842\\", "丂"),
        ("8859/1", b"M\xfcller \\C2D46\\\xc4\xe9\\C2D41\\M\xfcller", "Müller ΔιMüller"),
        ("UNICODE UTF-8", "é\\M2442\\;3ED\\C2842\\é".encode(), "é山田é"),
        ("8859/1", b"\\C2D5A\\C:\\COM\\Mxy\\", "\\C2D5A\\C:\\COM\\Mxy\\"),
        ("~ISO IR87", b"\x1b$B;3E\x1b(B", "山E"),  # half a character: what no set reads is shown as it stands
    ],
)
def test_switched_text_is_read(declared: str, field: bytes, text: str) -> None:
    parsed = message(declared, field)
    found = parsed.get("PID-5")
    assert found == text
    assert parsed.encode() == HEADER % declared.encode() + field + b"|tail\r"


def test_delimiters_inside_switched_characters_do_not_cut() -> None:
    for declared, field in (
        ("~ISO IR87", b"\x1b$B0|0^0~\x1b(B"),
        ("~ISO IR87", b"\\M2442\\0|0^0~\\C2842\\"),
        ("~ISO IR87", b"\x1b$B0\\0&\x1b(B"),
    ):
        parsed = message(declared, field + b"^b")
        assert len(parsed.get("PID-5.1")) == field.count(b"0")
        assert (parsed.get("PID-5.2"), parsed.get("PID-6")) == ("b", "tail")


@pytest.mark.parametrize(
    ("declared", "text", "stored"),
    [
        ("~ISO IR87", "山a田", b"\x1b$B;3\x1b(Ba\x1b$BED\x1b(B"),
        ("~ISO IR159", "山丂", b"\x1b$B;3\x1b$(D0!\x1b(B"),
        ("ISO IR14~ISO IR87", "ﾔ山ﾔ", b"\xd4\x1b$B;3\x1b(J\xd4"),
        ("~KS X 1001", "홍a", b"\x1b$)C\xc8\xaba"),
        ("KS X 1001", "홍", b"\xc8\xab"),
        ("8859/1~8859/7", "é Δ é", b"\xe9 \x1b-F\xc4 \x1b-A\xe9"),
        ("8859/1~8859/7", "Δ", b"\x1b-F\xc4\x1b-A"),
    ],
)
def test_switched_text_is_written_and_ends_where_it_began(declared: str, text: str, stored: bytes) -> None:
    parsed = message(declared, b"")
    parsed.set("PID-5", text)
    assert parsed.encode() == HEADER % declared.encode() + stored + b"|tail\r"
    assert parsed.get("PID-5") == Message.parse(parsed.encode()).get("PID-5") == text


@pytest.mark.parametrize(("declared", "text"), [("~ISO IR87", "丂"), ("~ISO IR87", "홍"), ("8859/1~8859/7", "Ł"), ("ISO IR14", "é")])
def test_a_set_that_is_not_declared_is_not_used(declared: str, text: str) -> None:
    with pytest.raises(MessageError, match="a character that"):
        message(declared, b"").set("PID-5", text)


LETTERS = {
    "ISO IR14~ISO IR87~ISO IR159": "aZ 9ﾔﾏﾀﾞ山田太郎憮丂丄",
    "ASCII~KS X 1001": "aZ 9홍길동洪吉洞",
    "8859/1~8859/2~8859/5~8859/7": "aZ 9éüŁźßИванΔι",
}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(LETTERS)).flatmap(lambda name: st.tuples(st.just(name), st.text(LETTERS[name], max_size=12))))
def test_what_is_written_is_what_pydicom_reads(case: tuple[str, str]) -> None:
    declared, text = case
    c = coder(declared)
    raw = c.dump(c.write(text))
    assert decode_bytes(raw, convert_encodings(list(charset.to_dicom(declared))), set()) == text
    assert c.read(c.load(raw)) == text
    assert c.doubt(raw) == ""


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from([*LETTERS, "~ISO IR87", "KS X 1001", "8859/1"]),
    st.lists(
        st.sampled_from([b"\x1b$B", b"\x1b(B", b"\x1b$)C", b"\x1b(I", b"\x1b-F", b"\x1b", b"\\M2442\\", b"\\C2842\\", b"0!", b"|", b"^"])
        | st.binary(max_size=3),
        max_size=12,
    ),
)
def test_hostile_sequences_lose_nothing(declared: str, pieces: list[bytes]) -> None:
    c = coder(declared)
    raw = b"".join(pieces)
    stored = c.load(raw)
    assert c.dump(stored) == raw
    c.read(stored).encode()  # never a lone surrogate
    c.switched(stored).encode()
    c.doubt(raw)
