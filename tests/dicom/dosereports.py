"""Radiation dose reports as modalities write them (PS3.16 TID 10011 CT, TID 10001 projection X-ray)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from broker.dicom.dosereport import RDSR

UCUM = {"mGy.cm": "mGy.cm", "mGy": "mGy", "Gy.m2": "Gy.m2", "Gy": "Gy", "{events}": "events", "mm": "mm"}


def coded(value: str, meaning: str, scheme: str = "DCM") -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def item(kind: str, value: str, meaning: str, relation: str = "CONTAINS") -> Dataset:
    found = Dataset()
    found.RelationshipType, found.ValueType = relation, kind
    found.ConceptNameCodeSequence = [coded(value, meaning)]
    return found


def number(value: str, meaning: str, amount: str, unit: str, relation: str = "CONTAINS") -> Dataset:
    found, measured = item("NUM", value, meaning, relation), Dataset()
    measured.NumericValue = amount
    measured.MeasurementUnitsCodeSequence = [coded(unit, UCUM.get(unit, unit), "UCUM")]
    found.MeasuredValueSequence = [measured]
    return found


def code(value: str, meaning: str, chosen: Dataset, relation: str = "CONTAINS") -> Dataset:
    found = item("CODE", value, meaning, relation)
    found.ConceptCodeSequence = [chosen]
    return found


def uid(value: str, meaning: str, of: str, relation: str = "CONTAINS") -> Dataset:
    found = item("UIDREF", value, meaning, relation)
    found.UID = of
    return found


def container(value: str, meaning: str, *content: Dataset) -> Dataset:
    found = item("CONTAINER", value, meaning)
    found.ContinuityOfContent = "SEPARATE"
    found.ContentSequence = list(content)
    return found


def report(*content: Dataset, procedure: Dataset | None = None, study: str = "1.2.3", scope: str = "") -> Dataset:
    """Return a whole report with its header."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = RDSR, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = study, generate_uid(), "SR"
    ds.StudyDate = ds.ContentDate = "20260302"
    ds.StudyTime = ds.ContentTime = "101700"
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "4711", "DOE^JANE", "", ""
    ds.AccessionNumber, ds.StudyID, ds.ReferringPhysicianName = "ACC1", "", ""
    ds.SeriesNumber, ds.InstanceNumber, ds.Manufacturer = "999", "1", "ACME"
    ds.ManufacturerModelName, ds.DeviceSerialNumber, ds.SoftwareVersions = "MODEL", "1", "1"
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ReferencedPerformedProcedureStepSequence = ds.PerformedProcedureCodeSequence = []
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = [coded("113701", "X-Ray Radiation Dose Report")]
    kind = code("121058", "Procedure reported", procedure or coded("113704", "Projection X-Ray"), "HAS CONCEPT MOD")
    accumulated = code("113705", "Scope of Accumulation", coded("113014", "Study"), "HAS OBS CONTEXT")
    accumulated.ContentSequence = [uid("110180", "Study Instance UID", scope or study, "HAS PROPERTIES")]
    ds.ContentSequence = [kind, accumulated, *content]
    return ds


def acquisition(event: str, ctdivol: str, dlp: str, phantom: str = "113691") -> Dataset:
    """Return one CT Acquisition (TID 10013)."""
    dose = container(
        "113829",
        "CT Dose",
        number("113830", "Mean CTDIvol", ctdivol, "mGy"),
        code("113835", "CTDIw Phantom Type", coded(phantom, "IEC Body Dosimetry Phantom")),
        number("113838", "DLP", dlp, "mGy.cm"),
    )
    return container(
        "113819",
        "CT Acquisition",
        item_text("125203", "Acquisition Protocol", "CHEST"),
        code("113820", "CT Acquisition Type", coded("113804", "Sequenced Acquisition")),
        uid("113769", "Irradiation Event UID", event),
        dose,
    )


def item_text(value: str, meaning: str, text: str) -> Dataset:
    found = item("TEXT", value, meaning)
    found.TextValue = text
    return found


def ct_report(events: Sequence[tuple[str, str, str]], total: str, study: str = "1.2.3", scope: str = "") -> Dataset:
    """Return a CT report of events (uid, CTDIvol in mGy, DLP in mGy.cm)."""
    accumulated = container(
        "113811",
        "CT Accumulated Dose Data",
        number("113812", "Total Number of Irradiation Events", str(len(events)), "{events}"),
        number("113813", "CT Dose Length Product Total", total, "mGy.cm"),
    )
    procedure = coded("77477000", "Computed Tomography X-Ray", "SCT")
    return report(accumulated, *(acquisition(*event) for event in events), procedure=procedure, study=study, scope=scope)


def plane(name: str, dap: str, rp: str) -> Dataset:
    """Return the accumulated dose of one plane (TID 10002, 10004)."""
    return container(
        "113702",
        "Accumulated X-Ray Dose Data",
        code("113764", "Acquisition Plane", coded("113620" if name == "A" else "113621", f"Plane {name}"), "HAS CONCEPT MOD"),
        number("113722", "Dose Area Product Total", dap, "Gy.m2"),
        number("113725", "Dose (RP) Total", rp, "Gy"),
    )


def exposure(event: str, dap: str, rp: str, unit: str = "Gy.m2", at: str = "20260302101000") -> Dataset:
    """Return one Irradiation Event X-Ray Data (TID 10003)."""
    started = item("DATETIME", "111526", "DateTime Started")
    started.DateTime = at
    return container(
        "113706",
        "Irradiation Event X-Ray Data",
        uid("113769", "Irradiation Event UID", event),
        started,
        number("122130", "Dose Area Product", dap, unit),
        number("113738", "Dose (RP)", rp, "Gy"),
    )


def mammogram(event: str, glandular: str, accumulated: Sequence[str]) -> Dataset:
    """Return a mammography report (TID 10005) with the accumulated average glandular dose of each breast, mGy."""
    total = container(
        "113702",
        "Accumulated X-Ray Dose Data",
        *(number("111637", "Accumulated Average Glandular Dose", value, "mGy") for value in accumulated),
    )
    shot = container(
        "113706",
        "Irradiation Event X-Ray Data",
        uid("113769", "Irradiation Event UID", event),
        number("111631", "Average Glandular Dose", glandular, "mGy"),
    )
    return report(total, shot, procedure=coded("P5-40010", "Mammography", "SRT"))
