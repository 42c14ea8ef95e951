"""Archives that reject, abort, hang, refuse and remark: what the broker makes of it, with DCMTK and pynetdicom as the archive."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, ModalityPerformedProcedureStep  # type: ignore[attr-defined]
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from broker.connectors.base import Transcoder
from broker.connectors.dicom import DicomDestination
from broker.dicom.dimserequest import DimseRequest, encode_request
from broker.errors import Aborted, NotYet, Refused, Retry
from broker.model import Delivery
from broker.obs.metrics import Metrics
from broker.store.spool import Spool
from tests.connectors.dicom_shell import delivery, destination_settings, in_place, keep, quiet
from tests.dicom.objects import ct, dataset_bytes, part10
from tests.peers import eventually, free_ports

EXPLICIT, IMPLICIT, J2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.90"
MPPS = str(ModalityPerformedProcedureStep)


@pytest.fixture(name="reactor")
def real_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


class Sending:
    """A destination with a spool of its own."""

    def __init__(self, reactor: Any, folder: Path, port: int, transcoder: Transcoder | None = None, **settings: Any) -> None:
        self.spool, self.metrics = Spool(folder / "out", in_place), Metrics()
        shared = (destination_settings(port=port, **settings), reactor, self.spool, self.metrics, quiet()[0])
        self.destination = DicomDestination("archive", *shared, transcoder=transcoder)

    def store(self, syntax: str = EXPLICIT, rows: int = 64) -> Deferred[str]:
        ds = ct(rows)
        return self.destination.send(delivery(keep(self.spool, part10(ds, syntax), ds, syntax)))


class Storescp:
    """Starts DCMTK's storescp with any options; returns its port and the folder it stores in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "archive"
        self.started: list[subprocess.Popen[bytes]] = []

    def __call__(self, *options: str) -> tuple[int, Path]:
        program, port = shutil.which("storescp"), free_ports(1)[0]
        assert program, "DCMTK's storescp is needed"
        self.folder.mkdir()
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [program, "-od", str(self.folder), *options, str(port)]
        self.started.append(subprocess.Popen(command, env={**os.environ, "TCP_NODELAY": "1"}, **quiet))
        eventually(lambda: _listens(port), "storescp listens")
        return port, self.folder


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[Storescp]:
    programs = Storescp(tmp_path)
    yield programs
    for process in programs.started:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    return any(line.split()[1].endswith(f":{port:04X}") for line in Path("/proc/net/tcp").read_text().splitlines()[1:])


@pytest.mark.parametrize("when", ["--abort-during", "--abort-after"])
@pytest_twisted.ensureDeferred
async def test_an_archive_that_aborts_at_an_object(reactor: Any, tmp_path: Path, storescp: Storescp, when: str) -> None:
    port, _ = storescp(when)
    sending = Sending(reactor, tmp_path, port)
    with pytest.raises(Aborted):
        await sending.store(rows=512)
    await sending.destination.close()


@pytest_twisted.ensureDeferred
async def test_an_archive_that_rejects_the_association(reactor: Any, tmp_path: Path, storescp: Storescp) -> None:
    port, _ = storescp("--refuse")
    sending = Sending(reactor, tmp_path, port, outcomes={"rejected": "refuse", "busy": "refuse"})
    with pytest.raises(Refused, match="association rejected"):
        await sending.store()


@pytest_twisted.ensureDeferred
async def test_an_archive_that_hangs_in_the_midst_of_an_object(reactor: Any, tmp_path: Path, storescp: Storescp) -> None:
    port, _ = storescp()
    sending = Sending(reactor, tmp_path, port, answer_timeout="1s")
    assert await sending.store() == "0x0000"
    storescp.started[-1].send_signal(signal.SIGSTOP)
    with pytest.raises(Aborted, match="no answer in 1 s"):
        await sending.store(rows=3000)  # 18 MB, more than the system keeps for it
    await sending.destination.close()


@pytest_twisted.ensureDeferred
async def test_an_object_that_shrinks_while_it_is_sent_is_for_a_person(reactor: Any, tmp_path: Path, storescp: Storescp) -> None:
    port, folder = storescp()
    sending = Sending(reactor, tmp_path, port)
    assert await sending.store() == "0x0000"
    storescp.started[-1].send_signal(signal.SIGSTOP)
    ds = ct(3000)
    spooled = keep(sending.spool, part10(ds), ds, EXPLICIT)
    waiting = sending.destination.send(delivery(spooled))
    os.truncate(sending.spool.path(spooled.name), 1_000_000)
    storescp.started[-1].send_signal(signal.SIGCONT)
    with pytest.raises(Refused, match="cannot be read from the spool"):
        await waiting
    assert await sending.store() == "0x0000"
    await sending.destination.close()
    assert len([path for path in folder.iterdir() if path.stat().st_size > 5_000]) == 2


