"""The message: reading, changing, groups, and that nothing else changes."""

import pytest

from broker.errors import MessageError
from broker.hl7.message import Message

ORM = (
    b"MSH|^~\\&|EHR^1.2.3^ISO|GENHOSP|BROKER|RAD|20260302080000||ORM^O01^ORM_O01|C1|P|2.5.1\r"
    b'PID|1||4711^^^GENHOSP&1.2.840&ISO^MR~99-1^^^NAT^NI||DOE^JANE||19700101|F||""\r'
    b"ORC|NW|ORD1^EHR\r"
    b"OBR|1|ORD1^EHR||CT\\T\\MR^CT \\F\\ CHEST^L\r"
    b"NTE|1||first~second\r"
    b"ORC|NW|ORD2^EHR\r"
    b"OBR|2|ORD2^EHR||XR^X\r"
)


@pytest.fixture
def orm() -> Message:
    return Message.parse(ORM)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("MSH-1", "|"),
        ("MSH-2", "^~\\&"),
        ("MSH-3", "EHR^1.2.3^ISO"),
        ("MSH-9.2", "O01"),
        ("PID-3.1", "4711"),
        ("PID-3", "4711^^^GENHOSP&1.2.840&ISO^MR~99-1^^^NAT^NI"),
        ("PID-3[1]", "4711^^^GENHOSP&1.2.840&ISO^MR"),
        ("PID-3[2].5", "NI"),
        ("PID-3[3].1", ""),
        ("PID-3.4", "GENHOSP&1.2.840&ISO"),
        ("PID-3.4.2", "1.2.840"),
        ("PID-3.4.9", ""),
        ("PID-3.1.1", "4711"),
        ("PID-3.9", ""),
        ("PID-7.1", "19700101"),
        ("PID-7[2]", ""),
        ("PID-10", '""'),
        ("PID-99", ""),
        ("OBR-4.1", "CT&MR"),
        ("OBR-4.2", "CT | CHEST"),
        ("OBR[2]-4.1", "XR"),
        ("OBR[3]-4.1", ""),
        ("OBR[*]-4.1", "CT&MR"),
        ("ZZZ-1", ""),
        ("ORC[2]", "ORC|NW|ORD2^EHR"),
    ],
)
def test_get(orm: Message, path: str, text: str) -> None:
    assert orm.get(path) == text


def test_raw_keeps_escapes(orm: Message) -> None:
    assert orm.raw("OBR-4") == "CT\\T\\MR^CT \\F\\ CHEST^L"


def test_all(orm: Message) -> None:
    assert orm.all("OBR[*]-4.1") == ["CT&MR", "XR"]
    assert orm.all("PID-3[*].1") == ["4711", "99-1"]
    assert orm.all("PID-3[*].9") == ["", ""]
    assert orm.all("NTE[*]-3[*]") == ["first", "second"]
    assert orm.all("PID-3.1") == ["4711"]
    assert orm.all("PID-20") == []
    assert orm.all("PID-20[*]") == []
    assert orm.all("ZZZ[*]-1") == []


def test_exists(orm: Message) -> None:
    assert orm.exists("PID-3[2].1")
    assert orm.exists("PID-10")  # the HL7 null is something
    assert orm.exists("ORC[2]")
    assert orm.exists("MSH-1")
    assert not orm.exists("PID-20")
    assert not orm.exists("PV1")
    assert not orm.exists("ORC[3]")
    assert not Message.parse(ORM + b"PV1|1|^^&~^\r").exists("PV1-2")


def test_what_a_message_is(orm: Message) -> None:
    assert (orm.type, orm.control_id, orm.sender, orm.version, orm.charset) == ("ORM^O01", "C1", "EHR|GENHOSP", "2.5.1", "utf-8")
    assert Message.parse(b"MSH|^~\\&|||||||ACK").type == "ACK"


def test_segments(orm: Message) -> None:
    assert orm.segment_names() == ["MSH", "PID", "ORC", "OBR", "NTE", "ORC", "OBR"]
    assert [orm.get(f"OBR[{n}]-1") for n in orm.segments("OBR")] == ["1", "2"]
    assert len(orm.segments("PV1")) == 0


