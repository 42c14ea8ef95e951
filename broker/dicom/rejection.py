"""Rejection notes: Key Object Selection documents that name instances which are not to be used (IHE RAD IOCM, PS3.16 TID 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"

# PS3.16 CID 7011, by the word that a person chooses
TITLES = {
    "quality": ("113001", "Rejected for Quality Reasons"),
    "safety": ("113037", "Rejected for Patient Safety Reasons"),
    "worklist": ("113038", "Incorrect Modality Worklist Entry"),
    "retention": ("113039", "Data Retention Policy Expired"),
}

_PATIENT_AND_STUDY = (
    "SpecificCharacterSet",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
)
_TYPE_2 = ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID", "PatientBirthDate",
           "PatientSex", "StudyID")  # fmt: skip


class Reference(NamedTuple):
    """One instance that is rejected, by the UIDs under which the archive has it."""

    study: str
    series: str
    sop_class: str
    instance: str


def rejection_note(header: Dataset, rejected: Sequence[Reference], title: str, *, uid: str, series: str, now: str, maker: str) -> Dataset:
    """Return the note that rejects instances of one study.

    header: of one of them, as the archive has it: the note belongs to the same patient and study. title: a key of `TITLES`. uid,
    series: of the note. now: YYYYMMDDHHMMSS. maker: Manufacturer. Raises KeyError for another title, ValueError without instances.
    """
    if not rejected:
        raise ValueError("a rejection note names at least one instance")
    note = Dataset()
    for keyword in _PATIENT_AND_STUDY:
        if keyword in header:
            note[keyword] = header[keyword]
    for keyword in _TYPE_2:
        if keyword not in note:
            setattr(note, keyword, "")
    note.SOPClassUID, note.SOPInstanceUID = KEY_OBJECTS, uid
    note.InstanceCreationDate = note.ContentDate = note.SeriesDate = now[:8]
    note.InstanceCreationTime = note.ContentTime = note.SeriesTime = now[8:14]
    note.Modality, note.SeriesInstanceUID, note.SeriesNumber, note.InstanceNumber = "KO", series, "1", "1"
    note.SeriesDescription = "Rejection note"
    note.ReferencedPerformedProcedureStepSequence = Items([])
    note.Manufacturer = maker
    note.ValueType = "CONTAINER"
    note.ContinuityOfContent = "SEPARATE"
    note.ConceptNameCodeSequence = Items([_code(*TITLES[title])])
    note.ContentTemplateSequence = Items([_of(MappingResource="DCMR", TemplateIdentifier="2010")])
    note.CurrentRequestedProcedureEvidenceSequence = _evidence(rejected)
    note.ContentSequence = Items([_content(one) for one in rejected])
    return note


def _code(value: str, meaning: str) -> Dataset:
    return _of(CodeValue=value, CodingSchemeDesignator="DCM", CodeMeaning=meaning)


def _of(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _evidence(rejected: Sequence[Reference]) -> Items:
    """Return the instances by study and series (PS3.3 C.17.2.1)."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for one in rejected:
        studies.setdefault(one.study, {}).setdefault(one.series, []).append(_sop(one))
    return Items(
        [
            _of(
                StudyInstanceUID=study,
                ReferencedSeriesSequence=Items(
                    [_of(SeriesInstanceUID=uid, ReferencedSOPSequence=Items(sops)) for uid, sops in all.items()]
                ),
            )
            for study, all in studies.items()
        ]
    )


def _sop(one: Reference) -> Dataset:
    return _of(ReferencedSOPClassUID=one.sop_class, ReferencedSOPInstanceUID=one.instance)


def _content(one: Reference) -> Dataset:
    kind = _kind(one.sop_class)
    return _of(RelationshipType="CONTAINS", ValueType=kind, ReferencedSOPSequence=Items([_sop(one)]))


def _kind(sop_class: str) -> str:
    """Return the value type of a reference (PS3.3 C.17.3): what is neither image nor waveform is a composite object."""
    name = UID(sop_class).name
    return "WAVEFORM" if "Waveform Storage" in name else "IMAGE" if "Image Storage" in name else "COMPOSITE"
