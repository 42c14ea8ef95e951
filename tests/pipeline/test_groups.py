"""Where a path of one order group stands in the whole message."""

from __future__ import annotations

import pytest

from broker.hl7.message import Message
from broker.pipeline.groups import whole_path

MESSAGE = Message.parse(
    b"MSH|^~\\&|A|B|C|D|20260101||ORM^O01|1|P|2.5.1\rPID|1\rNTE|1\rORC|NW|1\rOBR|1\rDG1|1\rDG1|2\rORC|NW|2\rOBR|2\rNTE|1\rORC|NW|3\rOBR|3\rDG1|1\r"
)
GROUPS = MESSAGE.groups("ORC")


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
        ("IPC-1", 1, "IPC-1"),
        ("", 1, ""),
    ],
)
def test_a_path_of_a_group_is_told_as_a_path_of_the_message(path: str, index: int, whole: str) -> None:
    assert whole_path(path, MESSAGE, GROUPS, index) == whole
    if whole:
        assert MESSAGE.get(whole) == GROUPS[index].get(path)
