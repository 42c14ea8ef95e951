"""A destination that may not know the patient, behind a running broker; pynetdicom on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, UltrasoundImageStorage  # type: ignore[attr-defined]

from tests.peers import Archive, BrokerProcess, ct_image, eventually

CONFIG = """\
version: 1
site: {name: Test Hospital, authority: TEST}
data: ${BROKER_DATA}
web:
  port: ${WEB_PORT}
listeners:
  modalities:
    dicom:
      port: ${DICOM_PORT}
      services: [store]
destinations:
  archive:
    dicom:
      host: 127.0.0.1
      port: ${ARCHIVE_DICOM_PORT}
      ae_title: ARCHIVE
  research:
    dicom:
      host: 127.0.0.1
      port: ${EHR_HL7_PORT}
      ae_title: RESEARCH
      deidentify:
        key: "${file:key}"
        options: [retain_modified_dates, clean_pixel_data]
channels:
  images: {from: modalities, route: routes/all.yaml}
"""
ROUTE = "description: Everything to both.\naccept: kind = C-STORE\nto:\n  - send: archive\n  - send: research\n"


@pytest.fixture(name="peers")
def peers_(tmp_path: Path) -> Iterator[tuple[BrokerProcess, Archive, Archive]]:
    (tmp_path / "routes").mkdir()
    (tmp_path / "channels.yaml").write_text(CONFIG.replace("file:key", f"file:{tmp_path}/key"))
    (tmp_path / "routes/all.yaml").write_text(ROUTE)
    (tmp_path / "key").write_text("a secret of research\n")
    broker = BrokerProcess(tmp_path, config=tmp_path / "channels.yaml")
    archive = Archive(broker.ports["ARCHIVE_DICOM_PORT"])
    research = Archive(broker.ports["EHR_HL7_PORT"], "RESEARCH")
    for peer in (archive, research, broker):
        peer.start()
    yield broker, archive, research
    broker.stop()
    archive.stop()
    research.stop()


def send(broker: BrokerProcess, *images: Dataset) -> None:
    ae = AE("CT1")
    for sop_class in (CTImageStorage, UltrasoundImageStorage):
        ae.add_requested_context(sop_class)
    association = ae.associate("127.0.0.1", broker.ports["DICOM_PORT"], ae_title="BROKER")
    assert association.is_established
    for image in images:
        assert association.send_c_store(image).Status == 0
    association.release()


def test_it_gets_pseudonyms_and_the_way_back_is_kept(peers: tuple[BrokerProcess, Archive, Archive]) -> None:
    broker, archive, research = peers
    study = generate_uid()
    images = [ct_image("MRN-QX", "DOE^JANE", "A1", study, number) for number in (1, 2)]
    send(broker, *images)
    eventually(lambda: len(research.received) == 2 == len(archive.received), "both have both")
    assert {str(one.PatientID) for one in archive.received} == {"MRN-QX"}
    [pseudonym] = {str(one.PatientID) for one in research.received}
    assert len({str(one.StudyInstanceUID) for one in research.received}) == 1
    for one, sent in zip(sorted(research.received, key=lambda one: one.InstanceNumber), images, strict=True):
        assert one.PixelData == sent.PixelData
        assert (one.PatientName, one.PatientIdentityRemoved) == (pseudonym, "YES")
        assert sent.SOPInstanceUID not in str(one)
        assert "DOE" not in str(one)
        assert "MRN-QX" not in str(one)
    found = broker.command("reidentify", pseudonym)
    assert found.returncode == 0, found.stderr
    assert "MRN-QX" in found.stdout
    assert str(research.received[0].StudyInstanceUID) in broker.command("reidentify", str(study)).stdout
    assert "DOE" not in broker.log.read_text()
    assert "MRN-QX" not in broker.log.read_text()


def test_pixels_that_may_tell_are_held_for_a_person(peers: tuple[BrokerProcess, Archive, Archive]) -> None:
    broker, archive, research = peers
    image = ct_image("MRN-QX", "DOE^JANE", "A1", generate_uid())
    image.SOPClassUID = UltrasoundImageStorage
    send(broker, image)
    eventually(lambda: archive.received, "the archive has it")
    eventually(lambda: "no regions are listed" in broker.command("messages", "deliveries", "1").stdout, "it is parked with its reason")
    assert not research.received
