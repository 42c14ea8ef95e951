"""Images: every received SOP instance, counted and tied to its exam, and the attributes the order gives it."""

from __future__ import annotations

from dataclasses import replace

from broker.errors import MessageError
from broker.ris import names, patients, unmatched
from broker.ris.context import RisContext
from broker.ris.entities import Exam, Instance, Patient
from broker.ris.events import Event, StoreInstance
from broker.ris.records import Records


def apply(records: Records, request: StoreInstance, context: RisContext) -> list[Event]:
    """Record a received object; raises MessageError 205 when its SOP Instance UID is known with other content."""
    known = records.one(Instance, uid=request.uid)
    if known is not None:
        if known.digest == request.digest:
            return []
        raise MessageError("SOPInstanceUID", "stored before with other content", 205)
    exam, reason = match(records, request, context)
    instance = records.add(
        Instance(
            uid=request.uid,
            series_uid=request.series_uid,
            study_uid=request.study_uid,
            exam_id=exam.id if exam else None,
            accession=request.accession,
            sent_patient_id=request.patient_id,
            sent_issuer=request.issuer,
            sop_class=request.sop_class,
            modality=request.modality,
            station=request.station,
            spool=request.spool,
            size=request.size,
            digest=request.digest,
            message_id=context.message_id,
        )
    )
    if exam is None:
        return unmatched.listed(records, "images", instance.study_uid or instance.uid, instance.accession, reason, context)
    return count(records, exam, 1)


def match(records: Records, request: StoreInstance, context: RisContext) -> tuple[Exam | None, str]:
    """Return the exam that the Study Instance UID, else the accession number names, or why there is none."""
    exam = _named(records, request.study_uid, request.accession)
    if exam is None:
        return None, "no such study" if not request.accession else "no such study or accession number"
    if patients.differs(records, exam, request.patient_id, request.issuer, context):
        return None, "patient differs"
    return exam, ""


def _named(records: Records, study_uid: str, accession: str) -> Exam | None:
    study = records.find(Exam, study_uid=study_uid) if study_uid else []
    if study:
        return next((exam for exam in study if exam.accession == accession), study[0])
    return records.one(Exam, accession=accession) if accession else None


def count(records: Records, exam: Exam, more: int) -> list[Event]:
    """Add distinct images to the exam; the first ones are told."""
    records.update(replace(exam, images=exam.images + more))
    if exam.images or not more:
        return []
    return [
        Event(
            "study.stored",
            patient_id=exam.patient_id,
            order_id=exam.order_id,
            exam_id=exam.id,
            accession=exam.accession,
            reason="first image",
        )
    ]


def patient_attributes(records: Records, patient_id: int) -> dict[str, str]:
    """Return the patient's attributes by DICOM keyword."""
    patient = records.get(Patient, patient_id)
    identifiers = patients.identifiers_of(records, patient_id)
    return {
        "PatientName": names.patient_to_pn(patient),
        "PatientID": identifiers[0].value if identifiers else "",
        "IssuerOfPatientID": identifiers[0].authority if identifiers else "",
        "PatientBirthDate": names.dicom_date(patient.birth_date),
        "PatientSex": names.dicom_sex(patient.sex),
    }
