#!/usr/bin/env python3
"""Objects received a second, from the same storescu: the broker with its whole intake, DCMTK's storescp, Orthanc, the plain floor program.

    dicom_receive.py [--quick] [--rounds 3] [--yardsticks FOLDER] [ct|dx|small|stock|memory|hl7 …]

The broker journals each object, counts it at the exam of its order, and keeps it. Every measurement has a server and a folder of its
own, and the servers take turns: only ratios of one run count, and so does the processor time of an object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from load import FS, VT, order
from process import HERE, TOP, cpu, free_ports, running

CONFIG = HERE / "images" / "channels.yaml"
NO_DELAY = {**os.environ, "TCP_NODELAY": "1"}
STORESCU = ("storescu", "--max-pdu", "131072", "--max-send-pdu", "131072", "-xe")
ORDER = 1  # its accession number is A00000001, which the images carry
BROKER, UNSYNCED = "broker, synced", "broker, not synced"
STORESCP, PRESERVING, ORTHANC = "storescp", "storescp, bit preserving", "Orthanc"
FLOOR, FLOOR_UNSYNCED = "floor, synced in threads", "floor, not synced"


@dataclass(frozen=True)
class Workload:
    """What is sent: objects of so many rows and columns of two bytes."""

    title: str
    rows: int
    count: int
    quick: int


WORKLOADS = {
    "ct": Workload("CT of 525 KB", 512, 1000, 300),
    "dx": Workload("DX of 20 MB", 3240, 20, 6),
    "small": Workload("objects of 3 KB", 36, 1000, 500),
}
# what is asked of whom against whom
TARGETS = (
    (UNSYNCED, STORESCP, 1.0),
    (BROKER, STORESCP, 0.5),
    (UNSYNCED, ORTHANC, 3.0),
    (BROKER, ORTHANC, 3.0),
    (UNSYNCED, PRESERVING, None),
)


def make_files(folder: Path, count: int, accession: str = "", rows: int = 512) -> list[str]:
    """Write images with different UIDs and return their paths."""
    from pydicom.dataset import Dataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    from broker.dicom.dataset import encode
    from broker.dicom.files import file_meta

    paths = []
    ds = Dataset()
    ds.SOPClassUID, ds.Modality, ds.PatientName, ds.PatientID = CTImageStorage, "CT", "BENCH^ONE", "PAT000001"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.AccessionNumber = accession
    ds.Rows = ds.Columns = rows
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel, ds.PhotometricInterpretation = 15, 0, 1, "MONOCHROME2"
    ds.PixelData = bytes(rows * rows * 2)
    for number in range(count):
        ds.SOPInstanceUID = generate_uid()
        path = folder / f"{number:05}.dcm"
        path.write_bytes(file_meta(CTImageStorage, ds.SOPInstanceUID, ExplicitVRLittleEndian) + encode(ds, ExplicitVRLittleEndian))
        paths.append(str(path))
    return paths


@contextmanager
def broker(folder: Path, *, durable: bool = True) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """Run the broker with the order that the images belong to; yield its process and the ports for DICOM and HL7."""
    hl7, dicom, web = free_ports(3)
    environment = {
        "HL7_PORT": str(hl7),
        "DICOM_PORT": str(dicom),
        "WEB_PORT": str(web),
        "BROKER_DATA": str(folder / "data"),
        "PYTHONPATH": str(TOP),
        "DURABLE": str(durable).lower(),
    }
    with running([sys.executable, "-m", "broker", "--config", str(CONFIG), "run"], [hl7, dicom], environment, folder) as process:
        place_order(hl7)
        yield process, dicom, hl7


@contextmanager
def _broker(folder: Path, *, durable: bool) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with broker(folder, durable=durable) as (process, port, _):
        yield process, port


@contextmanager
def _program(folder: Path, command: Callable[[int, Path], list[str]]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    [port] = free_ports(1)
    with running(command(port, folder), [port], NO_DELAY, folder) as process:
        yield process, port


@contextmanager
def _orthanc(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    program = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise RuntimeError("Orthanc is needed: see scripts/peers")
    port, web = free_ports(2)
    storage = str(folder / "storage")
    settings = {"StorageDirectory": storage, "IndexDirectory": storage, "DicomPort": port, "HttpPort": web, "Plugins": []}
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with running([program, str(folder / "orthanc.json")], [port], NO_DELAY, folder) as process:
        yield process, port


def _storescp(*options: str) -> Callable[[int, Path], list[str]]:
    return lambda port, folder: ["storescp", *options, "--max-pdu", "131072", "-od", str(folder), str(port)]


def receivers(yardsticks: Path | None) -> dict[str, Callable[[Path], contextmanager]]:  # type: ignore[type-arg]
    """Return what starts each server, by its name."""
    found = {
        BROKER: lambda folder: _broker(folder, durable=True),
        UNSYNCED: lambda folder: _broker(folder, durable=False),
        STORESCP: lambda folder: _program(folder, _storescp()),
        PRESERVING: lambda folder: _program(folder, _storescp("+B")),
        ORTHANC: _orthanc,
    }
    if yardsticks:
        floor = [sys.executable, str(yardsticks / "dicom_floor.py")]
        found[FLOOR] = lambda folder: _program(folder, lambda port, folder: [*floor, str(port), str(folder), "thread"])
        found[FLOOR_UNSYNCED] = lambda folder: _program(folder, lambda port, folder: [*floor, str(port), str(folder), "none"])
    return found  # type: ignore[return-value]


def place_order(port: int) -> None:
    """Let the exam be known that the images belong to."""
    import socket

    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(VT + order(ORDER, 1) + FS)
        answer = connection.recv(4096)
        if b"MSA|AA" not in answer and b"MSA|CA" not in answer:
            raise RuntimeError(f"the order was not taken: {answer!r}")


def send(port: int, files: list[str], associations: int, command: tuple[str, ...] = STORESCU, env: dict[str, str] = NO_DELAY) -> float:
    """Send the files over so many associations at a time, and return the seconds it took."""
    began = time.perf_counter()
    shares = [files[at::associations] for at in range(associations)]
    senders = [subprocess.Popen([*command, "-aec", "BROKER", "127.0.0.1", str(port), *share], env=env) for share in shares]
    if any([sender.wait() for sender in senders]):  # noqa: C419  every one must be waited for
        raise RuntimeError("storescu failed")
    return time.perf_counter() - began


def compare(title: str, files: list[str], associations: int, rounds: int, yardsticks: Path | None) -> None:
    """Let the servers take turns, and print the medians and how the broker stands to the others."""
    rates: dict[str, list[float]] = {}
    used: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, start in receivers(yardsticks).items():
            with tempfile.TemporaryDirectory(prefix="bench-", dir=TOP) as folder, start(Path(folder)) as (process, port):
                before = cpu(process)
                rates.setdefault(name, []).append(len(files) / send(port, files, associations))
                used.setdefault(name, []).append((cpu(process) - before) / len(files) * 1e6)
    middle = {name: statistics.median(found) for name, found in rates.items()}
    print(f"\n  {len(files)} {title}, {associations} association{'s' * (associations > 1)}, median of {rounds}", flush=True)
    for name, rate in middle.items():
        spread = f"{min(rates[name]):.0f} to {max(rates[name]):.0f}"
        ours = (
            ""
            if name in (BROKER, UNSYNCED)
            else f"   broker synced {middle[BROKER] / rate:5.2f} x, not synced {middle[UNSYNCED] / rate:5.2f} x"
        )
        print(f"    {name:<26}{rate:>7.0f}/s ({spread:>12}){statistics.median(used[name]):>8.0f} µs CPU{ours}")
    for who, whom, target in TARGETS:
        if target is not None:
            ratio = middle[who] / middle[whom]
            print(f"    {who} / {whom}: {ratio:.2f}, wanted {target}: {'reached' if ratio >= target else 'NOT REACHED'}")


def workload(name: str, quick: bool, rounds: int, yardsticks: Path | None) -> None:
    """Compare over one association and over four."""
    one = WORKLOADS[name]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        files = make_files(Path(folder), one.quick if quick else one.count, f"A{ORDER:08d}", one.rows)
        for associations in (1, 4):
            compare(one.title, files, associations, rounds, yardsticks)


def stock(quick: bool, rounds: int, yardsticks: Path | None) -> None:
    """The sender as installed: Nagle on, its own PDU size."""
    plain = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    print("\n  CT of 525 KB from storescu as installed, without TCP_NODELAY", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as source:
        files = make_files(Path(source), 50 if quick else 200, f"A{ORDER:08d}")
        for name, start in receivers(None).items():
            if name in (BROKER, UNSYNCED, STORESCP):
                with tempfile.TemporaryDirectory(prefix="bench-", dir=TOP) as folder, start(Path(folder)) as (_, port):
                    print(f"    {name:<26}{len(files) / send(port, files, 1, ('storescu', '-xe'), plain):>7.0f}/s", flush=True)


def memory(quick: bool, rounds: int, yardsticks: Path | None) -> None:
    """Resident memory at its highest while 32 associations send objects of 20 MB."""
    with tempfile.TemporaryDirectory(prefix="bench-") as source, tempfile.TemporaryDirectory(prefix="bench-", dir=TOP) as folder:
        files = make_files(Path(source), 32, f"A{ORDER:08d}", WORKLOADS["dx"].rows)
        with broker(Path(folder)) as (process, port, _):
            idle, rate = _highest(process), len(files) / send(port, files, 32)
            most = _highest(process)
        print(f"\n  32 associations with 20 MB each: {rate:.0f} objects/s, at most {most:.0f} MB resident, {idle:.0f} MB before")
        print(f"    wanted less than 200 MB: {'reached' if most < 200 else 'NOT REACHED'}", flush=True)


def _highest(process: subprocess.Popen[bytes]) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def hl7(quick: bool, rounds: int, yardsticks: Path | None) -> None:
    """How long an HL7 sender waits for its answer, alone and while images arrive over four associations."""
    with tempfile.TemporaryDirectory(prefix="bench-") as source:
        files = make_files(Path(source), WORKLOADS["ct"].quick * (1 if quick else 4), f"A{ORDER:08d}")
        for durable in (True, False):
            with (
                tempfile.TemporaryDirectory(prefix="bench-", dir=TOP) as folder,
                broker(Path(folder), durable=durable) as (_, port, hl7_port),
            ):
                _ask(hl7_port, 200, lambda: True)
                idle = _ask(hl7_port, 1000, lambda: True)
                senders = [
                    subprocess.Popen([*STORESCU, "-aec", "BROKER", "127.0.0.1", str(port), *files[at::4]], env=NO_DELAY) for at in range(4)
                ]
                busy = _ask(hl7_port, 100_000, partial(_any_runs, senders))
            ratio = _p99(busy) / _p99(idle)
            print(f"\n  HL7 beside images over 4 associations, {'synced' if durable else 'not synced'}")
            print(f"    alone       p50 {statistics.median(idle):>6.1f} ms, p99 {_p99(idle):>6.1f} ms")
            print(f"    beside them p50 {statistics.median(busy):>6.1f} ms, p99 {_p99(busy):>6.1f} ms, {len(busy)} messages")
            print(f"    p99 {ratio:.1f} x, wanted at most 3: {'reached' if ratio <= 3 else 'NOT REACHED'}", flush=True)


def _any_runs(processes: list[subprocess.Popen[bytes]]) -> bool:
    return any([one.poll() is None for one in processes])  # noqa: C419  every one must be reaped


def _ask(port: int, most: int, going: Callable[[], bool]) -> list[float]:
    """Send messages one after the other, each once the last is answered, and return how long each took, in ms."""
    import socket

    from load import NUMBERS, report

    took = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while len(took) < most and going():
            message = VT + report(100 + next(NUMBERS), 1) + FS
            began = time.perf_counter()
            connection.sendall(message)
            while not connection.recv(4096).endswith(FS):
                pass
            took.append((time.perf_counter() - began) * 1000)
    return took


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def run(parts: list[str], *, quick: bool, rounds: int, yardsticks: Path | None) -> None:
    """Print the parts asked for, all without one."""
    for name in parts or PARTS:
        PARTS[name](quick, rounds, yardsticks)


PARTS: dict[str, Callable[[bool, int, Path | None], None]] = {
    **{name: lambda quick, rounds, yardsticks, name=name: workload(name, quick, rounds, yardsticks) for name in WORKLOADS},  # type: ignore[misc]
    "stock": stock,
    "memory": memory,
    "hl7": hl7,
}


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a third of the load, once")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many")
    shared = TOP.parent / "shared" / "bench"
    parser.add_argument("--yardsticks", type=lambda text: Path(text).resolve(), default=shared, help="folder; used when it is there")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without one")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    yardsticks = args.yardsticks if args.yardsticks.is_dir() else None
    run(args.parts, quick=args.quick, rounds=1 if args.quick else args.rounds, yardsticks=yardsticks)


if __name__ == "__main__":
    sys.path.insert(0, str(TOP))
    main()
