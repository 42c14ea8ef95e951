#!/usr/bin/env python3
"""Objects received a second: the broker's listener, DCMTK's storescp, and the plain floor program, from the same storescu.

    dicom_receive.py [--objects 400] [--associations 1 4] [--json]

The broker's listener has a trivial intake, so that this measures protocol and spool alone; it syncs every object before it answers.
With YARDSTICKS naming a folder that holds dicom_floor.py, that runs in the same call, syncing in threads as well.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
ROWS = 512  # 525 KB of pixels
NO_DELAY = {**os.environ, "TCP_NODELAY": "1"}
STORESCU = ("storescu", "--max-pdu", "131072", "--max-send-pdu", "131072", "-xe")


def make_files(folder: Path, count: int, accession: str = "") -> list[str]:
    """Write CT images with different UIDs and return their paths."""
    from pydicom.dataset import Dataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    from broker.dicom.dataset import encode
    from broker.dicom.files import file_meta

    paths = []
    ds = Dataset()
    ds.SOPClassUID, ds.Modality, ds.PatientName, ds.PatientID = CTImageStorage, "CT", "BENCH^ONE", "1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.AccessionNumber = accession
    ds.Rows = ds.Columns = ROWS
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel, ds.PhotometricInterpretation = 15, 0, 1, "MONOCHROME2"
    ds.PixelData = bytes(ROWS * ROWS * 2)
    for number in range(count):
        ds.SOPInstanceUID = generate_uid()
        path = folder / f"{number:05}.dcm"
        path.write_bytes(file_meta(CTImageStorage, ds.SOPInstanceUID, ExplicitVRLittleEndian) + encode(ds, ExplicitVRLittleEndian))
        paths.append(str(path))
    return paths


def serve(port: int, folder: str) -> None:
    """Run the broker's listener with an intake that only says yes."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred, succeed
    from twisted.internet.threads import deferToThread

    from broker.connectors.dicom import LISTENER, DicomListener
    from broker.obs.log import Log
    from broker.obs.metrics import Metrics
    from broker.store.spool import Spool

    class Yes:
        def receive_instance(self, caller: Any, spooled: Any) -> Deferred[int]:
            return succeed(0)

    reactor: Any = installed
    reactor.suggestThreadPoolSize(16)
    settings = LISTENER.read({"port": port, "check_called": False})
    intake: Any = Yes()
    listener = DicomListener("bench", settings, reactor, intake, Spool(folder, deferToThread), Metrics(), Log())
    listener.start()
    reactor.run()


def receivers(port: int, folder: str) -> dict[str, list[str]]:
    """Return the commands to compare."""
    found = {
        "broker": [sys.executable, __file__, "--serve", str(port), folder],
        "DCMTK storescp": ["storescp", "+B", "--max-pdu", "131072", "-od", folder, str(port)],
    }
    yardsticks = os.environ.get("YARDSTICKS")
    if yardsticks:
        found["floor, thread sync"] = [sys.executable, str(Path(yardsticks) / "dicom_floor.py"), str(port), folder, "thread"]
        found["floor, no sync"] = [sys.executable, str(Path(yardsticks) / "dicom_floor.py"), str(port), folder, "none"]
    return found


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens there."""
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"nobody listens on {port}")


def measure(name: str, files: list[str], associations: int) -> float:
    """Return the objects a second that one receiver takes over so many associations at a time."""
    with tempfile.TemporaryDirectory(dir=TOP if os.access(TOP, os.W_OK) else None) as folder:
        port = free_port()
        process = subprocess.Popen(receivers(port, folder)[name], env={**NO_DELAY, "PYTHONPATH": str(TOP)}, stderr=subprocess.DEVNULL)
        try:
            wait_for(port, process)
            began = time.perf_counter()
            senders = [
                subprocess.Popen(
                    [*STORESCU, "-aec", "BROKER", "127.0.0.1", str(port), *files[at::associations]],
                    env=NO_DELAY,
                )
                for at in range(associations)
            ]
            if any([sender.wait() for sender in senders]):  # noqa: C419  every one must be waited for
                raise SystemExit(f"storescu failed against {name}")
            return len(files) / (time.perf_counter() - began)
        finally:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--objects", type=int, default=400)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(int(options.serve[0]), options.serve[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(Path(folder), options.objects)
        rows = []
        for associations in options.associations:
            for name in receivers(0, folder):
                rates = sorted(measure(name, files, associations) for _ in range(options.rounds))
                rows.append({"receiver": name, "associations": associations, "objects_per_second": round(rates[len(rates) // 2])})
    for row in rows:
        ours = next(r for r in rows if r["receiver"] == "broker" and r["associations"] == row["associations"])
        row["broker_ratio"] = round(ours["objects_per_second"] / max(row["objects_per_second"], 1), 2)
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'receiver':<22}{'associations':>13}{'objects/s':>11}{'broker is':>12}")
    for row in rows:
        print(f"{row['receiver']:<22}{row['associations']:>13}{row['objects_per_second']:>11}{row['broker_ratio']:>11}x")


if __name__ == "__main__":
    sys.path.insert(0, str(TOP))
    main()
