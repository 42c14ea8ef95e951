"""A modality out of other people's parts: DCMTK asks the worklist, stores and echoes, pynetdicom performs (MPPS)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import ModalityPerformedProcedureStep  # type: ignore[attr-defined]

from tests.interop import commitment
from tests.peers import ct_image, eventually

STEP = "ScheduledProcedureStepSequence"
SOP_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
}
OF_STUDY = ("AccessionNumber", "StudyInstanceUID", "RequestedProcedureID", "RequestedProcedureDescription")
OF_STEP = ("ScheduledProcedureStepID", "ScheduledProcedureStepDescription")
WHEN_AND_WHERE = ("Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime")
OF_PATIENT = ("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")


def program(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a DCMTK program to its end; raises AssertionError when it is not installed."""
    path = shutil.which(name)
    assert path, f"DCMTK's {name} is needed"
    environment = {**os.environ, "TCP_NODELAY": "1"}
    return subprocess.run([path, *arguments], env=environment, capture_output=True, text=True, errors="replace", timeout=60)


def texts(dataset: Dataset, path: str) -> str:
    """Return the text of a keyword, or of a dotted path through the first items of sequences; "" when it is not there."""
    keyword, _, rest = path.partition(".")
    if not rest:
        return str(dataset.get(keyword, "") or "")
    items = dataset.get(keyword) or [Dataset()]
    return texts(items[0], rest)


def put(dataset: Dataset, path: str, value: str) -> None:
    """Set a keyword, or a dotted path through the first items of sequences."""
    keyword, _, rest = path.partition(".")
    if not rest:
        setattr(dataset, keyword, value)
        return
    if not dataset.get(keyword):
        setattr(dataset, keyword, Items([Dataset()]))
    put(dataset.get(keyword)[0], rest, value)


