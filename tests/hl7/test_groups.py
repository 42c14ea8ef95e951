"""Paths into groups of segments, read and written; and segments added, copied and moved."""

import pytest

from broker.errors import MessageError
from broker.hl7 import ack
from broker.hl7.groups import LEVELS, spans
from broker.hl7.message import Message
from broker.hl7.path import ALL

HEAD = b"MSH|^~\\&|||||||ORM^O01|C1|P|2.5.1\rPID|1||A\rNTE|1||patient\r"
FIRST = b"ORC|NW|P1\rOBR|1|P1||CT\rNTE|1||first\rOBX|1|TX|||seven\rNTE|1||of seven\rOBX|2|TX|||eight\r"
SECOND = b"ORC|NW|P2\rOBR|2|P2||MR\rOBX|1|TX|||nine\r"
OTHER = b"PID|2||B\rORC|NW|P3\rOBR|3|P3||XR\r"


@pytest.fixture
def message() -> Message:
    return Message.parse(HEAD + FIRST + SECOND + OTHER)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ORC[2]>OBR-4", "MR"),
        ("ORC[2]>ORC-2", "P2"),
        ("ORC>OBR-4", "CT"),
        ("ORC[2]>OBX-5", "nine"),
        ("ORC[2]>OBX[2]-5", ""),
        ("ORC[1]>OBX[2]-5", "eight"),
        ("ORC[2]>NTE-3", ""),
        ("OBR[2]>NTE-3", ""),
        ("OBX[1]>NTE-3", "of seven"),
        ("OBX[2]>NTE-3", ""),
        ("OBX[3]>NTE-3", ""),
        ("PID[2]>ORC-2", "P3"),
        ("PID[1]>ORC[2]>OBR-4", "MR"),
        ("PID[1]>ORC[3]>OBR-4", ""),
        ("ORC[3]>OBR-4", "XR"),
        ("ORC[9]>OBR-4", ""),
        ("PID[2]>NTE-3", ""),
        ("ORC[*]>OBR[1]-4", "CT"),
    ],
)
def test_a_group_ends_where_its_level_or_one_further_out_begins(message: Message, path: str, text: str) -> None:
    assert message.get(path) == text
    assert message.exists(path) is bool(text)


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        ("ORC[*]>OBR-4", ["CT", "MR", "XR"]),
        ("ORC[2]>OBX[*]-5", ["nine"]),
        ("ORC[1]>OBX[*]-5", ["seven", "eight"]),
        ("ORC[*]>OBX-5", ["seven", "nine", ""]),
        ("ORC[*]>OBX[*]-5", ["seven", "eight", "nine"]),
        ("PID[1]>ORC[*]>OBR-4", ["CT", "MR"]),
        ("PID[*]>ORC-2", ["P1", "P3"]),
        ("ORC[9]>OBX[*]-5", []),
    ],
)
def test_all_in_groups(message: Message, path: str, texts: list[str]) -> None:
    assert message.all(path) == texts


def test_every_level_is_closed_by_itself_and_by_those_further_out() -> None:
    for name, level in LEVELS.items():
        for other, its in LEVELS.items():
            names = [name, b"ZZZ", other, b"ZZZ"]
            [first, *_] = spans(names, [(name.decode(), ALL)])
            assert first == ((0, 2) if its <= level else (0, 4)), (name, other)


def test_segments_that_no_table_names_are_groups_too() -> None:
    message = Message.parse(b"MSH|^~\\&|||||||ORU^R01\rZOB|1\rOBX|1||||a\rZOB|2\rZOC|2\rOBX|2||||b\rORC|1\rZOC|9\r")
    assert message.all("ZOB[*]>OBX-5") == ["a", "b"]
    assert message.all("ZOB[*]>ZOC-1") == ["", "2"]


def test_segments_counts_in_a_group(message: Message) -> None:
    assert [len(message.segments(f"ORC[{n}]>OBX")) for n in message.segments("ORC")] == [2, 1, 0]


