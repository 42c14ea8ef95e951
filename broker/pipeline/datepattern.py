"""Patterns of dates and times: `DD.MM.YYYY HH:mm`, `YYYYMMDD[HHmm[ss]]`, where brackets hold what may be left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone, tzinfo

HL7 = "YYYY[MM[DD[HH[mm[ss[.f]]]]]][ZZ]"  # the data type TS, DTM
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

_LETTERS: Mapping[str, str] = {
    "YYYY": r"(?P<year>\d{4})",
    "MMM": rf"(?P<name>(?i:{'|'.join(MONTHS)}))",
    "MM": r"(?P<month>\d\d)",
    "DD": r"(?P<day>\d\d)",
    "HH": r"(?P<hour>\d\d)",
    "hh": r"(?P<half>\d{1,2})",
    "AM": r"(?P<noon>(?i:[AP]M))",
    "mm": r"(?P<minute>\d\d)",
    "ss": r"(?P<second>\d\d)",
    ".f": r"\.(?P<fraction>\d{1,4})",
    "ZZ": r"(?P<offset>[+-]\d{4})",
}
_TOKEN = re.compile(r"YYYY|MMM|MM|DD|HH|hh|AM|mm|ss|\.f|ZZ|\[|\]|[^A-Za-z\[\]]|T|(?P<bad>.)", re.DOTALL)


class NotADate(ValueError):
    """The text does not fit the pattern, or the time does not have what the pattern wants."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A date and time as exact as it was given: `parts` are those known, of year, month, day, hour, minute, second and fraction."""

    at: datetime  # without zone; a part that is not known is its least
    parts: int
    fraction: str = ""
    zone: tzinfo | None = None
    zoned: bool = False  # whether the text named its zone

    def moved(self, source: tzinfo, target: tzinfo) -> Moment:
        """Return the same moment in a zone; `source` is the zone of a time that names none. A date has no zone."""
        if self.parts < 4:
            return self
        if self.zone is None and source == target:
            return replace(self, zone=target)
        try:
            there = self.at.replace(tzinfo=self.zone or source).astimezone(target)
        except (OverflowError, ValueError):
            raise NotADate from None
        return replace(self, at=there.replace(tzinfo=None), zone=target)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern."""

    text: str
    _expression: re.Pattern[str]
    _tokens: tuple[str, ...]

    def read(self, text: str) -> Moment:
        """Return the moment a text names; raises NotADate."""
        match = self._expression.fullmatch(text.strip())
        if match is None:
            raise NotADate
        found = {name: value for name, value in match.groupdict().items() if value is not None}
        month = MONTHS.index(found["name"].upper()) + 1 if "name" in found else int(found.get("month", 0))
        hour = _hour(found)
        given = (int(found.get("year", 0)), month, int(found.get("day", 0)), hour, _number(found, "minute"), _number(found, "second"))
        known = next((at for at, value in enumerate(given) if value is None or (at < 3 and not value)), 6)
        try:
            at = datetime(given[0], given[1] or 1, given[2] or 1, given[3] or 0, given[4] or 0, given[5] or 0)
            zone = _zone(found["offset"]) if "offset" in found else None
            return Moment(at, known, found.get("fraction", ""), zone, zone is not None)
        except ValueError:
            raise NotADate from None

    def write(self, moment: Moment) -> str:
        """Return the moment as the pattern has it, what is in brackets only as far as it is known; raises NotADate."""
        return self._written(moment, 0, optional=False)[0]

    def _written(self, moment: Moment, at: int, *, optional: bool) -> tuple[str, int]:
        """Return what stands from a token to the bracket that closes, and the token behind it; "" when it is optional and not known."""
        text, known = "", True
        while at < len(self._tokens):
            token = self._tokens[at]
            at += 1
            if token == "]":
                break
            if token == "[":
                inner, at = self._written(moment, at, optional=True)
                text += inner
                continue
            value = _value(token, moment, optional=optional)
            known = known and value is not None
            text += value or ""
        if not known and not optional:
            raise NotADate
        return text if known else "", at


def compile_pattern(text: str) -> Pattern:
    """Return the pattern; raises ValueError that says what is wrong with it."""
    tokens: list[str] = []
    depth = 0
    expression = ""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if match["bad"]:
            raise ValueError(f"{token} means nothing here; a pattern is made of YYYY MM MMM DD HH hh AM mm ss ZZ, as in DD.MM.YYYY HH:mm")
        if token in _LETTERS and token in tokens:
            raise ValueError(f"{token} stands here twice")
        depth += (token == "[") - (token == "]")
        if depth < 0:
            break
        tokens.append(token)
        expression += {"[": "(?:", "]": ")?"}.get(token) or _LETTERS.get(token) or re.escape(token)
    if depth:
        raise ValueError("a bracket without its partner")
    if "YYYY" not in tokens:
        raise ValueError("a date without YYYY; a year of two digits does not say which century")
    if ("hh" in tokens) != ("AM" in tokens):
        raise ValueError("hh is an hour of the 12-hour clock and goes with AM; HH is one of 24")
    return Pattern(text, re.compile(expression, re.ASCII), tuple(tokens))


def _hour(found: Mapping[str, str]) -> int | None:
    if "half" not in found:
        return _number(found, "hour")
    half = int(found["half"])
    if not 1 <= half <= 12:
        raise NotADate
    return half % 12 + (12 if found["noon"].upper() == "PM" else 0)


def _number(found: Mapping[str, str], name: str) -> int | None:
    return int(found[name]) if name in found else None


def _zone(offset: str) -> tzinfo:
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))


_WRITTEN: Mapping[str, tuple[int, Callable[[datetime], str]]] = {  # how many parts must be known, and what is written
    "YYYY": (1, lambda at: f"{at.year:04}"),
    "MMM": (2, lambda at: MONTHS[at.month - 1]),
    "MM": (2, lambda at: f"{at.month:02}"),
    "DD": (3, lambda at: f"{at.day:02}"),
    "HH": (4, lambda at: f"{at.hour:02}"),
    "hh": (4, lambda at: f"{at.hour % 12 or 12:02}"),
    "AM": (4, lambda at: "AM" if at.hour < 12 else "PM"),
    "mm": (5, lambda at: f"{at.minute:02}"),
    "ss": (6, lambda at: f"{at.second:02}"),
}


def _value(token: str, moment: Moment, *, optional: bool) -> str | None:
    """Return what a token stands for, None when the moment does not know it; an optional offset is written where one was given."""
    if token == ".f":
        return f".{moment.fraction}" if moment.fraction else None
    if token == "ZZ":
        known = moment.parts > 3 and moment.zone is not None and (moment.zoned or not optional)
        return moment.at.replace(tzinfo=moment.zone).strftime("%z")[:5] if known else None
    if token not in _WRITTEN:
        return token
    needs, write = _WRITTEN[token]
    return write(moment.at) if moment.parts >= needs else None
