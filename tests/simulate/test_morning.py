"""Playing a morning against a broker that lives in the test, comparing both sides' counts, and showing the result."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from rich.console import Console
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock

from broker.simulate import answers
from broker.simulate.compare import Check, compare
from broker.simulate.demo import Result
from broker.simulate.images import pixel_digest, scheduled_step, unscheduled_entry
from broker.simulate.modality import Performed
from broker.simulate.morning import Player, Progress
from broker.simulate.peers import Places
from broker.simulate.plan import UNKNOWN_CODE, Morning, plan
from broker.simulate.render import Display, render

START = datetime(2026, 3, 2, 8, 0)


class TinyBroker:
    """Answers as the broker should, and is all of the peers at once."""

    def __init__(self) -> None:
        self.ehr = SimpleNamespace(send=self.send, codes=Counter(), inbox=SimpleNamespace(accepted={}))
        self.author = SimpleNamespace(send=self.send, codes=Counter())
        self.kinds: Counter[str] = Counter()
        self.given: dict[bytes, bytes] = {}
        self.open: set[str] = set()  # record numbers with an order
        self.modalities: dict[str, Any] = {}
        self.statuses: list[str] = []
        self.reports: list[str] = []
        self.lost = 0  # messages after which a connection is lost once

    def send(self, message: bytes) -> Deferred[bytes]:
        if self.lost == 1:
            self.lost = 0
            return fail(ConnectionLost())
        self.lost = max(0, self.lost - 1)
        if message not in self.given:
            self.given[message] = self.answer(message)
        self.ehr.codes[answers.code(self.given[message])] += 1
        return succeed(self.given[message])

    def answer(self, message: bytes) -> bytes:
        kind, record = answers.kind(message), answers.field(message, "PID", 3).split("^")[0]
        self.kinds[kind] += 1
        if answers.field(message, "OBR", 4).startswith(UNKNOWN_CODE):
            return answers.acknowledge(message, "AE", "not in table procedures")
        if answers.field(message, "ORC", 1) == "NW":
            self.open.add(record)
        if kind == "ADT^A40":
            self.open.remove(answers.field(message, "MRG", 1).split("^")[0])
            self.open.add(record)
        if kind == "ORU^R01":
            self.reports.append(answers.field(message, "OBR", 25))
        return answers.acknowledge(message, "AA")

    def modality(self, ae_title: str) -> Any:
        return self.modalities.setdefault(ae_title, TinyModality(self, ae_title))


class TinyModality:
    def __init__(self, broker: TinyBroker, ae_title: str) -> None:
        self.broker, self.ae_title = broker, ae_title
        self.stored: dict[str, str] = {}
        self.acknowledged, self.busy, self.status = 0, False, 0
        self.asked, self.reports, self.committing = 0, list[int](), True

    def worklist(self, keys: dict[str, str]) -> Deferred[list[Dataset]]:
        record = keys["PatientID"]
        if record not in self.broker.open:
            return succeed([])
        entry = unscheduled_entry(
            patient_id=record,
            name="FAUXLEY",
            accession=f"A{record[-4:]}",
            study_uid=f"1.2.{int(record[-4:])}",
            modality="CT",
            station="CT2",
        )
        return succeed([entry])

    def start(self, entry: Dataset, at: str) -> Deferred[Performed]:
        assert not self.busy, "one exam at a time"
        self.busy = True
        self.acknowledged += 1
        assert scheduled_step(entry).ScheduledStationAETitle == self.ae_title
        return succeed(Performed("1.2.3", entry, 0))

    def store(self, images: Sequence[Dataset]) -> Deferred[list[int]]:
        self.stored |= {image.SOPInstanceUID: pixel_digest(image) for image in images}
        self.busy = False
        return succeed([self.status for _ in images])

    def complete(self, performed: Performed, images: Sequence[Dataset], at: str) -> Deferred[int]:
        return self.end("COMPLETED")

    def discontinue(self, performed: Performed, images: Sequence[Dataset], at: str) -> Deferred[int]:
        return self.end("DISCONTINUED")

    def end(self, status: str) -> Deferred[int]:
        self.acknowledged += 1
        self.broker.statuses.append(status)
        return succeed(0)

    def commit(self, images: Sequence[Dataset]) -> Deferred[int]:
        self.asked += 1
        self.reports.append(len(images))
        return succeed(len(images) if self.committing else 0)


@pytest.fixture
def morning() -> Morning:
    return plan(3, 14, START)


def play(morning: Morning, broker: TinyBroker) -> tuple[Player, list[Progress]]:
    told: list[Progress] = []
    player = Player(Clock(), morning, broker, told.append)  # type: ignore[arg-type]
    done: list[None] = []
    player.play().addCallback(done.append)
    assert done == [None]
    return player, told


def test_a_morning_goes_as_planned(morning: Morning) -> None:
    broker = TinyBroker()
    player, told = play(morning, broker)
    assert player.problems == []
    assert player.refused == 1
    last = {progress.what: (progress.done, progress.of) for progress in told}
    assert last == {what: (count, count) for what, count in morning.totals().items()}
    exams = morning.exams()
    assert Counter(broker.statuses) == {"COMPLETED": exams["completed"], "DISCONTINUED": exams["discontinued"]}
    assert broker.reports.count("C") == sum(visit.ending == "corrected" for visit in morning.visits)
    assert broker.reports.count("F") == morning.charges() + 1  # and the stray one
    assert broker.kinds["ADT^A40"] == sum(bool(visit.temporary) for visit in morning.visits)
    assert player.repeated == sum(visit.repeated for visit in morning.visits)


def test_an_answer_that_was_not_planned_is_told(morning: Morning) -> None:
    broker = TinyBroker()
    broker.answer = lambda message: answers.acknowledge(message, "AR")  # type: ignore[method-assign]
    player, _ = play(morning, broker)
    assert any("was answered AR, not AA" in problem for problem in player.problems)
    assert not any(visit.person.family in problem for problem in player.problems for visit in morning.visits)


def test_an_image_that_was_not_taken_is_told(morning: Morning) -> None:
    broker = TinyBroker()
    broker.modality("CT2").status = 0xA700
    player, _ = play(morning, broker)
    assert set(player.problems) == {"CT2: C-STORE was answered 0xa700"}


def test_an_image_that_was_not_committed_is_told(morning: Morning) -> None:
    broker = TinyBroker()
    broker.modality("CT2").committing = False
    player, _ = play(morning, broker)
    assert set(player.problems) == {"CT2: not all images were committed"}


def test_an_exam_that_is_not_in_the_worklist_is_told_and_has_no_report(morning: Morning) -> None:
    broker = TinyBroker()
    broker.modality("CT1").worklist = lambda keys: succeed([])
    player, _ = play(morning, broker)
    assert len(player.problems) == sum(visit.images > 0 for visit in morning.visits)
    assert broker.reports == ["F"]  # the stray one


def test_a_lost_connection_ends_one_visit_and_not_the_morning(morning: Morning) -> None:
    broker = TinyBroker()
    broker.lost = 1
    player, _ = play(morning, broker)
    [problem] = player.problems
    assert "ConnectionLost" in problem


def test_a_paced_morning_begins_one_visit_after_the_other(morning: Morning) -> None:
    clock, broker, done = Clock(), TinyBroker(), []
    player = Player(clock, morning, broker, lambda progress: None, pace=2.0)  # type: ignore[arg-type]
    player.play().addCallback(done.append)
    clock.advance(0)
    assert broker.kinds["ADT^A04"] == 1
    clock.advance(2)
    assert broker.kinds["ADT^A04"] == 2
    clock.pump([2.0] * 12)
    assert not done
    clock.advance(2)
    assert done == [None]
    assert player.problems == []


def figures(morning: Morning, player: Player, broker: TinyBroker) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the broker's status before and after, as the JSON interface gives it."""

    def status(fill: bool) -> dict[str, Any]:
        codes = dict(broker.ehr.codes) if fill else {}
        images = sum(len(modality.stored) for modality in broker.modalities.values()) if fill else 0
        steps = sum(modality.acknowledged for modality in broker.modalities.values()) if fill else 0
        asked = sum(modality.asked for modality in broker.modalities.values()) if fill else 0
        return {
            "listeners": [
                {"kind": "mllp", "acknowledged": codes, "received": {}, "duplicates": player.repeated if fill else 0},
                {
                    "kind": "dicom",
                    "acknowledged": {},
                    "received": {"C-STORE": images, "N-CREATE": steps, "N-ACTION": asked},
                    "duplicates": 0,
                },
            ],
            "channels": [{"name": "orders", "source": "hospital", "routed": 14 if fill else 0, "dropped": 0}],
            "destinations": [
                {"name": name, "kind": kind, "address": address, "delivered": delivered, "waiting": 0, "parked": 0}
                for name, kind, address, delivered in (
                    ("archive", "dicom", "127.0.0.1:4242", images),
                    ("archive_hl7", "mllp", "127.0.0.1:2576", 0),
                    ("ehr", "mllp", "127.0.0.1:2577", 0),
                    ("billing", "mllp", "127.0.0.1:2578", 0),
                    ("modalities.*", "callback", "over the association that asked", asked),
                )
            ],
            "exams": dict(morning.exams()) if fill else {},
            "parked": [{"what": "message", "id": 1, "where": "hospital", "kind": "ORM^O01", "accession": "[red]", "reason": "r"}] * fill,
            "parked_total": int(fill),
            "unmatched": [{"kind": "images", "accession": "X", "message_id": 3, "reason": "no such accession"}] * fill,
            "unmatched_total": 2 * fill,
        }

    return status(False), status(True)


