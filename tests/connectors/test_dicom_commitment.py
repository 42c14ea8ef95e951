"""Storage commitment on the wire: what a listener takes, what a destination hears, and how a peer is called back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock

from broker.connectors.base import Caller
from broker.connectors.dicom import DicomListener
from broker.connectors.dicom_callback import CallBack
from broker.connectors.dicom_commitment import INQUIRY, SERVICE, Hearing, Lines
from broker.connectors.dicom_peers import address_of
from broker.dicom import dimse
from broker.dicom.commitment import PUSH_INSTANCE, PUSH_MODEL, Reference, Report, read_report, report, request
from broker.dicom.dataset import EXPLICIT_LITTLE, IMPLICIT_LITTLE, decode, encode
from broker.dicom.dimse import Field
from broker.dicom.dimserequest import DimseRequest, encode_request
from broker.dicom.happenings import Data, Message
from broker.dicom.negotiation import Identity, IdentityKind, Role
from broker.errors import Refused, Retry
from broker.model import Delivery
from broker.obs.metrics import Metrics
from tests.connectors.dicom_archive import Archive, Site
from tests.connectors.dicom_shell import Intake, Modality, listener_settings, quiet, spool, statuses

CT = "1.2.840.10008.5.1.4.1.1.2"
ASKED = encode(request("2.25.1", [Reference(CT, "1.2.3")]), EXPLICIT_LITTLE)
SAID = Report("2.25.1", (Reference(CT, "1.2.3"),))
TOLD = encode(report(SAID), EXPLICIT_LITTLE)


class Keeping(Intake):
    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[Caller, Dataset]] = []
        self.reports: list[tuple[Caller, Dataset]] = []

    def request_commitment(self, caller: Caller, action: Dataset, /) -> Deferred[int]:
        self.requests.append((caller, action))
        return succeed(self.status)

    def report_commitment(self, caller: Caller, event: Dataset, /) -> Deferred[int]:
        self.reports.append((caller, event))
        return succeed(self.status)


class House:
    """A listener that serves storage commitment, a modality at it, and the queue that calls it back."""

    def __init__(self, folder: Path, peer: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self.intake, self.lines, self.reactor = Keeping(), Lines(), MemoryReactorClock()
        self.log, self.logged = quiet()
        shared: Any = (self.reactor, self.intake, spool(folder), Metrics(), self.log, self.lines)
        self.listener = DicomListener("modalities", listener_settings(services=["commitment"], idle="1h"), *shared)
        self.listener.start()
        there = {"CT1": address_of({"host": "127.0.0.1", "port": 104, **(peer or {})})}
        called = {"listener": "modalities", "ae_title": "BROKER", "answer": "same", "addresses": there, **settings}
        self.queue = CallBack("modalities.CT1", called, self.reactor, self.lines, Metrics(), self.log)

    def modality(self, syntax: str = EXPLICIT_LITTLE) -> Modality:
        modality = Modality(self.listener)
        modality.associate((PUSH_MODEL, syntax))
        return modality

    def send(self) -> list[Any]:
        event = DimseRequest("N-EVENT-REPORT", PUSH_MODEL, PUSH_INSTANCE, TOLD, SAID.event_type)
        told = Delivery(1, 1, "modalities.CT1", "CT1", "modalities", "N-EVENT-REPORT", encode_request(event), "2.25.1", "A1", 0)
        results: list[Any] = []
        self.queue.send(told).addCallbacks(results.append, lambda failure: results.append(failure.value))
        return results


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def action(modality: Modality, dataset: bytes = ASKED, instance: str = PUSH_INSTANCE, type_id: int = 1) -> list[int]:
    command = dimse.request(Field.N_ACTION, 7, PUSH_MODEL, instance, type_id=type_id, with_dataset=bool(dataset))
    return statuses(modality.send(modality.core.message(1, command, dataset)))


def event(type_id: int = 1, instance: str = PUSH_INSTANCE) -> bytes:
    return dimse.request(Field.N_EVENT_REPORT, 7, PUSH_MODEL, instance, type_id=type_id)


def test_the_examples_are_right() -> None:
    assert SERVICE.read(SERVICE.example) == {"by": "archive", "within": 86400.0, "answer": "same", "give_up": 259200.0}
    assert INQUIRY.read(INQUIRY.example) == {"quiet": 60.0, "batch": 500, "within": 21600.0, "resend": 1}
    assert INQUIRY.read(True) == INQUIRY.read({})
    assert INQUIRY.read(False) is None


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_a_request_is_handed_over_and_answered(house: House, syntax: str) -> None:
    modality = house.modality(syntax)
    assert action(modality, encode(decode(ASKED, EXPLICIT_LITTLE), syntax)) == [0x0000]
    [(caller, asked)] = house.intake.requests
    assert (caller.listener, caller.ae_title, asked.TransactionUID) == ("modalities", "CT1", "2.25.1")


@pytest.mark.parametrize(
    ("instance", "type_id", "status"), [("1.2.3", 1, 0x0112), (PUSH_INSTANCE, 2, 0x0123), ("", 1, 0x0117), ("no uid", 1, 0x0117)]
)
def test_a_request_of_something_else_is_refused(house: House, instance: str, type_id: int, status: int) -> None:
    assert action(house.modality(), instance=instance, type_id=type_id) == [status]
    assert house.intake.requests == []


def test_a_request_without_a_dataset_is_the_intakes_to_judge(house: House) -> None:
    house.intake.status = 0x0115
    assert action(house.modality(), b"") == [0x0115]
    assert len(house.intake.requests[0][1]) == 0


@pytest.mark.parametrize(
    ("type_id", "instance", "status"),
    [(1, PUSH_INSTANCE, 0x0000), (2, PUSH_INSTANCE, 0x0000), (3, PUSH_INSTANCE, 0x0113), (1, "1.2", 0x0112)],
)
def test_a_report_of_an_archive_is_handed_over_and_answered(house: House, type_id: int, instance: str, status: int) -> None:
    archive = house.modality()
    assert statuses(archive.send(archive.core.message(1, event(type_id, instance), TOLD))) == [status]
    assert len(house.intake.reports) == (status == 0x0000)


# the call-back


def heard_by(modality: Modality) -> tuple[Message, Report]:
    happenings = modality.heard()
    [message] = [one for one in happenings if isinstance(one, Message)]
    data = b"".join(bytes(one.view) for one in happenings if isinstance(one, Data))
    return message, read_report(decode(data, message.context.syntax))


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_who_asked_is_told_over_the_same_association(house: House, syntax: str) -> None:
    modality = house.modality(syntax)
    action(modality, encode(decode(ASKED, EXPLICIT_LITTLE), syntax))
    results = house.send()
    message, said = heard_by(modality)
    assert (message.command.field, message.command.type_id, message.command.sop_instance) == (Field.N_EVENT_REPORT, 1, PUSH_INSTANCE)
    assert said == SAID
    modality.send(modality.core.message(1, dimse.response(message.command, 0)))
    assert results == ["0x0000"]
    assert house.reactor.tcpClients == []


def test_one_that_refuses_the_report_leaves_it_to_a_person(house: House) -> None:
    modality = house.modality()
    action(modality)
    results = house.send()
    message, _ = heard_by(modality)
    modality.send(modality.core.message(1, dimse.response(message.command, 0x0110)))
    assert [type(one) for one in results] == [Refused]
    assert str(results[0]) == "status 0x0110"


def called(house: House) -> Archive:
    return Archive(1, house.reactor.tcpClients[-1][2])


def test_who_has_left_is_called_back_in_the_role_of_the_scp(house: House) -> None:
    modality = house.modality()
    action(modality)
    modality.lose()
    results = house.send()
    assert house.reactor.tcpClients[-1][:2] == ("127.0.0.1", 104)
    peer = called(house).accept()
    assert peer.request is not None
    assert (peer.request.calling, peer.request.called) == ("BROKER", "CT1")
    assert peer.request.roles == {PUSH_MODEL: Role(scu=False, scp=True)}
    peer.answer()
    assert read_report(decode(peer.data, EXPLICIT_LITTLE)) == SAID
    assert results == ["0x0000"]
    peer.hear()
    assert peer.released


def test_who_is_called_back_hears_who_calls(tmp_path: Path) -> None:
    house = House(tmp_path, peer={"identify_as": {"user": "broker", "passcode": "secret"}})
    results = house.send()
    peer = called(house).accept()
    peer.answer()
    assert results == ["0x0000"]
    assert peer.request is not None
    assert peer.request.identity == Identity(IdentityKind.PASSCODE, b"broker", b"secret")


def test_one_that_wants_a_new_association_gets_it(tmp_path: Path) -> None:
    house = House(tmp_path, answer="new")
    modality = house.modality()
    action(modality)
    house.send()
    assert len(house.reactor.tcpClients) == 1
    assert modality.heard() == []


def test_one_that_leaves_before_it_has_answered_is_called_back(house: House) -> None:
    modality = house.modality()
    action(modality)
    results = house.send()
    modality.lose()
    called(house).accept().answer()
    assert results == ["0x0000"]


@pytest.mark.parametrize("leave", [True, False])
def test_without_an_address_only_the_association_that_asked_will_do(tmp_path: Path, leave: bool) -> None:
    house = House(tmp_path, answer="new", addresses={})
    modality = house.modality()
    action(modality)
    if leave:
        modality.lose()
    results = house.send()
    if not leave:
        modality.lose()
    assert [type(one) for one in results] == [Refused]
    assert "has no host and port to call back" in str(results[0])


def test_one_that_does_not_take_reports_leaves_it_to_a_person(house: House) -> None:
    results = house.send()
    called(house).accept(lambda offer: 3)
    assert [type(one) for one in results] == [Refused]


def test_one_that_does_not_answer_is_tried_again(house: House) -> None:
    results = house.send()
    called(house).accept()
    house.reactor.advance(60)
    assert [isinstance(one, Retry) for one in results] == [True]


def test_closed_lines_are_forgotten(house: House) -> None:
    for _ in range(3):
        modality = house.modality()
        action(modality)
        modality.lose()
    assert house.lines.find("modalities", "CT1") is None
    action(house.modality())
    assert house.lines.find("modalities", "CT1") is not None
    assert house.lines.find("modalities", "MR1") is None


# reports over an association of ours


def test_a_destination_hears_the_report_over_its_own_association(tmp_path: Path) -> None:
    intake = Keeping()
    site = Site(tmp_path)
    hearing = Hearing("archive", "ARCHIVE", site.reactor, lambda: intake)
    site.destination._serve = hearing
    asked = DimseRequest("N-ACTION", PUSH_MODEL, PUSH_INSTANCE, ASKED, 1)
    results: list[Any] = []
    site.destination.send(Delivery(1, 1, "archive", "l", "commitment", "N-ACTION", encode_request(asked), "2.25.1", "A1", 0)).addBoth(
        results.append
    )
    archive = site.archive().accept()
    command = archive.answer().command
    assert (command.field, command.type_id, command.sop_instance) == (Field.N_ACTION, 1, PUSH_INSTANCE)
    assert results == ["0x0000"]
    archive.protocol.dataReceived(archive.core.message(1, event(), TOLD))
    archive.hear()
    assert [(caller.listener, caller.ae_title, said.TransactionUID) for caller, said in intake.reports] == [
        ("archive", "ARCHIVE", "2.25.1")
    ]
    assert archive.messages[-1].command.status == 0x0000


def test_it_takes_nothing_but_reports(house: House) -> None:
    hearing = Hearing("archive", "ARCHIVE", house.reactor, lambda: house.intake)
    modality = house.modality()
    [context] = modality.core.contexts.values()
    other = Message(context, dimse.parse(dimse.request(Field.N_ACTION, 1, PUSH_MODEL, PUSH_INSTANCE, type_id=1)))
    assert hearing(modality.shell, other) is None
