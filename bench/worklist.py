"""Worklist queries: the broker beside DCMTK's wlmscpfs, asked by the same client over an association that stays open.

Both hold the same 1,000 entries; then the broker alone 100,000, of which it is asked for one station's day.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_receive import NO_DELAY
from process import TOP, free_ports, running
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

WORKLIST = "1.2.840.10008.5.1.4.31"
STATIONS, DAYS = 50, 100
SMALL, LARGE = 1_000, 100_000
DAY = "20990401"
SECONDS = 3.0  # that a query is repeated for
NAMES = ("HL7_PORT", "DICOM_PORT", "WEB_PORT", "ARCHIVE_DICOM_PORT", "ARCHIVE_HL7_PORT", "EHR_HL7_PORT", "BILLING_HL7_PORT")


@dataclass(frozen=True)
class Rate:
    """What one query gave, asked again and again."""

    entries: int  # of each answer
    first: float  # ms to the first entry of the first answer
    usual: float  # ms to the first entry, the median of all answers
    rate: float  # entries a second


def run(share: float) -> None:
    """Print entries a second for one station's day and for all entries."""
    queries = {"one station's day": {"station": "CT7"}, "all that there is": {"station": ""}}
    count = max(STATIONS, int(SMALL * share))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        theirs = _measured(wlmscpfs(Path(name), count), "WLSCP", queries)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        ours = _measured(broker(Path(name), count, 1), "BROKER", queries)
    print(f"  {count} entries")
    for what in queries:
        _show("wlmscpfs", what, theirs[what])
        _show("broker", what, ours[what])
        print(f"  broker / wlmscpfs, {what}: {ours[what].rate / theirs[what].rate:.1f}")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        many = max(STATIONS * DAYS, int(LARGE * share))
        print(f"  {many} entries")
        for what, rate in _measured(broker(Path(name), many, DAYS), "BROKER", {"one station's day": {"station": "CT7"}}).items():
            _show("broker", what, rate)


def _show(who: str, what: str, rate: Rate) -> None:
    print(
        f"  {who:<9} {what:<18} {rate.entries:>5} entries, first after {rate.first:.1f} ms, usually {rate.usual:.2f} ms, "
        f"{rate.rate:,.0f} entries/s",
        flush=True,
    )


def _measured(server: Any, called: str, queries: dict[str, dict[str, str]]) -> dict[str, Rate]:
    with server as port:
        return {what: _rate(port, called, **keys) for what, keys in queries.items()}


