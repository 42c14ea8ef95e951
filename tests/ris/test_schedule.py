"""Slots."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from broker.ris import schedule, times
from broker.ris.context import SlotRules, Station
from broker.ris.entities import Booked, Step
from broker.ris.schedule import Slot, find_slot

CT = (Station("CT1", "CT", "Room 1"), Station("CT2", "CT", "Room 2"))


def book(ris: Any, **asked: Any) -> Slot:
    """Find a slot and take it."""
    minutes = asked.setdefault("minutes", 20)
    slot = find_slot(ris.records, ris.context, **({"modality": "CT"} | asked))
    take(ris, slot.station, slot.start, minutes)
    return slot


def take(ris: Any, station: str, start: str, minutes: int, status: str = "scheduled") -> None:
    """Book a time without looking for it."""
    ends = times.after(start, minutes)
    ris.records.add(Step(exam_id=1, status=status, station=station, start=start, duration=minutes, ends=ends))


def test_earliest_station_first_in_the_list_on_a_tie(ris: Any) -> None:
    assert [(slot.start[8:], slot.station) for slot in (book(ris), book(ris), book(ris))] == [
        ("0800", "CT1"),
        ("0800", "CT2"),
        ("0820", "CT1"),
    ]


def test_requested_time_is_kept_when_free(ris: Any) -> None:
    assert book(ris, requested="202603021007") == Slot("202603021007", "CT1", "Room 1")


@pytest.mark.parametrize(
    ("now", "requested", "start"),
    [
        ("0800", "", "202603020800"),
        ("0801", "", "202603020805"),
        ("0801", "202603020700", "202603020805"),  # the past counts from now
        ("0801", "20260303", "202603030800"),  # a day
        ("0801", "20260303093015+0100", "202603030930"),
        ("0801", "not a time", "202603020805"),
        ("0500", "", "202603020800"),  # before opening
        ("1750", "", "202603030800"),  # does not fit before closing
        ("1740", "", "202603021740"),  # just fits
        ("0800", "202603022300", "202603030800"),
    ],
)
def test_when(ris: Any, now: str, requested: str, start: str) -> None:
    ris.time = datetime.strptime("20260302" + now, "%Y%m%d%H%M")
    assert book(ris, requested=requested).start == start


def test_seconds_count(ris: Any) -> None:
    ris.later(seconds=30)
    assert book(ris).start == "202603020805"


@pytest.mark.parametrize("priority", ["STAT", "ASAP"])
def test_urgent_counts_from_now_whatever_was_asked(ris: Any, priority: str) -> None:
    assert book(ris, requested="202603041000", priority=priority).start == "202603020800"


def test_requested_station_is_honoured(ris: Any) -> None:
    assert book(ris, station="CT2") == Slot("202603020800", "CT2", "Room 2")
    assert book(ris, station="CT2").start == "202603020820"  # and waited for
    assert book(ris, station="NOBODY").station == "CT1"  # unknown: as if not asked


def test_unknown_modality_is_scheduled_without_a_station(ris: Any) -> None:
    assert book(ris, modality="PT", requested="202603022330") == Slot("202603022330")
    assert book(ris, modality="") == Slot("202603020800")


def test_gap_between_two_steps_is_used(ris: Any) -> None:
    ris.stations = CT[:1]
    book(ris, requested="202603020800")
    book(ris, requested="202603020840")
    assert book(ris, minutes=30).start == "202603020900"
    assert book(ris).start == "202603020820"


@pytest.mark.parametrize("status", ["completed", "discontinued", "cancelled"])
def test_what_has_ended_holds_no_slot(ris: Any, status: str) -> None:
    take(ris, "CT1", "202603020800", 20, status)
    assert book(ris) == Slot("202603020800", "CT1", "Room 1")


def test_no_slot_within_the_horizon(ris: Any) -> None:
    ris.stations, ris.slots = CT[:1], SlotRules(horizon=1)
    for _ in range(20):
        assert book(ris, minutes=60).station == "CT1"
    assert book(ris, minutes=60) == Slot("202603020800")
    assert book(ris, minutes=700) == Slot("202603020800")  # longer than the day is open


def test_a_day_and_night_station(ris: Any) -> None:
    ris.stations = (Station("CT9", "CT", opens="0000", closes="2400"),)
    ris.time = datetime(2026, 3, 2, 23, 40)
    assert [book(ris).start for _ in range(2)] == ["202603022340", "202603030000"]


def test_a_slot_given_back_is_found_again(ris: Any) -> None:
    ris.stations = CT[:1]
    placed = [ris.place(f"P{number}") for number in range(4)]
    assert [exam.scheduled_at[8:] for exam in placed] == ["0800", "0820", "0840", "0900"]
    ris.do(ris.control("cancel", "P1"))
    assert ris.place("P9").scheduled_at[8:] == "0820"
    assert ris.place("P10").scheduled_at[8:] == "0920"


def test_longer_hours_are_seen_at_once(ris: Any) -> None:
    ris.stations = (Station("CT1", "CT", opens="0800", closes="0840"),)
    assert [book(ris).start[6:] for _ in range(3)] == ["020800", "020820", "030800"]
    ris.stations = (Station("CT1", "CT", opens="0800", closes="0900"),)
    assert book(ris).start[6:] == "020840"


def test_a_search_does_not_grow_with_what_is_booked(ris: Any) -> None:
    ris.stations, ris.slots = CT[:1], SlotRules(horizon=400)
    day = datetime(2026, 3, 2, 8)
    for number in range(300 * 10):  # 300 full days
        at = day + timedelta(days=number // 10, hours=number % 10)
        take(ris, "CT1", times.write(at), 60)
    assert book(ris, minutes=60).start == times.write(day + timedelta(days=300))
    asked: list[str] = []
    between = ris.records.between
    ris.records.between = lambda kind, field, low, high, **match: asked.append(low) or between(kind, field, low, high, **match)
    assert book(ris, minutes=60).start == times.write(day + timedelta(days=300, hours=1))
    assert len(asked) == 1


def test_knowledge_is_kept_as_one_stretch(ris: Any) -> None:
    ris.stations = CT[:1]
    for number in range(3):
        ris.place(f"P{number}")
    assert [(known.since, known.until) for known in ris.records.find(Booked)] == [("202603020800", "202603020840")]


def test_knowledge_of_now_wins_over_a_far_day(ris: Any) -> None:
    ris.stations = CT[:1]
    for _ in range(2):
        book(ris, requested="202603100800")
    for _ in range(2):
        book(ris)
    assert [(known.since, known.until) for known in ris.records.find(Booked)] == [("202603020800", "202603020820")]
    assert book(ris, requested="202603100800").start == "202603100840"
    assert [(known.since, known.until) for known in ris.records.find(Booked)] == [("202603020800", "202603020820")]


@pytest.mark.parametrize(("opens", "closes"), [("0800", "0800"), ("1800", "0800"), ("8", "18"), ("0860", "1800"), ("0800", "2500")])
def test_opening_hours_must_make_sense(opens: str, closes: str) -> None:
    with pytest.raises(ValueError, match="station X"):
        Station("X", "CT", opens=opens, closes=closes)


ASKED = st.tuples(
    st.integers(1, 90),  # minutes
    st.one_of(st.none(), st.integers(-300, 3000)),  # requested, minutes from now
    st.sampled_from(["", "STAT", "ROUTINE"]),
    st.sampled_from(["", "CT1", "CT2"]),
    st.integers(0, 40),  # minutes that pass before
    st.booleans(),  # an earlier booking is given back first
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(asked=st.lists(ASKED, max_size=40))
def test_earliest_within_hours_and_never_twice(new_world: Any, asked: list[tuple[Any, ...]]) -> None:
    """Against a search without shortcuts that tries every minute."""
    with closing(new_world(stations=CT)) as ris:
        for minutes, requested, priority, station, passed, give_back in asked:
            ris.later(minutes=passed)
            if give_back and (taken := ris.records.one(Step, status="scheduled")):
                ris.records.update(replace(taken, status="cancelled"))
                schedule.freed(ris.records, taken)
            at = "" if requested is None else times.write(ris.time + timedelta(minutes=requested))
            expected = _slowly(ris, minutes, at, priority, station)
            slot = book(ris, minutes=minutes, requested=at, priority=priority, station=station)
            assert (slot.start, slot.station) == expected


def _slowly(ris: Any, minutes: int, requested: str, priority: str, station: str) -> tuple[str, str]:
    now = times.ceil(ris.time, 5)
    asked = times.read(requested)
    start = now if asked is None or asked < now or priority == "STAT" else asked
    busy = [step for step in ris.records.find(Step) if step.status == "scheduled"]
    while True:
        for candidate in [one for one in CT if station in ("", one.aet)]:
            end = start + timedelta(minutes=minutes)
            opens, closes = (times.of_day(start, hhmm) for hhmm in (candidate.opens, candidate.closes))
            if opens <= start and end <= closes and not any(_overlap(start, end, step) for step in busy if step.station == candidate.aet):
                return times.write(start), candidate.aet
        start += timedelta(minutes=1)


def _overlap(start: datetime, end: datetime, step: Step) -> bool:
    begins = times.read(step.start)
    return begins is not None and begins < end and start < begins + timedelta(minutes=step.duration)


def test_a_slot_moved_away_from_is_found_again(ris: Any) -> None:
    ris.stations = CT[:1]
    for placer in ("P1", "P2"):
        ris.place(placer)
    ris.do(ris.control("change", "P1", requested_at="202603031000"))
    assert ris.exam("P1").scheduled_at == "202603031000"
    assert ris.place("P3").scheduled_at == "202603020800"
