"""A message of one version of HL7 v2 as one of another: 2.3, 2.3.1 and 2.4 to 2.5 and 2.5.1, and back.

Between 2.4 and 2.5 orders changed: ORM gave way to OMG and OMI, and the timing in ORC-7 and OBR-27 to the segment TQ1. What the other
version has no place for stays where it is, and is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from broker.errors import MessageError
from broker.hl7 import standard
from broker.hl7.message import Message
from broker.hl7.path import parse
from broker.hl7.timing import from_fields, merged, numbered, to_fields

VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1")
_NEW = frozenset(("2.5", "2.5.1"))

# old message -> the new ones that say the same, the general one first (2.5.1, 4.4)
ORDERS: Mapping[str, tuple[str, ...]] = {"ORM^O01": ("OMG^O19", "OMI^O23"), "ORR^O02": ("ORG^O20", "ORI^O24")}
_OLD_ORDERS = {new: old for old, several in ORDERS.items() for new in several}

# MSH-9.3 where it is not named after the event (2.5.1, table 0354)
STRUCTURES: Mapping[str, str] = {
    **{f"ADT^{event}": "ADT_A01" for event in ("A04", "A08", "A13")},
    **{f"ADT^{event}": "ADT_A05" for event in ("A14", "A28", "A31")},
    "ADT^A07": "ADT_A06",
    **{f"ADT^{event}": "ADT_A09" for event in ("A10", "A11")},
    **{f"ADT^{event}": "ADT_A21" for event in ("A22", "A23", "A25", "A26", "A27", "A29", "A32", "A33")},
    **{f"ADT^{event}": "ADT_A39" for event in ("A40", "A41", "A42")},
    "ADT^A44": "ADT_A43",
    **{f"SIU^S{number}": "SIU_S12" for number in (*range(13, 25), 26)},
    **{f"MDM^T{number:02}": "MDM_T01" for number in (3, 5, 7, 9, 11)},
    **{f"MDM^T{number:02}": "MDM_T02" for number in (4, 6, 8, 10)},
    "ORM^O01": "ORM_O01",
}


class Move(NamedTuple):
    """A field that became a repetition of another one, under a type."""

    old: str  # field
    new: str  # field
    at: int  # component of the type
    type: str  # table 0203 of identifiers, 0200 of names


MOVES = (
    Move("PID-2", "PID-3", 5, "PT"),  # patient's external identifier: 2.5.1, 3.4.2.2
    Move("PID-19", "PID-3", 5, "SS"),  # social security number: 3.4.2.19
    Move("PID-9", "PID-5", 7, "A"),  # alias: 3.4.2.9
)

# OBR -> IPC: where radiology keeps them before and after OMI (2.5.1, 4.5.6; IHE RAD TF-2, RAD-4)
IMAGING: Mapping[int, int] = {18: 1, 19: 2, 20: 4, 24: 5}
_UID = 3  # IPC-3 is the Study Instance UID, before in ZDS-1


def convert(message: Message, version: str, order: str = "OMG") -> list[str]:
    """Turn the message into one of the version, in place; return the paths of what has no place in it and stays as it is.

    order: what an order becomes in 2.5 and later: OMG, OMI, or ORM, which stays. Raises MessageError when MSH-12 names no version it
    can come from.
    """
    source = message.version
    if source not in VERSIONS:
        raise MessageError("MSH-12", f"cannot be converted; that goes from {', '.join(VERSIONS)}", 203)
    left: list[str] = []
    if version in _NEW and source not in _NEW:
        left = _to_new(message, order)
    elif version not in _NEW and source in _NEW:
        left = _to_old(message)
    kind = message.type
    named = version in _NEW and kind.count("^") == 1
    message.set_raw("MSH-9", f"{kind}^{STRUCTURES.get(kind, kind.replace('^', '_'))}" if named else kind)
    message.set("MSH-12.1", version)
    return [*dict.fromkeys([*left, *_homeless(message, version)])]


def _to_new(message: Message, order: str) -> list[str]:
    left = []
    for move in MOVES:
        _gather(message, move)
    _split_errors(message)
    for new in ORDERS.get(message.type, ()):
        if new.startswith(order[:2]) and new[2] in (order[2], "G" if order == "OMG" else "I"):
            message.set_raw("MSH-9", new)
            break
    if message.type in ("ORM^O01", *_OLD_ORDERS):
        for number in message.segments("ORC"):
            left += _add_timing(message, number)
            if message.type == "OMI^O23":
                _add_imaging(message, number)
    return left


def _to_old(message: Message) -> list[str]:
    left = []
    for move in MOVES:
        _scatter(message, move)
    _join_errors(message)
    if message.type in (*ORDERS, *_OLD_ORDERS):
        for number in message.segments("ORC"):
            left += _take_timing(message, number)
            left += _take_imaging(message, number)
    message.set_raw("MSH-9", _OLD_ORDERS.get(message.type, message.type))
    return left


def _homeless(message: Message, version: str) -> list[str]:
    """Return the segments and fields that the version does not have; Z-segments are at home everywhere."""
    found = []
    for name in dict.fromkeys(message.segment_names()):
        last = standard.fields(name, version)
        if name[0] == "Z":
            continue
        if not last:
            found.append(name)
            continue
        for number in message.segments(name):
            count = message.raw(f"{name}[{number}]").count("|")
            shown = name if number == 1 else f"{name}[{number}]"
            found += [f"{shown}-{field}" for field in range(last + 1, count + 2) if message.exists(f"{name}[{number}]-{field}")]
    return found


def _place(message: Message, path: str) -> str:
    """Return a path of a group as one of the whole message."""
    return str(parse(message.absolute(path)))


# -- identifiers and names


def _gather(message: Message, move: Move) -> None:
    """Append the old field's repetitions to the new one; one that has a type of its own stays where it is."""
    stays = []
    for text in filter(None, message.raw(move.old).split("~")):
        parts = text.split("^")
        parts += [""] * (move.at - len(parts))
        if parts[move.at - 1]:
            stays.append(text)
            continue
        parts[move.at - 1] = move.type
        message.set_raw(f"{move.new}[{len(message.all(f'{move.new}[*]')) + 1}]", "^".join(parts))
    if message.exists(move.old):
        message.set_raw(move.old, "~".join(stays))


