"""Are an exam's images all here: the verdict by evidence, and what moves it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from broker.ris.completeness import BY, COUNTED, DELIVERY, VERDICTS, Count, Facts, verdict
from broker.ris.context import Completion, RisContext
from broker.ris.entities import Completeness, Exam
from broker.ris.events import Available, CountImages, Deliver, EndSending, LookForImages, SeriesMade

QUIET, PERFORMING = 900, 14400
ALL = Completion(BY, QUIET, PERFORMING)
MET, SHORT = Count("performed", 3, 3), Count("performed", 3, 2)


def facts(*counts: Count, silent: float = 0, **more: Any) -> Facts:
    return Facts(counts, silent=silent, **more)


@pytest.mark.parametrize(
    ("known", "state", "reason"),
    [
        (facts(), "open", ""),
        (facts(MET), "complete", "performed: 3 of 3 images"),
        (facts(SHORT), "open", ""),
        (facts(SHORT, closed=True), "open", ""),
        (facts(SHORT, silent=QUIET), "incomplete", "performed: 2 of 3 images"),
        (facts(MET, Count("commitment", 4, 3)), "open", ""),  # who names more is right
        (facts(MET, Count("commitment", 4, 3), silent=QUIET), "incomplete", "commitment: 3 of 4 images"),
        (facts(Count("query", 5, 5)), "complete", "query: 5 of 5 images"),
        (facts(closed=True), "complete", "closed: the sender has ended its association"),
        (facts(silent=QUIET - 1), "open", ""),
        (facts(silent=QUIET), "complete", "quiet: nothing for 900 s"),
        (facts(MET, performing=True), "open", ""),
        (facts(closed=True, performing=True), "open", ""),
        (facts(performing=True, silent=QUIET), "open", ""),
        (facts(performing=True, silent=PERFORMING), "complete", "quiet: nothing for 14400 s"),
    ],
)
def test_verdicts(known: Facts, state: str, reason: str) -> None:
    assert verdict(known, ALL) == (state, reason)


def test_only_the_evidence_that_is_asked_for_counts() -> None:
    assert verdict(facts(MET, closed=True, silent=10**6), Completion(("commitment",), QUIET)) == ("open", "")
    assert verdict(facts(SHORT, silent=QUIET), Completion(("quiet",), QUIET))[0] == "complete"


def test_the_table_names_every_pair() -> None:
    assert set(VERDICTS) == set(product(("nothing", "met", "short"), ("", "closed", "quiet")))
    assert set(COUNTED) < set(BY)


# what moves it


@pytest.fixture
def exam(ris: Any, monkeypatch: pytest.MonkeyPatch) -> Exam:
    """An exam on the evidence of everything."""
    plain = type(ris).context.fget
    monkeypatch.setattr(type(ris), "context", property(lambda self: replace(plain(self), completion=ALL)))
    placed: Exam = ris.place()
    return placed


def store(ris: Any, exam: Exam, *numbers: int, series: str = "2.25.556") -> list[str]:
    told = []
    for number in numbers:
        told += ris.told(ris.image(f"2.25.{number}", exam.study_uid, exam.accession, series_uid=series))
    return [name for name in told if name.startswith("study.")]


def state(ris: Any, exam: Exam) -> Completeness:
    found: Completeness = ris.records.one(Completeness, exam_id=exam.id)
    return found


def performed(ris: Any, exam: Exam, *series: tuple[str, int]) -> list[str]:
    """Begin and complete a performed step that made these series."""
    ris.do(ris.start(exam.accession))
    made = tuple(SeriesMade(uid, count) for uid, count in series)
    return [name for name in ris.told(ris.end(made=made)) if name.startswith("study.")]


def test_quiet_time_counts_from_the_last_image_and_is_kept(ris: Any, exam: Exam) -> None:
    assert store(ris, exam, 1, 2) == ["study.stored"]
    begun: RisContext = ris.context
    assert state(ris, exam).due_at == begun.at + QUIET
    ris.later(seconds=QUIET - 1)
    assert ris.told(LookForImages(exam.id)) == []
    store(ris, exam, 3)
    ris.later(seconds=QUIET - 1)
    assert ris.told(LookForImages(exam.id)) == []
    ris.later(seconds=1)
    (event,) = ris.do(LookForImages(exam.id))
    assert (event.name, event.reason, event.accession) == ("study.complete", "quiet: nothing for 900 s", exam.accession)
    assert (state(ris, exam).state, state(ris, exam).images) == ("complete", 3)
    assert ris.told(LookForImages(exam.id)) == []


def test_a_further_image_undoes_it(ris: Any, exam: Exam) -> None:
    store(ris, exam, 1)
    ris.later(seconds=QUIET)
    assert ris.told(LookForImages(exam.id)) == ["study.complete"]
    assert store(ris, exam, 2) == ["study.more"]
    assert (state(ris, exam).state, state(ris, exam).reason) == ("open", "")
    assert store(ris, exam, 2) == []  # the same object again is none
    ris.later(seconds=QUIET)
    assert ris.told(LookForImages(exam.id)) == ["study.complete"]


def test_the_series_of_the_performed_step_count(ris: Any, exam: Exam) -> None:
    store(ris, exam, 1, 2)
    store(ris, exam, 9, series="2.25.600")  # a key image does not stand in for an image that is missing
    assert performed(ris, exam, ("2.25.556", 3)) == []
    assert store(ris, exam, 3) == ["study.complete"]
    assert state(ris, exam).reason == "performed: 3 of 3 images"


def test_images_before_the_end_of_the_step(ris: Any, exam: Exam) -> None:
    store(ris, exam, 1, 2)
    assert performed(ris, exam, ("2.25.556", 2)) == ["study.complete"]


def test_what_never_comes_is_told(ris: Any, exam: Exam) -> None:
    store(ris, exam, 1)
    performed(ris, exam, ("2.25.556", 2))
    ris.later(seconds=QUIET)
    assert ris.told(LookForImages(exam.id)) == ["study.incomplete"]
    assert state(ris, exam).reason == "performed: 1 of 2 images"
    assert ris.told(LookForImages(exam.id)) == []
    assert store(ris, exam, 2) == ["study.more", "study.complete"]


def test_a_step_in_progress_keeps_it_open(ris: Any, exam: Exam) -> None:
    ris.do(ris.start(exam.accession))
    store(ris, exam, 1)
    ris.later(seconds=QUIET)
    assert ris.told(LookForImages(exam.id)) == []
    assert state(ris, exam).due_at == state(ris, exam).heard_at + PERFORMING
    ris.later(seconds=PERFORMING)
    assert ris.told(LookForImages(exam.id)) == ["study.complete"]


def test_a_commitment_request_names_instances(ris: Any, exam: Exam) -> None:
    store(ris, exam, 1, 2)
    assert ris.told(CountImages("commitment", "1.2.3", instances=("2.25.1", "2.25.2", "2.25.3"))) == []
    assert ris.told(CountImages("commitment", "1.2.3", instances=("2.25.1", "2.25.2", "2.25.3"))) == []  # asked once more
    assert store(ris, exam, 3) == ["study.complete"]
    assert state(ris, exam).reason == "commitment: 3 of 3 images"
    assert ris.told(CountImages("commitment", "1.2.4", instances=("9.9",))) == []  # of nobody we know


def test_the_sender_is_asked_how_many_it_has(ris: Any, exam: Exam) -> None:
    store(ris, exam, 1, 2)
    assert ris.told(CountImages("query", "CT1", exam.study_uid, count=3)) == []
    assert store(ris, exam, 3) == ["study.complete"]


def test_the_association_is_closed_after_the_last_image(ris: Any, exam: Exam) -> None:
    store(ris, exam, 1)
    ris.later(seconds=1)
    assert ris.told(EndSending((exam.study_uid, "9.9"))) == ["study.complete"]
    assert state(ris, exam).reason.startswith("closed")
    ris.later(seconds=1)
    assert store(ris, exam, 2) == ["study.more"]
    ris.later(seconds=1)
    assert ris.told(LookForImages(exam.id)) == []  # that was before this image


def test_images_that_find_their_exam_later_count_too(ris: Any, exam: Exam) -> None:
    ris.do(ris.image("2.25.1", "2.25.777", "B1"))
    later: Exam = ris.place("P2", accession="B1")
    assert state(ris, later).state == "open"
    ris.later(seconds=QUIET)
    assert ris.told(LookForImages(later.id)) == ["study.complete"]


def test_each_destination_is_told_once_it_has_all(ris: Any, exam: Exam) -> None:
    store(ris, exam, 1)
    assert ris.told(Deliver(exam.id, (("archive", True),))) == []  # not complete
    ris.later(seconds=QUIET)
    ris.do(LookForImages(exam.id))
    assert state(ris, exam).due_at == ris.context.at
    (event,) = ris.do(Deliver(exam.id, (("archive", True), ("vna", False))))
    assert (event.name, event.reason) == ("study.delivered", "archive")
    assert state(ris, exam).due_at == ris.context.at + DELIVERY
    assert ris.told(Deliver(exam.id, (("archive", True), ("vna", True)))) == ["study.delivered"]
    assert (state(ris, exam).delivered, state(ris, exam).due_at) == (("archive", "vna"), 0.0)
    store(ris, exam, 2)
    assert state(ris, exam).delivered == ()


# where they are


def available(exam: Exam, *readiness: str, study: str = "") -> Available:
    instances = tuple((f"2.25.{number}", one) for number, one in enumerate(readiness, 1))
    return Available(study or exam.study_uid, instances, "ARCHIVE", "2.25.99")


def test_an_archive_says_it_has_the_images(ris: Any, exam: Exam) -> None:
    store(ris, exam, 1, 2)
    (event,) = ris.do(available(exam, "ONLINE", "NEARLINE"))
    assert (event.name, event.reason, event.accession) == ("study.available", "NEARLINE at ARCHIVE: 2 of 2 images", exam.accession)
    assert (state(ris, exam).available, state(ris, exam).retrieve_ae) == ("NEARLINE", "ARCHIVE")
    assert ris.told(available(exam, "NEARLINE")) == []
    assert ris.told(available(exam, "UNAVAILABLE", "ONLINE")) == ["study.unavailable"]


def test_an_archive_may_have_what_never_came_this_way(ris: Any, exam: Exam) -> None:
    assert ris.told(available(exam, "ONLINE")) == ["study.available"]


def test_a_study_of_nobody_is_listed(ris: Any, exam: Exam) -> None:
    assert ris.told(available(exam, "ONLINE", study="9.9")) == ["unmatched.listed"]
    (entry,) = ris.open_entries()
    assert (entry.kind, entry.key, entry.reason) == ("available", "9.9", "no such study")
    later = ris.place("P2", study_uid="9.9")
    assert ris.open_entries() == []
    assert ris.told(available(later, "ONLINE")) == ["study.available"]


def test_images_beyond_those_named_are_judged_when_no_more_come(ris: Any, exam: Exam) -> None:
    store(ris, exam, 1, 2)
    assert performed(ris, exam, ("2.25.556", 2)) == ["study.complete"]
    assert store(ris, exam, 3, 4, 5, series="2.25.600") == ["study.more"]
    ris.later(seconds=QUIET)
    assert ris.told(LookForImages(exam.id)) == ["study.complete"]
    assert state(ris, exam).images == 5


def test_without_quiet_time_an_exam_is_looked_at_once_in_a_while(ris: Any, exam: Exam, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = type(ris).context.fget
    monkeypatch.setattr(type(ris), "context", property(lambda self: replace(plain(self), completion=replace(ALL, by=COUNTED))))
    store(ris, exam, 1)
    ris.later(seconds=QUIET)
    assert ris.told(LookForImages(exam.id)) == []
    assert state(ris, exam).due_at == ris.context.at + QUIET
