"""A message taken apart at its groups: what each part holds, and where its paths stand in the whole."""

import pytest

from broker.hl7.message import Message
from broker.hl7.parts import Parts

MESSAGE = Message.parse(
    b"MSH|^~\\&|A|B|C|D|20260101||ORM^O01|1|P|2.5.1\rPID|1\rNTE|1\rORC|NW|1\rOBR|1\rDG1|1\rDG1|2\rORC|NW|2\rOBR|2\rNTE|1\rORC|NW|3\rOBR|3\rDG1|1\r"
)


@pytest.mark.parametrize(
    ("path", "index", "whole"),
    [
        ("OBR-4.1", 0, "OBR-4.1"),
        ("OBR-4.1", 1, "OBR[2]-4.1"),
        ("ORC-2", 2, "ORC[3]-2"),
        ("DG1-3.1", 2, "DG1[3]-3.1"),
        ("DG1[2]-3.1", 0, "DG1[2]-3.1"),
        ("PID-3.1", 2, "PID-3.1"),
        ("NTE-1", 1, "NTE-1"),
        ("NTE[2]-1", 1, "NTE[2]-1"),
        ("ORC", 1, "ORC[2]"),
        ("IPC-1", 1, "ORC[2]>IPC-1"),
        ("ORC>NTE-1", 1, "NTE[2]-1"),
        ("", 1, ""),
    ],
)
def test_a_path_of_a_group_is_told_as_a_path_of_the_message(path: str, index: int, whole: str) -> None:
    parts = Parts(MESSAGE, "ORC", group=True)
    assert parts.whole(path, index) == whole
    if whole:
        assert MESSAGE.get(whole) == list(parts)[index].get(path)


def test_a_group_is_read_with_the_segments_it_belongs_to() -> None:
    message = Message.parse(
        b"MSH|^~\\&|||||||ORU^R01\rPID|1||A\rORC|RE|1\rOBR|1\rOBX|1\rORC|RE|2\rOBR|2\rOBX|2\rPID|2||B\rORC|RE|3\rOBR|3\r"
    )
    reports = [part.encode() for part in Parts(message, "OBR", group=True)]
    assert reports == [
        b"MSH|^~\\&|||||||ORU^R01\rPID|1||A\rORC|RE|1\rOBR|1\rOBX|1",
        b"MSH|^~\\&|||||||ORU^R01\rPID|1||A\rORC|RE|2\rOBR|2\rOBX|2",
        b"MSH|^~\\&|||||||ORU^R01\rPID|2||B\rORC|RE|3\rOBR|3",
    ]
