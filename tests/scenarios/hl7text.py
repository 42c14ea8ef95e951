"""HL7 v2 text read and changed by path (`PID-3[2].4`, `ORC[2]-2.1`), by splitting alone: nothing of the broker's own."""

from __future__ import annotations

import re

PATH = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<number>\d+)\])?-(?P<field>\d+)(?:\[(?P<repetition>\d+)\])?(?:\.(?P<rest>[\d.]+))?"
)
CODECS = {"": "ascii", "ASCII": "ascii", "8859/1": "latin-1", "UNICODE UTF-8": "utf-8"}  # by MSH-18
LEVELS = ("^", "&")


def get(message: str, path: str) -> str:
    """Return the text at a path, "" when it is not there; a whole field or repetition comes with its delimiters."""
    segments, at, field, repetition, rest = _place(message, path)
    fields = _fields(segments[at]) if at is not None else []
    text = fields[field] if field < len(fields) else ""
    if repetition is not None or rest:
        text = _part(text, "~", repetition or 1)
    for level, number in zip(LEVELS, rest, strict=False):
        text = _part(text, level, number)
    return text


def put(message: str, path: str, value: str) -> str:
    """Return the message with the text at a path replaced; raises ValueError when it has no such segment."""
    segments, at, field, repetition, rest = _place(message, path)
    if at is None:
        raise ValueError(f"{path}: no such segment")
    fields = _fields(segments[at])
    fields += [""] * (field + 1 - len(fields))
    numbers = [(delimiter, number) for delimiter, number in zip(LEVELS, rest, strict=False)]
    if repetition is not None or rest:
        numbers.insert(0, ("~", repetition or 1))
    fields[field] = _replaced(fields[field], numbers, value)
    if segments[at].startswith("MSH"):
        del fields[1]
    segments[at] = "|".join(fields)
    return "\r".join(segments) + "\r"


def encode(message: str) -> bytes:
    """Return the message in the character set that MSH-18 names."""
    return message.encode(CODECS[get(message, "MSH-18.1")])


def decode(raw: bytes) -> str:
    """Return the text of a message in the character set that MSH-18 names."""
    return raw.decode(CODECS[get(raw.decode("latin-1"), "MSH-18.1")])


def _place(message: str, path: str) -> tuple[list[str], int | None, int, int | None, list[int]]:
    found = PATH.fullmatch(path)
    if not found:
        raise ValueError(f"{path} is no path")
    segments = re.split("[\r\n]+", message.strip())
    places = [at for at, segment in enumerate(segments) if segment[:3] == found["segment"]]
    number = int(found["number"] or 1)
    repetition = int(found["repetition"]) if found["repetition"] else None
    rest = [int(part) for part in (found["rest"] or "").split(".") if part]
    return segments, places[number - 1] if number <= len(places) else None, int(found["field"]), repetition, rest


def _fields(segment: str) -> list[str]:
    """Return the fields by their number; MSH-1 is the field separator itself."""
    fields = segment.split("|")
    return [fields[0], "|", *fields[1:]] if fields[0] == "MSH" else fields


def _part(text: str, delimiter: str, number: int) -> str:
    parts = text.split(delimiter)
    return parts[number - 1] if number <= len(parts) else ""


def _replaced(text: str, numbers: list[tuple[str, int]], value: str) -> str:
    if not numbers:
        return value
    (delimiter, number), *inner = numbers
    parts = text.split(delimiter)
    parts += [""] * (number - len(parts))
    parts[number - 1] = _replaced(parts[number - 1], inner, value)
    return delimiter.join(parts)
