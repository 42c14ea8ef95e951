"""Answers: MSH, MSA and ERR, built in the sender's own version, delimiters and character set, and read from a receiver."""

from __future__ import annotations

import re
from typing import NamedTuple

from broker.errors import MessageError
from broker.hl7.charset import find
from broker.hl7.delimiters import Delimiters
from broker.hl7.message import Message
from broker.hl7.mllp import END, VT
from broker.hl7.path import Path, parse
from broker.hl7.tables import CONDITIONS

_ALWAYS, _NEVER, _ERROR, _SUCCESS = "AL", "NE", "ER", "SU"  # table 0155
_CONDITIONS_OF_USE = frozenset({_ALWAYS, _NEVER, _ERROR, _SUCCESS})
_MSA_3 = 80  # characters that MSA-3 may hold
_LOOK = 4096  # bytes in which `answer_raw` looks for a header
_LOCATION = re.compile(r"[A-Z][A-Z0-9]{2}(?:\^\d{0,4}){0,5}", re.ASCII)

# what nearly every receiver answers: MSH, then MSA and nothing else, in ASCII, the standard delimiters and without escapes
_COMMON = re.compile(
    rb"MSH\|\^~\\&(?:\|[^|\r\n\\\x0b\x1b\x80-\xff]*){7,}\rMSA\|([A-Z]{2})\|([^|\r\n\\\x0b\x1b\x80-\xff]*)(?:\|[^\r\n\x0b\x1b\x80-\xff]*)?\r?"
)


class Answer(NamedTuple):
    """What a receiver answered; `text` names the place and the error code, and holds nothing that the receiver wrote freely."""

    code: str  # MSA-1, table 0008
    control_id: str  # MSA-2
    text: str


class Asked(NamedTuple):
    """Which acknowledgments a message asks for (enhanced mode, HL7 v2.5.1 2.9.3): AL, NE, ER or SU of table 0155 each."""

    accept: str  # MSH-15
    application: str  # MSH-16


def asked(message: Message) -> Asked | None:
    """Return which acknowledgments a message asks for; None is the original mode, in which each message gets one.

    An acknowledgment that asks for none gets none, or two systems would acknowledge each other for ever.
    """
    fields, d, _ = message.header()
    if len(fields) > 14:
        wanted = Asked(*[field if field in _CONDITIONS_OF_USE else "" for field in [*fields[14:16], ""][:2]])
        if wanted.accept or wanted.application:
            return wanted
    return Asked(_NEVER, _NEVER) if fields[8].partition(d.component)[0] == "ACK" else None


def is_due(condition: str, *, good: bool) -> bool:
    """Tell whether table 0155 asks for an acknowledgment: always, on success, or on an error; an empty condition is never."""
    return condition == _ALWAYS or condition == (_SUCCESS if good else _ERROR)


def answer(message: Message, code: str, error: MessageError | None, *, now: str, control_id: str, asks: Asked | None = None) -> bytes:
    """Return the unframed answer to `message`; `now` is MSH-7 and `control_id` MSH-10 of the answer.

    `asks`: what the answer asks for in its turn, when it goes out as a message of its own.
    """
    fields, d, coder = message.header()
    head = [*fields[:18], *[""] * (18 - len(fields))]
    if not all(find(name) for name in head[17].split(d.repetition) if name):
        head[17] = d.from_standard(coder.names)  # the set that it is written in: of another one nothing is known
    version = head[11].partition(d.component)[0]
    event = head[8].split(d.component, 2)[1:2]
    kind = ["ACK", *event] if event and event[0] else ["ACK"]
    if len(kind) == 2 and _at_least(version, 2, 4):
        kind.append("ACK")
    msh = ["MSH", d.encoding, head[4], head[5], head[2], head[3], now, "", d.component.join(kind), control_id, head[10], head[11]]
    if head[17] or asks:
        msh += ["", "", *(asks or ("", "")), "", head[17]]
    msa = ["MSA", code, head[9]]
    segments = [msh, msa]
    if error is not None:
        old = not _at_least(version, 2, 5)
        if old:
            msa.append(_text(d, str(error)[:_MSA_3]))
        segments.append(_err(d, error, _place(message, error.path), old))
    text = "".join([d.field.join(segment) + "\r" for segment in segments])
    # what was copied may end with FS, and FS CR would end the answer's frame
    return coder.dump(text.replace("\x1c", "").replace("\x0b", "") if "\x1c" in text or "\x0b" in text else text)


