"""Orthanc as the archive behind the broker."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pynetdicom import AE
from twisted.internet.threads import deferToThread

from broker.connectors.dicom import DicomDestination, echo
from broker.obs.metrics import Metrics
from broker.store.spool import Spool
from tests.connectors.dicom_shell import delivery, destination_settings, in_place, keep, quiet
from tests.dicom.objects import ct, part10
from tests.peers import BrokerProcess, Orthanc, Sender, eventually


@pytest.fixture(name="reactor")
def real_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    server.start()
    yield server
    server.stop()


def sending(reactor: Any, folder: Path, port: int, **settings: Any) -> tuple[DicomDestination, Spool]:
    kept = Spool(folder / "out", in_place)
    changed = destination_settings(port=port, **settings)
    return DicomDestination("archive", changed, reactor, kept, Metrics(), quiet()[0]), kept


@pytest_twisted.ensureDeferred
async def test_it_answers_an_echo(reactor: Any, orthanc: Orthanc) -> None:
    assert await echo(reactor, "127.0.0.1", orthanc.port, called="ARCHIVE", log=quiet()[0]) == 0


@pytest_twisted.ensureDeferred
async def test_it_has_what_was_sent_pixel_for_pixel(reactor: Any, orthanc: Orthanc, tmp_path: Path) -> None:
    destination, kept = sending(reactor, tmp_path, orthanc.port)
    objects = [ct(rows) for rows in (8, 64, 512)]
    for ds in objects:
        assert await destination.send(delivery(keep(kept, part10(ds), ds, "1.2.840.10008.1.2.1"))) == "0x0000"
    await destination.close()
    for ds in objects:
        got = dcmread(BytesIO(await deferToThread(orthanc.file, str(ds.SOPInstanceUID))))
        assert got.PixelData == ds.PixelData
        assert got[0x0009, 0x1001].value == bytes(range(256))
        assert (str(got.PatientName), got.PatientID) == ("DOE^JANE", "4711")


@pytest_twisted.ensureDeferred
async def test_it_has_the_changes_and_the_originals(reactor: Any, orthanc: Orthanc, tmp_path: Path) -> None:
    destination, kept = sending(reactor, tmp_path, orthanc.port)
    ds = ct(64)
    changes = {"PatientName": "ROE^RICHARD", "AccessionNumber": "A00000001"}
    assert await destination.send(delivery(keep(kept, part10(ds), ds, "1.2.840.10008.1.2.1"), changes)) == "0x0000"
    await destination.close()
    got = dcmread(BytesIO(await deferToThread(orthanc.file, str(ds.SOPInstanceUID))))
    assert (str(got.PatientName), got.AccessionNumber) == ("ROE^RICHARD", "A00000001")
    assert str(got.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientName) == "DOE^JANE"
    assert got.PixelData == ds.PixelData


# the whole broker in front of it

ORDER = (
    "MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260302080000||ORM^O01|C1|P|2.3.1\r"
    "PID|1||P1^^^GENHOSP^MR||ROE^RICHARD||19600101|M\rPV1|1|O|RAD\r"
    "ORC|NW|O1||||||||||D1^WHO\rOBR|1|O1||CTCHEST^CT chest||||||||||||D1^WHO||A1\r"
)


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[tuple[BrokerProcess, Orthanc]]:
    broker = BrokerProcess(tmp_path)
    archive = Orthanc(tmp_path / "archive", port=broker.ports["ARCHIVE_DICOM_PORT"], Jpeg2000TransferSyntaxAccepted=False)
    archive.start()
    broker.start()
    yield broker, archive
    broker.kill()
    archive.stop()


def store(broker: BrokerProcess, *datasets: Any) -> None:
    ae = AE("CT1")
    for ds in datasets:
        ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", broker.ports["DICOM_PORT"], ae_title="BROKER")
    assert association.is_established
    assert [association.send_c_store(ds).Status for ds in datasets] == [0] * len(datasets)
    association.release()


def test_images_come_to_it_with_the_patient_of_their_order_and_their_own_pixels(whole: tuple[BrokerProcess, Orthanc]) -> None:
    broker, archive = whole
    sender = Sender(broker.ports["HL7_PORT"])
    assert "MSA|AA" in sender.send(ORDER)
    sender.close()
    images = [ct(rows) for rows in (16, 256, 700)]
    for ds in images:
        ds.AccessionNumber, ds.PatientID = "A1", "P1"
    store(broker, *images)
    eventually(lambda: archive.count == len(images), "Orthanc has all images")
    for ds in images:
        got = dcmread(BytesIO(archive.file(str(ds.SOPInstanceUID))))
        assert (str(got.PatientName), got.PatientID) == ("ROE^RICHARD", "P1")
        assert got.PixelData == ds.PixelData


def test_what_it_refuses_compressed_it_gets_uncompressed_with_the_same_pixels(whole: tuple[BrokerProcess, Orthanc]) -> None:
    broker, archive = whole
    compressed = dcmread(str(get_testdata_file("MR_small_jp2klossless.dcm")))
    plain = dcmread(str(get_testdata_file("MR_small.dcm")))
    sender = Sender(broker.ports["HL7_PORT"])
    assert "MSA|AA" in sender.send(ORDER)
    sender.close()
    compressed.AccessionNumber, compressed.PatientID = "A1", "P1"
    store(broker, compressed)
    eventually(lambda: archive.count == 1, "Orthanc has the image")
    got = dcmread(BytesIO(archive.file(str(compressed.SOPInstanceUID))))
    assert got.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert got.PixelData == plain.PixelData
    assert str(got.PatientName) == "ROE^RICHARD"
