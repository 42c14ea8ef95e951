"""Prior studies fetched ahead of an exam: ordered over MLLP, found in Orthanc, moved to a reading station."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE

from tests.peers import TOP, Archive, BrokerProcess, Orthanc, Sender, ct_image, eventually, free_ports

CONFIG = """
version: 1
site: {{authority: GENHOSP}}
data: {data}
web: {{port: {web}}}
listeners:
  hospital: {{mllp: {{port: {hl7}}}}}
destinations:
  archive: {{dicom: {{host: 127.0.0.1, port: {archive}, ae_title: ARCHIVE}}}}
  reading: {{dicom: {{host: 127.0.0.1, port: {station}, ae_title: STATION}}}}
channels:
  registration: {{from: hospital, route: registration.yaml}}
  orders: {{from: hospital, route: orders.yaml}}
prefetch:
  from: [archive]
  ahead: 20000d
  late: 20000d
  patience: 5s
  rules:
    chest: {{modality: [CT], to: reading, count: 2}}
"""
RELEVANCE = "exam,priors\nCT CHEST,CT CHEST; CR CHEST\n"
PARTS = "name,body_part\nCTCHEST,CHEST\nCHEST,CHEST\nKNEE,KNEE\n"


def prior(description: str, modality: str, date: str, patient: str = "4711") -> Dataset:
    image = ct_image(patient, "DOE^JANE", "OLD", generate_uid())
    image.StudyDescription, image.Modality, image.StudyDate, image.StudyTime = description, modality, date, "080000"
    image.PatientBirthDate, image.StudyID, image.SeriesNumber, image.PatientSex = "19610615", "1", 1, "F"
    return image


class Department:
    """A broker, an archive and a reading station that cannot be queried."""

    def __init__(self, folder: Path) -> None:
        hl7, web, station = free_ports(3)
        self.hl7 = hl7
        self.orthanc = Orthanc(folder / "orthanc").knows("STATION", station)
        self.station = Archive(station, "STATION")
        values = {"data": folder / "data", "web": web, "hl7": hl7, "archive": self.orthanc.port, "station": station}
        (folder / "channels.yaml").write_text(CONFIG.format(**values))
        mappings = folder / "mappings"
        mappings.mkdir()
        for table in (TOP / "mappings").glob("*.csv"):
            (mappings / table.name).write_text(table.read_text())
        (mappings / "prior_relevance.csv").write_text(RELEVANCE)
        (mappings / "body_parts.csv").write_text(PARTS)
        for name in ("registration", "orders"):
            route = (TOP / f"routes/{name}.yaml").read_text().split("\nto:")[0].split("\ncases:")[0]
            (folder / f"{name}.yaml").write_text(route + "\n")
        self.broker = BrokerProcess(folder, config=folder / "channels.yaml", started_in=folder)
        self.broker.ports["WEB_PORT"] = web

    def start(self) -> None:
        self.orthanc.start()
        self.station.start()
        self.broker.start()

    def stop(self) -> None:
        if self.broker.process is not None and self.broker.process.poll() is None:
            self.broker.stop()
        self.station.stop()
        self.orthanc.stop()

    def fill(self, *images: Dataset) -> None:
        client = AE()
        client.add_requested_context(images[0].SOPClassUID, images[0].file_meta.TransferSyntaxUID)
        association = client.associate("127.0.0.1", self.orthanc.port, ae_title="ARCHIVE")
        assert association.is_established
        for image in images:
            assert association.send_c_store(image).Status == 0
        association.release()

    def order(self) -> None:
        sender = Sender(self.hl7)
        for sample in ("adt_a04", "orm_ct"):
            assert "MSA|AA" in sender.send((TOP / f"samples/{sample}.hl7").read_bytes()), sample
        sender.close()

    def timeline(self) -> str:
        return self.broker.command("trace", "A00000001").stdout


@pytest.fixture
def department(tmp_path: Path) -> Iterator[Department]:
    made = Department(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_relevant_priors_reach_the_station_before_the_exam(department: Department) -> None:
    wanted = [prior("CT Chest", "CT", "20250101"), prior("Chest two views", "CR", "20260101")]
    others = [prior("CT knee", "CT", "20260201"), prior("CT Chest", "CT", "20260201", patient="OTHER"), prior("CT Chest", "CT", "20200101")]
    department.fill(*wanted, *others[:2])
    department.order()
    eventually(lambda: len(department.station.received) >= 2, "both priors are there")
    assert [one.StudyInstanceUID for one in department.station.received] == [one.StudyInstanceUID for one in wanted]
    eventually(lambda: "priors.done" in department.timeline(), "the prefetch is done")
    assert department.timeline().count("prior.moved") == 2
    metrics = department.broker.get("/metrics").decode()
    assert 'broker_priors_moved_total{rule="chest"} 2.0' in metrics


def test_what_an_absent_station_did_not_get_follows_after_a_restart(department: Department) -> None:
    department.fill(prior("CT Chest", "CT", "20250101"))
    department.station.stop()
    department.order()
    eventually(lambda: "priors.waiting" in department.timeline(), "the prefetch was put off")
    department.broker.stop()
    department.station.start()
    import sqlite3

    with sqlite3.connect(department.broker.folder / "data/broker.db") as db:
        assert db.execute("select state, attempts from prefetch").fetchone() == ("waiting", 1)
        db.execute("update prefetch set again_at = 0")
    department.broker.start()
    eventually(lambda: len(department.station.received) == 1, "the prior is there")
