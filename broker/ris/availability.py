"""What archives say they have (Instance Availability Notification): the exam's images are available once all of them are."""

from __future__ import annotations

from dataclasses import replace

from broker.ris import unmatched
from broker.ris.context import RisContext
from broker.ris.entities import Completeness, Exam, Instance
from broker.ris.events import Available, Event
from broker.ris.records import Records
from broker.ris.states import AVAILABILITY, IMAGES, NEW, next_state

# Instance Availability (0008,0056), the readiest first
_READINESS = ("ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE")


def apply(records: Records, request: Available, context: RisContext) -> list[Event]:
    """Take in a notification; a study that no exam has is listed."""
    here = records.among(Instance, "uid", [uid for uid, _ in request.instances])
    study = [exam.id for exam in records.find(Exam, study_uid=request.study_uid)] if request.study_uid else []
    owners = dict.fromkeys(one.exam_id for one in here if one.exam_id is not None) or dict.fromkeys(study)
    if not owners:
        return unmatched.listed(records, "available", request.study_uid or request.uid, "", "no such study", context)
    events = []
    for exam_id in owners:
        events += _told(records, records.get(Exam, exam_id), here, request, context)
    return events


def _told(records: Records, exam: Exam, here: list[Instance], request: Available, context: RisContext) -> list[Event]:
    known = records.one(Completeness, exam_id=exam.id)
    if known is None:
        known = records.add(
            Completeness(
                exam_id=exam.id, state=next_state(IMAGES, NEW, "store"), heard_at=context.at, due_at=context.at + context.completion.quiet
            )
        )
    said = {availability for _, availability in request.instances}
    mine = [one.uid for one in here if one.exam_id == exam.id]
    least = max(said & set(_READINESS), key=_READINESS.index, default="ONLINE")
    after = next_state(AVAILABILITY, known.available, least, "InstanceAvailability")
    changed = replace(known, available=after, available_at=context.at, retrieve_ae=request.retrieve_ae or known.retrieve_ae)
    records.update(changed)
    if after == known.available:
        return []
    told = Event(
        "study.available" if after in ("ONLINE", "NEARLINE") else "study.unavailable",
        patient_id=exam.patient_id,
        order_id=exam.order_id,
        exam_id=exam.id,
        accession=exam.accession,
        reason=f"{after} at {changed.retrieve_ae}: {len(mine)} of {exam.images} images",
    )
    return [told]
