"""Corrected copies of objects under new UIDs, as IHE Image Object Change Management asks for (RAD TF-2, 4.66)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

_ORIGINALS = 0x04000561
_ELSEWHERE = "StudiesContainingOtherReferencedInstancesSequence"
_NO_INSTANCE = "1.2.840.10008.3.1."  # studies, performed steps and the like: referenced, and no composite objects of the study

Renamed = Callable[[str], str]


def reissued(uid: str, key: str) -> str:
    """Return the UID of the corrected copy, the same for the same key every time (PS3.5 B.2); "" stays ""."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{key} {uid}').int}" if uid and key else uid


def identity(own: Mapping[str, str], key: str, study: str = "") -> dict[str, str]:
    """Return an object's own UIDs, by keyword, as those of its corrected copy; `study`: the one where it belongs, if that is known."""
    changed = {name: reissued(own.get(name, ""), key) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
    return {name: uid for name, uid in (changed | ({"StudyInstanceUID": study} if study else {})).items() if uid}


def rename_references(header: Dataset, key: str, before: str, after: str) -> dict[BaseTag, DataElement]:
    """Let the references to objects of the same study name their corrected copies; return the elements as they were.

    before, after: the Study Instance UID. What is said to be of another study keeps its UIDs.
    """
    elsewhere = {str(uid) for item in header.get(_ELSEWHERE) or () for uid in _instances(item)}

    def renamed(uid: str) -> str:
        return uid if uid in elsewhere else reissued(uid, key)

    touched = {}
    for element in header:
        if element.VR == "SQ" and int(element.tag) != _ORIGINALS and element.keyword != _ELSEWHERE and element.value:
            kept = deepcopy(element)
            if sum(_rename(item, renamed, before, after) for item in element.value):  # all of them, not only the first
                touched[element.tag] = kept
    return touched


def _rename(item: Dataset, renamed: Renamed, before: str, after: str) -> bool:
    """Rename in an item and all below; return whether anything was."""
    study = str(item.get("StudyInstanceUID") or "")
    if study and study != before:
        return False
    changed = False
    if study:
        item.StudyInstanceUID = after
        changed = True
    if "SeriesInstanceUID" in item and item.SeriesInstanceUID:
        item.SeriesInstanceUID = renamed(str(item.SeriesInstanceUID))
        changed = True
    if item.get("ReferencedSOPInstanceUID") and not str(item.get("ReferencedSOPClassUID", "")).startswith(_NO_INSTANCE):
        item.ReferencedSOPInstanceUID = renamed(str(item.ReferencedSOPInstanceUID))
        changed = True
    elif str(item.get("ReferencedSOPInstanceUID") or "") == before:
        item.ReferencedSOPInstanceUID = after
        changed = True
    below = [inner for element in item if element.VR == "SQ" for inner in element.value or ()]
    return bool(sum(_rename(inner, renamed, before, after) for inner in below)) or changed


def _instances(item: Dataset) -> Iterator[str]:
    for element in item.iterall():
        if element.keyword == "ReferencedSOPInstanceUID":
            yield str(element.value)