def _scatter(message: Message, move: Move) -> None:
    """Take the repetitions of that type back into the old field, when it is empty; the first repetition stays."""
    if message.exists(move.old):
        return
    texts = message.raw(move.new).split("~")
    back: list[str] = []
    stays = texts[:1]
    for text in texts[1:]:
        parts = text.split("^")
        mine = len(parts) >= move.at and parts[move.at - 1] == move.type
        only = "".join(parts[1:]) == move.type or move.old != "PID-19"  # that one is no more than a number
        (back if mine and only else stays).append(text)
    if back:
        message.set_raw(move.old, "~".join(_untyped(text, move.at) for text in back))
        message.set_raw(move.new, "~".join(stays))


def _untyped(text: str, at: int) -> str:
    parts = text.split("^")
    parts[at - 1] = ""
    return "^".join(parts).rstrip("^")


# -- errors: ERR-1 repeats (ELD), since 2.5 the segment does, with ERR-2 (ERL) and ERR-3 (2.5.1, 2.15.5)


def _split_errors(message: Message) -> None:
    for text in [text for text in message.raw("ERR-1").split("~") if text] if len(message.segments("ERR")) == 1 else []:
        first = message.raw("ERR-3") == ""
        number = 1 if first else message.add("ERR", after=f"ERR[{len(message.segments('ERR'))}]")
        segment, sequence, field, code = [*text.split("^", 3), "", "", ""][:4]
        message.set_raw(f"ERR[{number}]-1", "")
        message.set_raw(f"ERR[{number}]-2", "^".join((segment, sequence, field)).rstrip("^"))
        message.set_raw(f"ERR[{number}]-3", code.replace("&", "^"))
        message.set(f"ERR[{number}]-4", "E")


def _join_errors(message: Message) -> None:
    texts = []
    for number in message.segments("ERR"):
        location, code = message.raw(f"ERR[{number}]-2").partition("~")[0].split("^"), message.raw(f"ERR[{number}]-3")
        place = [*location[:3], "", "", ""][:3]
        texts.append("^".join((*place, code.replace("^", "&"))).rstrip("^"))
    if any(texts) and not message.exists("ERR-1"):
        message.set_raw("ERR-1", "~".join(texts))
        for number in reversed(message.segments("ERR")):
            _empty(message, f"ERR[{number}]", (2, 3, 4), keep=number == 1)


def _empty(message: Message, segment: str, fields: tuple[int, ...], *, keep: bool) -> None:
    """Empty the fields, and take the segment away when nothing is left in it."""
    for field in fields:
        message.set(f"{segment}-{field}", "")
    if not keep and not message.raw(segment)[3:].strip("|"):
        message.remove(segment)


