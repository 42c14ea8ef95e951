"""A broker process on the shipped configuration, with everybody it talks to."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pydicom.dataset import Dataset

from tests.peers import Archive, BrokerProcess, Sink, eventually
from tests.scenarios.modality import found

SINKS = {"ehr": "EHR_HL7_PORT", "archive_hl7": "ARCHIVE_HL7_PORT", "billing": "BILLING_HL7_PORT"}


class StorescpArchive:
    """DCMTK's C-STORE SCP, writing into a folder."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self._folder = port, folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def received(self) -> list[Dataset]:
        """The headers of what it keeps, in no order."""
        return found(list(self._folder.iterdir())) if self._folder.exists() else []

    def start(self) -> None:
        """Listen."""
        path = shutil.which("storescp")
        assert path, "DCMTK's storescp is needed"
        self._folder.mkdir(exist_ok=True)
        self._process = subprocess.Popen([path, "-aet", "ARCHIVE", "-od", str(self._folder), str(self.port)])
        eventually(self._listens, "storescp listens")

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


class AnyArchive(Protocol):
    """What a scenario asks of an archive."""

    @property
    def received(self) -> list[Dataset]:
        """What arrived."""

    def start(self) -> None:
        """Listen."""

    def stop(self) -> None:
        """End."""


class Department:
    """The broker and its peers; only one of the two archives listens at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = BrokerProcess(folder)
        ports = self.broker.ports
        self.sinks = {name: Sink(ports[port]) for name, port in SINKS.items()}
        self._archives: Mapping[str, Callable[[], AnyArchive]] = {
            "pynetdicom": lambda: Archive(ports["ARCHIVE_DICOM_PORT"]),
            "storescp": lambda: StorescpArchive(ports["ARCHIVE_DICOM_PORT"], folder / "storescp"),
        }
        self._kind = ""
        self.archive: AnyArchive | None = None

    def start(self) -> None:
        """Start everyone."""
        for sink in self.sinks.values():
            sink.start()
        self.broker.start()

    def stop(self) -> int:
        """End everyone; return the broker's exit code."""
        code = self.broker.stop()
        for sink in self.sinks.values():
            sink.stop()
        if self.archive:
            self.archive.stop()
        return code

    def use_archive(self, kind: str) -> None:
        """Let this archive listen ("pynetdicom", "storescp")."""
        if kind == self._kind:
            return
        if self.archive:
            self.archive.stop()
        self._kind, self.archive = kind, self._archives[kind]()
        self.archive.start()

    def receiver(self, name: str) -> Sink | AnyArchive:
        """Return a sink, or the archive that listens."""
        if name != "archive":
            return self.sinks[name]
        assert self.archive is not None
        return self.archive

    def status(self) -> dict[str, Any]:
        """Return the broker's figures."""
        return dict(self.broker.json("/api/status"))

    def waiting(self, destination: str) -> int:
        """Return how many deliveries wait for a destination."""
        return next(int(one["waiting"]) for one in self.status()["destinations"] if one["name"] == destination)
