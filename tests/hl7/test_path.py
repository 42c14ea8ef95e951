"""HL7 paths."""

import pytest

from broker.hl7.path import ALL, Path, parse


def parts(path: Path) -> tuple[object, ...]:
    return (path.groups, path.segment, path.number, path.field, path.repetition, path.component, path.subcomponent, path.at)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PID-3", ((), "PID", 1, 3, 0, 0, 0, 3)),
        ("PID-3.1", ((), "PID", 1, 3, 0, 1, 0, 3)),
        ("PID-3[2].4.2", ((), "PID", 1, 3, 2, 4, 2, 3)),
        ("OBX[12]-5", ((), "OBX", 12, 5, 0, 0, 0, 5)),
        ("OBX[*]-5[*].1", ((), "OBX", ALL, 5, ALL, 1, 0, 5)),
        ("MSH-9.1", ((), "MSH", 1, 9, 0, 1, 0, 8)),
        ("ZDS", ((), "ZDS", 1, 0, 0, 0, 0, 0)),
        ("ORC[2]>OBR-4", ((("ORC", 2),), "OBR", 1, 4, 0, 0, 0, 4)),
        ("PID[2]>ORC[*]>OBX[3]-5.1", ((("PID", 2), ("ORC", ALL)), "OBX", 3, 5, 0, 1, 0, 5)),
        ("ORC>NTE", ((("ORC", 1),), "NTE", 1, 0, 0, 0, 0, 0)),
    ],
)
def test_a_path_is_read_and_written_the_same(text: str, expected: tuple[object, ...]) -> None:
    path = parse(text)
    assert parts(path) == expected
    assert str(path) == text


@pytest.mark.parametrize(
    ("text", "many"), [("PID-3", False), ("PID-3[*]", True), ("OBX[*]-5", True), ("ORC[*]>OBR-4", True), ("ORC[2]>OBR-4", False)]
)
def test_whether_it_may_have_several_matches(text: str, many: bool) -> None:
    assert parse(text).many is many


@pytest.mark.parametrize(("text", "writable"), [("PID-1", True), ("MSH-3", True), ("MSH-1", False), ("MSH-2", False), ("PID", False)])
def test_whether_it_may_be_written(text: str, writable: bool) -> None:
    assert parse(text).writable is writable


def test_a_path_is_parsed_once() -> None:
    assert parse("PV1-19.1") is parse("PV1-19.1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PID-",
        "pid-3",
        "PID-0",
        "PID-3.0",
        "PID[0]-3",
        "PID-3[0]",
        "PID-3.1.1.1",
        "PID.3",
        "PID-3[]",
        "PatientID",
        "PID-3 ",
        "ORC>",
        ">OBR-4",
        "ORC-1>OBR-4",
        "ORC[0]>OBR-4",
        "ORC>>OBR",
        "ORC > OBR-4",
        "A>B>C",
    ],
)
def test_what_is_no_path_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="not an HL7 path"):
        parse(text)
