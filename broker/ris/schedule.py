"""Slots: the station and the earliest free time for an exam, within opening hours, never two at once.

Within one station and length of exam, the gap search starts where earlier searches stopped (`Booked`), so that its cost
does not grow with the number of booked steps; whatever frees a slot takes that knowledge back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from broker.ris import times
from broker.ris.context import RisContext, Station
from broker.ris.entities import Booked, Step
from broker.ris.records import Records

BUSY = frozenset({"scheduled", "arrived", "started"})  # step states that hold their slot


@dataclass(frozen=True, slots=True)
class Slot:
    """A time on a station; without a station it is only a time on the list."""

    start: str  # YYYYMMDDHHMM
    station: str = ""
    room: str = ""


def find_slot(
    records: Records, context: RisContext, *, modality: str, minutes: int, requested: str = "", priority: str = "", station: str = ""
) -> Slot:
    """Return the earliest slot of `minutes` at or after the requested time, or from now when that is absent, past, or the order urgent.

    A requested station is honoured when it is known; of several that could begin at the same time the first in the list is taken.
    When nothing suits (no such modality, no gap within the horizon) the slot names no station.
    """
    now = _minute(context.now, context.slots.grid)
    asked = times.read(requested)
    earliest = now if asked is None or asked < now or priority in context.slots.urgent else asked
    best: tuple[datetime, Station] | None = None
    for candidate in _stations(context, modality, station):
        limit = best[0] if best else None
        start = _earliest(records, context, candidate, max(minutes, 1), earliest, limit)
        if start is not None and (best is None or start < best[0]):
            best = start, candidate
            if start == earliest:
                break
    if best is None:
        return Slot(times.write(earliest))
    return Slot(times.write(best[0]), best[1].aet, best[1].room)


def freed(records: Records, step: Step) -> None:
    """Forget that a station is booked out around the slot of `step`; to be called when the step gives its slot back."""
    start = times.read(step.start)
    if not step.station or start is None:
        return
    for known in records.find(Booked, station=step.station):
        first = times.write(start - timedelta(minutes=known.minutes))  # a gap that uses the slot cannot begin earlier
        if first < known.until:
            records.update(replace(known, until=max(first, known.since)))


def is_taken(records: Records, step: Step) -> bool:
    """Return whether another step has its slot, or a part of it, that gave it back."""
    if not step.station:
        return False
    others = records.between(Step, "ends", times.after(step.start, 1), step.start[:8] + "9999", station=step.station)
    return any(other.status in BUSY and other.start < step.ends for other in others if other.id != step.id)


def _minute(now: str, grid: int) -> datetime:
    """Return the next full step of the grid at or after the timestamp, whose seconds count."""
    time = times.read(now)
    if time is None:
        raise ValueError("the context names no time")
    if now[12:14].isdigit() and now[12:14] != "00":
        time += timedelta(minutes=1)
    return times.ceil(time, grid)


def _stations(context: RisContext, modality: str, aet: str) -> list[Station]:
    asked = [station for station in context.stations if station.aet == aet]
    return asked or [station for station in context.stations if modality and station.modality == modality]


def _earliest(
    records: Records, context: RisContext, station: Station, minutes: int, earliest: datetime, limit: datetime | None
) -> datetime | None:
    """Return the first gap of `minutes` from `earliest` on, None when there is none before `limit` or within the horizon."""
    known = records.one(Booked, station=station.aet, hours=_hours(station), minutes=minutes)
    begin = earliest
    if known and known.since <= times.write(earliest) < known.until:
        begin = times.read(known.until) or earliest
    if limit is not None and begin >= limit:
        return None
    until = earliest + timedelta(days=context.slots.horizon)
    found: datetime | None = None
    for opens, closes in _days(station, begin, until):
        if limit is not None and opens >= limit:
            until = opens
            break
        found = _gap(records, station, minutes, opens, closes)
        if found is not None:
            until = found
            break
    fact = Booked(station=station.aet, hours=_hours(station), minutes=minutes, since=times.write(earliest), until=times.write(until))
    _remember(records, known, fact, context.now[:12])
    return found


def _hours(station: Station) -> str:
    return f"{station.opens}-{station.closes}"


def _days(station: Station, begin: datetime, horizon: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Give the opening time of each day from `begin` up to the horizon, the first cut at `begin`."""
    day = begin.replace(hour=0, minute=0)
    while day <= horizon:
        yield max(times.of_day(day, station.opens), begin), times.of_day(day, station.closes)
        day += timedelta(days=1)


def _gap(records: Records, station: Station, minutes: int, opens: datetime, closes: datetime) -> datetime | None:
    """Return the first time of that day at which the station is free for `minutes`, None when there is none."""
    start = opens
    after, midnight = times.write(opens + times.minutes(1)), times.write(times.of_day(opens, "2400"))
    for step in sorted(records.between(Step, "ends", after, midnight, station=station.aet), key=_start):
        begins = times.read(step.start) if step.status in BUSY else None
        if begins is None:
            continue
        if begins >= start + times.minutes(minutes):
            break
        start = max(start, begins + times.minutes(max(step.duration, 1)))
    return start if start + times.minutes(minutes) <= closes else None


def _start(step: Step) -> str:
    return step.start


def _remember(records: Records, known: Booked | None, fact: Booked, now: str) -> None:
    """Keep the fact, joined with what is known where both touch; of two apart the nearer one stays."""
    if fact.until <= fact.since:
        return
    if known is None:
        records.add(fact)
        return
    apart = fact.since > known.until or fact.until < known.since
    if apart and fact.since > known.until and known.until > max(known.since, now):
        return
    if not apart:
        fact = replace(fact, since=min(fact.since, known.since), until=max(fact.until, known.until))
    if (fact.since, fact.until) != (known.since, known.until):
        records.update(replace(fact, id=known.id))
