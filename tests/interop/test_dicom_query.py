"""Query/Retrieve over loopback: DCMTK's clients ask the broker, which asks Orthanc, dcmqrscp and its own spool."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from tests.peers import Archive, BrokerProcess, Orthanc, ct_image, eventually, free_ports

CONFIG = """
version: 1
site: {{authority: GENHOSP}}
data: {data}
web: {{port: {web}}}
listeners:
  modalities:
    dicom:
      port: {dicom}
      services: [store, query, retrieve]
      retrieve: {retrieve}
destinations:
  archive: {{dicom: {{host: 127.0.0.1, port: {archive}, ae_title: ARCHIVE}}}}
  vna: {{dicom: {{host: 127.0.0.1, port: {vna}, ae_title: VNA}}}}
  station: {{dicom: {{host: 127.0.0.1, port: {station}, ae_title: STATION}}}}
channels:
  images: {{from: modalities, route: images.yaml}}
"""
ROUTE = "description: To the archive.\naccept: kind = C-STORE\nsteps:\n  - ris: image\nto:\n  - send: archive\n"
QRSCP = """
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
station = (STATION, 127.0.0.1, {station})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
VNA {folder} RW (100, 1024mb) ANY
AETable END
"""


class House:
    """A broker, two archives and a reading station."""

    def __init__(self, folder: Path, retrieve: str = "{from: [archive, vna], patience: 5s}") -> None:
        self.folder, self.clients = folder, 0
        self.dicom, self.vna_port, self.station_port, web = free_ports(4)
        self.orthanc = Orthanc(folder / "orthanc").knows("STATION", self.station_port)
        self.station = Archive(self.station_port, "STATION")
        self.broker = BrokerProcess(folder, config=folder / "channels.yaml", started_in=folder)
        self.broker.ports["WEB_PORT"] = web
        values = {"data": folder / "data", "web": web, "dicom": self.dicom, "retrieve": retrieve}
        ports = {"archive": self.orthanc.port, "vna": self.vna_port, "station": self.station_port}
        (folder / "channels.yaml").write_text(CONFIG.format(**values, **ports))
        (folder / "images.yaml").write_text(ROUTE)
        self.vna: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.orthanc.start()
        store = self.folder / "vna"
        store.mkdir()
        (self.folder / "qr.cfg").write_text(QRSCP.format(port=self.vna_port, station=self.station_port, folder=store))
        program = shutil.which("dcmqrscp")
        assert program, "DCMTK's dcmqrscp is needed"
        self.vna = subprocess.Popen([program, "-c", str(self.folder / "qr.cfg")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._vna_listens, "dcmqrscp listens")
        self.station.start()
        self.broker.start()

    def _vna_listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.vna_port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        if self.broker.process is not None:
            self.broker.stop()
        self.station.stop()
        self.stop_vna()
        self.orthanc.stop()

    def stop_vna(self) -> None:
        if self.vna is not None:
            self.vna.terminate()
            self.vna.wait(10)
            self.vna = None

    def fill(self, port: int, ae_title: str, images: list[Dataset]) -> None:
        """Store images by C-STORE."""
        client = AE()
        client.add_requested_context(images[0].SOPClassUID, images[0].file_meta.TransferSyntaxUID)
        association = client.associate("127.0.0.1", port, ae_title=ae_title)
        assert association.is_established
        for image in images:
            assert association.send_c_store(image).Status == 0
        association.release()

    def ask(self, program: str, *arguments: str, expect: str = "0x0000") -> tuple[list[Dataset], str]:
        """Run a DCMTK client against the broker, which ends with the status expected; return the files it wrote, and its output."""
        self.clients += 1
        out = self.folder / f"out{self.clients}"
        out.mkdir()
        done = subprocess.run(
            [str(shutil.which(program)), "-d", "-aec", "BROKER", *arguments, "127.0.0.1", str(self.dicom)],
            cwd=out,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "TCP_NODELAY": "1"},
        )
        output = done.stderr + done.stdout
        assert expect in output.rpartition("DIMSE Status")[2], output[-3000:] + self.broker.log.read_text()[-2000:]
        return [dcmread(path, force=True) for path in sorted(out.iterdir())], output

    def find(self, *keys: str) -> list[Dataset]:
        """Ask C-FIND with the study root model."""
        pairs = [word for key in keys for word in ("-k", key)]
        return self.ask("findscu", "-S", "-X", *pairs)[0]


def series(study: str, accession: str, count: int, patient: str = "4711") -> list[Dataset]:
    """Return the images of one series."""
    images = [ct_image(patient, "DOE^JANE", accession, study, number) for number in range(1, count + 1)]
    for image in images:
        image.SeriesInstanceUID, image.StudyDate, image.StudyTime = images[0].SeriesInstanceUID, "20260302", "080000"
        image.StudyID, image.SeriesNumber, image.PatientBirthDate, image.PatientSex = "1", 1, "19700101", "F"
        image.ReferringPhysicianName = ""
    return images


class OldArchive:
    """An archive on pynetdicom that knows C-FIND and C-MOVE only, and answers a query slowly, for ever."""

    def __init__(self, port: int, broker: int, images: list[Dataset]) -> None:
        self.images, self.broker, self.cancelled = images, broker, threading.Event()
        self._ae = AE(ae_title="VNA")
        self._ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        self._ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
        self._ae.add_requested_context(CTImageStorage)
        handlers = [(evt.EVT_C_FIND, self._find), (evt.EVT_C_MOVE, self._move)]
        self._server = self._ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        number = 0
        while not event.is_cancelled:
            number += 1
            found = Dataset()
            found.QueryRetrieveLevel, found.StudyInstanceUID = "STUDY", f"1.2.{number}"
            yield 0xFF00, found
            self.cancelled.wait(0.01)
        self.cancelled.set()
        yield 0xFE00, None

    def _move(self, event: evt.Event) -> Iterator[Any]:
        assert event.move_destination == "BROKER"
        yield "127.0.0.1", self.broker
        yield len(self.images)
        for image in self.images:
            yield 0xFF00, image

    def stop(self) -> None:
        self.cancelled.set()
        self._server.shutdown()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_two_archives_are_asked_as_one(house: House) -> None:
    shared, alone = generate_uid(), generate_uid()
    first, second, third = series(shared, "A1", 3), series(shared, "A1", 2), series(alone, "A2", 1)
    house.fill(house.orthanc.port, "ARCHIVE", first)
    house.fill(house.vna_port, "VNA", first[:1] + second + third)

    keys = ("AccessionNumber", "NumberOfStudyRelatedInstances", "PatientName")
    found = house.find("QueryRetrieveLevel=STUDY", "PatientID=4711", "StudyInstanceUID", *keys)
    studies = {one.StudyInstanceUID: one for one in found}
    assert set(studies) == {shared, alone}
    assert {one.RetrieveAETitle for one in studies.values()} == {"BROKER"}
    assert studies[shared].PatientName == "DOE^JANE"
    assert studies[shared].AccessionNumber == "A1"

    found = house.find("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={shared}", "SeriesInstanceUID")
    assert {one.SeriesInstanceUID for one in found} == {first[0].SeriesInstanceUID, second[0].SeriesInstanceUID}

    arguments = ["-S", "-aem", "STATION", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={shared}"]
    house.ask("movescu", *arguments)
    received = [one.SOPInstanceUID for one in house.station.received]
    assert sorted(received) == sorted(image.SOPInstanceUID for image in first + second)

    files, _ = house.ask("getscu", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={shared}")
    assert sorted(one.SOPInstanceUID for one in files) == sorted(received)
    assert {one.PixelData for one in files} == {image.PixelData for image in first + second}


def test_the_patient_root_as_well(house: House) -> None:
    images = series(generate_uid(), "A1", 2)
    house.fill(house.orthanc.port, "ARCHIVE", images)
    house.fill(house.vna_port, "VNA", images[:1])
    patient = ["-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=4711"]
    [found], _ = house.ask("findscu", "-X", *patient, "-k", "PatientName")
    assert (found.PatientName, found.RetrieveAETitle) == ("DOE^JANE", "BROKER")
    house.ask("movescu", *patient, "-aem", "STATION")
    assert sorted(one.SOPInstanceUID for one in house.station.received) == sorted(image.SOPInstanceUID for image in images)


STUDY = ["-S", "-k", "QueryRetrieveLevel=STUDY"]


def test_what_waits_for_the_archive_is_found_and_sent_from_the_spool(house: House) -> None:
    house.orthanc.stop()
    study = generate_uid()
    images = series(study, "A1", 3)
    house.fill(house.dicom, "BROKER", images)
    [found] = house.find("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={study}", "PatientName", "ModalitiesInStudy",
                         "NumberOfStudyRelatedInstances", "StudyDate=20260301-20260303", "InstanceAvailability")  # fmt: skip
    assert (found.PatientName, found.ModalitiesInStudy, found.NumberOfStudyRelatedInstances) == ("DOE^JANE", "CT", 3)
    assert (found.RetrieveAETitle, found.InstanceAvailability) == ("BROKER", "ONLINE")
    assert house.find("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={study}", "StudyDate=20260401-") == []

    house.ask("movescu", *STUDY, "-aem", "STATION", "-k", f"StudyInstanceUID={study}", expect="0xb000")  # an archive could not be asked
    assert sorted(one.SOPInstanceUID for one in house.station.received) == sorted(image.SOPInstanceUID for image in images)

    files, _ = house.ask("getscu", *STUDY, "-k", f"StudyInstanceUID={study}", expect="0xb000")
    assert sorted(one.SOPInstanceUID for one in files) == sorted(image.SOPInstanceUID for image in images)


def test_a_destination_nobody_knows_and_keys_out_of_order_are_refused(house: House) -> None:
    house.ask("movescu", *STUDY, "-aem", "NOBODY", "-k", "StudyInstanceUID=1.2.3", expect="0xa801")
    _, text = house.ask("findscu", "-S", "-k", "QueryRetrieveLevel=SERIES", "-k", "SeriesInstanceUID", expect="0xa900")
    assert "[StudyInstanceUID: the level SERIES needs exactly one value of it]" in text
    house.ask("findscu", "-S", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=4711", expect="0xa900")


def test_an_archive_that_does_not_know_the_station_sends_by_way_of_the_broker(house: House) -> None:
    house.stop_vna()
    study = generate_uid()
    images = series(study, "A1", 3)
    house.fill(house.orthanc.port, "ARCHIVE", images)
    other = Archive(free_ports(1)[0], "OTHER")
    other.start()
    try:
        config = house.folder / "channels.yaml"
        extra = f"  other: {{dicom: {{host: 127.0.0.1, port: {other.port}, ae_title: OTHER}}}}\nchannels:"
        config.write_text(config.read_text().replace("channels:", extra).replace("[archive, vna]", "[archive]"))
        house.broker.stop()
        house.broker.start()
        house.ask("movescu", *STUDY, "-aem", "OTHER", "-k", f"StudyInstanceUID={study}")
    finally:
        other.stop()
    assert sorted(one.SOPInstanceUID for one in other.received) == sorted(image.SOPInstanceUID for image in images)
    assert {one.PixelData for one in other.received} == {image.PixelData for image in images}
    assert list((house.folder / "data/spool").rglob("*.dcm")) == []


@pytest.fixture
def old(tmp_path: Path) -> Iterator[tuple[House, OldArchive]]:
    """The broker in front of an archive without C-GET."""
    house = House(tmp_path, "{from: [vna], spool: false}")
    archive = OldArchive(house.vna_port, house.dicom, series("1.2.3", "A1", 3))
    try:
        house.broker.start()
        yield house, archive
    finally:
        house.broker.stop()
        archive.stop()


def test_a_cancel_reaches_the_archive(old: tuple[House, OldArchive]) -> None:
    house, archive = old
    client = AE()
    client.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = client.associate("127.0.0.1", house.dicom, ae_title="BROKER")
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", ""
    heard = []
    for status, _ in association.send_c_find(asked, StudyRootQueryRetrieveInformationModelFind):
        heard.append(status.Status)
        if len(heard) == 3:
            association.send_c_cancel(1, query_model=StudyRootQueryRetrieveInformationModelFind)
    association.release()
    assert heard[-1] == 0xFE00
    assert archive.cancelled.wait(10)


def test_what_an_archive_without_get_has_comes_back_all_the_same(old: tuple[House, OldArchive]) -> None:
    house, archive = old
    client, received = AE(), list[Dataset]()
    client.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    client.add_requested_context(CTImageStorage)

    def take(event: evt.Event) -> int:
        received.append(event.dataset)
        return 0

    role = build_role(CTImageStorage, scp_role=True)
    handlers = [(evt.EVT_C_STORE, take)]
    association = client.associate("127.0.0.1", house.dicom, ae_title="BROKER", ext_neg=[role], evt_handlers=handlers)
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", "1.2.3"
    ends = [status for status, _ in association.send_c_get(asked, StudyRootQueryRetrieveInformationModelGet)]
    association.release()
    assert (ends[-1].Status, ends[-1].NumberOfCompletedSuboperations) == (0, 3)
    assert [one.SOPInstanceUID for one in received] == [image.SOPInstanceUID for image in archive.images]
    assert "C-STORE" not in house.broker.command("messages").stdout
