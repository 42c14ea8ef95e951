"""Peers for tests that run the broker as a process: plain threads and sockets, and pynetdicom; nothing of the broker's own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    KeyObjectSelectionDocumentStorage,
    MRImageStorage,
    UltrasoundImageStorage,
    Verification,
)

TOP = Path(__file__).resolve().parent.parent
VT, FS = b"\x0b", b"\x1c\r"
IMAGES = (CTImageStorage, MRImageStorage, DigitalXRayImageStorageForPresentation, UltrasoundImageStorage)
PORTS = ("HL7_PORT", "DICOM_PORT", "WEB_PORT", "ARCHIVE_DICOM_PORT", "ARCHIVE_HL7_PORT", "EHR_HL7_PORT", "BILLING_HL7_PORT")


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def eventually(check: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Return what `check` gives once it is true; raises AssertionError when that takes too long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := check():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} s: {what}")


@dataclass
class BrokerProcess:
    """The shipped configuration, run by the `broker` command in a folder of its own."""

    folder: Path
    ports: dict[str, int] = field(default_factory=lambda: dict(zip(PORTS, free_ports(len(PORTS)), strict=True)))
    config: Path = TOP / "channels.yaml"
    extra: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    started_in: Path = TOP

    def environment(self) -> dict[str, str]:
        """Return the environment the broker runs in."""
        ports = {name: str(port) for name, port in self.ports.items()}
        return {**os.environ, **ports, "BROKER_DATA": str(self.folder / "data"), **self.extra}

    def start(self) -> None:
        """Start, and return once it is ready."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "broker", "--config", str(self.config), "run"]
            self.process = subprocess.Popen(command, env=self.environment(), cwd=self.started_in, stdout=log, stderr=log)
        eventually(self._is_ready, f"the broker is ready; {self.log} says why not")

    @property
    def log(self) -> Path:
        """The file with what the broker printed."""
        return self.folder / "broker.log"

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]
        try:
            return bool(self.get("/readyz"))
        except (OSError, urllib.error.URLError):
            return False

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def get(self, path: str) -> bytes:
        """Return what the web port answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['WEB_PORT']}{path}", timeout=10) as answer:
            return bytes(answer.read())

    def json(self, path: str) -> Any:
        """Return what the web port answers, as JSON."""
        return json.loads(self.get(path))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another `broker` command in the same environment."""
        command = [sys.executable, "-m", "broker", "--config", str(self.config), *arguments]
        return subprocess.run(command, env=self.environment(), cwd=TOP, capture_output=True, text=True, timeout=60)


class Sink:
    """An MLLP receiver: keeps what arrives and answers AA, or what it is told to."""

    def __init__(self, port: int) -> None:
        self.port, self.code = port, "AA"
        self.received: list[bytes] = []
        self._server: socketserver.ThreadingTCPServer | None = None
        self._open: set[socket.socket] = set()

    def start(self) -> None:
        """Listen."""
        sink = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                sink._open.add(self.request)
                with contextlib.suppress(OSError):
                    for raw in frames(self.request):
                        sink.received.append(raw)
                        self.request.sendall(VT + acknowledgement(raw, sink.code) + FS)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Close the port and every connection."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._open.clear()
            self._server = None

    def of(self, kind: str) -> list[bytes]:
        """Return what arrived of one kind, "SIU^S12"."""
        return [raw for raw in self.received if raw.split(b"\r", 1)[0].split(b"|")[8].startswith(kind.encode())]


def frames(connection: socket.socket) -> Iterator[bytes]:
    """Yield the messages of a connection until it ends."""
    rest = b""
    while data := connection.recv(65536):
        rest += data
        while (end := rest.find(FS)) >= 0:
            yield rest[rest.find(VT) + 1 : end]
            rest = rest[end + 2 :]


def acknowledgement(raw: bytes, code: str) -> bytes:
    """Return an ACK."""
    control_id = raw.split(b"\r", 1)[0].split(b"|")[9]
    return b"MSH|^~\\&|SINK||||20260101||ACK|" + control_id + b"|P|2.5.1\rMSA|" + code.encode() + b"|" + control_id + b"\r"


