"""Images of a performed step that was begun for the wrong exam: taken from it and listed, those that come later too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from broker.ris import unmatched
from broker.ris.context import RisContext
from broker.ris.entities import Exam, Instance, Performed, PerformedSeries
from broker.ris.events import Event
from broker.ris.records import Records

REASON = "incorrect worklist entry"


def is_withdrawn(records: Records, series_uid: str) -> bool:
    """Return whether the series was made by a performed step that was begun by mistake."""
    made = records.find(PerformedSeries, series_uid=series_uid) if series_uid else []
    return any(records.get(Performed, one.performed_id).outcome == "reschedule" for one in made)


def set_apart(records: Records, performed: Performed, exam: Exam, *, alone: bool, context: RisContext) -> list[Event]:
    """Take the images of the performed step from the exam and list them; what they named does not say whose they are.

    alone: nothing else was performed for the exam, so that a step which names no series has made all images of the exam.
    """
    images = records.find(Instance, exam_id=exam.id)
    series = {one.series_uid for one in records.find(PerformedSeries, performed_id=performed.id)}
    if not series and alone:
        series = {one.series_uid for one in images}
        for uid in sorted(series):
            records.add(PerformedSeries(performed_id=performed.id, series_uid=uid))
    wrong = [one for one in images if one.series_uid in series]
    if not wrong:
        return []
    for one in wrong:
        records.update(replace(one, exam_id=None))
    records.update(replace(exam, images=exam.images - len(wrong)))
    return _listed(records, wrong, context)


def _listed(records: Records, images: Iterable[Instance], context: RisContext) -> list[Event]:
    keys = dict.fromkeys((one.study_uid or one.uid, one.accession) for one in images)
    return [event for key, accession in keys for event in unmatched.listed(records, "images", key, accession, REASON, context)]