@pytest.fixture
def result(morning: Morning) -> Result:
    broker = TinyBroker()
    player, _ = play(morning, broker)
    before, after = figures(morning, player, broker)
    kept = {uid: {"PixelDigest": digest} for modality in broker.modalities.values() for uid, digest in modality.stored.items()}
    peers: Any = SimpleNamespace(
        ehr=broker.ehr,
        author=broker.author,
        modalities=broker.modalities,
        billing=SimpleNamespace(accepted={}, charges=[b""] * morning.charges()),
        archive=SimpleNamespace(hl7=SimpleNamespace(accepted={}), images=SimpleNamespace(distinct=kept)),
    )
    checks = compare(morning, player, peers, Places(), before, after)
    entry = {"at": 1e9, "what": "received", "kind": "ORM^O01", "source": "EHR", "target": "hospital", "message_id": 1, "detail": "[bold]x"}
    trace = {"accession": "A0001", "entries": [entry]}
    return Result(morning, 1.5, 90, len(kept), tuple(player.problems), tuple(checks), before, after, trace)


def test_both_sides_counts_are_laid_side_by_side(result: Result) -> None:
    assert result.good, [check for check in result.checks if not check.equal]
    counted = {check.what: check.peers for check in result.checks}
    assert counted["HL7 messages answered AE"] == 1
    assert counted["images to the archive"] == counted["images in the archive with the very pixels"] == result.images
    assert counted["exams completed"] == result.morning.exams()["completed"]
    assert counted["charges, as planned and as billed"] == result.morning.charges()


