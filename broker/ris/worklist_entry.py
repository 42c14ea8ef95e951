"""What an entry of the modality worklist says (PS3.4 table K.6-1): each attribute, and where the RIS keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from broker.ris import names
from broker.ris.entities import Exam, Order, Patient, PatientIdentifier, Step
from broker.ris.names import component, fitted, xcn_to_pn

STEP = "ScheduledProcedureStepSequence."
_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, what a Referenced Study is an instance of
_HISTORY = 10240  # characters of an LT
_LOCAL = "L"  # the designator of codes that are the site's own (PS3.3 8.2)


@dataclass(frozen=True, slots=True)
class WorklistEntry:
    """One scheduled procedure step and all that surrounds it; `identifiers[0]` stands for the patient."""

    patient: Patient
    identifiers: Sequence[PatientIdentifier]
    order: Order
    exam: Exam
    step: Step


Attribute = Callable[[WorklistEntry], str]


def _identifier(entry: WorklistEntry) -> str:
    return entry.identifiers[0].value if entry.identifiers else ""


def _issuer(entry: WorklistEntry) -> str:
    return entry.identifiers[0].authority if entry.identifiers else ""


def _others(entry: WorklistEntry) -> str:
    return "\\".join(one.value for one in entry.identifiers[1:])


def _each(values: tuple[str, ...]) -> str:
    return "\\".join(filter(None, map(fitted, values)))


def _provider(entry: WorklistEntry) -> str:
    return xcn_to_pn(entry.order.provider)


def _performer(entry: WorklistEntry) -> str:
    """Return the PN of who is to perform the step: an NDL keeps the person in subcomponents, though many send an XCN."""
    first = entry.order.performer.partition("~")[0]
    person = first.partition("^")[0]
    return xcn_to_pn(type(entry.order.performer)(person.replace("&", "^") if "&" in person else first))


def _recipients(entry: WorklistEntry) -> str:
    persons = (xcn_to_pn(type(entry.order.copies_to)(one)) for one in entry.order.copies_to.split("~"))
    return "\\".join(filter(None, persons))


def _time(stamp: str) -> str:
    return stamp[8:14].ljust(6, "0") if len(stamp) > 8 else ""


def _code(sequence: str, code: Attribute, meaning: Attribute) -> dict[str, Attribute]:
    """Return the item of a code sequence; a code without a text is its own meaning."""
    return {
        f"{sequence}.CodeValue": code,
        f"{sequence}.CodingSchemeDesignator": lambda entry: _LOCAL if code(entry) else "",
        f"{sequence}.CodeMeaning": lambda entry: fitted(meaning(entry)) or code(entry),
    }


# Descriptions are cut to what their VR holds, identifiers and codes are not: those would become others.
_STEP: Mapping[str, Attribute] = {
    "ScheduledStationAETitle": lambda entry: entry.step.station,
    "ScheduledStationName": lambda entry: entry.step.station,
    "ScheduledProcedureStepLocation": lambda entry: fitted(entry.step.room, names.SH),
    "ScheduledProcedureStepStartDate": lambda entry: entry.step.start[:8],
    "ScheduledProcedureStepStartTime": lambda entry: _time(entry.step.start),
    "ScheduledProcedureStepEndDate": lambda entry: entry.step.ends[:8],
    "ScheduledProcedureStepEndTime": lambda entry: _time(entry.step.ends),
    "Modality": lambda entry: entry.step.modality,
    "ScheduledPerformingPhysicianName": _performer,
    "ScheduledProcedureStepDescription": lambda entry: fitted(entry.step.protocol_name),
    "ScheduledProcedureStepID": lambda entry: entry.step.sps_id,
    "ScheduledProcedureStepStatus": lambda entry: entry.step.status.upper(),
    "RequestedContrastAgent": lambda entry: fitted(entry.order.contrast),
    **_code("ScheduledProtocolCodeSequence", lambda entry: entry.step.protocol_code, lambda entry: entry.step.protocol_name),
}

ATTRIBUTES: Mapping[str, Attribute] = {
    **{STEP + keyword: value for keyword, value in _STEP.items()},
    # requested procedure
    "RequestedProcedureID": lambda entry: entry.exam.requested_procedure_id,
    "RequestedProcedureDescription": lambda entry: fitted(entry.exam.procedure_name),
    "RequestedProcedurePriority": lambda entry: names.dicom_priority(entry.exam.priority),
    "StudyInstanceUID": lambda entry: entry.exam.study_uid,
    "ReferencedStudySequence.ReferencedSOPClassUID": lambda entry: _STUDY_MANAGEMENT if entry.exam.study_uid else "",
    "ReferencedStudySequence.ReferencedSOPInstanceUID": lambda entry: entry.exam.study_uid,
    "ReasonForTheRequestedProcedure": lambda entry: fitted(entry.order.reason),
    "PatientTransportArrangements": lambda entry: fitted(entry.order.transport),
    "ConfidentialityCode": lambda entry: fitted(entry.order.confidentiality),
    "NamesOfIntendedRecipientsOfResults": _recipients,
    **_code("RequestedProcedureCodeSequence", lambda entry: entry.exam.procedure_code, lambda entry: entry.exam.procedure_name),
    # imaging service request
    "AccessionNumber": lambda entry: entry.exam.accession,
    "ReferringPhysicianName": _provider,
    "RequestingPhysician": _provider,
    "PlacerOrderNumberImagingServiceRequest": lambda entry: entry.order.placer_number,
    "FillerOrderNumberImagingServiceRequest": lambda entry: entry.order.filler_number,
    "IssueDateOfImagingServiceRequest": lambda entry: names.dicom_date(entry.order.ordered_at[:8]),
    "IssueTimeOfImagingServiceRequest": lambda entry: _time(entry.order.ordered_at),
    # visit
    "AdmissionID": lambda entry: component(entry.order.visit, 1),
    "IssuerOfAdmissionID": lambda entry: component(entry.order.visit, 4),
    "CurrentPatientLocation": lambda entry: fitted(component(entry.order.location, 1)),
    # patient
    "PatientName": lambda entry: names.patient_to_pn(entry.patient),
    "PatientID": _identifier,
    "IssuerOfPatientID": _issuer,
    "OtherPatientIDs": _others,
    "PatientBirthDate": lambda entry: names.dicom_date(entry.patient.birth_date),
    "PatientSex": lambda entry: names.dicom_sex(entry.patient.sex),
    "PatientWeight": lambda entry: entry.order.weight,
    "PatientSize": lambda entry: entry.order.size,
    "MedicalAlerts": lambda entry: _each(entry.patient.alerts),
    "Allergies": lambda entry: _each(entry.patient.allergies),
    "PregnancyStatus": lambda entry: entry.order.pregnancy,
    "PatientState": lambda entry: fitted(entry.order.patient_state),
    "SpecialNeeds": lambda entry: fitted(entry.order.special_needs),
    "ConfidentialityConstraintOnPatientDataDescription": lambda entry: fitted(entry.order.vip),
    "AdditionalPatientHistory": lambda entry: fitted(entry.order.history, _HISTORY),
}


def attributes(entry: WorklistEntry) -> dict[str, str]:
    """Return all of the entry by DICOM keyword, dotted into sequences."""
    return {keyword: value(entry) for keyword, value in ATTRIBUTES.items()}
