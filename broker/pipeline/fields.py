"""Where a message keeps what the RIS wants to know: for each kind of request and field, the paths that are tried in order.

A route overrides one with `fields:`. In DICOM, `A+B` joins a date and a time.
"""

from __future__ import annotations

from collections.abc import Mapping

Fields = Mapping[str, tuple[str, ...]]

_PATIENT: Fields = {
    "identifiers": ("PID-3",),
    "name": ("PID-5",),
    "birth_date": ("PID-7.1",),
    "sex": ("PID-8.1",),
    "address": ("PID-11",),
    "phone": ("PID-13",),
    "account": ("PID-18",),
    "allergies": ("AL1[*]-3",),
}

HL7_FIELDS: Mapping[str, Fields] = {
    "patient": _PATIENT,
    "merge": {**_PATIENT, "retired": ("MRG-1",)},
    "order": {
        **_PATIENT,
        "control": ("ORC-1.1",),
        "placer_number": ("ORC-2.1", "OBR-2.1"),
        "placer_authority": ("ORC-2.2", "OBR-2.2"),
        "filler_number": ("ORC-3.1", "OBR-3.1"),
        "filler_authority": ("ORC-3.2", "OBR-3.2"),
        "group_number": ("ORC-4.1",),
        "accession": ("IPC-1.1", "OBR-18.1"),
        "accession_issuer": ("IPC-1.2",),
        "requested_procedure_id": ("IPC-2.1", "OBR-19.1"),
        "study_uid": ("IPC-3.1", "ZDS-1.1"),
        "procedure": ("OBR-4.1",),
        "priority": ("TQ1-9.1", "ORC-7.6", "OBR-27.6", "OBR-5.1"),
        "ordered_at": ("ORC-9.1", "ORC-15.1", "MSH-7.1"),
        "requested_at": ("TQ1-7.1", "ORC-7.4", "OBR-27.4", "OBR-36.1"),
        "station": ("IPC-9.1",),
        "provider": ("ORC-12", "OBR-16"),
        "copies_to": ("OBR-28",),
        "reason": ("OBR-31.2", "OBR-13.1", "ORC-16.2"),
        "diagnoses": ("DG1[*]-3.1", "OBR-31[*].1"),
        "patient_class": ("PV1-2.1",),
        "location": ("PV1-3",),
        "visit": ("PV1-19",),
        "weight": ("OBX[*]-5",),  # these two by their LOINC code
        "size": ("OBX[*]-5",),
        "pregnancy": ("PV1-15[*].1",),
        "patient_state": ("OBR-12",),
        "special_needs": ("PV1-15",),
        "transport": ("OBR-30.1",),
        "contrast": (),  # the table of procedures knows what is usual
        "confidentiality": ("ORC-28",),
        "vip": ("PV1-16.1",),
        "history": ("OBR-13.1",),
        "performer": ("OBR-34",),
    },
    "report": {
        "identifiers": ("PID-3",),
        "status": ("OBR-25.1", "OBX-11.1"),
        "accession": ("OBR-18.1", "IPC-1.1", "OBR-3.1"),
        "placer_number": ("OBR-2.1", "ORC-2.1"),
        "study_uid": ("ZDS-1.1", "IPC-3.1"),
        "text": ("OBX[*]-5",),
        "author": ("OBR-32",),
        "diagnoses": ("DG1[*]-3.1", "OBR-31[*].1"),
        "reported_at": ("OBR-22.1", "OBX-14.1", "MSH-7.1"),
    },
}

_SCHEDULED = "ScheduledStepAttributesSequence"

DICOM_FIELDS: Mapping[str, Fields] = {
    "performed": {
        "status": ("PerformedProcedureStepStatus",),
        "accession": (f"{_SCHEDULED}.AccessionNumber",),
        "study_uid": (f"{_SCHEDULED}.StudyInstanceUID",),
        "sps_id": (f"{_SCHEDULED}.ScheduledProcedureStepID",),
        "station": ("PerformedStationAETitle", "sender"),
        "started_at": ("PerformedProcedureStepStartDate+PerformedProcedureStepStartTime",),
        "ended_at": ("PerformedProcedureStepEndDate+PerformedProcedureStepEndTime",),
        "patient_id": ("PatientID",),
        "issuer": ("IssuerOfPatientID",),
    },
    "image": {
        "uid": ("SOPInstanceUID",),
        "series_uid": ("SeriesInstanceUID",),
        "study_uid": ("StudyInstanceUID",),
        "accession": ("AccessionNumber",),
        "modality": ("Modality",),
        "station": ("sender",),
        "patient_id": ("PatientID",),
        "issuer": ("IssuerOfPatientID",),
        "accession_issuer": ("IssuerOfAccessionNumberSequence.LocalNamespaceEntityID",),
        "taken_at": ("AcquisitionDate+AcquisitionTime", "SeriesDate+SeriesTime", "StudyDate+StudyTime"),
    },
}

TABLES: Mapping[str, tuple[str, ...]] = {
    "patient": ("sex",),
    "merge": ("sex",),
    "order": ("sex", "order_control", "priority", "procedures"),
    "report": ("report_status",),
    "performed": ("discontinuation",),
}
