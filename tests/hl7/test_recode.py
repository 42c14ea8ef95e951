"""A message in another character set, and what is doubtful about the one it claims."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import MessageError
from broker.hl7 import charset
from broker.hl7.message import Message

HEADER = b"MSH|^~\\&|||||||ADT^A04|1|P|2.5||||||%b\rPID|1||4711||"


def message(declared: str, field: bytes, **options: str) -> Message:
    return Message.parse(HEADER % declared.encode() + field + b"|tail\r", **options)


@pytest.mark.parametrize(
    ("declared", "field", "target", "policy", "expected"),
    [
        ("UNICODE UTF-8", "Müller^ß\\T\\".encode(), "8859/1", "refuse", b"M\xfcller^\xdf\\T\\"),
        ("8859/1", b"M\xfcller\\XE9\\", "UNICODE UTF-8", "refuse", "Müller\\XE9\\".encode()),
        ("8859/1", b"Zo\xeb \x80", "UNICODE UTF-8", "refuse", "Zoë €".encode()),
        ("8859/1", b"Zo\xeb \x80", "8859/1", "transliterate", b"Zo\xeb EUR"),
        ("8859/2", b"Pawe\xb3 \x9c", "UNICODE UTF-8", "refuse", "Paweł ś".encode()),
        ("UNICODE UTF-8", b"M\xfcller \xc3\xa9", "UNICODE UTF-8", "refuse", "Müller é".encode()),
        ("KLINGON", "é".encode(), "8859/1", "refuse", b"\xe9"),
        ("", "é".encode(), "8859/1", "refuse", b"\xe9"),
        ("UNICODE UTF-8", "Łódź^O’Neil–Smith".encode(), "8859/1", "transliterate", b"L\xf3dz^O'Neil-Smith"),
        ("UNICODE UTF-8", "Łódź^ß".encode(), "ASCII", "transliterate", b"Lodz^ss"),
        ("UNICODE UTF-8", "a＆b＼c＾d｜".encode(), "ASCII", "transliterate", b"a\\T\\b\\E\\c\\S\\d\\F\\"),
        ("UNICODE UTF-8", "e\u0301^u\u0308".encode(), "8859/1", "refuse", b"\xe9^\xfc"),
        ("UNICODE UTF-8", "Łódź".encode(), "8859/1", "escape", b"\\XC581\\\xf3d\\XC5BA\\"),
        ("UNICODE UTF-8", "張三 é".encode(), "8859/1", "escape", b"\\XE5BCB5E4B889\\ \xe9"),
        ("UNICODE UTF-8", "山田^x".encode(), "~ISO IR87", "refuse", b"\x1b$B;3ED\x1b(B^x"),
        ("~ISO IR87", b"\x1b$B;3ED\x1b(B^x", "UNICODE UTF-8", "refuse", "山田^x".encode()),
        ("~ISO IR87", b"\\M2442\\;3ED\\C2842\\^x", "UNICODE UTF-8", "refuse", "山田^x".encode()),
        ("8859/1", b"\\C2D46\\\xc4\\C2D41\\\xe9", "UNICODE UTF-8", "refuse", "Δé".encode()),
        ("GB 18030-2000", "丂^a".encode("gb18030"), "UNICODE UTF-8", "refuse", "丂^a".encode()),
        ("UNICODE UTF-8", "ﾔﾏ é".encode(), "ISO IR14", "transliterate", b"\xd4\xcf e"),
    ],
)
def test_recoded(declared: str, field: bytes, target: str, policy: str, expected: bytes) -> None:
    before = message(declared, field)
    raw = before.encode()
    after = before.recoded(target, policy)
    assert after.encode() == HEADER % target.encode() + expected + b"|tail\r"
    assert before.encode() == raw
    assert after.charset_doubt == ""


def test_a_message_that_is_in_that_set_is_left_alone() -> None:
    same = message("UNICODE UTF-8", "é".encode())
    assert same.recoded("UNICODE UTF-8") is same
    plain = message("8859/1", b"e")
    assert plain.recoded("8859/1") is plain
    assert plain.recoded("UNICODE UTF-8").encode() == HEADER % b"UNICODE UTF-8" + b"e|tail\r"


@pytest.mark.parametrize(
    ("policy", "text", "path"),
    [
        ("refuse", "MSH|^~\\&|||||||ADT\rPID|1||4711||x^Ł", "PID-5"),
        ("refuse", "MSH|^~\\&|Ł||||||ADT\rPID|1||4711||x^Ł", "MSH-3"),
        ("refuse", "MSH|^~\\&|||||||ADT\rOBX|1\rOBX|2||é|Ł|Ł", "OBX[2]-4"),
        ("transliterate", "MSH|^~\\&|||||||ADT\rPID|1||Ł||x^山", "PID-5"),
    ],
)
def test_what_is_refused_has_its_place_and_not_its_text(policy: str, text: str, path: str) -> None:
    before = Message.parse(text.encode())
    with pytest.raises(MessageError) as caught:
        before.recoded("8859/1", policy)
    assert (caught.value.path, caught.value.code, caught.value.reject) == (path, 102, False)
    assert not set("Ł山") & set(str(caught.value))
    assert before.encode() == text.encode()


def test_an_unknown_set_is_no_target() -> None:
    with pytest.raises(ValueError, match="unknown character set"):
        message("", b"").recoded("KLINGON")


def test_changes_are_recoded_too() -> None:
    before = message("UNICODE UTF-8", b"")
    before.set("PID-5", "Müller|é")
    before.set("ZDS-1", "ü")
    after = before.recoded("8859/1")
    after.set("PID-6", "è")
    assert after.encode() == HEADER % b"8859/1" + b"M\xfcller\\F\\\xe9|\xe8\rZDS|\xfc\r"


def test_other_delimiters_name_the_set_with_theirs() -> None:
    before = Message.parse("MSH$%*?!$$$$$$$ADT$1$P$2.5\rPID$1$$4711$$山%Ł&".encode())
    after = before.recoded("~ISO IR87", "escape")
    assert after.encode() == b"MSH$%*?!$$$$$$$ADT$1$P$2.5$$$$$$*ISO IR87\rPID$1$$4711$$\x1b$B;3\x1b(B%?XC581?&"
    assert after.get("PID-5.2") == "Ł&"
    again = Message.parse(after.encode())
    assert (again.get("PID-5.1"), again.get("PID-5.2"), again.charset_doubt) == ("山", "Ł&", "")


def test_setting_msh_18_with_repetitions() -> None:
    parsed = message("UNICODE UTF-8", "山田".encode())
    parsed.set("MSH-18", "~ISO IR87")
    assert parsed.encode() == HEADER % b"~ISO IR87" + b"\x1b$B;3ED\x1b(B|tail\r"


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Co")), max_size=8)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TEXT, TEXT, st.sampled_from(charset.NAMES))
def test_escape_loses_nothing(one: str, other: str, target: str) -> None:
    before = message("UNICODE UTF-8", b"")
    before.set("PID-5.1", one)
    before.set("PID-5.2", other)
    after = Message.parse(before.recoded(target, "escape").encode())
    found = [unicodedata.normalize("NFC", after.get(path)) for path in ("PID-5.1", "PID-5.2", "PID-6")]
    assert found == [unicodedata.normalize("NFC", text) for text in (one, other, "tail")]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    TEXT.filter(lambda text: unicodedata.normalize("NFKD", text).count("?") == text.count("?")),
    st.sampled_from(charset.NAMES),
    st.sampled_from(["refuse", "transliterate"]),
)
def test_no_question_mark_comes_from_nowhere(text: str, target: str, policy: str) -> None:
    before = message("UNICODE UTF-8", b"")
    before.set("PID-5", text)
    after, refused = before, "PID-5"
    try:
        after = before.recoded(target, policy)
    except MessageError as error:
        refused = error.path
    assert refused == "PID-5"
    assert after.get("PID-5").count("?") == text.count("?")
    assert Message.parse(after.encode()).get("PID-5") == after.get("PID-5")


@pytest.mark.parametrize(
    ("declared", "field", "doubt"),
    [
        ("UNICODE UTF-8", "Müller".encode(), ""),
        ("UNICODE UTF-8", b"M\xfcller", "undecodable"),
        ("", b"M\xfcller", "undecodable"),
        ("ASCII", b"M\xfcller", "undecodable"),
        ("8859/1", b"M\xfcller", ""),
        ("8859/1", b"M\xfcller \x80", "mislabelled"),
        ("8859/1", "Müller".encode(), "mislabelled"),
        ("8859/2", b"Pawe\xb3 \x9c", "mislabelled"),
        ("8859/3", b"\xa5", "undecodable"),
        ("8859/5", "Иванов".encode("iso8859-5"), ""),
        ("windows-1251", "Иванов".encode("cp1251"), ""),
        ("windows-1252", "é".encode(), "mislabelled"),
        ("KLINGON", b"Mueller", "unknown"),
        ("8859/1~KLINGON", b"Mueller", "unknown"),
        ("GB 18030-2000", "张".encode("gb18030"), ""),
        ("GB 18030-2000", b"\xff\xff", "undecodable"),
        ("~ISO IR87", b"\x1b$B;3ED\x1b(B", ""),
        ("~ISO IR87", b"\x1b$B;3E\x1b(B", "undecodable"),
        ("~ISO IR87", "山田".encode("shift_jis"), "undecodable"),
        ("KS X 1001", "홍길동".encode("euc_kr"), ""),
        ("KS X 1001", "홍길동".encode(), "undecodable"),
        ("8859/1", b"plain", ""),
    ],
)
def test_what_is_doubtful(declared: str, field: bytes, doubt: str) -> None:
    assert message(declared, field).charset_doubt == doubt


def test_what_is_set_takes_part_in_the_doubt() -> None:
    parsed = message("8859/1", b"\x80")
    assert parsed.charset_doubt == "mislabelled"
    parsed.set("PID-5", "x")
    assert parsed.charset_doubt == ""
    parsed = message("KLINGON", b"x")
    parsed.set("MSH-18", "8859/1")
    assert parsed.charset_doubt == ""