def _rate(port: int, called: str, station: str) -> Rate:
    client = Client(port, called)
    asked, firsts, entries = 0, [], 0
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < SECONDS or asked < 3:
        entries, first = client.find(_identifier(station))
        firsts.append((first - now) * 1000)
        asked += 1
    took = time.perf_counter() - began
    client.close()
    return Rate(entries, firsts[0], sorted(firsts)[len(firsts) // 2], entries * asked / took)


class Client:
    """An association that asks, and counts the answers without reading them."""

    def __init__(self, port: int, called: str) -> None:
        from broker.dicom.association import Association
        from broker.dicom.happenings import Write
        from broker.dicom.negotiation import Offer, Request

        self._core = Association(acceptor=False)
        self._core.associate(Request("CT7", called, (Offer(1, WORKLIST, (ExplicitVRLittleEndian,)),), 1 << 17))
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(b"".join(h.data for h in self._core.connected() if isinstance(h, Write)))
        self._buffer = bytearray()
        pdu = self._pdu()
        self._core.receive(memoryview(pdu))
        self._message_id = 0

    def _pdu(self) -> bytes:
        while len(self._buffer) < 6 or len(self._buffer) < 6 + struct.unpack_from(">I", self._buffer, 2)[0]:
            self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_QUICKACK", 12), 1)
            data = self._socket.recv(1 << 18)
            if not data:
                raise RuntimeError("the server has closed the association")
            self._buffer += data
        length = 6 + struct.unpack_from(">I", self._buffer, 2)[0]
        pdu = bytes(self._buffer[:length])
        del self._buffer[:length]
        return pdu

    def find(self, identifier: bytes) -> tuple[int, float]:
        """Return how many entries came, and when the first of them."""
        from broker.dicom import dimse

        self._message_id += 1
        command = dimse.request(dimse.Field.C_FIND, self._message_id, WORKLIST)
        self._socket.sendall(self._core.message(1, command, identifier))
        entries, first = 0, 0.0
        while True:
            pdu, at = self._pdu(), 6
            while at < len(pdu):
                (length,) = struct.unpack_from(">I", pdu, at)
                control = pdu[at + 5]
                if control == 2:  # the last fragment of a dataset
                    entries += 1
                    first = first or time.perf_counter()
                elif control == 3 and b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\xff" not in pdu[at : at + 4 + length]:
                    return entries, first or time.perf_counter()
                at += 4 + length

    def close(self) -> None:
        """Leave."""
        self._socket.close()


def _identifier(station: str) -> bytes:
    from broker.dicom.dataset import encode

    asked = Dataset()
    for keyword in ("AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        setattr(asked, keyword, "")
    for keyword in ("MedicalAlerts", "Allergies", "PregnancyStatus", "StudyInstanceUID", "RequestingPhysician"):
        setattr(asked, keyword, None)
    for keyword in ("RequestedProcedureDescription", "RequestedProcedureID", "RequestedProcedurePriority"):
        setattr(asked, keyword, "")
    step = Dataset()
    step.Modality, step.ScheduledStationAETitle, step.ScheduledProcedureStepStartDate = "CT", station, DAY
    for keyword in ("StartTime", "Description", "ID", "Location"):
        setattr(step, f"ScheduledProcedureStep{keyword}", "")
    step.ScheduledPerformingPhysicianName = step.ScheduledStationName = ""
    asked.ScheduledProcedureStepSequence = [step]
    return encode(asked, ExplicitVRLittleEndian)


@contextmanager
def wlmscpfs(folder: Path, count: int) -> Iterator[int]:
    """Run wlmscpfs on so many files; gives its port."""
    files = folder / "files" / "WLSCP"
    files.mkdir(parents=True)
    (files / "lockfile").touch()
    for number in range(count):
        entry = Dataset()
        entry.SpecificCharacterSet = "ISO_IR 100"
        entry.AccessionNumber, entry.PatientName, entry.PatientID = f"A{number:08}", f"DOE{number}^JANE", f"P{number}"
        entry.PatientBirthDate, entry.PatientSex = "19610101", "F"
        entry.MedicalAlerts = entry.Allergies = ""
        entry.PregnancyStatus = 4
        entry.StudyInstanceUID, entry.RequestedProcedureID = generate_uid(), f"RP{number:08}"
        entry.RequestedProcedureDescription, entry.RequestedProcedurePriority = "CT chest with contrast", "ROUTINE"
        entry.ReferringPhysicianName = entry.RequestingPhysician = "WELBY^MARCUS"
        entry.ReferencedStudySequence = entry.ReferencedPatientSequence = []
        step = Dataset()
        step.Modality, step.ScheduledStationAETitle, step.ScheduledProcedureStepStartDate = "CT", f"CT{number % STATIONS}", DAY
        step.ScheduledProcedureStepStartTime, step.ScheduledProcedureStepDescription = "080000", "CT chest"
        step.ScheduledProcedureStepID, step.ScheduledProcedureStepLocation = f"SPS{number:08}", "ROOM 1"
        step.ScheduledPerformingPhysicianName, step.ScheduledStationName = "", "CT7"
        entry.ScheduledProcedureStepSequence = [step]
        entry.ensure_file_meta()
        entry.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        entry.file_meta.MediaStorageSOPClassUID, entry.file_meta.MediaStorageSOPInstanceUID = WORKLIST, generate_uid()
        entry.save_as(files / f"{number:06}.wl", enforce_file_format=True)
    (port,) = free_ports(1)
    with running(["wlmscpfs", "-dfp", str(folder / "files"), str(port)], [port], NO_DELAY, folder):
        yield port


@contextmanager
def broker(folder: Path, count: int, days: int) -> Iterator[int]:
    """Run the broker on a store with so many scheduled steps; gives its port."""
    ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
    environment = {**{n: str(p) for n, p in ports.items()}, "BROKER_DATA": str(folder / "data"), "PYTHONPATH": str(TOP)}
    subprocess.run([sys.executable, __file__, str(folder / "data"), str(count), str(days)], env={**os.environ, **environment}, check=True)
    command = [sys.executable, "-m", "broker", "--config", str(TOP / "channels.yaml"), "run"]
    with running(command, [ports["DICOM_PORT"]], environment, folder):
        yield ports["DICOM_PORT"]


def fill(data: Path, count: int, days: int) -> None:
    """Write a store with so many scheduled steps, spread over the stations and over so many days."""
    from broker.ris.entities import Composite, Exam, Order, Patient, PatientIdentifier, Step
    from broker.store import sqlite
    from broker.store.records import RecordStore

    engine = sqlite.open_engine(data / "broker.db")
    records = RecordStore(engine.begin(True))
    for n in range(count):
        of = n // STATIONS % days
        day = f"2099{4 + of // 28:02d}{1 + of % 28:02d}"
        patient = records.add(Patient(family=f"DOE{n}", given="JANE", birth_date="19610101", sex="F"))
        records.add(PatientIdentifier(patient_id=patient.id, value=f"P{n}", authority="HOSP", type="MR"))
        order = records.add(
            Order(patient_id=patient.id, placer_number=f"O{n}", status="SC", priority="ROUTINE", provider=Composite("7^WELBY^MARCUS"))
        )
        exam = records.add(
            Exam(
                order_id=order.id,
                patient_id=patient.id,
                accession=f"A{n:08}",
                requested_procedure_id=f"RP{n:08}",
                study_uid=f"2.25.{10**30 + n}",
                procedure_code="CTCHEST",
                procedure_name="CT chest with contrast",
                modality="CT",
                status="scheduled",
                priority="ROUTINE",
            )
        )
        records.add(
            Step(
                exam_id=exam.id,
                sps_id=f"SPS{n:08}",
                status="scheduled",
                modality="CT",
                station=f"CT{n % STATIONS}",
                room="ROOM 1",
                start=f"{day}{8 + n % 10:02d}00",
                ends=f"{day}{8 + n % 10:02d}20",
                duration=20,
                protocol_code="CTCHEST",
                protocol_name="CT chest",
            )
        )
    engine.commit()
    engine.close()


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
