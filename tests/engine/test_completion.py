"""Complete and available images, from evidence to what channels make of it, without a wire."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from twisted.internet.defer import Deferred, succeed

from broker.config.load import load
from broker.connectors import registry
from broker.dicom import availability, commitment
from broker.dicom.availability import Located, Notification
from broker.dicom.dataset import decode
from broker.dicom.dimse import Status
from broker.dicom.dimserequest import decode_request
from broker.engine.clock import SiteClock
from broker.engine.completion import Completion
from broker.errors import ConfigError
from broker.obs.log import Log
from broker.ris.context import Completion as Rules
from broker.store import journal
from tests.dicom.objects import ct
from tests.engine.house import CT1, ROOT, House

EXPLICIT = "1.2.840.10008.1.2.1"
ARCHIVE = replace(CT1, ae_title="ARCHIVE", peer="127.0.0.1:50002")
NOTICES = """\
description: Whoever reads is told where the images of a complete study are.
to:
  - when: event = study.delivered and reason = archive
    notify: {retrieve_ae: ARCHIVE}
    send: archive
  - when: event = study.complete
    build: ORM^O01^ORM_O01
    set: {ORC-5: A}
    send: ehr
"""


class Department(House):
    """The shipped configuration with one more route, and what looks whether images are complete."""

    def __init__(self, folder: Path, by: tuple[str, ...] = ("performed", "commitment", "quiet"), notices: str = NOTICES) -> None:
        for name in ("routes", "mappings"):
            shutil.copytree(ROOT / name, folder / name)
        (folder / "routes/complete.yaml").write_text(notices)
        channels = (ROOT / "channels.yaml").read_text() + "  complete: {from: ris, route: routes/complete.yaml}\n"
        (folder / "channels.yaml").write_text(channels)
        super().__init__(folder, load(folder / "channels.yaml", {}, registry))
        self.intake.site = replace(self.site, completion=Rules(by, 900.0, 14400.0))
        couriers: Any = self
        clock = SiteClock(lambda: self.at, "UTC")
        self.completion = Completion(self.intake, self.db, clock, couriers, self.metrics, Log(self.printed, terminal=False))
        self.dicom.completion = self.completion
        self.study = str(generate_uid())

    def deliver(self, deliveries: Any) -> None:
        self.sent.extend(deliveries)

    def order(self) -> None:
        message = (ROOT / "samples/orm_ct.hl7").read_text().replace("\n", "\r")
        assert "|AA|" in self.say(message + f"ZDS|{self.study}\r")
        self.sent.clear()

    def image(self) -> Dataset:
        dataset = ct(16)
        dataset.StudyInstanceUID, dataset.AccessionNumber, dataset.PatientID = self.study, "A00000001", "4711"
        assert self.store(dataset) == 0
        return dataset

    def look(self, after: float = 0.0) -> list[str]:
        """Return the events of a round after some time, with their reasons."""
        self.at += after
        self.wait(self.completion.work())
        return self.told()

    def told(self) -> list[str]:
        rows = self.rows("select what, detail from audit_note where what like 'study.%' order by id")
        return [f"{what}: {detail}" for what, detail in rows]

    def deliver_all(self) -> None:
        """Let the archive take what waits for it."""
        waiting = [one for one in self.sent if one.destination == "archive"]

        def settle(tx: Any) -> None:
            tx.execute("update delivery set state = 'delivered' where destination = 'archive'")

        assert waiting
        self.wait(self.db.run("test", settle))
        self.sent.clear()


@pytest.fixture
def department(tmp_path: Path) -> Department:
    made = Department(tmp_path)
    made.order()
    return made


def test_quiet_time_survives_whoever_measured_it(department: Department) -> None:
    department.image()
    assert department.look(899) == ["study.stored: first image"]
    anew = department.completion
    department.completion = Completion(
        department.intake, department.db, anew._clock, anew._couriers, department.metrics, Log(department.printed, terminal=False)
    )
    assert department.look(1) == ["study.stored: first image", "study.complete: quiet: nothing for 900 s"]
    (sent,) = [one for one in department.sent if one.destination == "ehr"]
    assert (sent.kind, sent.accession) == ("ORM^O01", "A00000001")
    ((kind, protocol, state, reason),) = department.rows("select kind, protocol, state, reason from message where protocol = 'ris'")
    assert (kind, protocol, state, reason) == ("images due", "ris", "routed", "study.complete")


def test_the_archive_that_has_all_of_them_is_told_of(department: Department) -> None:
    images = [department.image(), department.image()]
    department.look(900)
    assert "study.delivered: archive" not in department.look(60)
    department.deliver_all()
    assert department.look(60)[-1] == "study.delivered: archive"
    (sent,) = department.sent
    request = decode_request(sent.payload)
    assert (sent.destination, sent.kind, request.sop_class) == ("archive", "N-CREATE", availability.SOP_CLASS)
    assert request.sop_instance.startswith("2.25.")
    said = availability.read(decode(request.dataset, EXPLICIT))
    assert said.study_uid == department.study
    assert {one.sop_instance for one in said.instances} == {image.SOPInstanceUID for image in images}
    assert {(one.availability, one.retrieve_ae) for one in said.instances} == {("ONLINE", "ARCHIVE")}
    assert len(department.look(3600)) == 3  # told once


def test_a_commitment_request_is_evidence_once_it_is_kept(department: Department) -> None:
    image = department.image()
    asked = commitment.request("2.25.7", [commitment.Reference(image.SOPClassUID, image.SOPInstanceUID)])
    refuses = department.completion.watching(lambda caller, dataset: succeed(0x0110))
    assert department.wait(refuses(CT1, asked)) == 0x0110
    assert department.told() == ["study.stored: first image"]
    takes = department.completion.watching(lambda caller, dataset: succeed(0))
    assert department.wait(takes(CT1, asked)) == 0
    assert department.told()[-1] == "study.complete: commitment: 1 of 1 images"


def test_the_end_of_an_association_counts_when_it_is_in_order(tmp_path: Path) -> None:
    department = Department(tmp_path, by=("closed",))
    department.order()
    department.image()
    department.dicom.association_ended(CT1, False)
    department.dicom.association_ended(CT1, True)
    department.run()
    assert department.told() == ["study.stored: first image"]  # it was lost, and is not known any more
    department.image()
    department.dicom.association_ended(CT1, True)
    department.dicom.association_ended(CT1, False)
    department.run()
    assert department.told()[-1].startswith("study.complete: closed")


def test_an_image_that_is_read_once_more_came_over_no_association(tmp_path: Path) -> None:
    department = Department(tmp_path, by=("closed",))
    department.order()
    department.image()
    department.dicom.association_ended(CT1, False)
    [(id,)] = department.rows("select max(id) from message where kind = 'C-STORE'")
    department.dicom.read_again(department.wait(department.db.read("test", journal.get, id)))
    department.dicom.association_ended(CT1, True)  # another one, from the same port
    department.run()
    assert department.told() == ["study.stored: first image"]


def test_a_route_that_fails_does_not_undo_what_has_happened(tmp_path: Path) -> None:
    broken = NOTICES.replace("set: {ORC-5: A}", 'set: {ORC-5: "{report.text}"}')
    department = Department(tmp_path, notices=broken)
    department.order()
    department.image()
    assert department.look(900)[-1].startswith("study.complete")
    assert len(department.look(900)) == 2
    ((state, reason),) = department.rows("select state, reason from message where protocol = 'ris'")
    assert state == "refused"
    assert "study.complete" in reason


def notification(department: Department, *instances: str, study: str = "") -> Dataset:
    located = tuple(Located("2.25.5", "1.2.840.10008.5.1.4.1.1.2", uid, "NEARLINE", "VNA") for uid in instances)
    return availability.make(Notification(study or department.study, located, ("2.25.6",)))


def test_an_archive_says_that_it_has_them(department: Department) -> None:
    image = department.image()
    taking = department.completion.receive_availability(ARCHIVE, "2.25.8", notification(department, image.SOPInstanceUID))
    assert department.wait(taking) == 0
    assert department.told()[-1] == "study.available: NEARLINE at VNA: 1 of 1 images"
    rows = department.rows("select kind, sender, state, accession from message where sender = 'ARCHIVE'")
    assert rows == [("N-CREATE", "ARCHIVE", "routed", "A00000001")]
    assert department.count("broker_messages_acknowledged_total", listener="modalities", code="0x0000") == 2


def test_a_study_of_nobody_is_taken_and_listed(department: Department) -> None:
    assert department.wait(department.completion.receive_availability(ARCHIVE, "2.25.8", notification(department, "9.1", study="9.9"))) == 0
    assert department.rows("select kind, reason from unmatched") == [("available", "no such study")]


@pytest.mark.parametrize(
    ("keyword", "status"), [("StudyInstanceUID", Status.MISSING_ATTRIBUTE), ("ReferencedSeriesSequence", Status.MISSING_ATTRIBUTE)]
)
def test_a_notification_that_says_too_little_is_refused(department: Department, keyword: str, status: int) -> None:
    said = notification(department, "9.1")
    delattr(said, keyword)
    assert department.wait(department.completion.receive_availability(ARCHIVE, "2.25.8", said)) == status


def test_an_availability_the_standard_does_not_know_is_refused(department: Department) -> None:
    said = notification(department, "9.1")
    said.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].InstanceAvailability = "SOMEWHERE"
    taking = department.completion.receive_availability(ARCHIVE, "2.25.8", said)
    assert department.wait(taking) == Status.INVALID_ATTRIBUTE_VALUE


def test_a_sender_that_can_be_asked_is_believed(department: Department) -> None:
    asked: list[tuple[str, str]] = []

    def ask(station: str, study: str) -> Any:
        asked.append((station, study))
        return succeed(2)

    department.completion.ask = ask
    department.intake.site = replace(department.intake.site, completion=Rules(("query", "quiet"), 900.0, 14400.0))
    department.image()
    department.look(60)
    assert asked == []
    assert department.look(840)[-1] == "study.incomplete: query: 1 of 2 images"
    assert asked == [("CT1", department.study)]
    department.image()
    assert department.told()[-2:] == ["study.more: further images", "study.complete: query: 2 of 2 images"]


def test_a_sender_that_is_away_holds_up_none_but_its_own(department: Department) -> None:
    away: Deferred[int | None] = Deferred()
    department.completion.ask = lambda station, study: away if study == department.study else succeed(None)
    department.image()
    assert "|AA|" in department.say((ROOT / "samples/omg_mr.hl7").read_text().replace("\n", "\r"))
    [(accession, study)] = department.rows("select accession, study_uid from exams order by id desc limit 1")
    dataset = ct(16)
    dataset.StudyInstanceUID, dataset.AccessionNumber, dataset.PatientID = study, accession, "4812"
    assert department.store(dataset) == 0
    department.at += 900
    department.completion.work()
    department.run()
    complete = "select count(*) from completeness where state = 'complete'"
    assert department.rows(complete) == [(1,)]
    away.callback(None)
    department.run()
    assert department.rows(complete) == [(2,)]


def test_only_a_dicom_destination_can_be_asked(tmp_path: Path) -> None:
    for name in ("routes", "mappings"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "channels.yaml").write_text(
        (ROOT / "channels.yaml").read_text() + "\ncomplete: {ask: {CT1: archiv, CT2: archive, MR1: ehr}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "channels.yaml", {}, registry)
    told = [str(problem) for problem in caught.value.problems]
    assert len(told) == 2
    assert any("no DICOM destination archiv" in one and "did you mean archive?" in one for one in told)
    assert any("no DICOM destination ehr" in one for one in told)
