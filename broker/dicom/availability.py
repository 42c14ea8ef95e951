"""Instance Availability Notification (PS3.4 annex R): the dataset of its N-CREATE, read and made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset

from broker.errors import MessageError

SOP_CLASS = "1.2.840.10008.5.1.4.33"
AVAILABILITIES = ("ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE")
_MPPS = "1.2.840.10008.3.1.2.3.3"


@dataclass(frozen=True, slots=True)
class Located:
    """One instance and where it is."""

    series_uid: str
    sop_class: str
    sop_instance: str
    availability: str
    retrieve_ae: str


@dataclass(frozen=True, slots=True)
class Notification:
    """What one notification says of a study."""

    study_uid: str
    instances: tuple[Located, ...]
    performed: tuple[str, ...] = ()  # SOP Instance UIDs of the MPPS that made them


def read(dataset: Dataset) -> Notification:
    """Return what the dataset says; raises MessageError where a type 1 attribute is missing or has no term of the standard."""
    study = _text(dataset, "StudyInstanceUID", "StudyInstanceUID")
    instances = tuple(_located(dataset))
    if not instances:
        raise MessageError("ReferencedSeriesSequence", "required attribute is empty", 101)
    steps = dataset.get("ReferencedPerformedProcedureStepSequence") or ()
    return Notification(study, instances, tuple(str(one.get("ReferencedSOPInstanceUID") or "") for one in steps))


def _located(dataset: Dataset) -> Iterator[Located]:
    for series in dataset.get("ReferencedSeriesSequence") or ():
        uid = _text(series, "SeriesInstanceUID", "ReferencedSeriesSequence.SeriesInstanceUID")
        for item in series.get("ReferencedSOPSequence") or ():
            path = "ReferencedSeriesSequence.ReferencedSOPSequence"
            availability = _text(item, "InstanceAvailability", f"{path}.InstanceAvailability")
            if availability not in AVAILABILITIES:
                raise MessageError(f"{path}.InstanceAvailability", "no term of the standard", 102)
            yield Located(
                uid,
                _text(item, "ReferencedSOPClassUID", f"{path}.ReferencedSOPClassUID"),
                _text(item, "ReferencedSOPInstanceUID", f"{path}.ReferencedSOPInstanceUID"),
                availability,
                _text(item, "RetrieveAETitle", f"{path}.RetrieveAETitle"),
            )


def _text(dataset: Dataset, keyword: str, path: str) -> str:
    text = str(dataset.get(keyword) or "")
    if not text:
        raise MessageError(path, "required attribute is empty", 101)
    return text


def make(said: Notification) -> Dataset:
    """Return the dataset of a notification, its instances by series in the order given."""
    dataset = Dataset()
    dataset.ReferencedPerformedProcedureStepSequence = [_step(uid) for uid in said.performed]
    dataset.StudyInstanceUID = said.study_uid
    dataset.ReferencedSeriesSequence = []
    for uid in dict.fromkeys(one.series_uid for one in said.instances):
        series = Dataset()
        series.SeriesInstanceUID = uid
        series.ReferencedSOPSequence = list(_items(one for one in said.instances if one.series_uid == uid))
        dataset.ReferencedSeriesSequence.append(series)
    return dataset


def _step(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = _MPPS, uid
    item.PerformedWorkitemCodeSequence = []
    return item


def _items(instances: Iterable[Located]) -> Iterator[Dataset]:
    for one in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.sop_class, one.sop_instance
        item.InstanceAvailability, item.RetrieveAETitle = one.availability, one.retrieve_ae
        yield item
