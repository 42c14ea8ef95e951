"""A message as another version has it: what moves, what comes back, and what has no place is named and stays."""

from __future__ import annotations

import pytest

from broker.errors import MessageError
from broker.hl7.convert import IMAGING, MOVES, ORDERS, STRUCTURES, VERSIONS, convert
from broker.hl7.message import Message
from broker.hl7.standard import describe
from broker.hl7.timing import from_fields, merged, to_fields

TIMING = "1&ml^BID&0800,2000^M30^202603021000^202603022000^R^^look^S^^^3"
MSH = "MSH|^~\\&|EHR|H|B|R|2026||{}|C1|P|{}\r"
PID = "PID|1|EXT9|4711^^^H||DOE^JANE||19610615|F|ROE^JANE||||||||||123456789|||\r"
ORM = (
    MSH.format("ORM^O01", "2.3.1")
    + PID
    + f"PV1|1|O\rORC|NW|P1|||||{TIMING}||20260302\r"
    + f"OBR|1|P1||CT1^x||||||||||||||A1|RP1|SPS1||||CT|||{TIMING}\rNTE|1||first ü\rZDS|1.2.3^^Application^DICOM\r"
    + f"ORC|NW|P2|||||^^^202603021100^^S\rOBR|2|P2||MR1^x{'|' * 23}^^^202603021100^^S\rZXX|own\r"
)


def converted(text: str, version: str, order: str = "OMG") -> tuple[Message, list[str]]:
    message = Message.parse(text.encode())
    return message, convert(message, version, order)


@pytest.mark.parametrize(
    ("order", "kind", "ipc"), [("OMG", "OMG^O19^OMG_O19", 0), ("OMI", "OMI^O23^OMI_O23", 2), ("ORM", "ORM^O01^ORM_O01", 0)]
)
def test_an_order_of_2_3_1_becomes_one_of_2_5_1(order: str, kind: str, ipc: int) -> None:
    message, left = converted(ORM, "2.5.1", order)
    assert left == []
    assert (message.raw("MSH-9"), message.get("MSH-12")) == (kind, "2.5.1")
    assert message.raw("ORC[1]>TQ1").split("|")[1:] == [
        *("1", "1^ml", "BID", "0800~2000", "", "30^min", "202603021000", "202603022000", "R", "", "look", "S", "", "3")
    ]
    assert message.get("ORC[2]>TQ1-7") == "202603021100"
    assert not message.exists("ORC[*]-7")
    assert not message.exists("OBR[*]-27")
    assert message.raw("PID-3") == "4711^^^H~EXT9^^^^PT~123456789^^^^SS"
    assert message.raw("PID-5") == "DOE^JANE~ROE^JANE^^^^^A"
    names = " ".join(message.segment_names())
    if ipc:
        assert names == "MSH PID PV1 ORC TQ1 OBR NTE IPC ORC TQ1 OBR ZXX IPC"
        assert message.raw("IPC[1]") == "IPC|A1|RP1|1.2.3|SPS1|CT"
    else:
        assert names == "MSH PID PV1 ORC TQ1 OBR NTE ZDS ORC TQ1 OBR ZXX"


@pytest.mark.parametrize("order", ["OMG", "OMI", "ORM"])
@pytest.mark.parametrize("old", ["2.3", "2.3.1", "2.4"])
@pytest.mark.parametrize("new", ["2.5", "2.5.1"])
def test_there_and_back_it_is_the_same(order: str, old: str, new: str) -> None:
    text = ORM.replace("|2.3.1\r", f"|{old}\r")
    message, _ = converted(text, new, order)
    convert(message, old)
    lines = [line.rstrip("|") for line in message.encode().decode().split("\r")]
    assert [line for line in lines if line != "IPC"] == [line.rstrip("|") for line in text.split("\r")]


