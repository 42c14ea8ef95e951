"""Storage commitment with pynetdicom as modality and archive, and with Orthanc as archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.interop.commitment import CommittingArchive, Modality
from tests.peers import BrokerProcess, Orthanc, ct_image, eventually, free_ports

CHANNELS = """
version: 1
site: {{authority: GENHOSP}}
data: ${{BROKER_DATA}}
web:
  port: ${{WEB_PORT}}
listeners:
  modalities:
    dicom:
      port: ${{DICOM_PORT}}
      services: [store, commitment]
      commitment: {{by: {by}, within: {within}, answer: {answer}}}
      peers:
        CT1: {{from: 127.0.0.1, host: 127.0.0.1, port: {modality}}}
        "*": {{from: 127.0.0.1}}
destinations:
  archive:
    dicom:
      host: 127.0.0.1
      port: ${{ARCHIVE_DICOM_PORT}}
      ae_title: ARCHIVE
      linger: 5s
      commitment: {{quiet: 100ms, within: {patience}}}
channels:
  images: {{from: modalities, route: images.yaml}}
{more}
"""
ROUTE = """
description: Images go to the archive.
accept: PatientID exists
to:
  - send: archive
"""

Start = Callable[..., tuple[BrokerProcess, Modality]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts a broker and a modality."""
    begun: list[BrokerProcess] = []
    modalities: list[Modality] = []

    def run(
        by: str = "archive", within: str = "1h", answer: str = "same", patience: str = "1h", title: str = "CT1", more: str = ""
    ) -> tuple[BrokerProcess, Modality]:
        [port] = free_ports(1)
        text = CHANNELS.format(by=by, within=within, answer=answer, patience=patience, modality=port, more=more)
        (tmp_path / "channels.yaml").write_text(text)
        (tmp_path / "images.yaml").write_text(ROUTE)
        broker = BrokerProcess(tmp_path, config=tmp_path / "channels.yaml")
        broker.start()
        begun.append(broker)
        modalities.append(Modality(title, broker.ports["DICOM_PORT"], port))
        return broker, modalities[-1]

    yield run
    for modality in modalities:
        modality.close()
    for broker in begun:
        broker.stop()


def images(count: int) -> list[Dataset]:
    study = generate_uid()
    return [ct_image("4711", "DOE^JANE", "A1", study, number) for number in range(count)]


def uids(dataset: Dataset, keyword: str = "ReferencedSOPSequence") -> set[str]:
    return {str(item.ReferencedSOPInstanceUID) for item in dataset.get(keyword) or ()}


@pytest.mark.parametrize("answer", ["same", "new"])
def test_what_the_spool_holds_is_reported_over_the_association_that_asked_or_a_new_one(start: Start, answer: str) -> None:
    _, modality = start("spool", answer=answer)
    modality.listen()
    sent = images(3)
    assert modality.store(sent) == [0, 0, 0]
    assert modality.ask([*sent, *images(1)]) == 0x0000
    [(event_type, said, how)] = eventually(lambda: modality.reports, "a report")
    assert (event_type, how) == (2, answer)
    assert uids(said) == {one.SOPInstanceUID for one in sent}
    assert [item.FailureReason for item in said.FailedSOPSequence] == [0x0112]


def test_a_report_waits_for_a_modality_that_is_switched_off(start: Start) -> None:
    broker, modality = start("spool", answer="new")
    sent = images(1)
    modality.store(sent)
    modality.ask(sent, stay=False)
    eventually(lambda: broker.json("/api/messages?kind=N-ACTION")["messages"], "the request is kept")
    broker.kill()
    broker.start()
    modality.listen()
    [(event_type, _, how)] = eventually(lambda: modality.reports, "a report after a restart")
    assert (event_type, how) == (1, "new")


def test_a_modality_without_an_address_is_answered_where_it_asked(start: Start) -> None:
    _, modality = start("spool", answer="new", title="MR7")
    sent = images(1)
    modality.store(sent)
    modality.ask(sent)
    [(_, _, how)] = eventually(lambda: modality.reports, "a report")
    assert how == "same"


def test_one_that_cannot_be_reached_at_all_is_a_persons(start: Start) -> None:
    broker, modality = start("archive", within="1s", title="MR7")
    modality.store(sent := images(1))
    modality.ask(sent, stay=False)  # of an object that the archive has not: nothing is told before the time is over
    [parked] = eventually(lambda: broker.json("/api/status")["parked"], "a parked report")
    assert (parked["where"], parked["kind"]) == ("modalities.*", "N-EVENT-REPORT")
    assert "host and port" in parked["reason"]


