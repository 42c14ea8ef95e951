"""Queries answered from the headers of what is still in the spool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from broker.dicom.dataset import put
from broker.dicom.query import IMAGE, PATIENT, SERIES, STUDY, UNIQUE, Query, Retrieval, values_of
from broker.dicom.scan import scan
from broker.errors import MessageError
from broker.ris.matching import is_exact, matches, matches_dates, matches_list, matches_name, times
from broker.store.kept import ACCESSION, Kept

Attributes = Mapping[str, str]  # by keyword

_NO_KEYS = frozenset(
    ("QueryRetrieveLevel", "SpecificCharacterSet", "RetrieveAETitle", "InstanceAvailability", "TimezoneOffsetFromUTC")
)  # of an identifier
_NUMBERS = frozenset(("US", "SS", "UL", "SL", "UV", "SV"))
_KEYS = {  # what the store can look up
    "StudyInstanceUID": STUDY,
    "SeriesInstanceUID": SERIES,
    "SOPInstanceUID": IMAGE,
    "PatientID": PATIENT,
    "AccessionNumber": ACCESSION,
}


def narrowed(query: Query) -> dict[str, list[str]]:
    """Return the keys of a query that the store can look up."""
    values = {key: values_of(query.identifier, keyword) for keyword, key in _KEYS.items()}
    return {key: some for key, some in values.items() if some and all(is_exact(one) for one in some)}


def attributes(kept: Kept, path: Path, keywords: Iterable[str]) -> dict[str, str]:
    """Return the attributes of an object as it leaves; blocks, raises MessageError or OSError."""
    found = scan(path, keywords)
    return found | {keyword: value for keyword, value in kept.request.changes.items() if "." not in keyword and "[" not in keyword}


def unique_keys(kept: Kept, path: Path) -> dict[str, str]:
    """Return the unique keys of an object as it leaves, by level; blocks, raises MessageError or OSError."""
    found = attributes(kept, path, UNIQUE.values())
    return {level: found.get(keyword, "") for level, keyword in UNIQUE.items()}


def asked_for(wanted: Retrieval, rows: Iterable[Kept], path: Callable[[str], Path]) -> list[Kept]:
    """Return the objects that a retrieval asks for, as they leave; what cannot be read any more is left out; blocks."""
    found: dict[str, Kept] = {}
    for kept in rows:
        try:
            keys = unique_keys(kept, path(kept.request.spooled.name))
        except (MessageError, OSError):
            continue
        if all(keys[level] in values for level, values in wanted.keys.items()):
            found.setdefault(keys[IMAGE], kept)
    return list(found.values())


def entries(query: Query, rows: Sequence[Kept], path: Callable[[str], Path]) -> list[Dataset]:
    """Return an entry for each patient, study, series or image that fits the query; blocks.

    Below the level of a series each row is read; above it stands for its series.
    """
    keywords = tuple(dict.fromkeys((*UNIQUE.values(), "Modality", "SOPClassUID", "IssuerOfPatientID", *_plain(query.identifier))))
    groups: dict[str, list[tuple[dict[str, str], int]]] = {}
    for kept in rows:
        try:
            found = attributes(kept, path(kept.request.spooled.name), keywords)
        except (MessageError, OSError):  # damaged, or gone from the spool by now
            continue
        groups.setdefault(found.get(UNIQUE[query.level], ""), []).append((found, kept.count))
    made = (_entry(query.level, group) for key, group in groups.items() if key)
    return [_answer(query, one) for one in made if _fits(query.identifier, one)]


def _plain(identifier: Dataset) -> list[str]:
    """Return the keywords of an identifier that an object may have: no sequence, nothing of the query's own."""
    return [element.keyword for element in identifier if element.VR != "SQ" and element.keyword and element.keyword not in _NO_KEYS]


def _entry(level: str, group: Sequence[tuple[dict[str, str], int]]) -> dict[str, str]:
    """Return the attributes of one entity, with what is counted and listed over its objects."""
    entry = dict(group[0][0])

    def different(keyword: str) -> list[str]:
        return list(dict.fromkeys(value for found, _ in group if (value := found.get(keyword, ""))))

    counts = (str(len(different("SeriesInstanceUID"))), str(sum(count for _, count in group)))
    if level == PATIENT:
        entry["NumberOfPatientRelatedStudies"] = str(len(different("StudyInstanceUID")))
        entry["NumberOfPatientRelatedSeries"], entry["NumberOfPatientRelatedInstances"] = counts
    elif level == STUDY:
        entry["ModalitiesInStudy"] = "\\".join(different("Modality"))
        entry["SOPClassesInStudy"] = "\\".join(different("SOPClassUID"))
        entry["NumberOfStudyRelatedSeries"], entry["NumberOfStudyRelatedInstances"] = counts
    elif level == SERIES:
        entry["NumberOfSeriesRelatedInstances"] = counts[1]
    return entry


def _fits(identifier: Dataset, entry: Attributes) -> bool:
    return all(
        _matches(element.VR, "\\".join(values_of(identifier, element.keyword)), entry.get(element.keyword, ""))
        for element in identifier
        if element.VR != "SQ" and element.keyword and element.keyword not in _NO_KEYS
    )


def _matches(vr: str, key: str, value: str) -> bool:
    if not key or key == "*":
        return True
    if vr == "PN":
        return matches_name(key, value)
    if vr in ("DA", "DT"):
        return matches_dates(key, value)
    if vr == "TM":
        low, high = times(key)
        value = value.replace(":", "")
        return bool(value) and (not low or value[: len(low)] >= low) and (not high or value[: len(high)] <= high)
    if vr in ("UI", "CS"):
        return matches_list(key, value)
    return matches(key, value)


def _answer(query: Query, entry: Attributes) -> Dataset:
    """Return what was asked for, with what is not known empty; sequences are not looked into."""
    answer = Dataset()
    wanted = [element.keyword for element in query.identifier if element.keyword and element.keyword not in _NO_KEYS]
    levels = query.model.levels
    for keyword in (*wanted, *(UNIQUE[level] for level in levels[: levels.index(query.level) + 1])):
        vr, value = dictionary_VR(keyword), entry.get(keyword, "")
        if vr == "SQ":
            setattr(answer, keyword, [])
        elif vr in _NUMBERS:
            setattr(answer, keyword, int(value) if value.lstrip("-").isdigit() else None)
        else:
            put(answer, keyword, value)
    answer.QueryRetrieveLevel = query.level
    answer.InstanceAvailability = "ONLINE"
    return answer