# -- orders


def _add_timing(message: Message, number: int) -> list[str]:
    """Turn OBR-27, or else ORC-7, into TQ1; fields that a TQ1 has already are not touched."""
    order, observation = f"ORC[{number}]-7", f"ORC[{number}]>OBR-27"
    source = observation if message.exists(observation) else order
    timing = message.raw(source)
    if not timing:
        return []
    rest = []
    for at, one in enumerate(timing.split("~"), 1):
        fields, remains = to_fields(one)
        rest.append(remains)
        segment = f"ORC[{number}]>TQ1[{at}]"
        if at > len(message.segments(f"ORC[{number}]>TQ1")):
            before = f"ORC[{number}]>TQ1[{at - 1}]" if at > 1 else f"ORC[{number}]"
            message.add("TQ1", after=before)
            message.set(f"{segment}-1", str(at))
        for field, text in fields.items():
            if text and not message.exists(f"{segment}-{field}"):
                message.set_raw(f"{segment}-{field}", text)
    remains = "~".join(rest) if any(rest) else ""
    for path in (order, observation):
        if message.raw(path) == timing:
            message.set_raw(path, remains)
    return [_place(message, path) for path in (order, observation) if message.exists(path)]


def _take_timing(message: Message, number: int) -> list[str]:
    """Turn TQ1 into ORC-7 and OBR-27, unless these say otherwise; a TQ1 goes when it says no more."""
    order, observation = f"ORC[{number}]-7", f"ORC[{number}]>OBR-27"
    segments = [f"ORC[{number}]>TQ1[{at}]" for at in message.segments(f"ORC[{number}]>TQ1")]
    fields = [numbered(message.raw(segment).split("|")[1:]) for segment in segments]
    found = [from_fields(one) for one in fields]
    said = message.raw(order) or message.raw(observation)
    timing = merged(said, [timing for timing, _ in found])
    if not segments or timing is None:
        return [_place(message, segment) for segment in segments]
    message.set_raw(order, timing)
    if message.segments(f"ORC[{number}]>OBR"):
        message.set_raw(observation, timing)
    left = []
    for segment, had, (_, rest) in reversed(list(zip(segments, fields, found, strict=True))):
        left += [_place(message, f"{segment}-{field}") for field in rest]
        for field in had.keys() - rest.keys() - {1}:
            message.set(f"{segment}-{field}", "")
        if not rest:
            message.remove(segment)
    return sorted(left)


def _add_imaging(message: Message, number: int) -> None:
    """Add IPC to an order that has none, from OBR and ZDS."""
    group = f"ORC[{number}]>"
    if message.segments(f"{group}IPC"):
        return
    message.add(f"{group}IPC")
    for field, target in IMAGING.items():
        message.set_raw(f"{group}IPC-{target}", message.raw(f"{group}OBR-{field}"))
    uid = message.raw(f"{group}ZDS-1").split("^")
    if uid[0]:
        message.set_raw(f"{group}IPC-{_UID}", "^".join(uid[:2]).rstrip("^"))
        if not "".join(uid[2:]).replace("Application", "").replace("DICOM", "") and len(message.raw(f"{group}ZDS").split("|")) == 2:
            message.remove(f"{group}ZDS")


def _take_imaging(message: Message, number: int) -> list[str]:
    """Turn IPC into OBR-18 to 24 and ZDS; of each order the first IPC. It goes when it says no more."""
    group = f"ORC[{number}]>"
    if not message.segments(f"{group}IPC"):
        return []
    for field, source in IMAGING.items():
        text, target = message.raw(f"{group}IPC-{source}"), f"{group}OBR-{field}"
        if text and not message.exists(target):
            message.set_raw(target, text.partition("^")[0])
        if text and message.raw(target) == text:
            message.set(f"{group}IPC-{source}", "")
    uid = message.raw(f"{group}IPC-{_UID}").split("^")
    if uid[0] and not message.segments(f"{group}ZDS"):
        message.add("ZDS", after=f"{group}IPC")
        message.set_raw(f"{group}ZDS-1", "^".join([*uid[:2], ""][:2]) + "^Application^DICOM")
        message.set_raw(f"{group}IPC-{_UID}", "^".join(["", "", *uid[2:]]) if len(uid) > 2 else "")
    rest = [field for field in range(1, 10) if message.exists(f"{group}IPC-{field}")]
    left = [_place(message, f"{group}IPC-{field}") for field in rest]
    if not rest:
        message.remove(f"{group}IPC")
    return left
