"""Character sets: every byte comes back, and text is what a person reads."""

import pytest
from pydicom.charset import python_encoding

from broker.errors import MessageError
from broker.hl7 import charset
from broker.hl7 import coder as coders
from broker.hl7.message import Message

HEADER = b"MSH|^~\\&|||||||ADT^A04|1|P|2.5||||||%b\rPID|1||4711||"


def message(declared: str, field: bytes, **options: str) -> Message:
    return Message.parse(HEADER % declared.encode() + field + b"|tail\r", **options)


@pytest.mark.parametrize("name", charset.NAMES)
def test_every_byte_comes_back(name: str) -> None:
    raw = HEADER % name.encode() + bytes(b for b in range(256) if b not in b"\r\n") + b"|" + bytes(range(255, 127, -1)) + b'|\x1b$B0!0"|\r'
    parsed = Message.parse(raw)
    parsed.get("PID-5")
    assert parsed.charset == coders.coder(name).codec
    assert parsed.encode() == raw


@pytest.mark.parametrize(
    ("declared", "codec", "text"),
    [
        ("UNICODE UTF-8", "utf-8", "Müller 張"),
        ("8859/1", "latin-1", "Müller"),
        ("8859/2", "iso8859-2", "Łódź"),
        ("8859/5", "iso8859-5", "Иванов"),
        ("8859/7", "iso8859-7", "Παπάς"),
        ("8859/15", "iso8859-15", "Œuvre €"),
        ("windows-1251", "cp1251", "Иванов"),
        ("GB 18030-2000", "gb18030", "丂傿屽張三𠀀"),
        ("BIG-5", "big5", "功許蓋"),
        ("KS X 1001", "euc_kr", "홍길동"),
        ("ISO IR14", "shift_jis", "ﾔﾏﾀﾞソ表"),
        ("~ISO IR87", "iso2022_jp", "山田 憮然"),
        ("ASCII~ISO IR159", "iso2022_jp_ext", "山田"),
    ],
)
def test_text_is_read_and_written(declared: str, codec: str, text: str) -> None:
    parsed = message(declared, text.encode(codec) + b"^" + text.encode(codec))
    assert (parsed.get("PID-5.1"), parsed.get("PID-5.2"), parsed.get("PID-6")) == (text, text, "tail")
    parsed.set("PID-6", f"{text}|{text}")
    assert parsed.get("PID-6") == f"{text}|{text}"
    again = Message.parse(parsed.encode())
    assert again.get("PID-6") == f"{text}|{text}"
    assert again.get("PID-5") == f"{text}^{text}"


def test_delimiter_bytes_inside_characters_do_not_cut() -> None:
    field = "\u50bf\u5c7d".encode("gb18030")
    assert any(byte in b"|^~\\&" for byte in b"\x81\x7c\x81\x5e")
    parsed = message("GB18030", b"\x81\x7c\x81\x5e" + field)
    assert parsed.get("PID-5") == b"\x81\x7c\x81\x5e".decode("gb18030") + "\u50bf\u5c7d"
    assert parsed.get("PID-6") == "tail"


def test_a_header_with_such_characters_still_declares_its_set() -> None:
    raw = b"MSH|^~\\&|\x81\x7c|||||||ADT^A04|1|P|2.5||||||GB18030\r".replace(b"|||||||ADT", b"||||||ADT")
    parsed = Message.parse(raw)
    assert (parsed.charset, parsed.type, parsed.get("MSH-3")) == ("gb18030", "ADT^A04", b"\x81\x7c".decode("gb18030"))


@pytest.mark.parametrize(
    ("declared", "field", "text"),
    [
        ("", b"M\xfcller \x80", "Müller €"),
        ("UNICODE UTF-8", b"M\xfcller", "Müller"),
        ("ASCII", b"M\xfcller", "Müller"),
        ("8859/1", b"M\xfcller \x80", "Müller €"),
        ("UNICODE UTF-8", b"\x81\xc3", "\x81Ã"),
        ("NO SUCH SET", "Müller".encode(), "Müller"),
    ],
)
def test_stray_bytes_are_read_by_the_fallback_and_stay(declared: str, field: bytes, text: str) -> None:
    parsed = message(declared, field)
    assert parsed.get("PID-5") == parsed.raw("PID-5") == text
    parsed.set("PID-6", "x")
    parsed.copy("PID-5", "PID-7")
    assert parsed.encode() == HEADER % declared.encode() + field + b"|x|" + field + b"\r"


def test_what_is_declared_wins_over_what_is_configured() -> None:
    assert message("", b"\xc0", charset="8859/5").get("PID-5") == "Р"
    assert message("8859/2", b"\xa3", charset="8859/5").get("PID-5") == "Ł"
    assert message("ASCII", b"\xc0", fallback="windows-1251").get("PID-5") == "А"