class Modality:
    """One modality: the worklist entry it has chosen, and the images it has made."""

    def __init__(self, ae_title: str, port: int, folder: Path) -> None:
        self.ae_title, self._port, self._folder = ae_title, port, folder / ae_title
        self._folder.mkdir(parents=True)
        self.entry = Dataset()
        self.images: list[Path] = []  # of the last series stored
        self.stored: list[str] = []  # SOP Instance UIDs of all
        self._performed = ""
        self._count = 0

    def echo(self) -> str:
        """C-ECHO; return "ok" or what DCMTK says."""
        done = program("echoscu", "-aet", self.ae_title, "-aec", "BROKER", "127.0.0.1", str(self._port))
        return "ok" if done.returncode == 0 else done.stdout + done.stderr

    def ask(self, keys: Mapping[str, str], charset: str = "") -> list[Dataset]:
        """C-FIND Modality Worklist; return the entries."""
        self._count += 1
        answers = self._folder / f"answers{self._count}"
        answers.mkdir()
        query = Dataset()
        for keyword in (*OF_PATIENT, *OF_STUDY, "ReferringPhysicianName"):
            setattr(query, keyword, "")
        for keyword in (*OF_STEP, *WHEN_AND_WHERE):
            put(query, f"{STEP}.{keyword}", "")
        query.SpecificCharacterSet = charset or None
        for path, value in keys.items():
            put(query, path, value)
        asked = _write(query, self._folder / f"query{self._count}.dcm", "1.2.840.10008.5.1.4.31")
        arguments = ("-W", "-X", "-od", str(answers), "-aet", self.ae_title, "-aec", "BROKER", "127.0.0.1", str(self._port), str(asked))
        done = program("findscu", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return [dcmread(file, force=True) for file in sorted(answers.iterdir())]

    def make(self, count: int, changes: Mapping[str, str]) -> None:
        """Make a series of images of the chosen entry, some of whose attributes may be changed."""
        modality = texts(self.entry, f"{STEP}.Modality") or "CT"
        study = texts(self.entry, "StudyInstanceUID") or generate_uid()
        made = [ct_image("", "", "", study, number) for number in range(1, count + 1)]
        self.images = []
        for image in made:
            for keyword in (*OF_PATIENT, "AccessionNumber"):
                if keyword in self.entry:
                    image[keyword] = deepcopy(self.entry[keyword])
            image.Modality, image.SOPClassUID, image.SeriesInstanceUID = modality, SOP_CLASSES[modality], made[0].SeriesInstanceUID
            for path, value in changes.items():
                put(image, path, value)
            self.images.append(_write(image, self._folder / f"{image.SOPInstanceUID}.dcm", image.SOPClassUID))
            self.stored.append(image.SOPInstanceUID)

    def store(self) -> str:
        """C-STORE the last series; return "ok", or what DCMTK says of the answers."""
        files = map(str, self.images)
        done = program("storescu", "-v", "-R", "-nh", "-aet", self.ae_title, "-aec", "BROKER", "127.0.0.1", str(self._port), *files)
        answers = re.findall(r"Received Store Response \((.*)\)", done.stdout + done.stderr)
        return "ok" if done.returncode == 0 and answers == ["Success"] * len(self.images) else done.stdout + done.stderr

    def start(self, changes: Mapping[str, str]) -> int:
        """MPPS N-CREATE for the chosen entry; return the status."""
        self._performed = str(generate_uid())
        step = Dataset()
        for keyword in OF_STUDY:
            setattr(step, keyword, texts(self.entry, keyword))
        for keyword in OF_STEP:
            setattr(step, keyword, texts(self.entry, f"{STEP}.{keyword}"))
        step.StudyInstanceUID = step.StudyInstanceUID or generate_uid()  # without an entry the modality makes the study up
        step.ReferencedStudySequence = step.ScheduledProtocolCodeSequence = Items()
        performed = Dataset()
        for keyword in OF_PATIENT:
            if keyword in self.entry:
                performed[keyword] = deepcopy(self.entry[keyword])
        performed.ScheduledStepAttributesSequence = Items([step])
        performed.PerformedProcedureStepID, performed.PerformedStationAETitle = "1", self.ae_title
        performed.PerformedProcedureStepStartDate, performed.PerformedProcedureStepStartTime = "20260302", "101500"
        performed.PerformedProcedureStepStatus, performed.Modality = "IN PROGRESS", texts(self.entry, f"{STEP}.Modality") or "CT"
        performed.PerformedSeriesSequence = Items()
        for path, value in changes.items():
            put(performed, path, value)
        return self._mpps(True, performed)

    def end(self, status: str, changes: Mapping[str, str]) -> int:
        """MPPS N-SET with the end of the procedure step; return the status."""
        series = Dataset()
        of_images = found(self.images[:1])
        series.SeriesInstanceUID, series.ProtocolName = of_images[0].SeriesInstanceUID if of_images else generate_uid(), "AXIAL"
        series.ReferencedImageSequence = Items([_reference(file) for file in self.images])
        performed = Dataset()
        performed.PerformedProcedureStepStatus = status
        performed.PerformedProcedureStepEndDate, performed.PerformedProcedureStepEndTime = "20260302", "103000"
        performed.PerformedSeriesSequence = Items([series])
        for path, value in changes.items():
            put(performed, path, value)
        return self._mpps(False, performed)

    def commit(self) -> Dataset:
        """Ask for storage commitment of the last series, and stay for the report; return what it says."""
        asking = commitment.Modality(self.ae_title, self._port)
        try:
            assert asking.ask(found(self.images)) == 0
            eventually(lambda: bool(asking.reports), "a report of storage commitment")
        finally:
            asking.close()
        return asking.reports[0][1]

    def _mpps(self, create: bool, attributes: Dataset) -> int:
        ae = AE(self.ae_title)
        ae.add_requested_context(ModalityPerformedProcedureStep)
        association = ae.associate("127.0.0.1", self._port, ae_title="BROKER")
        assert association.is_established, "the association for MPPS was not accepted"
        try:
            send = association.send_n_create if create else association.send_n_set
            answer, _ = send(attributes, ModalityPerformedProcedureStep, self._performed)
        finally:
            association.release()
        assert "Status" in answer, "no answer to MPPS"
        return int(answer.Status)


def _reference(file: Path) -> Dataset:
    image = dcmread(file, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item


def _write(dataset: Dataset, path: Path, sop_class: str) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or generate_uid()
    dataset.save_as(path, enforce_file_format=True)
    return path


def found(files: Sequence[Path]) -> list[Dataset]:
    """Return the headers of DICOM files."""
    return [dcmread(file, stop_before_pixels=True) for file in files]
