"""Query/Retrieve over in-memory connections: what a peer asks, and what it hears."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.testing import MemoryReactorClock

from broker.connectors.dicom import DicomListener
from broker.connectors.dicom_retrieval import Progress, Retrieved, Return, Searched, Send, Task
from broker.dicom import dimse
from broker.dicom.dataset import decode, encode
from broker.dicom.dimse import Counts, Field
from broker.dicom.happenings import Accepted, Data, Happening, Message
from broker.dicom.negotiation import Offer, Request, Role
from broker.dicom.query import SERIES, STUDY, STUDY_ROOT, Query, Retrieval
from broker.errors import MessageError, StoreError
from broker.model import StoreRequest
from broker.obs.metrics import Metrics
from tests.connectors.dicom_shell import Intake, Modality, keep, listener_settings, quiet, spool, statuses
from tests.dicom.cores import CT, EXPLICIT, IMPLICIT, written
from tests.dicom.objects import ct, part10

JPEG = "1.2.840.10008.1.2.4.70"


class Desk(Intake):
    """An intake that answers queries and retrievals when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.query: Query
        self.wanted: Retrieval
        self.task: Task
        self.send: Send
        self.progress: Progress
        self.back: Return
        self.destination = ""
        self.searched: Deferred[Searched] = Deferred()
        self.retrieved: Deferred[Retrieved] = Deferred()

    def search(self, caller: Any, query: Query, task: Task, send: Send) -> Deferred[Searched]:
        self.query, self.task, self.send = query, task, send
        return self.searched

    def move(self, caller: Any, wanted: Retrieval, destination: str, task: Task, progress: Progress) -> Deferred[Retrieved]:
        self.wanted, self.destination, self.task, self.progress = wanted, destination, task, progress
        return self.retrieved

    def get(self, caller: Any, wanted: Retrieval, task: Task, progress: Progress, back: Return) -> Deferred[Retrieved]:
        self.wanted, self.task, self.progress, self.back = wanted, task, progress, back
        return self.retrieved


class Room:
    """A listener with a desk, and a workstation at it."""

    def __init__(self, folder: Path, transcoder: Any = None, **settings: Any) -> None:
        self.desk, self.spool, self.metrics = Desk(), spool(folder), Metrics()
        log, self.logged = quiet()
        settings = listener_settings(**{"services": ["query", "retrieve"], **settings})
        shared: Any = (MemoryReactorClock(), self.desk, self.spool, self.metrics, log)
        self.listener = DicomListener("modalities", settings, *shared, transcoder=transcoder)
        self.listener.start()
        self.station = Modality(self.listener, calling="WS1")

    def associate(self, *contexts: tuple[str, tuple[str, ...]], scp: tuple[str, ...] = ()) -> list[Happening]:
        offers = tuple(Offer(2 * at + 1, abstract, syntaxes) for at, (abstract, syntaxes) in enumerate(contexts))
        core = self.station.core
        core.associate(Request("WS1", "BROKER", offers, 1 << 14, roles=dict.fromkeys(scp, Role(False, True))))
        return self.station.send(written(core.connected()))

    def ask(self, field: Field, context: int = 1, destination: str = "", **keys: Any) -> list[Happening]:
        identifier = Dataset()
        for keyword, value in keys.items():
            setattr(identifier, keyword, value)
        sop_class = self.station.core.contexts[context].abstract
        command = dimse.request(field, 7, sop_class, destination=destination)
        return self.station.send(self.station.core.message(context, command, encode(identifier, IMPLICIT)))

    def cancel(self) -> list[Happening]:
        return self.station.send(self.station.core.message(1, dimse.cancel(7)))


@pytest.fixture
def room(tmp_path: Path) -> Room:
    made = Room(tmp_path)
    syntaxes = (IMPLICIT,)
    heard = made.associate((STUDY_ROOT.find, syntaxes), (STUDY_ROOT.move, syntaxes), (STUDY_ROOT.get, syntaxes))
    assert any(isinstance(one, Accepted) for one in heard)
    return made


def send(room: Room, *entries: Dataset) -> None:
    """Let the desk send matches."""
    failures: list[Any] = []
    Deferred.fromCoroutine(room.desk.send(entries)).addErrback(failures.append)  # type: ignore[arg-type]
    assert failures == []


def match(uid: str, name: str = "") -> Dataset:
    made = Dataset()
    made.StudyInstanceUID, made.PatientName, made.QueryRetrieveLevel = uid, name, "STUDY"
    return made


def last(heard: list[Happening]) -> dimse.Command:
    return [one.command for one in heard if isinstance(one, Message)][-1]