def test_one_count_that_differs_is_enough(result: Result) -> None:
    assert not replace(result, checks=(*result.checks, Check("x", 1, 2))).good
    assert not replace(result, problems=("x",)).good


def shown(result: Result) -> str:
    console = Console(file=io.StringIO(), width=160, record=True)
    for part in render(result):
        console.print(part)
    return console.export_text()


def test_the_tables_show_everything(result: Result) -> None:
    text = shown(result)
    for wanted in (
        "exams by state",
        "messages and images by channel",
        "parked (1)",
        "unmatched (2)",
        "timeline of A0001",
        "[red]",
        "[bold]x",
    ):
        assert wanted in text
    assert "peers and broker counted the same" in text
    assert "DIFFERENT" not in text


def test_the_tables_say_what_differs(result: Result) -> None:
    text = shown(replace(result, checks=(Check("images", 3, 2),), problems=("P1: not in the worklist",)))
    assert "DIFFERENT" in text
    assert "P1: not in the worklist" in text
    assert "1 counts differ" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_bars_on_a_terminal_and_lines_elsewhere(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, record=True)
    with Display(console) as display:
        for number in range(1, 41):
            display.report(Progress("images", number, 40, "CT1 [red]"))
    text = console.export_text()
    assert "40/40" in text
    if not terminal:
        assert len(text.splitlines()) == 10


def test_places_come_from_the_environment() -> None:
    assert Places.from_environment({}) == Places()
    places = Places.from_environment({"BIND": "0.0.0.0", "HL7_PORT": "12575", "ARCHIVE_HOST": "archive", "DICOM_AET": "X"})
    assert (places.host, places.hl7_port, places.archive_host, places.dicom_aet) == ("127.0.0.1", 12575, "archive", "X")
    with pytest.raises(ValueError, match="invalid literal"):
        Places.from_environment({"WEB_PORT": "x"})
