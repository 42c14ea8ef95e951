"""Answers, built and read."""

import pytest

from broker.errors import MessageError
from broker.hl7 import ack
from broker.hl7.message import Message
from broker.hl7.mllp import Frame, Framer, frame

ORM = b"MSH|^~\\&|EHR^1.2^ISO|GENHOSP|BROKER|RAD|2026||ORM^O01^ORM_O01|C\\T\\1|P|%b|||AL|NE||UNICODE UTF-8\rPID|1\r"
WRONG = MessageError("OBR[2]-4.1", "not in table procedures", 103)


def answer(version: bytes, code: str = "AA", error: MessageError | None = None) -> list[bytes]:
    return ack.answer(Message.parse(ORM % version), code, error, now="20260302080000", control_id="B1").split(b"\r")


def test_an_answer_goes_back_where_the_message_came_from() -> None:
    assert answer(b"2.5.1") == [
        b"MSH|^~\\&|BROKER|RAD|EHR^1.2^ISO|GENHOSP|20260302080000||ACK^O01^ACK|B1|P|2.5.1||||||UNICODE UTF-8",
        b"MSA|AA|C\\T\\1",
        b"",
    ]


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        (b"2.2", b"ACK^O01"),
        (b"2.3.1", b"ACK^O01"),
        (b"2.4", b"ACK^O01^ACK"),
        (b"2.5.1", b"ACK^O01^ACK"),
        (b"2.8", b"ACK^O01^ACK"),
        (b"", b"ACK^O01^ACK"),
    ],
)
def test_the_type_follows_the_version(version: bytes, kind: bytes) -> None:
    header = answer(version)[0].split(b"|")
    assert (header[8], header[11]) == (kind, version)


def test_an_error_names_its_place() -> None:
    _, msa, err, _ = answer(b"2.5.1", "AE", WRONG)
    assert msa == b"MSA|AE|C\\T\\1"
    assert err == b"ERR||OBR^2^4^1^1|103^Table value not found^HL70357|E||||OBR[2]-4.1: not in table procedures"


def test_an_error_for_an_old_sender_is_where_that_looks() -> None:
    _, msa, err, _ = answer(b"2.3.1", "AE", WRONG)
    assert msa == b"MSA|AE|C\\T\\1|OBR[2]-4.1: not in table procedures"
    assert err.split(b"|")[1] == b"OBR^2^4^103&Table value not found&HL70357"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("PID-3", b"PID^1^3"),
        ("PID-3[2]", b"PID^1^3"),
        ("PID-3[2].4.1", b"PID^1^3^2^4^1"),
        ("ORC", b"ORC^1"),
        ("OBX[*]-5", b"OBX^1^5"),
        ("PatientID", b""),
        ("", b""),
    ],
)
def test_locations(path: str, location: bytes) -> None:
    assert answer(b"2.5", "AE", MessageError(path, "why"))[2].split(b"|")[2] == location


def test_free_text_is_escaped_and_ascii() -> None:
    error = MessageError("", "a|b — c\r\nMSA|AA", 999)
    segments = answer(b"2.3", "AR", error)
    assert len(segments) == 4
    assert segments[2].endswith(b"|a\\F\\b ? c\\.br\\MSA\\F\\AA")
    assert b"|^^^999&Application internal error&HL70357|" in segments[2]


def test_delimiters_and_bytes_of_the_sender_are_kept() -> None:
    raw = b"MSH$%~?*$K\xdcHN%1$GH$B$R$2026$$ADT%A04$X?T?\xff$T$2.5\r"
    assert ack.answer(Message.parse(raw), "CA", None, now="2", control_id="3") == (
        b"MSH$%~?*$B$R$K\xdcHN%1$GH$2$$ACK%A04%ACK$3$T$2.5\rMSA$CA$X?T?\xff\r"
    )


@pytest.mark.parametrize(
    ("declared", "named"),
    [(b"KLINGON", b"UNICODE UTF-8"), (b"8859/1~KLINGON", b"8859/1"), (b"utf-8", b"utf-8"), (b"~ISO IR87", b"~ISO IR87")],
)
def test_the_character_set_that_is_named_is_the_one_it_is_written_in(declared: bytes, named: bytes) -> None:
    message = Message.parse((ORM % b"2.5.1").replace(b"UNICODE UTF-8", declared))
    header = ack.answer(message, "AA", None, now="2", control_id="3").split(b"\r")[0]
    assert header.split(b"|")[17] == named


@pytest.mark.parametrize(
    ("raw", "control_id"),
    [
        (b"", ""),
        (b"\x00\xff" * 5000, ""),
        (b"MSH", ""),
        (b"MSH|abc|||||||ADT|C77|P\rPID|1", "C77"),
        (b"noise MSH|^~\\&|A|B|C|D|||ADT^A04|C78|P|2.5\r", "C78"),
        (b"MSH|a|||||||ADT|\xffx&y|", "?x&y"),
    ],
)
def test_what_is_no_hl7_is_answered_too(raw: bytes, control_id: str) -> None:
    code, answered, text = ack.read_answer(ack.answer_raw(raw, now="2026", control_id="B1"))
    assert (code, answered, text) == ("AR", control_id, "MSH: 100 Segment sequence error")


