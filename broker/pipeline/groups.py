"""Paths inside one segment group, told as paths of the whole message."""

from __future__ import annotations

from collections.abc import Sequence

from broker.hl7.message import Message


def whole_path(path: str, message: Message, groups: Sequence[Message], index: int) -> str:
    """Return where a path of the group stands in the message: OBR-4 of the second order is OBR[2]-4.

    Each group also holds the segments before the first group (PID, PV1), whose numbers are the same in all.
    """
    name, dash, rest = path.partition("-")
    segment, _, bracket = name.partition("[")
    number = int(bracket[:-1]) if bracket[:-1].isdigit() else 1
    counts = [len(group.segments(segment)) for group in groups]
    shared = (sum(counts) - len(message.segments(segment))) // max(len(groups) - 1, 1)
    if number <= shared:
        return path
    at = number + sum(counts[:index]) - index * shared
    return f"{segment}[{at}]{dash}{rest}" if at > 1 else path
