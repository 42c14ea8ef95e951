"""Attachments: the data of ED values (HL7 v2.5.1, 2.A.24) taken out of OBX-5, a reference pointer RP (2.A.65) left there, and put back."""

from __future__ import annotations

import re
from collections.abc import Callable

from broker.hl7.message import Message

MARK = b"attachment-data:"  # stands where the data of a digest belongs, until the message leaves

_ENCODING = re.compile(r"[A-Za-z0-9-]{0,16}")
_INLINE = frozenset({"a", "hex", "base64"})  # table 0299: what tells data that is declared as RP
_SAFE = re.compile(r"[A-Za-z0-9+/=]*")  # base64 and hex: written alike under all delimiters
_POINTER = re.compile(r"attachment:(ED|RP):([A-Za-z0-9-]{0,16}):([0-9a-f]{64})")
_MARKED = re.compile(MARK + rb"([0-9a-f]{64})")


def take_out(message: Message, keep: Callable[[bytes], str], over: int = 0) -> int:
    """Replace each OBX-5 of more than `over` characters that holds data by a pointer to it; return how many were.

    `keep` stores the data as it stands, still encoded, and returns its SHA-256. What is not ASCII stays where it is.
    """
    taken = 0
    for number in message.segments("OBX"):
        kind = message.get(f"OBX[{number}]-2")
        if kind not in ("ED", "RP"):
            continue
        text = message.raw(f"OBX[{number}]-5")
        values = [value.split("^") for value in text.split("~")] if len(text) > over and text.isascii() else []
        if message.header()[1].foreign and not all(_SAFE.fullmatch("".join(value[4:])) for value in values):
            continue  # its escapes are not those that the data would be put back with
        if not values or not all(_has_data(kind, value) for value in values):
            continue
        pointers = [_pointer(kind, value, keep(value[4].encode("ascii"))) for value in values]
        message.set(f"OBX[{number}]-2", "RP")
        message.set_raw(f"OBX[{number}]-5", "~".join(pointers))
        taken += 1
    return taken


def put_back(message: Message) -> int:
    """Turn each pointer that `take_out` left into the value it was, a mark in place of the data; return how many were."""
    back = 0
    for number in message.segments("OBX"):
        text = message.raw(f"OBX[{number}]-5") if message.get(f"OBX[{number}]-2") == "RP" else ""
        found = [(_POINTER.fullmatch(value.partition("^")[0]), value.split("^")) for value in text.split("~")]
        values = [_value(match[2], match[3], parts) for match, parts in found if match]
        if text and len(values) == len(found):
            message.set(f"OBX[{number}]-2", found[0][0][1] if found[0][0] else "ED")
            message.set_raw(f"OBX[{number}]-5", "~".join(values))
            back += 1
    return back


def wanted(payload: bytes) -> list[str]:
    """Return the digests whose data a message waits for."""
    return [digest.decode() for digest in _MARKED.findall(payload)] if MARK in payload else []


def filled(payload: bytes, data: Callable[[str], bytes]) -> bytes:
    """Return the message with the data in place of its marks."""
    parts: list[bytes] = _MARKED.split(payload)
    parts[1::2] = [data(digest.decode()) for digest in parts[1::2]]
    return b"".join(parts)


def _has_data(kind: str, value: list[str]) -> bool:
    if len(value) < 5 or not value[4] or not _ENCODING.fullmatch(value[3]):
        return False
    return kind == "ED" or value[3].lower() in _INLINE


def _pointer(kind: str, value: list[str], digest: str) -> str:
    """Return RP for ED: pointer, application, type, subtype, and whatever stood behind the data."""
    return "^".join([f"attachment:{kind}:{value[3]}:{digest}", *value[:3], *value[5:]])


def _value(encoding: str, digest: str, parts: list[str]) -> str:
    _, *rest = parts
    head = [*rest[:3], *[""] * (3 - len(rest))]
    return "^".join([*head, encoding, MARK.decode() + digest, *rest[3:]])