def answer_raw(raw: bytes, error: MessageError | None = None, *, now: str, control_id: str) -> bytes:
    """Return the unframed AR to bytes that are no HL7; MSA-2 is MSH-10 where a header can be made out, else empty."""
    error = error or MessageError("MSH", "not an HL7 message", 100, reject=True)
    start = raw.find(b"MSH", 0, _LOOK)
    try:
        message = Message.parse(raw[start:] if start >= 0 else b"")
    except MessageError:
        message = Message.new("", charset="ASCII")
        fields = re.split(rb"[|\r\n]", raw[start : start + _LOOK], maxsplit=10) if start >= 0 else []
        if len(fields) > 9:
            message.set("MSH-10", fields[9].decode("ascii", "replace").replace("\ufffd", "?")[:199])
    return answer(message, "AR", error, now=now, control_id=control_id)


def together(*answers: bytes) -> bytes:
    """Return several answers to one message as one: in a frame, it becomes a frame for each; those that are empty are left out."""
    return (END + VT).join(one for one in answers if one)


def apart(answers: bytes) -> list[bytes]:
    """Return the answers that `together` made one."""
    return answers.split(END + VT) if answers else []


def code_in(answer: bytes) -> str:
    """Return MSA-1 of an answer that was made here."""
    return answer.partition(b"\r")[2][4:6].decode("ascii", "replace")


def read_answer(raw: bytes) -> Answer:
    """Return what a receiver answered; raises MessageError when it is not HL7 or has no MSA."""
    common = _COMMON.fullmatch(raw)
    if common:
        return Answer(common[1].decode(), common[2].decode(), "")
    message = Message.parse(raw)
    if not message.exists("MSA-1"):
        raise MessageError("MSA-1", "the answer has no acknowledgment code", 101, reject=True)
    return Answer(message.get("MSA-1").strip(), message.get("MSA-2"), _complaint(message) if message.segments("ERR") else "")


def own_text(raw: bytes) -> str:
    """Return place and reason, in one line, of an answer made here (ERR-8), "" when it has none; they hold no patient's data."""
    return " ".join(Message.parse(raw).get("ERR-8").split())


def _err(d: Delimiters, error: MessageError, place: Path | None, old: bool) -> list[str]:
    """Return ERR: for a sender before 2.5 also ERR-1, which later versions withdrew."""
    meaning = CONDITIONS.get(error.code, CONDITIONS[207])
    coded = [str(error.code), _text(d, meaning), "HL70357"]
    first = second = ""
    if place:
        number, repetition = (part if part > 0 else 1 for part in (place.number, place.repetition))
        second = d.component.join(
            map(str, [place.segment, number, *_trimmed([place.field, repetition, place.component, place.subcomponent])])
        )
        first = d.component.join([place.segment, str(number), str(place.field or "")])
    if old:
        first = (first or d.component * 2) + d.component + d.subcomponent.join(coded)
    return ["ERR", first if old else "", second, d.component.join(coded), "E", "", "", "", _text(d, str(error))]


def _trimmed(parts: list[int]) -> list[int]:
    """Return the parts of a location up to the last one that is known; a repetition alone says nothing."""
    if not parts[2]:
        return [parts[0]] if parts[0] else []
    return parts if parts[3] else parts[:3]


def _place(message: Message, path: str) -> Path | None:
    """Return the place counted in the whole message; of a segment that its group does not have, the group."""
    try:
        place = parse(message.absolute(path))
    except ValueError:
        return None  # a DICOM keyword, or no place at all
    return Path(*place.groups[-1]) if place.groups else place


def _text(d: Delimiters, text: str) -> str:
    return d.escaped(text.encode("ascii", "replace").decode())


def _at_least(version: str, *wanted: int) -> bool:
    numbers = tuple(int(part) for part in version.strip().split(".") if part.isdecimal())
    return not numbers or numbers >= wanted


def _complaint(message: Message) -> str:
    """Return "OBR-4.1: 103 Table value not found" of the first ERR, in either of its forms."""
    location, code = message.raw("ERR-2[1]"), message.get("ERR-3.1")
    if not code:
        location = location or "^".join(message.raw("ERR-1[1]").split("^")[:3])
        code = message.get("ERR-1.4.1")
    known = int(code) if code.isdecimal() and len(code) < 4 else -1
    shown = f"{known} {CONDITIONS[known]}" if known in CONDITIONS else ""
    return ": ".join(filter(None, [_located(location), shown]))


def _located(location: str) -> str:
    if not _LOCATION.fullmatch(location):
        return ""  # free text, perhaps a person's
    segment, number, field, repetition, component, subcomponent = (location.split("^") + [""] * 5)[:6]
    text = segment + (f"[{number}]" if number not in ("", "0", "1") else "") + (f"-{field}" if field else "")
    text += f"[{repetition}]" if field and repetition not in ("", "0", "1") else ""
    return text + (f".{component}" if field and component else "") + (f".{subcomponent}" if component and subcomponent else "")