@pytest.mark.parametrize(
    ("path", "value", "before", "after"),
    [
        ("MSH-5", "X", b"|BROKER|", b"|X|"),
        ("PID-3.1", "A|B", b"|4711^", b"|A\\F\\B^"),
        ("PID-3[2].1", "^~\\&", b"~99-1^", b"~\\S\\\\R\\\\E\\\\T\\^"),
        ("PID-3[2]", "8", b"~99-1^^^NAT^NI|", b"~8|"),
        ("PID-3[*].5", "ZZ", b"^MR~99-1^^^NAT^NI|", b"^ZZ~99-1^^^NAT^ZZ|"),
        ("PID-3.4.2", "9", b"&1.2.840&", b"&9&"),
        ("PID-3[4].2", "N", b"^NI|", b"^NI~~^N|"),
        ("PID-5", "ROE", b"|DOE^JANE|", b"|ROE|"),
        ("PID-8.1.2", "x", b"|F|", b"|F&x|"),
        ("PID-12", "US", b'|""\r', b'|""||US\r'),
        ("OBR[2]-4.1", "MR", b"|XR^", b"|MR^"),
        ("ORC[*]-1", "CA", ORM[ORM.index(b"ORC") :], ORM[ORM.index(b"ORC") :].replace(b"NW", b"CA")),
        ("NTE-3[1]", "", b"|first~", b"|~"),
        ("ZDS-2.2", "v", b"XR^X\r", b"XR^X\rZDS||^v\r"),
        ("ORC[3]-1", "NW", b"XR^X\r", b"XR^X\rORC|NW\r"),
        ("ZDS-2", "", b"", b""),
        ("PID-40", "", b"", b""),
        ("PID-5.2", "a\r\nb\tc\x0b", b"^JANE", b"^a\\.br\\b\tc\\X0B\\"),
    ],
)
def test_set_changes_only_that(orm: Message, path: str, value: str, before: bytes, after: bytes) -> None:
    orm.set(path, value)
    assert orm.encode() == ORM.replace(before, after, 1)


def test_what_is_set_is_read_again(orm: Message) -> None:
    orm.set("ZDS-1.2.3", "a|b^c~d\\e&f\nü")
    assert orm.get("ZDS-1.2.3") == "a|b^c~d\\e&f\nü"
    assert Message.parse(orm.encode()).get("ZDS-1.2.3") == "a|b^c~d\\e&f\nü"


def test_set_raw_keeps_structure_but_cannot_break_it(orm: Message) -> None:
    orm.set_raw("PID-11", "1 MAIN\\T\\ ST^^TOWN~2|3\r^")
    assert orm.get("PID-11[1].1") == "1 MAIN& ST"
    assert orm.raw("PID-11[2]") == "2\\F\\3\\X0D\\^"
    assert orm.segment_names()[:3] == ["MSH", "PID", "ORC"]


def test_copy_is_byte_for_byte() -> None:
    message = Message.parse(b"MSH|^~\\&|||||||ADT^A04\rPID|1||\xff\\T\\^x&y~2\r")
    message.copy("PID-3", "PID-4")
    message.copy("PID-3[1]", "PID-2[1]")
    message.copy("PID-3.1", "PV1-3.2")
    assert message.encode() == b"MSH|^~\\&|||||||ADT^A04\rPID|1|\xff\\T\\^x&y|\xff\\T\\^x&y~2|\xff\\T\\^x&y~2\rPV1|||^\xff\\T\\\r"


def test_copy_does_not_lose_structure(orm: Message) -> None:
    with pytest.raises(ValueError, match="parts that do not fit"):
        orm.copy("PID-3", "PID-4.1")
    with pytest.raises(ValueError, match="parts that do not fit"):
        orm.copy("PID-3[1].4", "PID-4.1.1")
    assert orm.encode() == ORM


def test_remove(orm: Message) -> None:
    orm.remove("PID-3[1]")
    orm.remove("PID-5.2")
    orm.remove("PID-8")
    orm.remove("PID-77")
    orm.remove("NTE")
    orm.remove("OBR[*]")
    assert orm.encode() == ORM[: ORM.index(b"PID")] + b'PID|1||99-1^^^NAT^NI||DOE^||19700101|||""\rORC|NW|ORD1^EHR\rORC|NW|ORD2^EHR\r'
    assert not orm.exists("OBR")


def test_delimiters_cannot_be_set(orm: Message) -> None:
    with pytest.raises(ValueError, match="MSH-2 cannot be set"):
        orm.set("MSH-2", "#")
    with pytest.raises(ValueError, match="PID cannot be set"):
        orm.set("PID", "x")