class Implicit:
    """Turns the CT of these tests into implicit VR little endian."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def transcode(self, path: str, target: str) -> Deferred[str]:
        ds = dcmread(path)
        made = self.folder / "turned.dcm"
        made.write_bytes(part10(ds, target, implicit=target == IMPLICIT))
        done: Deferred[str] = Deferred()
        done.callback(str(made))
        return done


@pytest_twisted.ensureDeferred
async def test_an_archive_that_takes_implicit_vr_alone_gets_that_with_all_its_pixels(
    reactor: Any, tmp_path: Path, storescp: Storescp
) -> None:
    port, folder = storescp("+xi", "+B")
    sending = Sending(reactor, tmp_path, port, Implicit(tmp_path))
    ds = ct(64)
    assert await sending.destination.send(delivery(keep(sending.spool, part10(ds), ds, EXPLICIT))) == "0x0000"
    await sending.destination.close()
    got = dcmread(next(folder.glob(f"*{ds.SOPInstanceUID}")))
    assert (got.file_meta.TransferSyntaxUID, got.PixelData) == (IMPLICIT, ds.PixelData)


@pytest_twisted.ensureDeferred
async def test_an_archive_that_takes_none_of_them_is_told_with_all_that_was_offered(
    reactor: Any, tmp_path: Path, storescp: Storescp
) -> None:
    port, folder = storescp("+xi")
    sending = Sending(reactor, tmp_path, port)
    with pytest.raises(Refused, match=rf"transfer syntax {J2K}: "):
        await sending.store(J2K)
    await sending.destination.close()
    assert not list(folder.iterdir())


@pytest_twisted.ensureDeferred
async def test_a_hundred_objects_side_by_side_all_arrive(reactor: Any, tmp_path: Path, storescp: Storescp) -> None:
    port, folder = storescp("--fork", "+B")
    sending = Sending(reactor, tmp_path, port, associations=3)
    objects = [ct(8 if number % 3 else 512) for number in range(100)]
    waiting = [sending.destination.send(delivery(keep(sending.spool, part10(ds), ds, EXPLICIT))) for ds in objects]
    assert [await one for one in waiting] == ["0x0000"] * 100
    await sending.destination.close()
    for ds in objects:
        assert next(folder.glob(f"*{ds.SOPInstanceUID}")).read_bytes().endswith(dataset_bytes(ds))


class Scp:
    """A pynetdicom archive with one status for everything."""

    def __init__(self, status: int = 0x0000) -> None:
        self.status, self.port = status, free_ports(1)[0]
        self.asked: list[str] = []
        ae = AE(ae_title="ARCHIVE")
        ae.add_supported_context(CTImageStorage, [EXPLICIT, IMPLICIT])
        ae.add_supported_context(ModalityPerformedProcedureStep)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_CREATE, self._perform), (evt.EVT_N_SET, self._perform)]
        self.server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def _store(self, event: evt.Event) -> int:
        return self.status

    def _perform(self, event: evt.Event) -> tuple[int, Any]:
        uid = event.request.AffectedSOPInstanceUID if event.event is evt.EVT_N_CREATE else event.request.RequestedSOPInstanceUID
        self.asked.append(f"{event.event.name} {uid}")
        return self.status, None

    def stop(self) -> None:
        self.server.shutdown()


@pytest.mark.parametrize(
    ("status", "kind"), [(0xA700, Retry), (0xA900, Refused), (0xC000, Refused), (0x0110, NotYet), (0x0122, Refused), (0x0124, Refused)]
)
@pytest_twisted.ensureDeferred
async def test_each_status_is_what_the_table_says(reactor: Any, tmp_path: Path, status: int, kind: type) -> None:
    scp = Scp(status)
    sending = Sending(reactor, tmp_path, scp.port)
    try:
        with pytest.raises(kind, match=f"0x{status:04X}") as raised:
            await sending.store()
        assert raised.type is kind
    finally:
        await sending.destination.close()
        await deferToThread(scp.stop)


@pytest_twisted.ensureDeferred
async def test_a_performed_step_is_created_and_updated_over_one_association(reactor: Any, tmp_path: Path) -> None:
    scp = Scp()
    sending = Sending(reactor, tmp_path, scp.port, associations=1)
    attributes = ct(8)
    del attributes.PixelData
    try:
        for kind in ("N-CREATE", "N-SET"):
            payload = encode_request(DimseRequest(kind, MPPS, "1.2.3", dataset_bytes(attributes)))
            assert await sending.destination.send(Delivery(1, 1, "archive", "1.2.3", "performed", kind, payload, "", "A1", 0)) == "0x0000"
        assert scp.asked == ["EVT_N_CREATE 1.2.3", "EVT_N_SET 1.2.3"]
    finally:
        await sending.destination.close()
        await deferToThread(scp.stop)