NEW = (
    MSH.format("OMI^O23^OMI_O23", "2.5.1")
    + "PID|1||4711^^^H^MR~77^^^^SS~8^^^X^SS||DOE^JANE\rORC|NW|P1\r"
    + "TQ1|1|||||5^mo|202603021000||S^STAT^HL70078\rTQ1|2||BID&x||1^h|2^fortnight\rTQ2|1|S\r"
    + "OBR|1|P1||CT1^x\rIPC|A1^BROKER|RP1|1.2.3||MR^Magnetic^DCM|BRAIN^x|||AE1\r"
)


def test_what_2_3_1_has_no_place_for_stays_and_is_named() -> None:
    message, left = converted(NEW, "2.3.1")
    assert message.raw("MSH-9") == "ORM^O01"
    assert message.raw("ORC-7") == message.raw("OBR-27") == "^^L5^202603021000^^S~"
    assert message.raw("TQ1[1]") == "TQ1|1||||||||S^STAT^HL70078"
    assert message.raw("TQ1[2]").rstrip("|") == "TQ1|2||BID&x||1^h|2^fortnight"
    assert (message.get("OBR-18"), message.get("OBR-19"), message.get("OBR-24")) == ("A1", "RP1", "MR")
    assert message.raw("ZDS-1") == "1.2.3^^Application^DICOM"
    assert message.raw("IPC") == "IPC|A1^BROKER||||MR^Magnetic^DCM|BRAIN^x|||AE1"
    assert message.raw("PID-3") == "4711^^^H^MR~8^^^X^SS"
    assert message.get("PID-19") == "77"
    assert {"TQ1-9", "TQ1[2]-3", "TQ1[2]-5", "TQ1[2]-6", "IPC-1", "IPC-5", "IPC-6", "IPC-9", "TQ1", "TQ2", "IPC"} <= set(left)


def test_what_came_from_2_5_1_goes_back_to_it() -> None:
    message, _ = converted(NEW, "2.3.1")
    convert(message, "2.5.1", "OMI")
    assert message.raw("MSH-9") == "OMI^O23^OMI_O23"
    assert message.raw("TQ1[1]") == "TQ1|1|||||5^mo|202603021000||S^STAT^HL70078"
    assert message.raw("TQ1[2]").rstrip("|") == "TQ1|2||BID&x||1^h|2^fortnight"
    assert message.raw("IPC").startswith("IPC|A1^BROKER|")


def test_timing_that_tq1_cannot_say_stays_in_its_field() -> None:
    message, left = converted(ORM.replace("^M30^", "^INDEF^"), "2.5.1")
    assert message.raw("ORC-7") == message.raw("OBR-27") == "^^INDEF"
    assert left == ["ORC-7", "OBR-27"]
    convert(message, "2.3.1")
    assert message.raw("ORC-7") == TIMING.replace("^M30^", "^INDEF^")
    assert not message.segments("TQ1")


def test_two_timings_that_differ_are_not_made_one() -> None:
    text = ORM.replace(f"|{TIMING}||20260302", "|^^^202603031000||20260302")
    message, left = converted(text, "2.5.1")
    assert message.get("TQ1-7") == "202603021000"
    assert message.raw("ORC-7") == "^^^202603031000"
    assert left == ["ORC-7"]
    message = Message.parse(NEW.replace("ORC|NW|P1\r", "ORC|NW|P1|||||^^^1999\r").encode())
    assert "TQ1" in convert(message, "2.3.1")
    assert message.raw("ORC-7") == "^^^1999"


def test_a_field_of_a_later_version_is_named() -> None:
    message, left = converted(MSH.format("ADT^A08^ADT_A01", "2.5.1") + "PID|1||1||D^J" + "|" * 34 + "x\rIAM|1\r", "2.3.1")
    assert left == ["PID-39", "IAM"]
    assert message.raw("PID-39") == "x"