def test_matches_go_out_as_they_are_known(room: Room) -> None:
    assert room.ask(Field.C_FIND, QueryRetrieveLevel="STUDY", PatientID="4711") == []
    assert (room.desk.query.level, room.desk.query.identifier.PatientID) == (STUDY, "4711")
    send(room, match("1.2", "DOE^JANE"))
    first = room.station.heard()
    assert statuses(first) == [0xFF00]
    [data] = [bytes(one.view) for one in first if isinstance(one, Data)]
    assert decode(data, IMPLICIT).PatientName == "DOE^JANE"
    send(room, match("1.3"), match("1.4"))
    room.desk.searched.callback(Searched())
    assert statuses(room.station.heard()) == [0xFF00, 0xFF00, 0]


def test_a_name_that_the_query_has_no_letters_for_is_still_readable(room: Room) -> None:
    room.ask(Field.C_FIND, QueryRetrieveLevel="STUDY", SpecificCharacterSet="ISO_IR 100", PatientID="4711")
    send(room, match("1.2", "Größe^Jörg"), match("1.3", "山田^太郎"))
    sets = [decode(bytes(one.view), IMPLICIT) for one in room.station.heard() if isinstance(one, Data)]
    assert [(one.SpecificCharacterSet, str(one.PatientName)) for one in sets] == [
        ("ISO_IR 100", "Größe^Jörg"),
        ("ISO_IR 192", "山田^太郎"),
    ]


def test_a_cancel_ends_a_query(room: Room) -> None:
    room.ask(Field.C_FIND, QueryRetrieveLevel="STUDY")
    room.cancel()
    assert room.desk.task.cancelled
    send(room, match("1.2"))
    room.desk.searched.callback(Searched())
    assert statuses(room.station.heard()) == [0xFE00]


def test_after_the_last_response_of_a_query_nothing_is_sent(room: Room) -> None:
    room.ask(Field.C_FIND, QueryRetrieveLevel="STUDY")
    room.desk.searched.errback(StoreError("gone"))
    send(room, match("1.2"))  # of a source that did not hear of it yet
    assert statuses(room.station.heard()) == [0xA700]


def test_a_peer_that_goes_away_cancels_its_query(room: Room) -> None:
    room.ask(Field.C_FIND, QueryRetrieveLevel="STUDY")
    room.station.lose()
    assert room.desk.task.cancelled
    room.desk.searched.callback(Searched())


@pytest.mark.parametrize(
    ("field", "context", "keys", "at"),
    [
        (Field.C_FIND, 1, {"QueryRetrieveLevel": "SERIES"}, "StudyInstanceUID"),
        (Field.C_FIND, 1, {"QueryRetrieveLevel": "PATIENT"}, "QueryRetrieveLevel"),
        (Field.C_MOVE, 3, {"QueryRetrieveLevel": "STUDY"}, "StudyInstanceUID"),
        (Field.C_GET, 5, {"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": "1.2"}, "StudyInstanceUID"),
    ],
)
def test_what_breaks_the_hierarchy_is_refused_with_the_key(room: Room, field: Field, context: int, keys: dict[str, str], at: str) -> None:
    refused = last(room.ask(field, context, **keys))
    assert refused.status == 0xA900
    assert refused.comment.startswith(f"{at}: ")


def test_a_query_whose_store_fails_is_out_of_resources_and_the_association_goes_on(room: Room) -> None:
    room.ask(Field.C_FIND, QueryRetrieveLevel="STUDY")
    room.desk.searched.errback(StoreError("gone"))
    assert statuses(room.station.heard()) == [0xA700]
    room.desk.searched = Deferred()
    room.ask(Field.C_FIND, QueryRetrieveLevel="STUDY")
    room.desk.searched.callback(Searched(0xA700, "more than 5 matches: narrow the query"))
    assert last(room.station.heard()).comment == "more than 5 matches: narrow the query"


def test_a_move_tells_how_far_it_is_and_what_failed(room: Room) -> None:
    room.ask(Field.C_MOVE, 3, "WS1", QueryRetrieveLevel="SERIES", StudyInstanceUID="1.2", SeriesInstanceUID=["1.3", "1.4"])
    assert (room.desk.destination, room.desk.wanted.level, room.desk.wanted.wanted) == ("WS1", SERIES, ("1.3", "1.4"))
    room.desk.progress(Counts(2, 1, 0, 0))
    assert last(room.station.heard()).counts == Counts(2, 1, 0, 0)
    room.desk.retrieved.callback(Retrieved(0xB000, Counts(0, 1, 2, 0), ("1.5", "1.6")))
    heard = room.station.heard()
    assert (last(heard).status, last(heard).counts) == (0xB000, Counts(0, 1, 2, 0))
    [data] = [bytes(one.view) for one in heard if isinstance(one, Data)]
    assert list(decode(data, IMPLICIT).FailedSOPInstanceUIDList) == ["1.5", "1.6"]