class Sender:
    """An MLLP sender with one connection; `send` returns the answer."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._answers = frames(self._socket)

    def send(self, message: str | bytes) -> str:
        """Send one message, and return the answer; raises ConnectionError when the connection ends instead."""
        raw = message.encode() if isinstance(message, str) else message
        self._socket.sendall(VT + raw + FS)
        for answer in self._answers:
            return answer.decode()
        raise ConnectionError("closed without an answer")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class Archive:
    """A C-STORE SCP on pynetdicom that remembers the datasets without their pixels."""

    def __init__(self, port: int, ae_title: str = "ARCHIVE") -> None:
        self.port, self.status = port, 0x0000
        self.received: list[Dataset] = []
        self._ae = AE(ae_title=ae_title)
        for sop_class in (*IMAGES, KeyObjectSelectionDocumentStorage, Verification):
            self._ae.add_supported_context(sop_class)
        self._server: Any = None

    def start(self) -> None:
        """Listen."""
        self._server = self._ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])

    def _store(self, event: evt.Event) -> int:
        self.received.append(event.dataset)
        return self.status

    def stop(self) -> None:
        """Close the port and every association."""
        if self._server:
            for association in self._server.active_associations:
                association.abort()
            self._server.shutdown()
            self._server = None


def ct_image(patient_id: str, name: str, accession: str, study_uid: str, number: int = 1) -> Dataset:
    """Return a small CT image."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = study_uid, generate_uid()
    image.PatientID, image.PatientName, image.AccessionNumber, image.Modality = patient_id, name, accession, "CT"
    image.InstanceNumber, image.StudyDate = number, "20260302"
    image.Rows = image.Columns = 16
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation, image.SamplesPerPixel = 15, 0, 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.PixelData = os.urandom(512)
    return image


class Orthanc:
    """An Orthanc server as archive: in a folder of its own, without accounts, and with what it holds read over REST."""

    def __init__(self, folder: Path, ae_title: str = "ARCHIVE", *, port: int = 0, **settings: Any) -> None:
        """`settings`: further keys of its configuration file, as Orthanc spells them."""
        self.folder, self.ae_title = folder, ae_title
        web, free = free_ports(2)
        self.port, self.web = port or free, web
        self._settings: dict[str, Any] = {
            "Name": ae_title,
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomAet": ae_title,
            "DicomPort": self.port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "HttpPort": web,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "OverwriteInstances": True,
            "TcpNoDelay": True,
            "Plugins": [],
            "DicomModalities": {},
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def knows(self, ae_title: str, port: int) -> Orthanc:
        """Let it send to this modality, as C-MOVE asks for or a rule of its own; to be called before `start`."""
        self._settings["DicomModalities"][ae_title.lower()] = [ae_title, "127.0.0.1", port]
        return self

    def start(self) -> None:
        """Start, and return once both ports answer."""
        program = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert program, "Orthanc is needed (Debian package orthanc)"
        (self.folder / "storage").mkdir(parents=True, exist_ok=True)
        config = self.folder / "orthanc.json"
        config.write_text(json.dumps(self._settings))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([program, str(config)], stdout=log, stderr=log, cwd=self.folder)
        eventually(self._is_ready, f"Orthanc is ready; {self.log} says why not")

    @property
    def log(self) -> Path:
        """The file with what it printed."""
        return self.folder / "orthanc.log"

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return bool(self.get("/system"))
        except OSError:
            return False

    def get(self, path: str) -> bytes:
        """Return what its REST interface answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web}{path}", timeout=30) as answer:
            return bytes(answer.read())

    def json(self, path: str) -> Any:
        """Return what its REST interface answers, as JSON."""
        return json.loads(self.get(path))

    def post(self, path: str, body: Any) -> Any:
        """Ask for something over REST: JSON both ways, or a file as bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.web}{path}", data)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    @property
    def count(self) -> int:
        """How many instances it holds."""
        return int(self.json("/statistics")["CountInstances"])

    def instances(self) -> dict[str, str]:
        """Return Orthanc's own ids by SOP Instance UID."""
        return {one["MainDicomTags"]["SOPInstanceUID"]: one["ID"] for one in self.json("/instances?expand")}

    def file(self, sop_instance: str) -> bytes:
        """Return an instance as the DICOM file that it keeps; raises KeyError when it has none."""
        return self.get(f"/instances/{self.instances()[sop_instance]}/file")

    def stop(self) -> None:
        """End it; what it holds stays in the folder."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
