"""The proxy over several archives and the spool: merged, limited, cancelled, counted, and noted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from broker.config.models import Destination
from broker.connectors.base import Caller
from broker.connectors.dicom import DESTINATION, LISTENER
from broker.connectors.dicom_retrieval import Return, Searched, Task
from broker.dicom.dimse import Counts
from broker.dicom.query import PATIENT_ROOT, STUDY_ROOT, Query, Retrieval, read_query, read_retrieval
from broker.dicom.storerequest import decode_request
from broker.engine.clock import SiteClock
from broker.engine.retrieval import Retrievals
from broker.errors import Retry, StoreError
from broker.model import Delivery, StoreRequest
from broker.obs.log import Log
from tests.engine.archives import Shelf, entry, series, study
from tests.engine.house import House
from tests.peers import ct_image

CT = "1.2.840.10008.5.1.4.1.1.2"
WS = Caller("modalities", "WS1", "BROKER", "127.0.0.1:50000")
DOWN = Retry("cannot connect: ConnectionRefusedError")
KEYED = {"key": "0123456789abcdef"}


class Station:
    """A destination that takes what it gets, or answers `status`."""

    width = 2

    def __init__(self) -> None:
        self.received: list[StoreRequest] = []
        self.status, self.closed = "0x0000", False

    def send(self, delivery: Delivery) -> Deferred[str]:
        self.received.append(decode_request(delivery.payload))
        return succeed(self.status)

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)


class Desk:
    """Retrievals over shelves, with the shipped configuration around them."""

    def __init__(self, folder: Path, *shelves: Shelf, **settings: Any) -> None:
        self.house = House(folder)
        self.shelves = {shelf.name: shelf for shelf in shelves}
        self.stations: list[Station] = []
        peers, hidden = settings.pop("peers", {"*": {}}), settings.pop("deidentify", ())
        retrieve = {"from": [shelf.name for shelf in shelves], **settings}
        listener = replace(
            next(one for one in self.house.config.listeners if one.kind == "dicom"),
            settings=LISTENER.read({"port": 0, "services": ["query", "retrieve"], "retrieve": retrieve, "peers": peers}),
        )
        address = {"host": "127.0.0.1", "port": 1}
        destinations = [
            Destination(
                n, "dicom", DESTINATION.read({**address, "ae_title": n.upper(), "deidentify": KEYED if n in hidden else None}), "", 0
            )
            for n in (*self.shelves, "ws1")
        ]
        config = replace(self.house.config, listeners=(listener,), destinations=tuple(destinations))
        house, clock = self.house, SiteClock(lambda: self.house.at, "UTC")
        log = Log(house.printed, terminal=False)
        self.retrievals = Retrievals(
            Clock(), house.db, house.spool, house.dicom.expected, lambda: config, self._station, clock, house.metrics, log
        )
        self.retrievals.archive = lambda destination, patience: self.shelves[destination.name]  # type: ignore[assignment, return-value, method-assign]
        self.task, self.found, self.counts = Task(), list[Dataset](), list[Counts]()

    def _station(self, destination: Destination) -> Station:
        self.stations.append(Station())
        return self.stations[-1]

    def search(self, model: Any = STUDY_ROOT, **keys: Any) -> Deferred[Searched]:
        query: Query = read_query(model, entry(QueryRetrieveLevel="STUDY", **keys) if "QueryRetrieveLevel" not in keys else entry(**keys))
        return self.retrievals.search(WS, query, self.task, self.send)

    async def send(self, entries: Sequence[Dataset]) -> None:
        self.found += entries

    def find(self, model: Any = STUDY_ROOT, **keys: Any) -> Searched:
        return self.house.wait(self.search(model, **keys))

    def wanted(self, model: Any = STUDY_ROOT, **keys: Any) -> Retrieval:
        return read_retrieval(model, entry(**{"QueryRetrieveLevel": "STUDY", **keys}))

    def move(self, destination: str = "WS1", model: Any = STUDY_ROOT, **keys: Any) -> Any:
        return self.house.wait(self.retrievals.move(WS, self.wanted(model, **keys), destination, self.task, self.counts.append))

    def keep(self, count: int, uid: str = "1.2.3") -> list[Dataset]:
        """Receive images that the route sends to the archive, where they wait."""
        images = [ct_image("4711", "DOE^JANE", "", uid, number) for number in range(1, count + 1)]
        for image in images:
            image.SeriesInstanceUID = f"{uid}.1"
            assert self.house.store(image) == 0
        return images


def uids(found: Sequence[Dataset]) -> list[str]:
    return [str(one.StudyInstanceUID) for one in found]


def test_the_first_archive_counts_and_the_broker_is_where_it_is_retrieved(tmp_path: Path) -> None:
    first = Shelf("archive", study("1.1", PatientName="DOE^A", AccessionNumber=""), study("1.2"))
    desk = Desk(tmp_path, first, Shelf("vna", study("1.1", PatientName="DOE^B", AccessionNumber="A1", RetrieveAETitle="VNA")))
    assert desk.find() == Searched()
    found = {str(one.StudyInstanceUID): one for one in desk.found}
    assert set(found) == {"1.1", "1.2"}
    assert (found["1.1"].PatientName, found["1.1"].AccessionNumber, found["1.1"].RetrieveAETitle) == ("DOE^A", "A1", "BROKER")


def test_matches_go_out_before_every_archive_has_answered(tmp_path: Path) -> None:
    slow = Shelf("vna", study("1.1"))
    slow.gate = Deferred()
    desk = Desk(tmp_path, Shelf("archive", study("1.1"), study("1.2")), slow, spool=False)
    searching = desk.search()
    desk.house.run()
    assert uids(desk.found) == ["1.1"]  # which the slow one knows as well; of 1.2 it may still say something
    slow.gate.callback(None)
    assert desk.house.wait(searching) == Searched()
    assert uids(desk.found) == ["1.1", "1.2"]


def test_too_many_matches_end_the_search_everywhere(tmp_path: Path) -> None:
    first = Shelf("archive", *(study(f"1.{n}") for n in range(9)))
    desk = Desk(tmp_path, first, limit=3, spool=False)
    assert desk.find() == Searched(0xA700, "more than 3 matches: narrow the query")
    assert len(desk.found) == 3
    assert first.cancelled


def test_a_cancel_is_passed_on(tmp_path: Path) -> None:
    first = Shelf("archive", study("1.1"))
    first.gate = Deferred()
    desk = Desk(tmp_path, first, spool=False)
    searching = desk.search()
    desk.house.run()
    desk.task.cancel()
    desk.house.wait(searching)
    assert first.cancelled


@pytest.mark.parametrize(("absent", "status"), [("warn", 0), ("fail", 0xC001)])
def test_an_archive_that_is_down_is_told_by_policy(tmp_path: Path, absent: str, status: int) -> None:
    desk = Desk(tmp_path, Shelf("archive", study("1.1")), Shelf("vna", down=DOWN), absent=absent, spool=False)
    assert desk.find().status == status
    assert uids(desk.found) == ["1.1"]
    assert desk.house.count("broker_archive_requests_failed_total", destination="vna") == 1


def test_when_nobody_can_be_asked_that_is_a_failure(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Shelf("archive", down=DOWN), spool=False)
    assert desk.find() == Searched(0xC001, "no answer from archive")


def test_a_status_of_an_archive_is_its_absence(tmp_path: Path) -> None:
    first = Shelf("archive", study("1.1"))
    first.status = 0xA700
    desk = Desk(tmp_path, first, spool=False)
    assert desk.find() == Searched(0xC001, "no answer from archive")
    assert uids(desk.found) == ["1.1"]


def test_patients_are_not_asked_of_an_archive_that_knows_studies_only(tmp_path: Path) -> None:
    first = Shelf("archive")
    desk = Desk(tmp_path, first, spool=False)
    assert desk.find(PATIENT_ROOT, QueryRetrieveLevel="PATIENT", PatientID="4711").status == 0xC001
    assert first.asked == []
    assert desk.find(PATIENT_ROOT, PatientID="4711").status == 0
    assert len(first.asked) == 1


def test_a_store_that_fails_ends_the_search_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Shelf("archive", study("1.1"))
    first.gate = Deferred()
    desk = Desk(tmp_path, first)
    monkeypatch.setattr(desk.house.db, "read", lambda *args, **more: fail(StoreError("gone")))
    with pytest.raises(StoreError):
        desk.find()
    assert first.cancelled


# from the spool


def test_what_is_in_the_spool_is_found_as_it_goes_to_the_archive(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Shelf("archive", down=DOWN))
    desk.house.say((Path("samples/adt_a04.hl7")).read_bytes())
    desk.house.say((Path("samples/orm_ct.hl7")).read_bytes())
    [(accession, uid)] = desk.house.rows("select accession, study_uid from exams")
    images = [ct_image("4711", "WRONG", "", uid, number) for number in (1, 2)]
    for image in images:
        assert desk.house.store(image) == 0
    assert desk.find(AccessionNumber=accession, PatientName="", ModalitiesInStudy="", NumberOfStudyRelatedInstances="") == Searched()
    [found] = desk.found
    assert (found.PatientName, found.StudyInstanceUID) == ("DOE^JANE^Q^Mrs", uid)
    assert (found.ModalitiesInStudy, found.NumberOfStudyRelatedInstances, found.InstanceAvailability) == ("CT", 2, "ONLINE")
    desk.found.clear()
    desk.find(QueryRetrieveLevel="IMAGE", StudyInstanceUID=uid, SeriesInstanceUID=images[0].SeriesInstanceUID, Rows="", SOPInstanceUID="")
    assert [(one.SOPInstanceUID, one.Rows) for one in desk.found] == [(images[0].SOPInstanceUID, 16)]

    done = desk.move(StudyInstanceUID=uid)
    assert (done.status, done.counts) == (0xB000, Counts(0, 2))  # the archive could not be asked
    assert [one.changes["PatientName"] for one in desk.stations[0].received] == ["DOE^JANE^Q^Mrs"] * 2
    assert desk.stations[0].closed
    assert [count.remaining for count in desk.counts] == [1, 0]
    assert desk.house.rows("select what, kind, target, detail from audit_note where what = 'retrieved'") == [
        ("retrieved", "C-MOVE", "WS1", "2 sent, 0 failed, for WS1")
    ]
    assert desk.house.count("broker_suboperations_total", listener="modalities", outcome="completed") == 2


def test_what_no_route_sends_to_the_archive_is_nobodys_business(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Shelf("vna"))
    desk.keep(1)
    desk.find(StudyInstanceUID="1.2.3")
    assert desk.found == []
    assert desk.move(StudyInstanceUID="1.2.3").counts.failed == 0
    assert desk.stations[0].received == []


# moves


def test_a_destination_that_nobody_knows(tmp_path: Path) -> None:
    assert Desk(tmp_path, Shelf("archive")).move("NOBODY", StudyInstanceUID="1.2").status == 0xA801


def test_the_one_archive_moves_it_itself_and_tells_how_far_it_is(tmp_path: Path) -> None:
    first = Shelf("archive")
    first.verdict = (0, Counts(0, 2, 0, 1), [])
    first.on_move = lambda progress: progress(Counts(2, 1))
    desk = Desk(tmp_path, first)
    done = desk.move(StudyInstanceUID=["1.2", "1.3"])
    assert (done.status, done.counts) == (0, Counts(0, 2, 0, 1))
    assert [(to, one.wanted) for to, one in first.moved] == [("WS1", ("1.2", "1.3"))]
    assert desk.counts == [Counts(2, 1)]


def test_each_series_comes_from_the_archive_that_has_most_of_it(tmp_path: Path) -> None:
    first = Shelf("archive", series("1.2", "1.2.1", 10), series("1.2", "1.2.2", 3))
    second = Shelf("vna", series("1.2", "1.2.1", 10), series("1.2", "1.2.2", 5), series("1.2", "1.2.3", 1))
    desk = Desk(tmp_path, first, second)
    done = desk.move(StudyInstanceUID="1.2")
    assert [(one.level, one.wanted) for _, one in first.moved] == [("SERIES", ("1.2.1",))]
    assert [(one.level, one.wanted) for _, one in second.moved] == [("SERIES", ("1.2.2", "1.2.3"))]
    assert done.counts == Counts(0, 2)


def test_a_patient_is_divided_study_by_study(tmp_path: Path) -> None:
    entries = [study("1.2", PatientID="4711"), study("1.3", PatientID="4711")]
    first = Shelf("archive", *entries, series("1.2", "1.2.1", 1), series("1.3", "1.3.1", 1))
    desk = Desk(tmp_path, first, Shelf("vna"))
    desk.move(model=PATIENT_ROOT, QueryRetrieveLevel="PATIENT", PatientID="4711")
    assert [(one.keys["STUDY"], one.wanted) for _, one in first.moved] == [(("1.2",), ("1.2.1",)), (("1.3",), ("1.3.1",))]
    assert {one.PatientID for one in first.asked} == {"4711"}  # which the hierarchy wants at every level


def test_images_are_divided_one_by_one(tmp_path: Path) -> None:
    images = [
        entry(QueryRetrieveLevel="IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID="1.3", SOPInstanceUID=uid) for uid in ("1.4", "1.5")
    ]
    first, second = Shelf("archive", images[0]), Shelf("vna", *images)
    Desk(tmp_path, first, second).move(
        QueryRetrieveLevel="IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID="1.3", SOPInstanceUID=["1.4", "1.5"]
    )
    assert [one.wanted for _, one in first.moved] == [("1.4",)]
    assert [one.wanted for _, one in second.moved] == [("1.5",)]


def test_what_failed_at_an_archive_is_told_with_its_uids(tmp_path: Path) -> None:
    first = Shelf("archive")
    first.verdict = (0xB000, Counts(0, 3, 1), ["1.9"])
    done = Desk(tmp_path, first).move(StudyInstanceUID="1.2")
    assert (done.status, done.counts, done.failed) == (0xB000, Counts(0, 3, 1), ("1.9",))


def image(uid: str, series_uid: str = "1.2.1") -> Dataset:
    return entry(QueryRetrieveLevel="IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID=series_uid, SOPInstanceUID=uid)


def test_what_failed_at_one_archive_is_asked_of_the_next_that_has_it(tmp_path: Path) -> None:
    of_series = [series("1.2", "1.2.1", 4), series("1.2", "1.2.2", 4)]
    first, second, third = Shelf("archive", *of_series), Shelf("vna", image("1.8"), image("1.7", "1.2.2")), Shelf("old", image("1.9"))
    first.verdict = (0xB000, Counts(0, 5, 4), ["1.6", "1.7", "1.8", "1.9"])
    second.verdict = third.verdict = (0, Counts(0, 1), [])
    done = Desk(tmp_path, first, second, third).move(StudyInstanceUID="1.2")
    asked = [[(one.keys["SERIES"], one.wanted) for _, one in shelf.moved] for shelf in (second, third)]
    assert asked == [[(("1.2.1",), ("1.8",)), (("1.2.2",), ("1.7",))], [(("1.2.1",), ("1.9",))]]
    assert (done.status, done.counts, done.failed) == (0xB000, Counts(0, 8, 1), ("1.6",))


def test_what_fails_at_every_archive_is_asked_of_each_once(tmp_path: Path) -> None:
    first, second = Shelf("archive", series("1.2", "1.2.1", 2), image("1.9")), Shelf("vna", image("1.9"))
    first.verdict, second.verdict = (0xB000, Counts(0, 1, 1), ["1.9"]), (0xA702, Counts(0, 0, 1), ["1.9"])
    done = Desk(tmp_path, first, second).move(StudyInstanceUID="1.2")
    assert (len(first.moved), len(second.moved)) == (1, 1)
    assert (done.status, done.counts, done.failed) == (0xB000, Counts(0, 1, 1), ("1.9",))


def test_what_was_to_be_asked_of_the_next_archive_remains_after_a_cancel(tmp_path: Path) -> None:
    first, second = Shelf("archive", series("1.2", "1.2.1", 3)), Shelf("vna", image("1.8"))
    third = Shelf("old", image("1.9"))
    first.verdict, second.verdict = (0xB000, Counts(0, 1, 2), ["1.8", "1.9"]), (0xFE00, Counts(1, 0), [])
    desk = Desk(tmp_path, first, second, third)
    second.on_move = lambda progress: desk.task.cancel()
    done = desk.move(StudyInstanceUID="1.2")
    assert (done.counts, third.moved) == (Counts(2, 1), [])


def test_who_asks_for_a_move_is_named_to_the_destination(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Shelf("archive"))
    for sample in ("adt_a04", "orm_ct"):
        desk.house.say(Path(f"samples/{sample}.hl7").read_bytes())
    [(uid,)] = desk.house.rows("select study_uid from exams")
    assert desk.house.store(ct_image("4711", "DOE^JANE", "", uid)) == 0
    desk.task = Task(7)
    desk.move("WS1", StudyInstanceUID=uid)
    assert [one.originator for one in desk.stations[0].received] == [("WS1", 7)]


def test_an_archive_that_is_lost_on_the_way_leaves_the_rest_as_failed(tmp_path: Path) -> None:
    first = Shelf("archive")

    def lost(progress: Any) -> None:
        progress(Counts(4, 1))
        raise DOWN

    first.on_move = lost
    done = Desk(tmp_path, first).move(StudyInstanceUID="1.2")
    assert (done.status, done.counts) == (0xB000, Counts(0, 1, 4))


def test_what_an_archive_fails_to_send_goes_from_here_and_counts_once(tmp_path: Path) -> None:
    first = Shelf("archive")
    desk = Desk(tmp_path, first)
    desk.house.say((Path("samples/adt_a04.hl7")).read_bytes())
    desk.house.say((Path("samples/orm_ct.hl7")).read_bytes())
    [(uid,)] = desk.house.rows("select study_uid from exams")
    assert [desk.house.store(ct_image("4711", "WRONG", "", uid, number)) for number in (1, 2)] == [0, 0]
    desk.house.wait(desk.house.db.run("test", lambda tx: tx.execute("update delivery set state = 'delivered'")))
    first.verdict = (0xC000, Counts(0, 0, 2), [])
    done = desk.move(StudyInstanceUID=uid)
    assert (done.status, done.counts) == (0xB000, Counts(0, 2))


def test_a_cancelled_move_asks_no_further_archive_and_tells_what_remained(tmp_path: Path) -> None:
    first, second = Shelf("archive", series("1.2", "1.2.1", 5)), Shelf("vna", series("1.2", "1.2.2", 5))
    first.verdict = (0xFE00, Counts(4, 1), [])
    desk = Desk(tmp_path, first, second)
    first.on_move = lambda progress: desk.task.cancel()
    done = desk.move(StudyInstanceUID="1.2")
    assert (done.counts, second.moved) == (Counts(4, 1), [])


def test_nothing_done_is_no_partial_success(tmp_path: Path) -> None:
    first = Shelf("archive", down=DOWN)
    done = Desk(tmp_path, first).move(StudyInstanceUID="1.2")
    assert (done.status, done.comment) == (0xA702, "no answer from archive")
    assert Desk(tmp_path / "strict", first, absent="fail").move(StudyInstanceUID="1.2").status == 0xC001


@pytest.mark.parametrize("status", [0xA801, 0xC000])
def test_an_archive_that_does_not_begin_is_asked_to_send_here(tmp_path: Path, status: int) -> None:
    first = Shelf("archive")
    first.verdict = (status, Counts(), [])
    done = Desk(tmp_path, first).move(StudyInstanceUID="1.2")
    assert (len(first.moved), len(first.got), done.status) == (1, 1, 0)


def test_through_the_broker_an_archive_is_not_asked_to_move(tmp_path: Path) -> None:
    first = Shelf("archive")
    Desk(tmp_path, first, through="broker").move(StudyInstanceUID="1.2")
    assert (first.moved, len(first.got)) == ([], 1)


def test_what_an_archive_without_get_sends_here_is_passed_on_and_not_taken_in(tmp_path: Path) -> None:
    first = Shelf("archive")
    first.offered = {STUDY_ROOT.find}
    desk = Desk(tmp_path, first, through="broker", spool=False)
    images = {uid: ct_image("4711", "DOE^JANE", "", uid) for uid in ("1.2", "1.9")}
    archive, told = Caller("modalities", "ARCHIVE", "BROKER", ""), []

    def send(progress: Any) -> None:
        for image in images.values():
            desk.house.dicom.receive_instance(archive, desk.house.spooled(image)).addCallback(told.append)

    first.on_move = send
    desk.move(StudyInstanceUID="1.2")
    assert [to for to, _ in first.moved] == ["BROKER"]
    assert [one.spooled.sop_instance for one in desk.stations[0].received] == [images["1.2"].SOPInstanceUID]
    assert desk.house.rows("select control_id from message") == [(images["1.9"].SOPInstanceUID,)]
    assert told[0] == 0


def test_a_get_brings_back_what_is_here_and_what_the_archive_has(tmp_path: Path) -> None:
    first = Shelf("archive")
    desk = Desk(tmp_path, first)
    desk.house.say((Path("samples/adt_a04.hl7")).read_bytes())
    desk.house.say((Path("samples/orm_ct.hl7")).read_bytes())
    [(uid,)] = desk.house.rows("select study_uid from exams")
    image = ct_image("4711", "WRONG", "", uid)
    assert desk.house.store(image) == 0
    sent: list[str] = []

    async def store(request: StoreRequest) -> int:
        sent.append(request.spooled.sop_instance)
        return 0xB000

    done = desk.house.wait(
        desk.retrievals.get(
            WS, desk.wanted(StudyInstanceUID=uid), desk.task, desk.counts.append, Return(store, {CT: ("1.2.840.10008.1.2.1",)})
        )
    )
    assert sent == [image.SOPInstanceUID]
    assert len(first.got) == 1
    assert first.stored == {CT: ("1.2.840.10008.1.2.1",)}
    assert (done.status, done.counts) == (0, Counts(0, 1, 0, 1))


def test_only_the_destinations_that_are_named_may_be_moved_to(tmp_path: Path) -> None:
    first = Shelf("archive")
    desk = Desk(tmp_path, first, to=["archive"])
    assert desk.move("WS1", StudyInstanceUID="1.2").status == 0xA801
    assert desk.move("ARCHIVE", StudyInstanceUID="1.2").status == 0


def test_a_destination_that_may_not_know_the_patient_is_never_moved_to(tmp_path: Path) -> None:
    archive = Shelf("archive", study("1.1"))
    desk = Desk(tmp_path, archive, deidentify=("ws1",))
    assert desk.move(StudyInstanceUID="1.1").status == 0xA801
    assert (archive.moved, desk.stations) == ([], [])


def test_a_peer_with_an_address_may_be_moved_to(tmp_path: Path) -> None:
    first = Shelf("archive")
    desk = Desk(tmp_path, first, peers={"WS7": {"host": "127.0.0.1", "port": 4000}, "WS8": {}})
    assert desk.move("WS7", StudyInstanceUID="1.2").status == 0
    assert desk.move("WS8", StudyInstanceUID="1.2").status == 0xA801
    assert [to for to, _ in first.moved] == ["WS7"]