def test_a_character_the_set_does_not_have_is_an_error_with_its_place() -> None:
    parsed = message("8859/1", b"x")
    with pytest.raises(MessageError) as caught:
        parsed.set("PID-5.2", "Łódź")
    assert (caught.value.path, caught.value.code) == ("PID-5.2", 102)
    assert "Łódź" not in str(caught.value)
    assert parsed.get("PID-5") == "x"


@pytest.mark.parametrize("target", ["UNICODE UTF-8", "GB 18030-2000"])
def test_setting_msh_18_writes_the_whole_message_so(target: str) -> None:
    parsed = message("8859/1", b"M\xfcller\\T\\^\x80")
    parsed.get("PID-3")
    parsed.set("MSH-18", target)
    again = Message.parse(parsed.encode())
    assert (again.get("PID-5.1"), again.get("PID-5.2"), again.charset) == ("Müller&", "€", coders.coder(target).codec)


def test_setting_msh_18_to_a_set_that_is_too_small_changes_nothing() -> None:
    parsed = message("UNICODE UTF-8", "Łódź".encode())
    before = parsed.encode()
    with pytest.raises(MessageError, match="8859/1"):
        parsed.set("MSH-18", "8859/1")
    assert parsed.encode() == before


@pytest.mark.parametrize(("escaped", "text"), [(b"\\XC3A9\\", "é"), (b"\\XE9\\", "é"), (b"\\X00E0\\", "à"), (b"\\X0A\\", "\n")])
def test_hexadecimal_escapes_are_read_in_the_message_s_set(escaped: bytes, text: str) -> None:
    assert message("UNICODE UTF-8", escaped).get("PID-5") == text


@pytest.mark.parametrize(
    ("name", "hl7"),
    [
        ("utf-8", "UNICODE UTF-8"),
        ("ISO-8859-1", "8859/1"),
        ("ISO_IR 100", "8859/1"),
        ("GBK", "GB 18030-2000"),
        ("cp1252", "windows-1252"),
        ("UNICODE", "UNICODE UTF-8"),
    ],
)
def test_other_spellings(name: str, hl7: str) -> None:
    found = charset.find(name)
    assert found
    assert found.hl7 == hl7


DICOM = [
    ("UNICODE UTF-8", ("ISO_IR 192",)),
    ("8859/1", ("ISO_IR 100",)),
    ("8859/5", ("ISO_IR 144",)),
    ("ISO IR14", ("ISO_IR 13",)),
    ("GB 18030-2000", ("GB18030",)),
    ("ASCII~ISO IR87", ("ISO 2022 IR 6", "ISO 2022 IR 87")),
    ("ISO IR14~ISO IR87~ISO IR159", ("ISO 2022 IR 13", "ISO 2022 IR 87", "ISO 2022 IR 159")),
    ("ASCII~KS X 1001", ("ISO 2022 IR 6", "ISO 2022 IR 149")),
    ("8859/1~8859/2", ("ISO 2022 IR 100", "ISO 2022 IR 101")),
    ("ASCII", ()),
]


@pytest.mark.parametrize(("declared", "terms"), DICOM)
def test_to_dicom_and_back(declared: str, terms: tuple[str, ...]) -> None:
    assert charset.to_dicom(declared) == terms
    assert charset.of_dicom("\\".join(terms)) == declared
    assert all(term in python_encoding for term in terms)


@pytest.mark.parametrize(
    ("declared", "terms"),
    [
        ("~ISO IR87", ("ISO 2022 IR 6", "ISO 2022 IR 87")),
        ("ISO IR87", ("ISO 2022 IR 6", "ISO 2022 IR 87")),
        ("BIG-5", ("ISO_IR 192",)),
        ("windows-1252", ("ISO_IR 192",)),
        ("ASCII~GB 18030-2000", ("ISO_IR 192",)),
    ],
)
def test_what_dicom_has_no_term_for_goes_to_unicode(declared: str, terms: tuple[str, ...]) -> None:
    assert charset.to_dicom(declared) == terms


@pytest.mark.parametrize(
    ("terms", "declared"),
    [("\\ISO 2022 IR 149", "ASCII~KS X 1001"), ("ISO 2022 IR 100", "8859/1"), ("GBK", "GB 18030-2000"), ("", "ASCII"), ("KLINGON", "")],
)
def test_terms_that_are_written_otherwise(terms: str, declared: str) -> None:
    assert charset.of_dicom(terms) == declared


def test_unknown_names() -> None:
    assert charset.find("KLINGON") is None
    with pytest.raises(ValueError, match="unknown character set"):
        charset.to_dicom("KLINGON")
    with pytest.raises(ValueError, match="unknown character set"):
        coders.coder("KLINGON")
    with pytest.raises(ValueError, match="cannot be a fallback"):
        coders.coder("UNICODE UTF-8", "GB 18030-2000")
