"""Small synthetic images and performed procedure steps that follow a worklist entry; pure pydicom."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    generate_uid,
)

SOP_CLASSES: Mapping[str, str] = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "US": UltrasoundImageStorage,
    "MG": DigitalMammographyXRayImageStorageForPresentation,
}
SIDE = 32  # pixels

_COPIED = ("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "AccessionNumber")
_STEP_COPIED = ("ScheduledProcedureStepID", "ScheduledProcedureStepDescription", "ScheduledProtocolCodeSequence")


def uid(*parts: object) -> str:
    """Return a UID that depends on these parts only."""
    return str(generate_uid(entropy_srcs=[str(part) for part in parts]))


def scheduled_step(entry: Dataset) -> Dataset:
    """Return the (first) scheduled procedure step of a worklist entry, an empty one when it has none."""
    items = entry.get("ScheduledProcedureStepSequence") or []
    return items[0] if len(items) else Dataset()


def modality_of(entry: Dataset) -> str:
    """Return the modality of a worklist entry, "OT" when it has none."""
    return str(scheduled_step(entry).get("Modality") or "OT")


def unscheduled_entry(*, patient_id: str, name: str, accession: str, study_uid: str, modality: str, station: str) -> Dataset:
    """Return what a technologist types in when there is no worklist entry to choose."""
    step = Dataset()
    step.Modality, step.ScheduledStationAETitle = modality, station
    entry = Dataset()
    entry.SpecificCharacterSet = "ISO_IR 192"
    entry.PatientName, entry.PatientID, entry.AccessionNumber, entry.StudyInstanceUID = name, patient_id, accession, study_uid
    entry.ScheduledProcedureStepSequence = Items([step])
    return entry


def make_images(entry: Dataset, count: int, *, station: str, at: str, seed: object = 0) -> list[Dataset]:
    """Return `count` images of one series for a worklist entry; `at` is YYYYMMDDHHMMSS, the same seed gives the same images."""
    study = str(entry.get("StudyInstanceUID") or uid(seed, "study"))
    series = uid(seed, study, station, scheduled_step(entry).get("ScheduledProcedureStepID", ""), "series")
    return [_image(entry, number, study, series, station, at, seed) for number in range(1, count + 1)]


def _image(entry: Dataset, number: int, study: str, series: str, station: str, at: str, seed: object) -> Dataset:
    modality = modality_of(entry)
    image = Dataset()
    _copy(entry, image, _COPIED)
    image.SOPClassUID = SOP_CLASSES.get(modality, SecondaryCaptureImageStorage)
    image.SOPInstanceUID = uid(series, number)
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    image.StudyDate = image.SeriesDate = image.ContentDate = at[:8]
    image.StudyTime = image.SeriesTime = image.ContentTime = at[8:14]
    image.Modality, image.StationName, image.Manufacturer = modality, station, "Simulated"
    image.StudyID, image.SeriesNumber, image.InstanceNumber = "1", 1, number
    image.ReferringPhysicianName = entry.get("ReferringPhysicianName", "")
    image.StudyDescription = str(entry.get("RequestedProcedureDescription", ""))
    image.RequestAttributesSequence = Items([_request_attributes(entry)])
    _pixels(image, number, seed)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID, image.file_meta.MediaStorageSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return image


def _pixels(image: Dataset, number: int, seed: object) -> None:
    """Draw rings whose grey values depend on the image, so that no two images have the same pixels."""
    shift = int.from_bytes(hashlib.sha256(f"{seed}/{image.SOPInstanceUID}".encode()).digest()[:2], "big")
    middle = SIDE // 2
    values = [((x - middle) ** 2 + (y - middle) ** 2) * 7 + number * 31 + shift & 0x0FFF for y in range(SIDE) for x in range(SIDE)]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows = image.Columns = SIDE
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.add_new("PixelData", "OW", struct.pack(f"<{len(values)}H", *values))


def pixel_digest(image: Dataset) -> str:
    """Return the hex digest of an image's pixel data."""
    return hashlib.sha256(image.get("PixelData", b"")).hexdigest()


def _request_attributes(entry: Dataset) -> Dataset:
    item = Dataset()
    _copy(entry, item, ("RequestedProcedureID", "AccessionNumber"))
    _copy(scheduled_step(entry), item, _STEP_COPIED)
    return item


def performed_created(entry: Dataset, *, station: str, at: str, step_id: str) -> Dataset:
    """Return the attributes of an MPPS N-CREATE (PS3.4 F.7.2.1): in progress, nothing performed yet."""
    performed = Dataset()
    _copy(entry, performed, ("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"))
    reference = Dataset()
    _copy(entry, reference, ("AccessionNumber", "StudyInstanceUID", "RequestedProcedureID", "RequestedProcedureDescription"))
    _copy(scheduled_step(entry), reference, _STEP_COPIED)
    reference.ReferencedStudySequence = Items([])
    performed.ScheduledStepAttributesSequence = Items([reference])
    performed.PerformedProcedureStepID = step_id
    performed.PerformedStationAETitle, performed.PerformedStationName, performed.PerformedLocation = station, station, ""
    performed.PerformedProcedureStepStartDate, performed.PerformedProcedureStepStartTime = at[:8], at[8:14]
    performed.PerformedProcedureStepEndDate = performed.PerformedProcedureStepEndTime = ""
    performed.PerformedProcedureStepStatus = "IN PROGRESS"
    performed.PerformedProcedureStepDescription = str(entry.get("RequestedProcedureDescription", ""))
    performed.PerformedProcedureTypeDescription = ""
    performed.ProcedureCodeSequence = Items([])
    performed.Modality, performed.StudyID = modality_of(entry) or "OT", ""
    performed.PerformedProtocolCodeSequence = Items([])
    performed.PerformedSeriesSequence = Items([])
    return performed


def performed_ended(images: Sequence[Dataset], *, status: str, at: str) -> Dataset:
    """Return the attributes of the last MPPS N-SET: COMPLETED or DISCONTINUED, with the series that were made."""
    performed = Dataset()
    performed.PerformedProcedureStepStatus = status
    performed.PerformedProcedureStepEndDate, performed.PerformedProcedureStepEndTime = at[:8], at[8:14]
    by_series: dict[str, list[Dataset]] = {}
    for image in images:
        by_series.setdefault(str(image.SeriesInstanceUID), []).append(image)
    performed.PerformedSeriesSequence = Items([_series(series, made) for series, made in by_series.items()])
    return performed


def _series(series_uid: str, images: Sequence[Dataset]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID, series.SeriesDescription, series.ProtocolName = series_uid, "SIMULATED", "SIMULATED"
    series.PerformingPhysicianName = series.OperatorsName = series.RetrieveAETitle = ""
    series.ReferencedImageSequence = Items([_reference(image) for image in images])
    series.ReferencedNonImageCompositeSOPInstanceSequence = Items([])
    return series


def _reference(image: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return reference


def _copy(source: Dataset, target: Dataset, keywords: Sequence[str]) -> None:
    for keyword in keywords:
        if keyword in source:
            target[keyword] = source[keyword]
