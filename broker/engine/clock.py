"""The wall clock, as the site reads it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo


class SiteClock:
    """Seconds since the epoch, and the same moment as an HL7 timestamp in the site's time zone."""

    def __init__(self, seconds: Callable[[], float], timezone: str) -> None:
        self._seconds, self._zone = seconds, ZoneInfo(timezone)
        self._second, self._text = -1, ""

    def __call__(self) -> float:
        return self._seconds()

    def move(self, timezone: str) -> None:
        """Read the clock in another time zone."""
        self._zone, self._second = ZoneInfo(timezone), -1

    @property
    def zone(self) -> ZoneInfo:
        """The site's time zone."""
        return self._zone

    def text(self) -> str:
        """Return now as YYYYMMDDHHMMSS; the text of one second is made once."""
        second = int(self._seconds())
        if second != self._second:
            self._second, self._text = second, datetime.fromtimestamp(second, self._zone).strftime("%Y%m%d%H%M%S")
        return self._text
