"""HL7 paths."""

import pytest

from broker.hl7.path import ALL, parse


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("PID-3", ("PID", 1, 3, 0, 0, 0, 3)),
        ("PID-3.1", ("PID", 1, 3, 0, 1, 0, 3)),
        ("PID-3[2].4.2", ("PID", 1, 3, 2, 4, 2, 3)),
        ("OBX[12]-5", ("OBX", 12, 5, 0, 0, 0, 5)),
        ("OBX[*]-5[*].1", ("OBX", ALL, 5, ALL, 1, 0, 5)),
        ("MSH-9.1", ("MSH", 1, 9, 0, 1, 0, 8)),
        ("ZDS", ("ZDS", 1, 0, 0, 0, 0, 0)),
    ],
)
def test_a_path_is_read_and_written_the_same(text: str, parts: tuple[object, ...]) -> None:
    path = parse(text)
    assert tuple(path) == parts
    assert str(path) == text


def test_a_path_is_parsed_once() -> None:
    assert parse("PV1-19.1") is parse("PV1-19.1")


@pytest.mark.parametrize(
    "text", ["", "PID-", "pid-3", "PID-0", "PID-3.0", "PID[0]-3", "PID-3[0]", "PID-3.1.1.1", "PID.3", "PID-3[]", "PatientID", "PID-3 "]
)
def test_what_is_no_path_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="not an HL7 path"):
        parse(text)