def test_an_answer_always_fits_into_a_frame() -> None:
    message = Message.parse(b"MSH|^~\\&|A\x1c|B|C|D|||ADT^A04|C1\x1c|P|2.5\r")
    for error in (None, WRONG):
        raw = ack.answer(message, "AE", error, now="1", control_id="2")
        assert Framer(1000).receive(frame(raw)) == [Frame(raw)]
        assert ack.read_answer(raw).control_id == "C1"


def test_reading_an_acceptance() -> None:
    assert ack.read_answer(b"MSH|^~\\&|||||||ACK|1\rMSA|AA|C1|fine\r") == ("AA", "C1", "")


@pytest.mark.parametrize("version", [b"2.3.1", b"2.5.1"])
def test_what_we_write_we_read(version: bytes) -> None:
    raw = ack.answer(Message.parse(ORM % version), "AE", WRONG, now="2", control_id="3")
    code, control_id, text = ack.read_answer(raw)
    assert (code, control_id) == ("AE", "C&1")
    assert text == "OBR[2]-4.1: 103 Table value not found"


@pytest.mark.parametrize(
    ("err", "text"),
    [
        (b"ERR|PID^1^5^101", "PID-5: 101 Required field missing"),
        (b"ERR||PID^1^5|101", "PID-5: 101 Required field missing"),
        (b"ERR||PID^2^5^1^1~PV1^1^3|102^x^HL70357|E||||DOE is wrong", "PID[2]-5.1: 102 Data type error"),
        (b"ERR||DOE^JANE|X1^Jane Doe", ""),
        (b"ERR||PID^1^DOE|9999", ""),
        (b"ERR|", ""),
    ],
)
def test_nothing_that_a_receiver_wrote_freely_is_passed_on(err: bytes, text: str) -> None:
    assert ack.read_answer(b"MSH|^~\\&|||||||ACK|1\rMSA|AE|C1|JANE DOE\r" + err + b"\r") == ("AE", "C1", text)


@pytest.mark.parametrize("raw", [b"", b"OK", b"MSH|^~\\&|||||||ACK|1\r", b"MSH|^~\\&|||||||ACK|1\rMSA||C1\r"])
def test_what_is_no_answer(raw: bytes) -> None:
    with pytest.raises(MessageError):
        ack.read_answer(raw)


# -- the enhanced mode (2.9.3)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (b"|||AL|NE", ("AL", "NE")),
        (b"|||AL", ("AL", "")),
        (b"||||SU", ("", "SU")),
        (b"|||ER|ER|USA|8859/1", ("ER", "ER")),
        (b"", None),
        (b"|||", None),
        (b'|||""|""', None),
        (b"|||al|Y", None),  # not in table 0155
        (b"|||Y|NE", ("", "NE")),
    ],
)
def test_what_a_message_asks_for(header: bytes, wanted: tuple[str, str] | None) -> None:
    assert ack.asked(Message.parse(b"MSH|^~\\&|A|B|C|D|2026||ADT^A04|C1|P|2.5" + header + b"\rPID|1\r")) == wanted


def test_an_acknowledgment_asks_for_none_unless_it_says_so() -> None:
    assert ack.asked(Message.parse(b"MSH|^~\\&|A|B|C|D|2026||ACK^A04|C1|P|2.5\rMSA|AA|1\r")) == ("NE", "NE")
    assert ack.asked(Message.parse(b"MSH|^~\\&|A|B|C|D|2026||ACK^A04|C1|P|2.5|||AL\rMSA|AA|1\r")) == ("AL", "")


@pytest.mark.parametrize(
    ("condition", "good", "bad"), [("AL", True, True), ("NE", False, False), ("SU", True, False), ("ER", False, True), ("", False, False)]
)
def test_when_an_acknowledgment_is_due(condition: str, good: bool, bad: bool) -> None:
    assert (ack.is_due(condition, good=True), ack.is_due(condition, good=False)) == (good, bad)


def test_an_answer_that_asks_for_one_itself() -> None:
    raw = ack.answer(Message.parse(ORM % b"2.5.1"), "AA", None, now="2", control_id="3", asks=ack.Asked("AL", "NE"))
    assert raw.startswith(b"MSH|^~\\&|BROKER|RAD|EHR^1.2^ISO|GENHOSP|2||ACK^O01^ACK|3|P|2.5.1|||AL|NE||UNICODE UTF-8\r")
    assert ack.asked(Message.parse(raw)) == ("AL", "NE")


def test_answers_that_leave_together_are_a_frame_each() -> None:
    first, last = (ack.answer(Message.parse(ORM % b"2.5.1"), code, None, now="2", control_id="3") for code in ("CA", "AA"))
    whole = ack.together(first, b"", last)
    assert Framer(1000).receive(frame(whole)) == [Frame(first), Frame(last)]
    assert ack.apart(whole) == [first, last]
    assert [ack.code_in(one) for one in ack.apart(whole)] == ["CA", "AA"]
    assert (ack.together(), ack.together(b"", last), ack.apart(b"")) == (b"", last, [])
