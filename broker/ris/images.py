"""Images: every received SOP instance, tied to its exam and counted there.

An image follows the images of its study that said the same of themselves. The first of them finds its exam by what it names:
Study Instance UID, accession number with its issuer, and, where a route says so, its patient with modality and time. What
fits two exams fits none: a person decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from broker.errors import MessageError
from broker.ris import exams, patients, times, unmatched, withdrawn
from broker.ris.context import RisContext
from broker.ris.entities import Exam, Instance, PatientIdentifier, Step
from broker.ris.events import Event, StoreInstance
from broker.ris.records import Records

STUDY, ACCESSION, PATIENT = BY = ("StudyInstanceUID", "AccessionNumber", "PatientID")
WINDOW = 720  # minutes between an image and its exam, when only the patient leads to it and nothing else is said
OPEN = frozenset(("scheduled", "arrived", "in_progress", "completed"))  # exams that images may belong to when only the patient says so


def place(records: Records, request: StoreInstance, context: RisContext) -> tuple[Instance, list[Event]]:
    """Record a received object and return its record, with its exam where it has one.

    Raises MessageError 205 when its SOP Instance UID is known with other content.
    """
    known = records.one(Instance, uid=request.uid)
    if known is not None:
        if known.digest == request.digest:
            return known, []
        raise MessageError("SOPInstanceUID", "stored before with other content", 205)
    sibling = _sibling(records, request)
    if sibling is not None:
        exam, reason = records.get(Exam, sibling.exam_id) if sibling.exam_id is not None else None, ""
    else:
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
            reissue=sibling.reissue if sibling else "",
            released=sibling.released if sibling else 0,
        )
    )
    if exam is not None:
        return instance, count(records, exam, 1)
    if instance.released:
        return instance, []
    seen = request if PATIENT in request.by else replace(request, window=0)
    return instance, unmatched.listed(records, "images", instance.study_uid or instance.uid, instance.accession, reason, context, seen)


def _sibling(records: Records, request: StoreInstance) -> Instance | None:
    """Return the first image of the study when it said the same of itself, and it is decided where it goes.

    What a step that was begun by mistake has made follows its own series only.
    """
    own = {"series_uid": request.series_uid} if withdrawn.is_withdrawn(records, request.series_uid) else {}
    first = records.one(Instance, study_uid=request.study_uid, **own) if request.study_uid else None
    if first is None or (first.exam_id is None and not first.released):
        return None
    said = (request.accession, request.patient_id, request.issuer)
    return first if (first.accession, first.sent_patient_id, first.sent_issuer) == said else None


def match(records: Records, request: StoreInstance, context: RisContext) -> tuple[Exam | None, str]:
    """Return the exam that the object names, by the rules of its route, or why there is none."""
    if withdrawn.is_withdrawn(records, request.series_uid):
        return None, withdrawn.REASON
    exam = named(records, request.study_uid, request.accession, request.accession_issuer, context, request.by)
    if exam is not None:
        if exams.is_unscheduled(records, exam):
            return None, "unscheduled"
        differs = patients.differs(records, exam, request.patient_id, request.issuer, context)
        return (None, "patient differs") if differs else (exam, "")
    reason = "no such study" if not request.accession else "no such study or accession number"
    if PATIENT not in request.by:
        return None, reason
    fitting = of_patient(records, replace(request, taken_at=request.taken_at or context.now), context)
    if len(fitting) == 1:
        return fitting[0], ""
    return None, "several exams of the patient fit" if fitting else reason


def named(records: Records, study_uid: str, accession: str, issuer: str, context: RisContext, by: tuple[str, ...] = BY) -> Exam | None:
    """Return the exam of this study, else of this accession number, as far as the rules allow either; None when there is none."""
    study = records.find(Exam, study_uid=study_uid) if study_uid and STUDY in by else []
    if study:
        return next((exam for exam in study if exam.accession == accession), study[0])
    if not accession or ACCESSION not in by:
        return None
    found = records.find(Exam, accession=accession)
    return next((exam for exam in found if not issuer or issuer == (exam.accession_issuer or context.authority)), None)


class Seen(Protocol):
    """What of an image, or of its entry on the reconciliation list, tells which of its patient's exams it is."""

    @property
    def patient_id(self) -> str: ...
    @property
    def issuer(self) -> str: ...
    @property
    def modality(self) -> str: ...
    @property
    def taken_at(self) -> str: ...
    @property
    def window(self) -> int: ...


def of_patient(records: Records, seen: Seen, context: RisContext) -> list[Exam]:
    """Return the patient's exams of this modality near the time of the image, but for those that have images already."""
    if not seen.patient_id:
        return []
    row = records.one(PatientIdentifier, value=seen.patient_id, authority=seen.issuer or context.authority)
    known = records.find(Exam, patient_id=row.patient_id) if row is not None else []
    fitting = [one for one in known if one.modality == seen.modality and one.status in OPEN and not one.images]
    return [one for one in fitting if min(apart(start, seen.taken_at) for start in starts(records, one)) <= seen.window]


def starts(records: Records, exam: Exam) -> list[str]:
    """Return when the exam began, or, of one that has not begun, when its steps are planned."""
    if exam.started_at:
        return [exam.started_at]
    return [step.start for step in records.find(Step, exam_id=exam.id) if step.start] or [exam.scheduled_at]


def apart(one: str, other: str) -> int:
    """Return the minutes between two clinical times; more than a lifetime when one of them is none."""
    a, b = times.read(one), times.read(other)
    return abs(int((a - b).total_seconds())) // 60 if a and b else 1 << 30


def count(records: Records, exam: Exam, more: int) -> list[Event]:
    """Add distinct images to the exam; the first ones are told."""
    records.update(replace(exam, images=exam.images + more))
    if exam.images or more <= 0:
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
