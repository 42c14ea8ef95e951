"""Hours of the week at which a destination may be sent to, such as nights on a thin link."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo

from broker.spec import Option

HOURS = Option(
    "window",
    "texts",
    "Times at which deliveries leave, in the site's time zone: `Mon-Fri 19:00-07:00`, `Sat,Sun 00:00-24:00`, or every day `20:00-06:00`. "
    "A time past midnight belongs to the day it began on. At any time when absent.",
    default=None,
    example=["Mon-Fri 19:00-07:00", "Sat,Sun 00:00-24:00"],
)

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = 24 * 60
_WEEK = 7 * _DAY
_FORM = re.compile(r"(?:(?P<days>[A-Za-z,-]+) +)?(?P<from>\d\d:\d\d)-(?P<to>\d\d:\d\d)")
_INSTEAD = "write it like Mon-Fri 19:00-07:00"


class Hours:
    """The hours of a `window` setting; raises ValueError when it makes no sense."""

    def __init__(self, texts: Iterable[str], zone: tzinfo) -> None:
        self._zone = zone
        self._spans = [span for text in texts for span in _spans(text)]  # first minute of the week, minutes

    def wait(self, now: float) -> float:
        """Return the seconds until it may be sent to, 0 when it may; `now` in seconds since the epoch."""
        at = datetime.fromtimestamp(now, self._zone)
        minute = at.weekday() * _DAY + at.hour * 60 + at.minute + at.second / 60
        if any((minute - first) % _WEEK < length for first, length in self._spans):
            return 0.0
        return max(min((first - minute) % _WEEK for first, _ in self._spans) * 60, 1.0)


def hours_of(texts: Sequence[str] | None, zone: tzinfo) -> Hours | None:
    """Return the hours of a setting; None when there is no limit."""
    return Hours(texts, zone) if texts else None


def check_hours(texts: Sequence[str] | str | None) -> Iterable[str]:
    """Yield what is wrong with a `window` setting."""
    for text in (texts,) if isinstance(texts, str) else texts or ():
        try:
            _spans(text)
        except ValueError as error:
            yield str(error)


def _spans(text: str) -> list[tuple[int, int]]:
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no time of the week; {_INSTEAD}")
    begin, end = _minute(match["from"]), _minute(match["to"])
    if begin in (end, _DAY):
        raise ValueError(f"{text!r} is no span of time; {_INSTEAD}")
    return [(day * _DAY + begin, (end - begin) % _DAY or _DAY) for day in _days(match["days"])]


def _minute(text: str) -> int:
    hour, minute = int(text[:2]), int(text[3:])
    if minute > 59 or hour * 60 + minute > _DAY:
        raise ValueError(f"{text!r} is no time of the day; {_INSTEAD}")
    return hour * 60 + minute


def _days(text: str | None) -> list[int]:
    found: list[int] = []
    for part in (text or "Mon-Sun").split(","):
        first, _, last = part.partition("-")
        for name in filter(None, (first, last)):
            if name not in _DAYS:
                raise ValueError(f"{name!r} is no day; write one of {', '.join(_DAYS)}")
        if not first:
            raise ValueError(f"{text!r} names no day; {_INSTEAD}")
        begin = _DAYS.index(first)
        found += [(begin + step) % 7 for step in range((_DAYS.index(last or first) - begin) % 7 + 1)]
    return found