@pytest.mark.parametrize(
    ("path", "value", "before", "after"),
    [
        ("ORC[2]>OBR-4", "US", b"|P2||MR\r", b"|P2||US\r"),
        ("ORC[2]>OBX[*]-5", "x", b"|nine\r", b"|x\r"),
        ("ORC[*]>OBX[*]-2", "ST", b"|TX|", b"|ST|"),
        ("ORC[2]>NTE-3", "new", SECOND, SECOND + b"NTE|||new\r"),
        ("ORC[2]>OBX[3]-5", "x", SECOND, SECOND + b"OBX\rOBX|||||x\r"),
        ("PID[1]>ORC[3]-2", "P9", SECOND, SECOND + b"ORC||P9\r"),
        ("PID[1]>ORC[3]>OBR-4", "US", SECOND, SECOND + b"ORC\rOBR||||US\r"),
        ("ORC[*]>ZDS-1", "u", HEAD + FIRST + SECOND + OTHER, HEAD + FIRST + b"ZDS|u\r" + SECOND + b"ZDS|u\r" + OTHER + b"ZDS|u\r"),
        ("ORC[2]>NTE-3", "", b"", b""),
        ("ORC[9]>OBX[*]-5", "x", b"", b""),
    ],
)
def test_set_in_groups(message: Message, path: str, value: str, before: bytes, after: bytes) -> None:
    message.set(path, value)
    assert message.encode() == (HEAD + FIRST + SECOND + OTHER).replace(before, after)
    assert Message.parse(message.encode()).get(path) == value if "[*]" not in path else True


def test_remove_in_groups(message: Message) -> None:
    message.remove("ORC[1]>NTE[*]")
    message.remove("ORC[2]>OBX")
    message.remove("ORC[3]>OBR-4")
    message.remove("ORC[9]>OBR-4")
    first = FIRST.replace(b"NTE|1||first\r", b"").replace(b"NTE|1||of seven\r", b"")
    assert message.encode() == HEAD + first + SECOND[: SECOND.index(b"OBX")] + OTHER.replace(b"XR", b"")


@pytest.mark.parametrize(
    ("path", "where", "number", "before", "after"),
    [
        ("ZZZ", {}, 1, OTHER, OTHER + b"ZZZ\r"),
        ("NTE", {}, 4, OTHER, OTHER + b"NTE\r"),
        ("ORC[2]>NTE", {}, 4, SECOND, SECOND + b"NTE\r"),
        ("ORC[1]>ZDS", {}, 1, FIRST, FIRST + b"ZDS\r"),
        ("NTE", {"after": "OBR[2]"}, 4, b"|P2||MR\r", b"|P2||MR\rNTE\r"),
        ("NTE", {"after": "ORC[2]>OBR"}, 4, b"|P2||MR\r", b"|P2||MR\rNTE\r"),
        ("NTE", {"before": "ORC"}, 2, FIRST, b"NTE\r" + FIRST),
        ("PV1", {"after": "PID[*]"}, 1, b"||A\r", b"||A\rPV1\r"),
        ("EVN", {"after": "MSH"}, 1, b"PID|1", b"EVN\rPID|1"),
    ],
)
def test_add(message: Message, path: str, where: dict[str, str], number: int, before: bytes, after: bytes) -> None:
    assert message.add(path, **where) == number
    assert message.encode() == (HEAD + FIRST + SECOND + OTHER).replace(before, after)
    assert message.get(f"{path.rpartition('>')[2]}[{number}]") == path.rpartition(">")[2]


def test_add_to_every_group(message: Message) -> None:
    assert message.add("ORC[*]>ZDS") == 1
    assert message.encode() == HEAD + FIRST + b"ZDS\r" + SECOND + b"ZDS\r" + OTHER + b"ZDS\r"


def test_what_cannot_be_added_says_why(message: Message) -> None:
    before = message.encode()
    for path in ("PID-3", "MSH", "NTE[2]", "ORC[*]>MSH"):
        with pytest.raises(ValueError, match="cannot be added"):
            message.add(path)
    with pytest.raises(ValueError, match="before MSH"):
        message.add("EVN", before="MSH")
    for path, where in (("NTE", {"after": "TXA"}), ("ORC[9]>NTE", {})):
        with pytest.raises(MessageError, match="the segment is missing") as caught:
            message.add(path, **where)
        assert caught.value.code == 100
    assert message.encode() == before


def test_blank_lines_stay_behind_what_is_added() -> None:
    message = Message.parse(b"MSH|^~\\&|||||||ORM\r\nORC|1\r\n\r\nORC|2\r\n\r\n")
    message.add("ORC[1]>OBR")
    message.add("ORC[2]>OBR")
    assert message.encode() == b"MSH|^~\\&|||||||ORM\r\nORC|1\r\nOBR\r\n\r\nORC|2\r\nOBR\r\n\r\n"