def test_a_clone_changes_alone(orm: Message) -> None:
    clone = orm.clone()
    clone.set("PID-3.1", "1")
    clone.add("ZZZ")
    assert orm.encode() == ORM
    assert clone.get("PID-3.1") == "1"


def test_new() -> None:
    message = Message.new("SIU^S12^SIU_S12", "2.5.1")
    message.set("MSH-10", "1")
    assert message.add("AIL") == 1
    assert message.add("AIL") == 2
    message.set("AIL[2]-3", "CT1")
    message.set("SCH-1", "9")
    assert message.encode() == b"MSH|^~\\&|||||||SIU^S12^SIU_S12|1|P|2.5.1||||||UNICODE UTF-8\rAIL\rAIL|||CT1\rSCH|9\r"


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_a_new_segment_takes_the_message_s_line_end(end: bytes) -> None:
    message = Message.parse(end.join([b"MSH|^~\\&|||||||ADT^A04", b"PID|1", b""]))
    message.set("ZDS-1", "x")
    assert message.encode() == end.join([b"MSH|^~\\&|||||||ADT^A04", b"PID|1", b"ZDS|x", b""])


def test_mixed_line_ends_stay_where_they_are() -> None:
    raw = b"MSH|^~\\&|||||||ORU^R01\r\nOBX|1|FT|||line one\nline two\rOBX|2\nOBX|3"
    message = Message.parse(raw)
    assert message.segment_names() == ["MSH", "OBX", "OBX", "OBX"]
    assert message.get("OBX-5") == "line one\nline two"
    message.set("OBX[2]-2", "TX")
    message.set("ZDS-1", "x")
    assert message.encode() == raw.replace(b"OBX|2\n", b"OBX|2|TX\n") + b"\rZDS|x"
    message.remove("OBX[1]")
    assert message.encode() == b"MSH|^~\\&|||||||ORU^R01\r\nOBX|2|TX\nOBX|3\rZDS|x"


def test_other_delimiters_are_read_in_the_standard_ones() -> None:
    raw = b"MSH$%~?*$EHR$GH$$$$$ORM%O01$A6$P$2.3.1\rPID$1$$4711%%%GH*1$$O?S?BRIEN%J^NE|X?T?\\\r"
    message = Message.parse(raw)
    assert message.type == "ORM^O01"
    assert message.get("PID-3.4.1") == "GH"
    assert message.get("PID-3") == "4711^^^GH&1"
    assert message.get("PID-5.1") == "O%BRIEN"
    assert message.get("PID-5.2") == "J^NE|X*\\"
    assert message.raw("PID-5") == "O%BRIEN^J\\S\\NE\\F\\X*\\E\\"
    message.set("PID-8", "a$b%c|d")
    assert message.get("PID-8") == "a$b%c|d"
    message.set_raw("PID-11", "1\\T\\2^$%^x|y")
    assert message.get("PID-11.1") == "1&2"
    assert message.encode().endswith(b"$$$a?F?b?S?c|d$$$1&2%?F??S?%x|y\r")


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"", "MSH"),
        (b"PID|1", "MSH"),
        (b"GET / HTTP/1.1\r\n", "MSH"),
        (b"MSHA^~\\&|", "MSH-1"),
        (b"MSH", "MSH-1"),
        (b"MSH\r|", "MSH-1"),
        (b"MSH|^~\\&|a|b\r|||||||||", "MSH-9"),
        (b"MSH|abc|||||||ADT", "MSH-2"),
        (b"MSH||||||||ADT", "MSH-2"),
        (b"FHS|^~\\&|||||||", "MSH"),
    ],
)
def test_what_is_not_hl7_is_rejected(raw: bytes, path: str) -> None:
    with pytest.raises(MessageError) as caught:
        Message.parse(raw)
    assert caught.value.reject
    assert caught.value.path == path


def test_short_or_doubled_encoding_characters() -> None:
    assert Message.parse(b"MSH|^|||||||ADT^A04\rPID|1|a~b&c\\S\\").get("PID-2[2].1.2") == "c^"
    doubled = Message.parse(b"MSH|^~\\\\&|||||||ADT^A04\rPID|1|a&b\\S\\")
    assert doubled.get("PID-2.1.2") == "b^"
