"""pynetdicom as the peer, over loopback sockets: performed procedure steps, C-STORE both ways, the worklist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import ModalityPerformedProcedureStep, ModalityWorklistInformationFind, Verification
from twisted.internet.threads import deferToThread

from broker.connectors.dicom import DicomDestination, DicomListener, echo
from broker.dicom.files import read_meta
from broker.errors import Refused, Retry
from broker.obs.metrics import Metrics
from broker.store.spool import Spool
from tests.connectors.dicom_shell import Intake, delivery, destination_settings, keep, left, listener_settings, quiet
from tests.connectors.dicom_shell import spool as spool_in_place
from tests.dicom.objects import ct, dataset_bytes, part10


@pytest.fixture(name="reactor")
def real_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


class Broker:
    """A listener on a free port."""

    def __init__(self, reactor: Any, folder: Path, **settings: Any) -> None:
        self.intake, self.metrics = Intake(), Metrics()
        self.spool = Spool(folder / "spool", deferToThread)
        self.log, self.logged = quiet()
        settings = listener_settings(**settings)
        self.listener = DicomListener("modalities", settings, reactor, self.intake, self.spool, self.metrics, self.log)


@pytest.fixture
def serve(reactor: Any, tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    made: list[Broker] = []

    def start(**settings: Any) -> Broker:
        made.append(Broker(reactor, tmp_path, **settings))
        made[-1].listener.start()
        return made[-1]

    yield start
    for broker in made:
        pytest_twisted.blockon(broker.listener.stop())


def associated(port: int, contexts: list[Any], work: Callable[[Any], Any], *, pdu: int = 16382, calling: str = "CT1") -> Any:
    """Open an association, work on it, release; to be run on a thread."""
    ae = AE(ae_title=calling)
    for abstract, syntax in contexts:
        ae.add_requested_context(abstract, syntax)
    association = ae.associate("127.0.0.1", port, ae_title="BROKER", max_pdu=pdu)
    assert association.is_established
    try:
        return work(association)
    finally:
        association.release()


def performed(status: str) -> Dataset:
    ds = Dataset()
    ds.PerformedProcedureStepStatus = status
    ds.PerformedStationAETitle = "CT1"
    item = Dataset()
    item.AccessionNumber = "A1"
    ds.ScheduledStepAttributesSequence = [item]
    return ds


@pytest_twisted.ensureDeferred
async def test_a_performed_procedure_step_is_created_and_completed(serve: Callable[..., Broker]) -> None:
    broker = serve()
    uid = generate_uid()

    def work(association: Any) -> list[int]:
        created, _ = association.send_n_create(performed("IN PROGRESS"), ModalityPerformedProcedureStep, uid)
        completed, _ = association.send_n_set(performed("COMPLETED"), ModalityPerformedProcedureStep, uid)
        return [created.Status, completed.Status]

    contexts = [(ModalityPerformedProcedureStep, ExplicitVRLittleEndian)]
    assert await deferToThread(associated, broker.listener.port, contexts, work) == [0, 0]
    assert [(create, got) for _, create, got, _ in broker.intake.performed] == [(True, uid), (False, uid)]
    first = broker.intake.performed[0][3]
    assert first.ScheduledStepAttributesSequence[0].AccessionNumber == "A1"


@pytest_twisted.ensureDeferred
async def test_a_refused_step_tells_its_status(serve: Callable[..., Broker]) -> None:
    broker = serve()
    broker.intake.status = 0x0110

    def work(association: Any) -> int:
        return int(association.send_n_create(performed("IN PROGRESS"), ModalityPerformedProcedureStep, "1.2.3")[0].Status)

    assert await deferToThread(associated, broker.listener.port, [(ModalityPerformedProcedureStep, None)], work) == 0x0110


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("pdu", [0, 4096, 16382])
async def test_objects_are_kept_bit_for_bit(serve: Callable[..., Broker], pdu: int) -> None:
    broker = serve()
    objects = [ct(rows) for rows in (16, 256)]

    def work(association: Any) -> list[int]:
        return [association.send_c_store(ds).Status for ds in objects]

    contexts = [(CTImageStorage, ExplicitVRLittleEndian)]
    assert await deferToThread(associated, broker.listener.port, contexts, work, pdu=pdu) == [0, 0]
    for (_, spooled), ds in zip(broker.intake.stored, objects, strict=True):
        with broker.spool.open(spooled.name) as file:
            file.seek(read_meta(file).offset)
            assert file.read() == dataset_bytes(ds)


@pytest_twisted.ensureDeferred
async def test_several_associations_at_a_time(serve: Callable[..., Broker]) -> None:
    broker = serve()

    def work(association: Any) -> list[int]:
        return [association.send_c_store(ct(128)).Status for _ in range(4)]

    contexts = [(CTImageStorage, ExplicitVRLittleEndian)]
    running = [deferToThread(associated, broker.listener.port, contexts, work, calling=f"CT{at}") for at in range(4)]
    assert [await one for one in running] == [[0] * 4] * 4
    assert len({spooled.name for _, spooled in broker.intake.stored}) == len(left(broker.spool)) == 16


@pytest_twisted.ensureDeferred
async def test_the_worklist_in_japanese(serve: Callable[..., Broker]) -> None:
    broker = serve()
    match = Dataset()
    match.PatientName, match.AccessionNumber = "Yamada^Tarou=山田^太郎=やまだ^たろう", "A1"
    broker.intake.entries = [match]
    query = Dataset()
    query.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    query.PatientName = "*"

    def work(association: Any) -> list[Any]:
        return list(association.send_c_find(query, ModalityWorklistInformationFind))

    results = await deferToThread(associated, broker.listener.port, [(ModalityWorklistInformationFind, None)], work)
    assert [status.Status for status, _ in results] == [0xFF00, 0]
    results[0][1].decode()
    assert str(results[0][1].PatientName) == "Yamada^Tarou=山田^太郎=やまだ^たろう"


# as destination


class Archive:
    """pynetdicom as an archive; `status` is what it says to each object."""

    def __init__(self) -> None:
        self.status = 0x0000
        self.stored: list[tuple[str, bytes]] = []
        self.associations = 0
        self.ae = AE(ae_title="ARCHIVE")
        self.ae.supported_contexts = AllStoragePresentationContexts
        self.ae.add_supported_context(Verification)
        self.ae.require_called_aet = True
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_ACCEPTED, self._accepted)]
        self.server = self.ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self.server.server_address[1]

    def _store(self, event: Any) -> int:
        self.stored.append((str(event.request.AffectedSOPInstanceUID), event.request.DataSet.getvalue()))
        return self.status

    def _accepted(self, event: Any) -> None:
        self.associations += 1


@pytest.fixture
def archive() -> Iterator[Archive]:
    made = Archive()
    yield made
    pytest_twisted.blockon(deferToThread(made.server.shutdown))


def destination(reactor: Any, folder: Path, port: int, **settings: Any) -> tuple[DicomDestination, Spool]:
    kept = spool_in_place(folder)
    settings = destination_settings(port=port, **settings)
    return DicomDestination("archive", settings, reactor, kept, Metrics(), quiet()[0]), kept


@pytest_twisted.ensureDeferred
async def test_an_archive_gets_what_was_kept_over_one_association(reactor: Any, tmp_path: Path, archive: Archive) -> None:
    sender, kept = destination(reactor, tmp_path, archive.port)
    objects = [ct(rows) for rows in (16, 64, 700)]
    for ds in objects:
        assert await sender.send(delivery(keep(kept, part10(ds), ds, ExplicitVRLittleEndian))) == "0x0000"
    await sender.close()
    assert archive.stored == [(ds.SOPInstanceUID, dataset_bytes(ds)) for ds in objects]
    assert archive.associations == 1


@pytest_twisted.ensureDeferred
async def test_a_warning_is_an_answer_and_a_refusal_a_refusal(reactor: Any, tmp_path: Path, archive: Archive) -> None:
    sender, kept = destination(reactor, tmp_path, archive.port)
    ds = ct()
    one = delivery(keep(kept, part10(ds), ds, ExplicitVRLittleEndian))
    archive.status = 0xB000
    assert await sender.send(one) == "0xB000 coercion of data elements, taken with a warning"
    archive.status = 0xA700
    with pytest.raises(Retry, match="0xA700"):
        await sender.send(one)
    archive.status = 0xC123
    with pytest.raises(Refused, match="0xC123"):
        await sender.send(one)
    await sender.close()


@pytest_twisted.ensureDeferred
async def test_a_transfer_syntax_the_archive_does_not_take_is_refused(reactor: Any, tmp_path: Path, archive: Archive) -> None:
    sender, kept = destination(reactor, tmp_path, archive.port)
    ds = ct()
    with pytest.raises(Refused, match=f"transfer syntax {JPEG2000Lossless}"):
        await sender.send(delivery(keep(kept, part10(ds, JPEG2000Lossless), ds, JPEG2000Lossless)))
    assert await sender.send(delivery(keep(kept, part10(ds), ds, ExplicitVRLittleEndian))) == "0x0000"
    await sender.close()
    assert archive.associations == 2


@pytest_twisted.ensureDeferred
async def test_an_archive_of_another_name_is_a_retry(reactor: Any, tmp_path: Path, archive: Archive) -> None:
    sender, kept = destination(reactor, tmp_path, archive.port, ae_title="ELSEWHERE")
    ds = ct()
    with pytest.raises(Retry, match="called AE title not recognised"):
        await sender.send(delivery(keep(kept, part10(ds), ds, ExplicitVRLittleEndian)))
    await sender.close()


@pytest_twisted.ensureDeferred
async def test_echo_by_name(reactor: Any, archive: Archive) -> None:
    assert await echo(reactor, "localhost", archive.port, called="ARCHIVE", log=quiet()[0]) == 0


@pytest_twisted.ensureDeferred
async def test_from_the_listener_to_the_destination_nothing_changes(
    reactor: Any, tmp_path: Path, archive: Archive, serve: Callable[..., Broker]
) -> None:
    broker = serve()
    ds = ct(256)

    def work(association: Any) -> int:
        return int(association.send_c_store(ds).Status)

    await deferToThread(associated, broker.listener.port, [(CTImageStorage, ExplicitVRLittleEndian)], work)
    settings = destination_settings(port=archive.port)
    sender = DicomDestination("archive", settings, reactor, broker.spool, Metrics(), broker.log)
    assert await sender.send(delivery(broker.intake.stored[0][1])) == "0x0000"
    await sender.close()
    assert archive.stored == [(ds.SOPInstanceUID, dataset_bytes(ds))]