def test_copy_runs_over_the_same_segments_and_groups(message: Message) -> None:
    message.copy("OBX[*]-5", "OBX[*]-6")
    message.copy("ORC[*]>OBR-4", "ORC[*]>ORC-3")
    message.copy("PID-3", "ORC[*]-4")
    assert message.all("OBX[*]-6") == ["seven", "eight", "nine"]
    assert message.all("ORC[*]-3") == ["CT", "MR", "XR"]
    assert message.all("ORC[*]-4") == ["A", "A", "A"]


@pytest.mark.parametrize(
    ("source", "target", "before", "after"),
    [
        ("ORC-2", "ORC-3", b"ORC|NW|P1\r", b"ORC|NW||P1\r"),
        ("ORC[2]>OBR-4", "ORC[2]>OBX-3", b"||MR\rOBX|1|TX|||", b"||\rOBX|1|TX|MR||"),
        ("OBR[2]-2", "ZDS-1", SECOND + OTHER, SECOND.replace(b"|2|P2|", b"|2||") + OTHER + b"ZDS|P2\r"),
        ("ORC[*]-2", "ORC[*]-3", b"ORC|NW|P", b"ORC|NW||P"),
        ("PID-9", "PID-3", b"PID|1||A", b"PID|1||"),
    ],
)
def test_move(message: Message, source: str, target: str, before: bytes, after: bytes) -> None:
    message.move(source, target)
    assert message.encode() == (HEAD + FIRST + SECOND + OTHER).replace(before, after)


@pytest.mark.parametrize(
    ("source", "target", "field"),
    [
        ("PID-3[2]", "PID-4", b"|a^b|c|"),
        ("PID-3.2", "PID-3.3", b"|a^^b~c||"),
        ("PID-3.2", "PID-3", b"|b||"),
        ("PID-3[1]", "PID-4", b"|c|a^b|"),
        ("PID-3", "PID-4", b"||a^b~c|"),
    ],
)
def test_move_within_a_segment(source: str, target: str, field: bytes) -> None:
    message = Message.parse(b"MSH|^~\\&|||||||ADT\rPID|1||a^b~c||x\r")
    message.move(source, target)
    assert message.encode() == b"MSH|^~\\&|||||||ADT\rPID|1|" + field + b"x\r"


def test_what_does_not_fit_is_neither_copied_nor_moved(message: Message) -> None:
    before = message.encode()
    message.set("PID-3", "a")
    for source, target in (("PID", "ZZZ-1"), ("MSH-2", "ZZZ-1"), ("PID-3", "PID"), ("PID-3", "MSH-1")):
        for act in (message.copy, message.move):
            with pytest.raises(ValueError, match="cannot be"):
                act(source, target)
    message.set_raw("PID-3", "a^b")
    with pytest.raises(ValueError, match="parts that do not fit"):
        message.move("PID-3", "PID-3.1")
    assert message.encode() == before.replace(b"||A", b"||a^b")


def test_msh_stays(message: Message) -> None:
    with pytest.raises(ValueError, match="MSH cannot be removed"):
        message.remove("MSH")


def test_a_clone_and_its_source_change_apart(message: Message) -> None:
    before = message.encode()
    message.get("OBR-4")
    clone = message.clone()
    clone.add("NTE", after="PID")
    clone.set("ORC[2]>OBR-4", "US")
    message.set("OBR-4", "XX")
    assert message.encode() == before.replace(b"||CT\r", b"||XX\r")
    assert clone.encode() == before.replace(b"||A\r", b"||A\rNTE\r").replace(b"||MR\r", b"||US\r")
    assert (message.get("NTE-3"), clone.get("NTE-3"), clone.get("NTE[2]-3")) == ("patient", "", "patient")


@pytest.mark.parametrize(
    ("path", "whole"),
    [
        ("ORC[2]>OBR-4.1", "OBR[2]-4.1"),
        ("PID[2]>ORC>OBR", "OBR[3]"),
        ("ORC>OBX[2]-5[1].2", "OBX[2]-5[1].2"),
        ("ORC[2]>NTE-3", "ORC[2]>NTE-3"),
        ("PID-3", "PID-3"),
    ],
)
def test_where_a_path_stands_in_the_whole_message(message: Message, path: str, whole: str) -> None:
    assert message.absolute(path) == whole


def test_an_answer_counts_in_the_whole_message(message: Message) -> None:
    def location(path: str) -> str:
        return Message.parse(ack.answer(message, "AE", MessageError(path, "required", 101), now="1", control_id="2")).get("ERR-2")

    assert location("ORC[2]>OBR-4.1") == "OBR^2^4^1^1"
    assert location("ORC[2]>NTE-3") == "ORC^2"