def test_errors_are_split_and_joined() -> None:
    old = MSH.format("ACK^O01", "2.3.1") + "MSA|AE|1|text\rERR|PID^1^3^101&Required field missing&HL70357~OBR^2^4^103\r"
    message, left = converted(old, "2.5.1")
    assert left == []
    assert [message.raw(f"ERR[{n}]") for n in (1, 2)] == [
        "ERR||PID^1^3|101^Required field missing^HL70357|E",
        "ERR||OBR^2^4|103|E",
    ]
    convert(message, "2.3.1")
    assert message.encode().decode().rstrip("\r").rstrip("|") == old.rstrip("\r")


def test_an_identifier_with_a_type_of_its_own_stays() -> None:
    message, _ = converted(ORM.replace("|EXT9|", "|EXT9^^^X^MR|"), "2.5.1")
    assert message.raw("PID-2") == "EXT9^^^X^MR"
    assert "EXT9" not in message.raw("PID-3")


@pytest.mark.parametrize(("old", "new"), [("2.3", "2.4"), ("2.5", "2.5.1"), ("2.3.1", "2.3.1"), ("2.5.1", "2.5.1")])
def test_between_neighbours_only_the_header_changes(old: str, new: str) -> None:
    text = MSH.format("ADT^A04", old) + PID
    message, left = converted(text, new)
    assert left == []
    assert message.encode().split(b"\r", 1)[1] == text.encode().split(b"\r", 1)[1]
    assert message.get("MSH-12") == new
    assert message.raw("MSH-9") == ("ADT^A04^ADT_A01" if new > "2.4" else "ADT^A04")


@pytest.mark.parametrize("version", ["", "2.7", "3", "x"])
def test_a_version_it_does_not_come_from_is_refused(version: str) -> None:
    with pytest.raises(MessageError, match="MSH-12") as error:
        converted(MSH.format("ADT^A04", version) + PID, "2.5.1")
    assert error.value.code == 203


def test_untouched_fields_leave_byte_for_byte_in_their_own_delimiters_and_set() -> None:
    raw = "MSH!*+%$!E!H!B!R!2026!!ORM*O01!C1!P!2.3.1!!!!!!8859/1\rORC!NW!P1!!!!!***2026\rOBR!1!P1!!é*ü$x\rZXX!%F%!\r".encode("latin-1")
    message = Message.parse(raw)
    assert convert(message, "2.5.1") == []
    lines = message.encode().split(b"\r")
    assert lines[2] == b"TQ1!1!!!!!!2026"
    assert lines[3:] == raw.split(b"\r")[2:]


# -- the tables


@pytest.mark.parametrize(
    "timing", ["1&ml", "^BID", "^&0800,2000", "^^S5", "^^^2026&M", "^^^^^S", "^^^^^^cond^text^S", "^^^^^^^^^^^7", TIMING]
)
def test_timing_goes_there_and_back(timing: str) -> None:
    fields, rest = to_fields(timing)
    assert rest == ""
    back, left = from_fields(fields)
    assert (back, left) == (timing, {}) or timing == "^^^2026&M"


def test_what_two_places_say_is_merged_unless_they_differ() -> None:
    assert merged("", ["^^^2026"]) == "^^^2026"
    assert merged("^^INDEF~", ["^^^2026", "^^^2027"]) == "^^INDEF^2026~^^^2027"
    assert merged("^^^1999", ["^^^2026"]) is None


def test_every_field_of_the_tables_is_in_the_standard() -> None:
    for move in MOVES:
        assert describe(move.old, "2.3.1")
        assert describe(f"{move.new}.{move.at}", "2.5.1")
    for field, target in IMAGING.items():
        assert describe(f"OBR-{field}", "2.3.1")
        assert describe(f"IPC-{target}", "2.5.1")
    assert set(VERSIONS) == {"2.3", "2.3.1", "2.4", "2.5", "2.5.1"}


def test_every_structure_is_in_the_standard() -> None:
    from hl7apy.v2_5_1.messages import MESSAGES

    assert {name for name in STRUCTURES.values() if name not in MESSAGES} == set()
    assert {new.replace("^", "_") for several in ORDERS.values() for new in several} <= set(MESSAGES)
