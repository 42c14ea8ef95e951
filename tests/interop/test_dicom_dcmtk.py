"""DCMTK as the peer, over loopback sockets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pydicom import dcmread
from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThread

from broker.connectors.dicom import DicomDestination, DicomListener, echo
from broker.dicom.files import read_meta
from broker.errors import Refused, Retry
from broker.obs.metrics import Metrics
from broker.store.spool import Spool
from tests.connectors.dicom_shell import Intake, delivery, destination_settings, keep, left, listener_settings, quiet
from tests.dicom.objects import ct, dataset_bytes, part10, write


class Program(ProcessProtocol):
    """A DCMTK program: its output, and its exit code once it ended."""

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[int] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.output += data

    errReceived = outReceived

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(reason.value.exitCode or 0)


def run(reactor: Any, name: str, *arguments: str, cwd: Path | None = None) -> Program:
    path = shutil.which(name)
    assert path, f"DCMTK's {name} is needed"
    program = Program()
    program.process = reactor.spawnProcess(
        program, path, [name, *arguments], env={**os.environ, "TCP_NODELAY": "1"}, path=str(cwd) if cwd else None
    )
    return program


class Setting:
    """A listener on a free port, with what it received."""

    def __init__(self, reactor: Any, folder: Path, **settings: Any) -> None:
        self.intake, self.metrics = Intake(), Metrics()
        self.spool = Spool(folder / "spool", deferToThread)
        self.log, self.logged = quiet()
        self.listener = DicomListener("modalities", listener_settings(**settings), reactor, self.intake, self.spool, self.metrics, self.log)

    @property
    def address(self) -> tuple[str, str]:
        return "127.0.0.1", str(self.listener.port)

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"broker_{name}", labels) or 0.0


@pytest.fixture(name="reactor")
def real_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


@pytest.fixture
def serve(reactor: Any, tmp_path: Path) -> Iterator[Callable[..., Setting]]:
    made: list[Setting] = []

    def start(**settings: Any) -> Setting:
        setting = Setting(reactor, tmp_path, **settings)
        made.append(setting)
        setting.listener.start()
        return setting

    yield start
    for setting in made:
        pytest_twisted.blockon(setting.listener.stop())


@pytest_twisted.ensureDeferred
async def test_echoscu_is_answered(reactor: Any, serve: Callable[..., Setting]) -> None:
    setting = serve()
    program = run(reactor, "echoscu", "-v", "-aec", "BROKER", *setting.address)
    assert await program.ended == 0
    assert b"Success" in program.output
    assert setting.sample("associations_accepted_total", listener="modalities") == 1


@pytest_twisted.ensureDeferred
async def test_echoscu_to_another_ae_title_is_rejected(reactor: Any, serve: Callable[..., Setting]) -> None:
    setting = serve()
    program = run(reactor, "echoscu", "-v", "-aec", "SOMEONE", *setting.address)
    assert await program.ended != 0
    assert b"Called AE Title Not Recognized" in program.output


@pytest_twisted.ensureDeferred
async def test_echoscu_from_an_ae_title_not_allowed_is_rejected(reactor: Any, serve: Callable[..., Setting]) -> None:
    setting = serve(peers={"CT1": {"from": "127.0.0.1"}, "*": "refuse"})
    refused = run(reactor, "echoscu", "-v", "-aet", "CT9", "-aec", "BROKER", *setting.address)
    assert await refused.ended != 0
    assert b"Calling AE Title Not Recognized" in refused.output
    allowed = run(reactor, "echoscu", "-aet", "CT1", "-aec", "BROKER", *setting.address)
    assert await allowed.ended == 0
    assert setting.sample("associations_rejected_total", listener="modalities", reason="calling AE title not recognised") == 1


@pytest_twisted.ensureDeferred
async def test_storescu_objects_are_kept_bit_for_bit(reactor: Any, serve: Callable[..., Setting], tmp_path: Path) -> None:
    setting = serve()
    objects = [ct(rows) for rows in (8, 64, 512)]
    files = [str(write(tmp_path / f"{at}.dcm", ds)) for at, ds in enumerate(objects)]
    program = run(reactor, "storescu", "-v", "-aet", "CT1", "-aec", "BROKER", "-xe", *setting.address, *files)
    assert await program.ended == 0, program.output
    assert len(setting.intake.stored) == 3
    for (caller, spooled), ds in zip(setting.intake.stored, objects, strict=True):
        assert (caller.ae_title, caller.called, spooled.sop_instance) == ("CT1", "BROKER", ds.SOPInstanceUID)
        with setting.spool.open(spooled.name) as file:
            meta = read_meta(file)
            file.seek(meta.offset)
            assert file.read() == dataset_bytes(ds)
        assert dcmread(setting.spool.path(spooled.name)).PixelData == ds.PixelData


@pytest_twisted.ensureDeferred
async def test_storescu_hears_a_refusal(reactor: Any, serve: Callable[..., Setting], tmp_path: Path) -> None:
    setting = serve()
    setting.intake.status = 0xA700
    program = run(reactor, "storescu", "-v", "-aec", "BROKER", "-xe", *setting.address, str(write(tmp_path / "a.dcm", ct())))
    await program.ended
    assert b"OutOfResources" in program.output


@pytest_twisted.ensureDeferred
async def test_storescu_that_aborts_instead_of_releasing_loses_nothing(reactor: Any, serve: Callable[..., Setting], tmp_path: Path) -> None:
    setting = serve()
    program = run(reactor, "storescu", "-v", "--abort", "-aec", "BROKER", "-xe", *setting.address, str(write(tmp_path / "a.dcm", ct())))
    await program.ended
    assert len(setting.intake.stored) == len(left(setting.spool)) == 1


def entry(name: str) -> Dataset:
    ds = Dataset()
    ds.AccessionNumber, ds.PatientName, ds.PatientID = "A1", name, "4711"
    step = Dataset()
    step.Modality, step.ScheduledStationAETitle = "CT", "CT1"
    ds.ScheduledProcedureStepSequence = [step]
    return ds


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("asked", "expected"), [("ISO_IR 100", "ISO_IR 100"), ("", "ISO_IR 192"), ("ISO_IR 144", "ISO_IR 144")])
async def test_findscu_gets_the_worklist_in_the_set_it_asks_for(
    reactor: Any, serve: Callable[..., Setting], tmp_path: Path, asked: str, expected: str
) -> None:
    setting = serve()
    names = ["MÜLLER^ZOË", "PLAIN^JOE"] if asked != "ISO_IR 144" else ["ИВАНОВ^ИВАН"]
    setting.intake.entries = [entry(name) for name in names]
    keys = ["-k", "PatientName", "-k", "AccessionNumber", "-k", "ScheduledProcedureStepSequence[0].Modality=CT"]
    keys += ["-k", f"SpecificCharacterSet={asked}"] if asked else []
    program = run(reactor, "findscu", "-W", "-X", "-aet", "CT1", "-aec", "BROKER", *keys, *setting.address, cwd=tmp_path)
    assert await program.ended == 0, program.output
    found = [dcmread(path, force=True) for path in sorted(tmp_path.glob("rsp*.dcm"))]
    assert [str(ds.PatientName) for ds in found] == names
    assert {ds.SpecificCharacterSet for ds in found} == {expected}
    assert setting.intake.found[0][1].ScheduledProcedureStepSequence[0].Modality == "CT"


@pytest_twisted.ensureDeferred
async def test_findscu_cancels(reactor: Any, serve: Callable[..., Setting], tmp_path: Path) -> None:
    setting = serve()
    setting.intake.entries = [entry(f"N{number}") for number in range(2000)]
    keys = ["-k", "PatientName", "--cancel", "3"]
    program = run(reactor, "findscu", "-v", "-W", "-aec", "BROKER", *keys, *setting.address)
    assert await program.ended == 0
    assert b"MatchingTerminatedDueToCancelRequest" in program.output.replace(b" ", b"")


@pytest.fixture
def storescp(reactor: Any, tmp_path: Path, free_port: int) -> Iterator[tuple[int, Path, Program]]:
    folder = tmp_path / "archive"
    folder.mkdir()
    program = run(reactor, "storescp", "-d", "+B", "-od", str(folder), str(free_port))
    yield free_port, folder, program
    program.process.signalProcess("KILL")
    pytest_twisted.blockon(program.ended)


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Sending:
    """A destination with a spool of its own."""

    def __init__(self, reactor: Any, folder: Path, port: int, **settings: Any) -> None:
        self.spool = Spool(folder / "out", lambda work, *args: _now(work, *args))
        self.log, self.logged = quiet()
        self.destination = DicomDestination(
            "archive", destination_settings(port=port, **settings), reactor, self.spool, Metrics(), self.log
        )

    def keep(self, ds: Dataset) -> Any:
        return keep(self.spool, part10(ds), ds, "1.2.840.10008.1.2.1")


def _now(work: Callable[..., Any], *args: Any) -> Deferred[Any]:
    done: Deferred[Any] = Deferred()
    done.callback(work(*args))
    return done


async def answering(reactor: Any, port: int) -> None:
    """Wait until the program answers C-ECHO."""
    from twisted.internet.task import deferLater

    for _ in range(100):
        try:
            assert await echo(reactor, "127.0.0.1", port, called="ARCHIVE", log=quiet()[0]) == 0
            return
        except Retry:
            await deferLater(reactor, 0.05)
    raise AssertionError("storescp does not answer")


@pytest_twisted.ensureDeferred
async def test_storescp_takes_objects_unchanged(reactor: Any, tmp_path: Path, storescp: tuple[int, Path, Program]) -> None:
    port, folder, _ = storescp
    await answering(reactor, port)
    sending = Sending(reactor, tmp_path, port)
    objects = [ct(rows) for rows in (8, 512)]
    for ds in objects:
        assert await sending.destination.send(delivery(sending.keep(ds))) == "0x0000"
    await sending.destination.close()
    for ds in objects:
        with next(folder.glob(f"*{ds.SOPInstanceUID}")).open("rb") as file:
            file.seek(read_meta(file).offset)
            assert file.read() == dataset_bytes(ds)


@pytest_twisted.ensureDeferred
async def test_storescp_takes_objects_with_changes(reactor: Any, tmp_path: Path, storescp: tuple[int, Path, Program]) -> None:
    port, folder, _ = storescp
    await answering(reactor, port)
    sending = Sending(reactor, tmp_path, port)
    ds = ct(64)
    changes = {"PatientName": "ИВАНОВ^ИВАН", "AccessionNumber": "A00000001"}
    assert await sending.destination.send(delivery(sending.keep(ds), changes)) == "0x0000"
    await sending.destination.close()
    got = dcmread(next(folder.glob(f"*{ds.SOPInstanceUID}")))
    assert (str(got.PatientName), got.AccessionNumber, got.SpecificCharacterSet) == ("ИВАНОВ^ИВАН", "A00000001", "ISO_IR 192")
    assert got.PixelData == ds.PixelData
    assert got[0x0009, 0x1001].value == bytes(range(256))
    note = got.OriginalAttributesSequence[0]
    assert str(note.ModifiedAttributesSequence[0].PatientName) == "DOE^JANE"
    assert note.ModifyingSystem == "BROKER"


@pytest_twisted.ensureDeferred
async def test_a_context_the_archive_does_not_know_is_refused(reactor: Any, tmp_path: Path, storescp: tuple[int, Path, Program]) -> None:
    port, _, _ = storescp
    await answering(reactor, port)
    sending = Sending(reactor, tmp_path, port)
    ds = ct(8)
    ds.SOPClassUID = "1.2.3.4.5"
    with pytest.raises(Refused, match=r"SOP class 1\.2\.3\.4\.5: transfer syntax 1\.2\.840\.10008\.1\.2\.1"):
        await sending.destination.send(delivery(sending.keep(ds)))
    await sending.destination.close()


@pytest_twisted.ensureDeferred
async def test_nobody_listening_is_a_retry(reactor: Any, tmp_path: Path, free_port: int) -> None:
    sending = Sending(reactor, tmp_path, free_port)
    with pytest.raises(Retry):
        await sending.destination.send(delivery(sending.keep(ct(8))))
