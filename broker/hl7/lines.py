"""The segments of a message as lines of bytes, and the ends between them: what is cut here joins to the very same bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

Piece = bytes | memoryview  # a view of the message's bytes where they are many
Ends = bytes | list[bytes]  # between the lines: always the same one, or one for each line

_LONG = 16_000  # bytes from which looking for each line end is faster than splitting, which goes byte by byte
_VIEWED = 4_000  # bytes of a line from which it is not copied


def cut(raw: bytes, separator: bytes) -> tuple[Sequence[Piece], Ends]:
    """Return the lines of a message and their ends; what follows the last end is a line too, and mostly empty.

    In a message that uses CR, an LF ends a segment only when CR, LF, the end, or the name of a segment follows.
    """
    if b"\n" not in raw:
        return _split(raw, b"\r"), b"\r"
    if b"\r" not in raw:
        return _split(raw, b"\n"), b"\n"
    pairs = _cut(raw, b"\r\n")
    if not any(b"\r" in line or b"\n" in line for line in pairs):
        return pairs, b"\r\n"
    return _mixed(_cut(raw, b"\r"), separator)


def join(lines: Sequence[Piece], ends: Ends) -> bytes:
    """Return the message of these lines."""
    if isinstance(ends, bytes):
        return ends.join(lines)
    return b"".join([part for pair in zip(lines, ends, strict=True) for part in pair])


def _split(raw: bytes, end: bytes) -> Sequence[Piece]:
    if len(raw) < _LONG:
        return raw.split(end)
    view = memoryview(raw)
    lines: list[Piece] = []
    at, width, find = 0, len(end), raw.find
    while (stop := find(end, at)) >= 0:
        lines.append(raw[at:stop] if stop - at < _VIEWED else view[at:stop])
        at = stop + width
    return [*lines, raw[at:]]


def _cut(raw: bytes, end: bytes) -> list[bytes]:
    return [bytes(line) for line in _split(raw, end)]


def _mixed(parts: list[bytes], separator: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the lines of the parts between CRs."""
    lines: list[bytes] = []
    ends: list[bytes] = []
    soft = _soft(separator)
    for part in parts:
        if ends and part[:1] == b"\n":  # the rest of CR LF
            ends[-1], part = b"\r\n", part[1:]
        pieces = soft.split(part) if b"\n" in part else [part]
        lines += pieces
        ends += [b"\n"] * (len(pieces) - 1) + [b"\r"]
    return lines, [*ends[:-1], b""]


@lru_cache(maxsize=64)
def _soft(separator: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\n(?=[A-Z][A-Z0-9]{2}(?:%b|\n|\Z)|\n|\Z)" % re.escape(separator))
