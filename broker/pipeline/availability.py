"""`notify:` of a target: an Instance Availability Notification of the exam's images (IHE RAD-49)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from broker.dicom import dimserequest
from broker.dicom.availability import AVAILABILITIES, SOP_CLASS, Located, Notification, make
from broker.dicom.dataset import EXPLICIT_LITTLE, encode
from broker.dicom.dimserequest import DimseRequest
from broker.dicom.reissue import identity
from broker.errors import MessageError
from broker.model import Outgoing
from broker.pipeline.context import Work
from broker.ris.entities import Exam, Instance
from broker.spec import Option

NOTIFY = (
    Option("retrieve_ae", "text", "AE title of the archive where the images are (Retrieve AE Title).", example="ARCHIVE"),
    Option("availability", "text", "How readily they are there.", default="ONLINE", choices=AVAILABILITIES[:2]),
)


def compile_notification(settings: Mapping[str, Any], names: tuple[str, ...], channel: str) -> Callable[[Work, str], list[Outgoing]]:
    """Return what sends one notification for each study of the exam, by the UIDs under which its images were sent on."""
    where = settings["availability"], settings["retrieve_ae"]

    def send(work: Work, lane: str) -> list[Outgoing]:
        exam = work.scope().get("exam")
        instances, performed = work.context.images(exam.id) if exam is not None else ([], ())
        if exam is None or not instances:
            raise MessageError("", "the event is about no exam that has images", 207)
        studies: dict[str, list[Located]] = {}
        for study, place in _located(instances, exam, where):
            studies.setdefault(study, []).append(place)
        notes = [Notification(study, tuple(places), performed) for study, places in studies.items()]
        control_id = work.context.control_id()
        return [_outgoing(note, name, channel, control_id, work.accession) for note in notes for name in names]

    return send


def _located(instances: list[Instance], exam: Exam, where: tuple[str, str]) -> Iterator[tuple[str, Located]]:
    for one in instances:
        own = {"StudyInstanceUID": one.study_uid, "SeriesInstanceUID": one.series_uid, "SOPInstanceUID": one.uid}
        if one.reissue:
            own |= identity(own, one.reissue, exam.study_uid)
        yield own["StudyInstanceUID"], Located(own["SeriesInstanceUID"], one.sop_class, own["SOPInstanceUID"], *where)


def _outgoing(said: Notification, name: str, channel: str, control_id: str, accession: str) -> Outgoing:
    uid = f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{said.study_uid} {control_id} {name}').int}"
    payload = dimserequest.encode_request(DimseRequest("N-CREATE", SOP_CLASS, uid, encode(make(said), EXPLICIT_LITTLE)))
    return Outgoing(name, f"IAN {said.study_uid}", channel, "N-CREATE", payload, uid, accession)
