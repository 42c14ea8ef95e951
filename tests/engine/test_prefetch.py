"""Priors fetched ahead of exams: planned with the events, found, chosen, moved, tried again, and on the timeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from broker.config.models import Destination, Prefetch, PrefetchRule
from broker.connectors.dicom import DESTINATION
from broker.connectors.dicom_retrieval import Retrieved, Task
from broker.dicom.dimse import Counts
from broker.engine.clock import SiteClock
from broker.engine.prefetch import FIRST, Prefetching
from broker.engine.prefetchplan import follow
from broker.engine.router import Router
from broker.errors import Refused, Retry
from broker.obs.log import Log
from broker.ris.events import Event
from broker.ris.priors import Relevance, read_kinds
from broker.store.engine import Transaction
from broker.store.records import RecordStore
from tests.engine.archives import Shelf, entry, study
from tests.engine.house import ROOT, House

RELEVANCE = Relevance({"CT CHEST": read_kinds("CT CHEST; CR CHEST")}, {"CTCHEST": "CHEST", "CHEST": "CHEST", "KNEE": "KNEE"})
RULE = PrefetchRule("chest", ("exam.scheduled",), ("CT",), (), (), ("archive", "vna"), "reading", 2, None, RELEVANCE)
PLAN = Prefetch((RULE,), ahead=3 * 86400.0, late=4 * 3600.0, at_once=2, patience=5.0)
JANE = {"PatientID": "4711", "PatientBirthDate": "19610615"}


def prior(uid: str, description: str = "CT chest", modality: str = "CT", date: str = "20250101", **more: Any) -> Any:
    """Return what an archive says of an earlier study of the patient of the samples."""
    known = {"StudyDescription": description, "ModalitiesInStudy": modality, "StudyDate": date, "NumberOfStudyRelatedInstances": 10}
    return study(uid, **{**JANE, **known, **more})


class Archives:
    """Stands for `Retrievals`: shelves by name, and what was moved."""

    def __init__(self, *shelves: Shelf) -> None:
        self.shelves = {shelf.name: shelf for shelf in shelves}
        self.moved: list[tuple[str, str, str]] = []
        self.ends: list[Any] = []  # how the next moves end: a Retrieved, or an exception; else well
        self.gate: Deferred[None] | None = None

    def archive(self, destination: Destination, patience: float) -> Shelf:
        return self.shelves[destination.name]

    async def deliver(self, uid: str, source: Destination, target: Destination, patience: float, task: Task) -> Retrieved:
        if self.gate is not None:
            await self.gate
        end = self.ends.pop(0) if self.ends else Retrieved(0, Counts(0, 10))
        if isinstance(end, Exception):
            raise end
        if end.status == 0:
            self.moved.append((uid, source.name, target.name))
        return end


class Ward:
    """The house with a prefetch at work."""

    def __init__(self, folder: Path, *shelves: Shelf, plan: Prefetch = PLAN) -> None:
        self.house, self.plan = House(folder), plan
        given = {shelf.name: shelf for shelf in (Shelf("archive"), Shelf("vna"), Shelf("reading"), *shelves)}
        self.archives = Archives(*given.values())
        house = self.house
        house.intake.change(Router(house.config.channels), replace(house.site, prefetch=plan), {"hospital": "reject"})
        address = {"host": "127.0.0.1", "port": 1}
        destinations = [Destination(name, "dicom", DESTINATION.read({**address, "ae_title": name.upper()}), "", 0) for name in given]
        self.config = replace(house.config, destinations=tuple(destinations), prefetch=plan)
        self.reactor, clock, log = Clock(), SiteClock(lambda: house.at, "UTC"), Log(house.printed, terminal=False)
        self.job = Prefetching(self.archives, self.reactor, house.db, clock, lambda: self.config, "n1", house.metrics, log)  # type: ignore[arg-type]

    def order(self) -> None:
        """Register the patient and order a CT of the chest for the next morning."""
        for sample in ("adt_a04", "orm_ct"):
            assert "MSA|AA" in self.house.say((ROOT / f"samples/{sample}.hl7").read_bytes())

    def turn(self, seconds: float = 0.0) -> None:
        """Let so much time go by."""
        self.house.at += seconds
        self.reactor.advance(seconds)
        self.house.run()

    def begin(self) -> None:
        self.job.start()
        self.house.run()

    @property
    def moved(self) -> list[str]:
        return [uid for uid, _, _ in self.archives.moved]

    @property
    def state(self) -> list[tuple[Any, ...]]:
        return self.house.rows("select state, attempts, reason from prefetch")

    @property
    def notes(self) -> list[str]:
        return [row[0] for row in self.house.rows("select what from audit_note where what like 'prior%' order by id")]


def at_work(folder: Path, *shelves: Shelf, plan: Prefetch = PLAN) -> Ward:
    ward = Ward(folder, *shelves, plan=plan)
    ward.order()
    ward.begin()
    return ward


def test_relevant_priors_are_moved_the_most_relevant_first(tmp_path: Path) -> None:
    shelf = Shelf(
        "archive",
        prior("1.1", "Chest", "CR"),
        prior("1.2"),
        prior("1.3", "CT knee"),
        prior("1.4", date="20200101", StudyDescription="CHEST"),
    )
    ward = at_work(tmp_path, shelf)
    assert ward.archives.moved == [("1.2", "archive", "reading"), ("1.4", "archive", "reading")]
    assert ward.state == [("done", 0, "")]
    assert ward.notes == ["prior.moved", "prior.moved", "priors.done"]
    assert ward.house.count("broker_priors_moved_total", rule="chest") == 2
    assert ward.house.count("broker_prefetches_total", rule="chest", outcome="done") == 1


def test_of_two_archives_the_first_one_is_taken(tmp_path: Path) -> None:
    ward = at_work(tmp_path, Shelf("archive", prior("1.1")), Shelf("vna", prior("1.1"), prior("1.2")))
    assert sorted(ward.archives.moved) == [("1.1", "archive", "reading"), ("1.2", "vna", "reading")]


def test_what_is_there_already_is_not_moved(tmp_path: Path) -> None:
    here = Shelf("reading", prior("1.1"), prior("1.2", NumberOfStudyRelatedInstances=9))
    ward = at_work(tmp_path, Shelf("archive", prior("1.1"), prior("1.2")), here)
    assert ward.moved == ["1.2"]  # of which one image is missing there
    assert ward.notes[-1] == "priors.done"


def test_a_station_that_cannot_be_asked_gets_everything(tmp_path: Path) -> None:
    ward = at_work(tmp_path, Shelf("archive", prior("1.1")), Shelf("reading", prior("1.1"), down=Refused("it does not offer this service")))
    assert ward.moved == ["1.1"]


@pytest.mark.parametrize(
    "more",
    [{"PatientID": "4712"}, {"IssuerOfPatientID": "ELSEWHERE"}, {"PatientBirthDate": "19610616"}],
    ids=["id", "issuer", "birth date"],
)
def test_another_patients_studies_stay_where_they_are(tmp_path: Path, more: dict[str, str]) -> None:
    ward = at_work(tmp_path, Shelf("archive", prior("1.1", **more), prior("1.2", IssuerOfPatientID="GENHOSP")))
    assert ward.moved == ["1.2"]


def test_a_study_that_does_not_tell_its_body_part_is_looked_into(tmp_path: Path) -> None:
    vague = [
        entry(QueryRetrieveLevel="SERIES", StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.1", Modality="CT", BodyPartExamined=part)
        for uid, part in (("1.1", "CHEST"), ("1.2", "KNEE"))
    ]
    ward = at_work(tmp_path, Shelf("archive", prior("1.1", "", ""), prior("1.2", "", ""), *vague))
    assert ward.moved == ["1.1"]


def test_the_study_of_the_exam_itself_is_no_prior(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    ward.order()
    [(uid,)] = ward.house.rows("select study_uid from exams")
    ward.archives.shelves["archive"].entries = (prior(uid),)
    ward.begin()
    assert (ward.moved, ward.notes) == ([], ["priors.done"])


def test_what_failed_is_tried_again_and_what_was_moved_is_not(tmp_path: Path) -> None:
    ward = Ward(tmp_path, Shelf("archive", prior("1.1"), prior("1.2")))
    ward.archives.ends = [Retrieved(0, Counts(0, 10)), Retrieved(0xB000, Counts(0, 4, 6))]
    ward.order()
    ward.begin()
    assert len(ward.moved) == 1
    assert ward.state == [("waiting", 1, "archive: status 0xB000, 6 failed")]
    assert ward.notes == ["prior.moved", "priors.waiting"]
    ward.turn(FIRST - 1)
    assert len(ward.moved) == 1
    ward.turn(6)
    assert sorted(ward.moved) == ["1.1", "1.2"]
    assert ward.state[0][0] == "done"


def test_an_archive_that_is_down_does_not_keep_the_others_priors_away(tmp_path: Path) -> None:
    down = Shelf("archive", prior("1.1"), down=Retry("cannot connect"))
    ward = at_work(tmp_path, down, Shelf("vna", prior("1.2")))
    assert ward.moved == ["1.2"]
    assert ward.state == [("waiting", 1, "no answer from archive")]
    down.down = None
    ward.turn(FIRST + 5)
    assert ward.moved == ["1.2", "1.1"]


def test_it_begins_so_long_before_the_exam_and_no_earlier(tmp_path: Path) -> None:
    ward = at_work(tmp_path, Shelf("archive", prior("1.1")), plan=replace(PLAN, ahead=60.0))
    assert ward.moved == []
    ward.turn(2 * 3600 - 90)  # the exam starts at ten, it is eight
    assert ward.moved == []
    ward.turn(60)
    assert ward.moved == ["1.1"]


@pytest.mark.parametrize(("hours", "moved"), [("20:00-06:00", ["1.1"]), ("09:00-09:30", []), ("07:00-09:00", ["1.1"])])
def test_hours_are_waited_for_only_when_they_come_before_the_exam(tmp_path: Path, hours: str, moved: list[str]) -> None:
    ward = at_work(tmp_path, Shelf("archive", prior("1.1")), plan=replace(PLAN, hours=(hours,)))
    assert ward.moved == moved


def test_long_after_the_exam_it_is_given_up(tmp_path: Path) -> None:
    ward = Ward(tmp_path, Shelf("archive", prior("1.1")))
    ward.order()
    ward.house.at += 7 * 3600
    ward.begin()
    assert (ward.moved, ward.state[0][0], ward.notes) == ([], "late", ["priors.late"])


def test_a_cancelled_exam_needs_no_priors(tmp_path: Path) -> None:
    ward = Ward(tmp_path, Shelf("archive", prior("1.1")))
    ward.order()
    cancel = (ROOT / "samples/orm_ct.hl7").read_text().replace("ORC|NW|", "ORC|CA|").replace("|ORM0001|", "|ORM0002|")
    assert "MSA|AA" in ward.house.say(cancel)
    ward.begin()
    assert (ward.moved, ward.state) == ([], [("cancelled", 0, "")])


def test_no_more_moves_at_once_than_agreed(tmp_path: Path) -> None:
    ward = Ward(tmp_path, Shelf("archive", prior("1.1")), plan=replace(PLAN, at_once=1))
    ward.archives.gate = Deferred()
    ward.order()
    second = (ROOT / "samples/orm_ct.hl7").read_text().replace("|P1^", "|P2^").replace("|ORM0001|", "|ORM0002|")
    assert "MSA|AA" in ward.house.say(second)
    ward.begin()
    ward.turn(5)
    assert len(ward.job._running) == 1
    ward.archives.gate.callback(None)
    ward.house.run()
    ward.turn(5)
    assert ward.house.rows("select count(*) from prefetch where state = 'done'") == [(2,)]


def test_stopping_gives_up_what_is_under_way_and_the_next_start_goes_on(tmp_path: Path) -> None:
    ward = Ward(tmp_path, Shelf("archive", prior("1.1")))
    gate = ward.archives.gate = Deferred()
    ward.order()
    ward.begin()
    stopping = ward.job.stop()
    gate.callback(None)
    ward.house.wait(stopping)
    assert ward.state[0][:2] == ("waiting", 0)
    ward.archives.gate = None
    ward.begin()
    assert ward.state[0][0] == "done"


def test_a_rule_that_has_gone_ends_its_prefetches(tmp_path: Path) -> None:
    ward = Ward(tmp_path, Shelf("archive", prior("1.1")))
    ward.order()
    ward.config = replace(ward.config, prefetch=replace(PLAN, rules=(replace(RULE, name="other"),)))
    ward.begin()
    assert (ward.moved, ward.state[0][0]) == ([], "cancelled")


@pytest.mark.parametrize(
    ("rule", "planned"),
    [
        (RULE, 1),
        (replace(RULE, modalities=("MR",)), 0),
        (replace(RULE, parts=("CHEST",)), 1),
        (replace(RULE, parts=("KNEE",)), 0),
        (replace(RULE, procedures=("CTHEAD",)), 0),
        (replace(RULE, events=("exam.arrived",)), 0),
        (replace(RULE, relevance=Relevance({}, {})), 0),
    ],
)
def test_a_rule_is_for_the_exams_it_names(tmp_path: Path, rule: PrefetchRule, planned: int) -> None:
    ward = Ward(tmp_path, plan=replace(PLAN, rules=(rule,)))
    ward.order()
    assert len(ward.state) == planned


def test_an_arrival_makes_it_urgent(tmp_path: Path) -> None:
    ward = Ward(tmp_path, plan=replace(PLAN, rules=(replace(RULE, events=("exam.scheduled", "exam.arrived")),)))
    ward.order()
    assert ward.house.rows("select starts from prefetch") == [("202603021000",)]
    arrived = Event("exam.arrived", exam_id=1)

    def arrive(tx: Transaction) -> None:
        follow(tx, RecordStore(tx), ward.plan, [arrived], "20260302083015")

    ward.house.wait(ward.house.db.run("test", arrive))
    assert ward.house.rows("select starts from prefetch") == [("202603020830",)]