def test_a_cancelled_move_ends_with_what_remained(room: Room) -> None:
    room.ask(Field.C_MOVE, 3, "WS1", QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2")
    room.station.send(room.station.core.message(3, dimse.cancel(7)))
    room.desk.progress(Counts(3, 1))
    room.desk.retrieved.callback(Retrieved(0, Counts(3, 1)))
    ended = last(room.station.heard())
    assert (ended.status, ended.counts) == (0xFE00, Counts(3, 1))


def test_neither_service_is_there_unless_it_is_named(tmp_path: Path) -> None:
    room = Room(tmp_path, services=["store"])
    room.associate((STUDY_ROOT.find, (IMPLICIT,)), (STUDY_ROOT.get, (IMPLICIT,)), (CT, (EXPLICIT,)))
    assert [context.abstract for context in room.station.core.contexts.values()] == [CT]


class Opening:
    """Stands for `Pixels`: gives the object as it was before its compression, or cannot."""

    def __init__(self, folder: Path, able: bool = True) -> None:
        self.made, self.able = folder / "opened.dcm", able
        self.asked: list[str] = []

    def transcode(self, path: str, target: str) -> Deferred[str]:
        self.asked.append(target)
        if not self.able:
            return fail(MessageError("PixelData", "cannot be decoded", 207))
        self.made.write_bytes(part10(ct(16), target, implicit=target == IMPLICIT))
        return succeed(str(self.made))


def get(
    folder: Path, syntaxes: tuple[str, ...], own: str = EXPLICIT, transcoder: Opening | None = None, **changes: str
) -> tuple[Room, list[Happening], list[int], Dataset]:
    """Let a workstation get one object that it takes in these transfer syntaxes; what it heard and what the desk was told."""
    room = Room(folder, transcoder=transcoder)
    room.associate((STUDY_ROOT.get, (IMPLICIT,)), (CT, syntaxes), scp=(CT,))
    room.ask(Field.C_GET, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2")
    image = ct(16)
    spooled = keep(room.spool, part10(image, own), image, own)
    told: list[int] = []
    Deferred.fromCoroutine(room.desk.back.store(StoreRequest(spooled, changes))).addCallback(told.append)  # type: ignore[arg-type]
    return room, room.station.heard(), told, image


def test_an_object_comes_back_over_the_association_that_asks(tmp_path: Path) -> None:
    room, heard, told, image = get(tmp_path, (EXPLICIT,), PatientID="NEW")
    request = last(heard)
    assert (request.field, request.sop_instance) == (Field.C_STORE, image.SOPInstanceUID)
    sent = decode(b"".join(bytes(one.view) for one in heard if isinstance(one, Data)), EXPLICIT)
    assert (sent.PatientID, sent.PixelData) == ("NEW", image.PixelData)
    room.station.send(room.station.core.message(3, dimse.response(request, 0)))
    assert told == [0]
    room.desk.retrieved.callback(Retrieved(0, Counts(0, 1)))
    assert statuses(room.station.heard()) == [0]


def test_an_object_is_written_in_another_uncompressed_syntax_where_its_own_is_not_taken(tmp_path: Path) -> None:
    _, heard, _, image = get(tmp_path, (IMPLICIT,))
    sent = decode(b"".join(bytes(one.view) for one in heard if isinstance(one, Data)), IMPLICIT)
    assert (sent.PatientName, sent.PixelData) == (image.PatientName, image.PixelData)


def test_an_object_that_the_peer_takes_in_no_syntax_is_a_failure_and_not_sent(tmp_path: Path) -> None:
    _, heard, told, _ = get(tmp_path, (JPEG,))
    assert (heard, told) == ([], [0x0122])


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_compressed_object_is_opened_for_who_takes_none(tmp_path: Path, syntax: str) -> None:
    opening = Opening(tmp_path)
    room, heard, told, image = get(tmp_path, (syntax,), JPEG, opening, PatientID="NEW")
    sent = decode(b"".join(bytes(one.view) for one in heard if isinstance(one, Data)), syntax)
    assert (opening.asked, sent.PatientID, sent.PixelData) == ([syntax], "NEW", image.PixelData)
    room.station.send(room.station.core.message(3, dimse.response(last(heard), 0)))
    assert told == [0]
    assert not opening.made.exists()


@pytest.mark.parametrize(("syntax", "asked"), [(EXPLICIT, [EXPLICIT]), ("1.2.840.10008.1.2.5", [])])
def test_a_compressed_object_that_cannot_be_opened_is_a_failure(tmp_path: Path, syntax: str, asked: list[str]) -> None:
    opening = Opening(tmp_path, able=False)
    _, heard, told, _ = get(tmp_path, (syntax,), JPEG, opening)
    assert (opening.asked, heard, told) == (asked, [], [0x0122])
