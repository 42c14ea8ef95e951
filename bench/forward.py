"""Images through the whole broker (received, journaled, linked to their order, coerced, forwarded), beside Orthanc's auto-routing.

Both forward to DCMTK's storescp. Orthanc runs as installed, with the script of its manual that sends on each instance that it has stored.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_receive import NO_DELAY, STORESCU, make_files
from load import FS, VT, order
from process import HERE, TOP, cpu, free_ports, running

NAMES = ("HL7_PORT", "DICOM_PORT", "WEB_PORT", "ARCHIVE_DICOM_PORT")
CONFIG = HERE / "forwarding" / "channels.yaml"
ORDER = 1  # its accession is A00000001, which the images carry
ROUTING = """
function OnStoredInstance(instance, tags, metadata, origin)
    Delete(SendToModality(instance, 'archive'))
end
"""


@dataclass(frozen=True)
class Rate:
    """Objects a second that were answered, and that reached the archive; and the processor time of one in µs."""

    received: float
    forwarded: float
    cpu: float


def run(count: int, rounds: int = 3) -> None:
    """Print how many objects a second are received and how many reach the archive, by associations in, synced and not."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=TOP) as name:
        folder = Path(name)
        files = make_files(folder, count, accession=f"A{ORDER:08d}")
        for associations in (1, 4):
            rates: dict[str, list[Rate]] = {}
            for _ in range(rounds):  # in turn, as the machine changes from minute to minute
                for who, start in (("synced", True), ("not synced", False)):
                    rates.setdefault(who, []).append(_broker(folder, files, associations, durable=start))
                rates.setdefault("Orthanc", []).append(_orthanc(folder, files, associations))
            _show(associations, rates)


def _show(associations: int, rates: dict[str, list[Rate]]) -> None:
    middle = {who: statistics.median(rate.forwarded for rate in found) for who, found in rates.items()}
    for who, found in rates.items():
        received = statistics.median(rate.received for rate in found)
        used = statistics.median(rate.cpu for rate in found)
        ratio = "" if who == "Orthanc" else f", {middle[who] / middle['Orthanc']:.1f} x Orthanc, {middle[who] / received:.2f} x received"
        print(
            f"  {who:<10} {associations} associations: {received:>6.0f} received/s, {middle[who]:>6.0f} in the archive/s, "
            f"{used:.0f} µs CPU an object{ratio}",
            flush=True,
        )


def _broker(top: Path, files: list[str], associations: int, *, durable: bool) -> Rate:
    with tempfile.TemporaryDirectory(dir=top) as name:
        folder, ports = Path(name), dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        environment = {
            **{n: str(p) for n, p in ports.items()},
            "BROKER_DATA": str(folder / "data"),
            "PYTHONPATH": str(TOP),
            "DURABLE": "true" if durable else "false",
        }
        command = [sys.executable, "-m", "broker", "--config", str(CONFIG), "run"]
        with (
            _archive(folder, ports["ARCHIVE_DICOM_PORT"]) as archive,
            running(command, [ports["HL7_PORT"], ports["DICOM_PORT"]], environment, folder) as process,
        ):
            _place_order(ports["HL7_PORT"])
            return _measure(process, archive, files, associations, ports["DICOM_PORT"])


def _orthanc(top: Path, files: list[str], associations: int) -> Rate:
    program = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise RuntimeError("Orthanc is needed: see scripts/peers")
    with tempfile.TemporaryDirectory(dir=top) as name:
        folder = Path(name)
        port, web, out = free_ports(3)
        (folder / "route.lua").write_text(ROUTING)
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomPort": port,
            "HttpPort": web,
            "Plugins": [],
            "LuaScripts": [str(folder / "route.lua")],
            "DicomModalities": {"archive": ["ARCHIVE", "127.0.0.1", out]},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        command = [program, str(folder / "orthanc.json")]
        with _archive(folder, out) as archive, running(command, [port], NO_DELAY, folder) as process:
            return _measure(process, archive, files, associations, port)


@contextmanager
def _archive(folder: Path, port: int) -> Iterator[Path]:
    kept = folder / "archive"
    kept.mkdir()
    with running(["storescp", "--max-pdu", "131072", "-od", str(kept), "-aet", "ARCHIVE", str(port)], [port], NO_DELAY, folder):
        yield kept


def _measure(process: subprocess.Popen[bytes], archive: Path, files: list[str], associations: int, port: int) -> Rate:
    used, began = cpu(process), time.perf_counter()
    storescu = [*STORESCU, "-aet", "CT1", "-aec", "BROKER", "127.0.0.1", str(port)]
    senders = [subprocess.Popen([*storescu, *files[at::associations]], env=NO_DELAY) for at in range(associations)]
    if any([sender.wait() for sender in senders]):  # noqa: C419  every one must be waited for
        raise RuntimeError("storescu failed")
    received = time.perf_counter() - began
    while len(os.listdir(archive)) < len(files):
        if time.perf_counter() - began > 120:
            raise RuntimeError(f"{len(os.listdir(archive))} of {len(files)} objects reached the archive")
        time.sleep(0.01)
    took = time.perf_counter() - began
    return Rate(len(files) / received, len(files) / took, (cpu(process) - used) / len(files) * 1e6)


def _place_order(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(VT + order(ORDER, 1) + FS)
        answer = connection.recv(4096)
        if b"MSA|AA" not in answer and b"MSA|CA" not in answer:
            raise RuntimeError(f"the order was not taken: {answer!r}")
