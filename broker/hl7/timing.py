"""Timing/quantity: the TQ of ORC-7 and OBR-27 before 2.5, and the segment TQ1 since (HL7 v2.5.1, 2.A.81 and 4.5.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest

# component of TQ -> field of TQ1, each with the form that both can take; TQ-10 (sequencing) is TQ2, TQ-11 another type: they stay
PLAIN: Mapping[int, int] = {
    4: 7,  # start
    5: 8,  # end
    6: 9,  # priority
    7: 10,  # condition
    8: 11,  # text instruction
    9: 12,  # conjunction
    12: 14,  # total occurrences
}
QUANTITY = (1, 2)
INTERVAL = (2, 3, 4)  # pattern and explicit times, two fields in TQ1
DURATION = (3, 6)
UNITS: Mapping[str, str] = {"S": "s", "M": "min", "H": "h", "D": "d", "W": "wk", "L": "mo"}  # of TQ-3 (2.A.81.3), and in UCUM
_LETTERS = {code: letter for letter, code in UNITS.items()}
_DURATION = re.compile(r"([SMHDWL])(\d+)")
_AMOUNT = re.compile(r"(\d+)\^([a-z]+)")


def to_fields(timing: str) -> tuple[dict[int, str], str]:
    """Return the fields of TQ1 for one TQ, and what of the TQ has no place there; both in the standard delimiters."""
    parts = timing.split("^")
    left = [""] * len(parts)
    fields: dict[int, str] = {}
    for number, text in enumerate(parts, 1):
        found = _up(number, text) if text else {}
        if found is None:
            left[number - 1] = text
        else:
            fields |= found
    return fields, "^".join(left).rstrip("^")


def _up(number: int, text: str) -> dict[int, str] | None:
    """Return the fields for one component, None when there is no place for it."""
    if number in PLAIN:
        return {PLAIN[number]: text.replace("&", "^")}
    if number == QUANTITY[0]:
        return {QUANTITY[1]: text.replace("&", "^", 1)}
    if number == INTERVAL[0]:
        pattern, _, times = text.partition("&")
        return {INTERVAL[1]: pattern, INTERVAL[2]: times.replace(",", "~")} if "&" not in times else None
    duration = _DURATION.fullmatch(text) if number == DURATION[0] else None
    return {DURATION[1]: f"{duration[2]}^{UNITS[duration[1]]}"} if duration else None


def from_fields(fields: Mapping[int, str]) -> tuple[str, dict[int, str]]:
    """Return the TQ of the fields of one TQ1, and the fields that it does not hold whole; both in the standard delimiters."""
    parts, left = [""] * 12, {number: text for number, text in fields.items() if text and number != 1}
    for component, number in PLAIN.items():
        parts[component - 1] = _down(number, left)
    quantity = left.get(QUANTITY[1], "")
    if quantity.count("^") < 2 and "~" not in quantity:
        parts[QUANTITY[0] - 1] = left.pop(QUANTITY[1], "").replace("^", "&")
    pattern, times = left.get(INTERVAL[1], ""), left.get(INTERVAL[2], "")
    if not re.search("[&^~]", pattern) and not re.search("[&^,]", times):
        parts[INTERVAL[0] - 1] = f"{pattern}&{times.replace('~', ',')}".rstrip("&")
        left.pop(INTERVAL[1], None)
        left.pop(INTERVAL[2], None)
    amount = _AMOUNT.fullmatch(left.get(DURATION[1], ""))
    if amount and amount[2] in _LETTERS:
        parts[DURATION[0] - 1] = _LETTERS[amount[2]] + amount[1]
        del left[DURATION[1]]
    return "^".join(parts).rstrip("^"), left


def _down(number: int, left: dict[int, str]) -> str:
    """Return what a component can say of a field; the field stays in `left` when it says more, such as a code's text."""
    text = left.get(number, "")
    if re.search("[&^~]", text):
        return re.split("[&^~]", text, maxsplit=1)[0]
    return left.pop(number, "")


def merged(said: str, timings: Sequence[str]) -> str | None:
    """Return repetitions of TQ with what a field `said` already and what the segments say; None when these differ."""
    before = said.split("~") if said else []
    both = []
    for one, other in zip_longest(before, timings, fillvalue=""):
        pairs = list(zip_longest(one.split("^"), other.split("^"), fillvalue=""))
        if any(old and new and old != new for old, new in pairs):
            return None
        both.append("^".join(old or new for old, new in pairs))
    return "~".join(both)


def numbered(texts: Sequence[str]) -> dict[int, str]:
    """Return fields by their numbers."""
    return {number: text for number, text in enumerate(texts, 1) if text}
