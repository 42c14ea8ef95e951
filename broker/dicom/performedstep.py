"""The attributes of a modality performed procedure step (MPPS): what may be created and changed, PS3.4 table F.7.2-1.

An attribute of type 2 that is absent counts as empty: nothing is lost by it, and many modalities leave some out.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from broker.dicom.charset import charset_of, to_unicode
from broker.errors import MessageError

SOP_CLASS = "1.2.840.10008.3.1.2.3.3"
RETRIEVE = "1.2.840.10008.3.1.2.3.4"

MAY_NO_LONGER_BE_UPDATED = 0xA710  # Error ID (0000,0903) of an N-SET that comes after the end, PS3.4 F.7.2.2.2

RELAYED = frozenset(("N-CREATE", "N-SET"))  # what a modality sends, and what further managers are sent

STATUS = "PerformedProcedureStepStatus"
STEPS = "ScheduledStepAttributesSequence"
SERIES = "PerformedSeriesSequence"
MISSING, EMPTY, CHANGED = 101, 111, 102  # codes of the MessageErrors: no such attribute, no value in it, a value that may not be changed

# type 1 at creation, with at least one value or item
_CREATED = (
    "Modality",
    "PerformedStationAETitle",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    STATUS,
    "PerformedProcedureStepID",
    STEPS,
)
_OF_STEP = ("StudyInstanceUID",)  # type 1 in each item of the sequence
_FINAL = ("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime")  # type 1 in a final state, as is the series sequence
_OF_SERIES = ("SeriesInstanceUID",)
FINAL_STATES = frozenset({"COMPLETED", "DISCONTINUED"})

# N-SET "not allowed": what says whose step it is, where and when it began
FIXED = frozenset(
    (
        STEPS,
        "PatientName",
        "PatientID",
        "IssuerOfPatientID",
        "IssuerOfPatientIDQualifiersSequence",
        "PatientBirthDate",
        "PatientSex",
        "ReferencedPatientSequence",
        "AdmissionID",
        "IssuerOfAdmissionIDSequence",
        "ServiceEpisodeID",
        "IssuerOfServiceEpisodeIDSequence",
        "ServiceEpisodeDescription",
        "PerformedProcedureStepID",
        "PerformedStationAETitle",
        "PerformedStationName",
        "PerformedLocation",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
        "Modality",
        "StudyID",
    )
)
# type 2 at creation: what N-GET gives as empty when the modality left it out
_OPTIONAL = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "ReferencedPatientSequence",
    "PerformedStationName",
    "PerformedLocation",
    "PerformedProcedureStepDescription",
    "PerformedProcedureTypeDescription",
    "ProcedureCodeSequence",
    "PerformedProcedureStepEndDate",
    "PerformedProcedureStepEndTime",
    "StudyID",
    "PerformedProtocolCodeSequence",
    SERIES,
)


def check_created(attributes: Dataset) -> None:
    """Raise MessageError at the first attribute that an N-CREATE lacks."""
    _require(attributes, _CREATED)
    for number, item in enumerate(attributes[STEPS].value, 1):
        _require(item, _OF_STEP, f"{STEPS}[{number}].")


def check_changed(before: Dataset, attributes: Dataset) -> None:
    """Raise MessageError when an N-SET changes what may not be changed; the same value once more changes nothing."""
    for element in attributes:
        if element.keyword in FIXED and not _is_same(before, attributes, element.keyword):
            raise MessageError(element.keyword, "may not be changed by N-SET", CHANGED)


def check_final(attributes: Dataset) -> None:
    """Raise MessageError when the merged attributes are said to be final and lack their end or, of a completed step, their series."""
    status = str(attributes.get(STATUS) or "")
    if status not in FINAL_STATES:
        return
    _require(attributes, _FINAL)
    if SERIES not in attributes:
        raise MessageError(SERIES, "required attribute is missing", MISSING)
    if status == "COMPLETED":  # a step that is given up may have made nothing
        _require(attributes, (SERIES,))
    for number, item in enumerate(attributes[SERIES].value or (), 1):
        _require(item, _OF_SERIES, f"{SERIES}[{number}].")


def merged(before: Dataset, attributes: Dataset, *, fixed: bool = True) -> Dataset:
    """Return the attributes after an N-SET: those that it names are replaced whole, sequences too.

    fixed: what may not be changed stays as it was created. Where the two are in different character sets, all becomes ISO_IR 192;
    raises MessageError when a text is not valid in the set it claims.
    """
    before, attributes = deepcopy(before), deepcopy(attributes)
    if charset_of(before) != charset_of(attributes):
        for one in (before, attributes):
            to_unicode(one)
    for element in attributes:
        if not (fixed and element.keyword in FIXED):
            before[element.tag] = element
    return before


def selected(attributes: Dataset, tags: Iterable[int] = ()) -> tuple[Dataset, tuple[int, ...]]:
    """Return the attributes asked for, all without any, and the tags among them that the step has not: those of type 2 are empty."""
    known = deepcopy(attributes)
    for keyword in _OPTIONAL:
        if keyword not in known:
            setattr(known, keyword, None)
    wanted = tuple(tags)
    if not wanted:
        return known, ()
    found = Dataset()
    for element in known:
        if element.tag in wanted or element.keyword == "SpecificCharacterSet":
            found[element.tag] = element
    return found, tuple(tag for tag in wanted if tag not in known)


def tag_of(path: str) -> int:
    """Return the tag of the outermost attribute of a path, 0 when it is none."""
    return tag_for_keyword(path.partition(".")[0].partition("[")[0]) or 0


def _require(attributes: Dataset, keywords: Iterable[str], within: str = "") -> None:
    for keyword in keywords:
        if keyword not in attributes:
            raise MessageError(within + keyword, "required attribute is missing", MISSING)
        if attributes[keyword].is_empty or not attributes.get(keyword):
            raise MessageError(within + keyword, "required attribute has no value", EMPTY)


def _is_same(before: Dataset, attributes: Dataset, keyword: str) -> bool:
    old, new = before.get(keyword), attributes.get(keyword)
    return not new or old == new or str(old) == str(new)