@pytest.mark.parametrize("same", [True, False])
def test_a_modality_hears_what_the_archive_has_committed(start: Start, same: bool) -> None:
    broker, modality = start()
    archive = CommittingArchive(broker.ports["ARCHIVE_DICOM_PORT"], broker.ports["DICOM_PORT"], lambda uid: 0, same=same)
    archive.start()
    modality.listen()
    try:
        sent = images(3)
        modality.store(sent)
        modality.ask(sent, stay=False)
        [(event_type, said, _)] = eventually(lambda: modality.reports, "a report")
        assert (event_type, uids(said)) == (1, {one.SOPInstanceUID for one in sent})
        receipts = broker.json("/api/messages?kind=N-EVENT-REPORT")["messages"]
        came_by = "archive" if same else "modalities"
        assert [(one["sender"], one["listener"], one["code"]) for one in receipts] == [("ARCHIVE", came_by, "0x0000")]
    finally:
        archive.stop()


def test_what_the_archive_does_not_commit_is_sent_again_and_then_parked(start: Start) -> None:
    broker, modality = start()
    sent = images(2)
    bad = str(sent[0].SOPInstanceUID)
    archive = CommittingArchive(broker.ports["ARCHIVE_DICOM_PORT"], broker.ports["DICOM_PORT"], lambda uid: 0x0110 if uid == bad else 0)
    archive.start()
    try:
        modality.store(sent)
        [parked] = eventually(lambda: broker.json("/api/status")["parked"], "a parked delivery")
        assert (parked["where"], parked["kind"]) == ("archive", "C-STORE")
        assert parked["reason"] == "not committed: processing failure (0x0110)"
        assert archive.received.count(bad) == 2
        assert [len(named) for _, named in archive.requests] == [2, 1]
        archive.verdict = lambda uid: 0
        broker.command("messages", "resend", str(parked["id"]))
        eventually(lambda: len(archive.requests) == 3, "a third request")
        eventually(lambda: not broker.json("/api/status")["parked"], "nothing is parked")
    finally:
        archive.stop()


def test_an_archive_that_accepts_and_then_forgets_is_noticed(start: Start) -> None:
    broker, modality = start(patience="1s")
    archive = CommittingArchive(broker.ports["ARCHIVE_DICOM_PORT"], broker.ports["DICOM_PORT"], None)
    archive.start()
    try:
        modality.store(images(1))
        [parked] = eventually(lambda: broker.json("/api/status")["parked"], "a parked delivery")
        assert parked["reason"] == "not committed: no answer in 1 s"
        assert len(archive.received) == 2
    finally:
        archive.stop()


def test_orthanc_commits(start: Start, tmp_path: Path) -> None:
    broker, modality = start()
    orthanc = Orthanc(tmp_path / "orthanc", port=broker.ports["ARCHIVE_DICOM_PORT"])
    orthanc.knows("BROKER", broker.ports["DICOM_PORT"]).start()
    modality.listen()
    try:
        sent = images(2)
        modality.store(sent)
        modality.ask(sent, stay=False)
        [(event_type, said, _)] = eventually(lambda: modality.reports, "a report", 60.0)
        assert (event_type, uids(said)) == (1, {one.SOPInstanceUID for one in sent})
    finally:
        orthanc.stop()


def test_a_full_spool_takes_images_again_once_the_archive_has_committed_the_others(start: Start) -> None:
    broker, modality = start(more="spool: {budget: 4 KB, low: 10%, high: 20%, free: 0 B}")
    sent = images(6)
    statuses = modality.store(sent)
    taken = statuses.count(0x0000)
    assert 0 < taken < 6
    assert statuses == [0x0000] * taken + [0xA700] * (6 - taken)
    assert "only objects of urgent exams are taken" in broker.command("status").stdout
    archive = CommittingArchive(broker.ports["ARCHIVE_DICOM_PORT"], broker.ports["DICOM_PORT"], lambda uid: 0)
    archive.start()
    try:
        eventually(lambda: broker.json("/api/status")["spool"]["objects"] < taken, "what is committed goes", 60.0)
        assert modality.store(sent[taken : taken + 1]) == [0x0000]
        assert len(list((broker.folder / "data/spool").rglob("*.dcm"))) == broker.json("/api/status")["spool"]["objects"]
    finally:
        archive.stop()
