"""Images through the whole broker: received, synced, journaled, linked to their order, coerced, and forwarded to DCMTK's storescp."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dicom_receive import NO_DELAY, STORESCU, make_files
from load import FS, VT, order
from process import TOP, free_ports, running

NAMES = ("HL7_PORT", "DICOM_PORT", "WEB_PORT", "ARCHIVE_DICOM_PORT", "ARCHIVE_HL7_PORT", "EHR_HL7_PORT", "BILLING_HL7_PORT")
ORDER = 1  # its accession is A00000001, which the images carry


def run(count: int) -> None:
    """Print how many objects a second are received and how many reach the archive, over one association and over four."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=TOP) as folder:
        files = make_files(Path(folder), count, accession=f"A{ORDER:08d}")
        for associations in (1, 4):
            received, forwarded = measure(Path(folder), files, associations)
            print(f"  broker, {associations} associations: {received:.0f} received/s, {forwarded:.0f} linked, coerced and in the archive/s")


def measure(top: Path, files: list[str], associations: int) -> tuple[float, float]:
    """Return the objects a second that were answered, and that the archive has."""
    ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
    with tempfile.TemporaryDirectory(dir=top) as name:
        folder = Path(name)
        archive = folder / "archive"
        archive.mkdir()
        environment = {**{n: str(p) for n, p in ports.items()}, "BROKER_DATA": str(folder / "data"), "PYTHONPATH": str(TOP)}
        scp = ["storescp", "--max-pdu", "131072", "-od", str(archive), "-aet", "ARCHIVE", str(ports["ARCHIVE_DICOM_PORT"])]
        command = [sys.executable, "-m", "broker", "--config", str(TOP / "channels.yaml"), "run"]
        with (
            running(scp, [ports["ARCHIVE_DICOM_PORT"]], NO_DELAY, folder),
            running(command, [ports["HL7_PORT"], ports["DICOM_PORT"]], environment, folder),
        ):
            _place_order(ports["HL7_PORT"])
            began = time.perf_counter()
            storescu = [*STORESCU, "-aet", "CT1", "-aec", "BROKER", "127.0.0.1", str(ports["DICOM_PORT"])]
            senders = [subprocess.Popen([*storescu, *files[at::associations]], env=NO_DELAY) for at in range(associations)]
            if any([sender.wait() for sender in senders]):  # noqa: C419  every one must be waited for
                raise RuntimeError("storescu failed")
            received = time.perf_counter() - began
            while len(os.listdir(archive)) < len(files):
                if time.perf_counter() - began > 120:
                    raise RuntimeError(f"{len(os.listdir(archive))} of {len(files)} objects reached the archive")
                time.sleep(0.01)
            return len(files) / received, len(files) / (time.perf_counter() - began)


def _place_order(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(VT + order(ORDER, 1) + FS)
        answer = connection.recv(4096)
        if b"MSA|AA" not in answer:
            raise RuntimeError(f"the order was not taken: {answer!r}")
