"""Arithmetic on clinical times, which are text (`YYYYMMDD[HHMM[SS]]`) everywhere else."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo

_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)?)?", re.ASCII)

_ZONED = re.compile(r"(\d{10}|\d{12}|\d{14})(\.\d{1,4})?([+-]\d{4})", re.ASCII)


def read(text: str) -> datetime | None:
    """Return the time to the minute, seconds and zone left out; None when the text begins with no date."""
    if len(text) == 12 and text.isascii() and text.isdigit():  # what the RIS itself writes
        try:
            return datetime.fromisoformat(f"{text[:8]}T{text[8:]}")
        except ValueError:
            return None
    match = _TIME.match(text)
    if match is None:
        return None
    try:
        return datetime(*(int(part or 0) for part in match.groups()))  # type: ignore[arg-type]
    except ValueError:
        return None


def localized(text: str, zone: tzinfo) -> str:
    """Return an HL7 timestamp that names its offset from UTC as the time of that zone; any other text as it is."""
    match = _ZONED.fullmatch(text)
    if match is None:
        return text
    digits, fraction, offset = match.groups()
    form = "%Y%m%d%H%M%S"[: len(digits) - 2]
    try:
        local = datetime.strptime(digits + offset, form + "%z").astimezone(zone)
    except (ValueError, OverflowError):
        return text
    return local.strftime(form) + (fraction or "")


def write(time: datetime) -> str:
    """Return YYYYMMDDHHMM."""
    return f"{time.year:04}{time.month:02}{time.day:02}{time.hour:02}{time.minute:02}"


def of_day(day: datetime, hhmm: str) -> datetime:
    """Return that time of that day; "2400" is the next midnight."""
    midnight = day.replace(hour=0, minute=0)
    return midnight + timedelta(hours=int(hhmm[:2]), minutes=int(hhmm[2:]))


def ceil(time: datetime, grid: int) -> datetime:
    """Return the first multiple of `grid` minutes of the day that is not before `time`."""
    return time + timedelta(minutes=-(time.hour * 60 + time.minute) % grid)


def after(start: str, count: int) -> str:
    """Return the time so many minutes after a start, "" when the text begins with no date."""
    begins = read(start)
    return write(begins + minutes(count)) if begins else ""


def minutes(count: int) -> timedelta:
    """Return that many minutes."""
    return timedelta(minutes=count)
