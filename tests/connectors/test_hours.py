"""Hours of the week at which a destination may be sent to."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from broker.connectors.hours import Hours, check_hours, hours_of
from broker.connectors.registry import CHECKS, DESTINATIONS

ZONE = ZoneInfo("Europe/Berlin")
HOUR = 3600.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp()


@pytest.mark.parametrize(("texts", "now", "wait"), [
    (["Mon-Fri 19:00-07:00"], "2026-03-02T18:59", 60),  # a Monday
    (["Mon-Fri 19:00-07:00"], "2026-03-02T19:00", 0),
    (["Mon-Fri 19:00-07:00"], "2026-03-07T06:59", 0),  # Saturday, of Friday's night
    (["Mon-Fri 19:00-07:00"], "2026-03-07T07:00", 60 * HOUR),
    (["Mon-Fri 19:00-07:00"], "2026-03-02T03:00", 16 * HOUR),  # of no Sunday's night
    (["Mon-Fri 19:00-07:00", "Sat,Sun 00:00-24:00"], "2026-03-08T12:00", 0),
    (["20:00-06:00"], "2026-03-08T05:59", 0),
    (["20:00-06:00"], "2026-03-08T06:00", 14 * HOUR),
    (["12:00-13:00"], "2026-03-08T13:00", 23 * HOUR),
    (["Sun-Mon 23:00-01:00"], "2026-03-03T00:30", 0),  # Tuesday, of Monday's night
    (["Sun 12:00-12:30"], "2026-03-08T12:30", 7 * 24 * HOUR - HOUR / 2),
])  # fmt: skip
def test_wait(texts: list[str], now: str, wait: float) -> None:
    assert Hours(texts, ZONE).wait(at(now)) == wait


def test_the_clock_is_the_sites() -> None:
    now = datetime(2026, 3, 2, 18, 30, tzinfo=ZoneInfo("UTC")).timestamp()
    assert Hours(["19:00-20:00"], ZONE).wait(now) == 0
    assert Hours(["19:00-20:00"], ZoneInfo("UTC")).wait(now) == 1800


def test_without_a_setting_there_is_no_limit() -> None:
    assert hours_of(None, ZONE) is None


@pytest.mark.parametrize(("text", "wrong"), [
    ("19-7", "is no time of the week"),
    ("Mon 19:00-19:00", "is no span of time"),
    ("Mon 24:00-07:00", "is no span of time"),
    ("Mon 25:00-07:00", "is no time of the day"),
    ("Mon 19:61-07:00", "is no time of the day"),
    ("Mo-Fr 19:00-07:00", "'Mo' is no day"),
    (",Mon 19:00-07:00", "names no day"),
])  # fmt: skip
def test_what_makes_no_sense_is_named(text: str, wrong: str) -> None:
    [what] = check_hours([text])
    assert wrong in what


@pytest.mark.parametrize("kind", ["mllp", "dicom", "file"])
def test_every_kind_of_destination_has_hours(kind: str) -> None:
    required = {"mllp": {"host": "h", "port": 1}, "dicom": {"host": "h", "port": 1, "ae_title": "A"}, "file": {"folder": "f"}}[kind]
    settings = DESTINATIONS[kind].read({**required, "window": "at night"})
    assert "window" in [option for option, _ in CHECKS["destinations", kind](settings)]


def test_one_text_is_enough() -> None:
    assert list(check_hours("Mon-Fri 19:00-07:00")) == []
