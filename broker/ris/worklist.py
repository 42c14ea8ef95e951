"""The modality worklist: which scheduled steps answer a query (PS3.4 K, IHE RAD-5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from broker.errors import MessageError
from broker.ris import matching
from broker.ris.matching import is_exact, is_universal, is_wild, matches, matches_list, matches_name
from broker.ris.worklist_entry import ATTRIBUTES, STEP, WorklistEntry

WAITING = ("scheduled", "arrived")  # the states of a step that a worklist lists
LISTED = (*WAITING, "started")  # and those it may list
_MOST_VALUES, _LONGEST = 500, 400  # of a key; a name of three component groups has at most 194 characters
_FIRST_DAY, _LAST_DAY = "00000101", "99991231"

Fits = Callable[[WorklistEntry], bool]


@dataclass(frozen=True, slots=True)
class WorklistQuery:
    """Matching keys; an empty key matches everything.

    Texts may hold the wildcards `*` and `?`, and several values that backslashes separate. Dates are YYYYMMDD and times
    HHMM[SS], both ends included; with both, the range runs from the low date and time to the high date and time (PS3.4 table
    K.6-1). `others` holds every other key with its path.
    """

    station: str = ""
    modality: str = ""
    date_low: str = ""
    date_high: str = ""
    time_low: str = ""
    time_high: str = ""
    patient_id: str = ""
    issuer: str = ""
    patient_name: str = ""
    accession: str = ""
    requested_procedure_id: str = ""
    sps_id: str = ""
    study_uid: str = ""
    states: tuple[str, ...] = WAITING
    others: tuple[tuple[str, str], ...] = ()
    first_day: str = ""  # what is listed at all, whatever is asked for
    last_day: str = ""

    @property
    def span(self) -> tuple[str, str]:
        """The first and the last start (YYYYMMDDHHMM) that the date keys allow, with the times where they belong to a date."""
        low = (self.date_low or _FIRST_DAY) + (_minutes(self.time_low, "0000") if self.date_low else "0000")
        high = (self.date_high or _LAST_DAY) + (_minutes(self.time_high, "2359") if self.date_high else "2359")
        return max(low, f"{self.first_day}0000"), min(high, f"{self.last_day or _LAST_DAY}2359")


# path of a DICOM attribute -> field of WorklistQuery
KEYS: Mapping[str, str] = {
    STEP + "ScheduledStationAETitle": "station",
    STEP + "Modality": "modality",
    STEP + "ScheduledProcedureStepID": "sps_id",
    "PatientID": "patient_id",
    "IssuerOfPatientID": "issuer",
    "PatientName": "patient_name",
    "AccessionNumber": "accession",
    "RequestedProcedureID": "requested_procedure_id",
    "StudyInstanceUID": "study_uid",
}
_DATE, _TIME, _STATUS = (STEP + "ScheduledProcedureStep" + keyword for keyword in ("StartDate", "StartTime", "Status"))

_NAMES = ("ReferringPhysicianName", "RequestingPhysician", "NamesOfIntendedRecipientsOfResults", STEP + "ScheduledPerformingPhysicianName")
_DATES = ("PatientBirthDate", "IssueDateOfImagingServiceRequest", STEP + "ScheduledProcedureStepEndDate")
_ONLY_TOLD = ("PatientWeight", "PatientSize", "PregnancyStatus", "IssueTimeOfImagingServiceRequest", STEP + "ScheduledProcedureStepEndTime")
_MATCHERS: Mapping[str, Callable[[str, str], bool]] = {  # how the other keys match
    **{path: matches_list for path in ATTRIBUTES if path not in (*KEYS, _DATE, _TIME, _STATUS, *_ONLY_TOLD)},
    **dict.fromkeys(_NAMES, matches_name),
    **dict.fromkeys(_DATES, matching.matches_dates),
}
_MATCHED = frozenset((*KEYS, _DATE, _TIME, _STATUS, *_MATCHERS))


def from_keys(keys: Mapping[str, str], states: tuple[str, ...] = WAITING) -> WorklistQuery:
    """Return the query of an identifier's keys, by path; those that do not match (table K.6-1) are left out.

    Raises MessageError for a key beyond all measure. `states` are what a query lists that does not ask for one.
    """
    given = {path: key.strip() for path, key in keys.items() if path in _MATCHED and not is_universal(key)}
    for path, key in given.items():
        if key.count("\\") >= _MOST_VALUES or any(len(value) > _LONGEST for value in key.split("\\")):
            raise MessageError(path, f"a key of more than {_MOST_VALUES} values, or of more than {_LONGEST} characters", 102)
    wanted = {field: given.get(path, "") for path, field in KEYS.items()}
    date_low, date_high = matching.dates(given.get(_DATE, ""))
    time_low, time_high = matching.times(given.get(_TIME, ""))
    asked = given.get(_STATUS, "")
    return WorklistQuery(
        **wanted,
        date_low=date_low,
        date_high=date_high,
        time_low=time_low,
        time_high=time_high,
        states=tuple(state for state in LISTED if matches_list(asked, state.upper())) if asked else states,
        others=tuple((path, key) for path, key in given.items() if path in _MATCHERS),
    )


def for_stations(wanted: WorklistQuery, stations: tuple[str, ...], modality: str) -> WorklistQuery:
    """Return the query of a modality that is shown the steps of these stations: of those it names, else of all of them."""
    if modality and not wanted.modality:
        wanted = replace(wanted, modality=modality)
    if not stations:
        return wanted
    named = [station for station in stations if matches_list(wanted.station, station)]
    return replace(wanted, station="\\".join(named or stations))


def filters(wanted: WorklistQuery) -> list[Fits]:
    """Return what an entry must still fit whose step has been looked up by the exact keys and the span."""
    found: list[Fits] = []
    for path, field in KEYS.items():
        key = getattr(wanted, field)
        if field == "patient_name":
            found += [_named(key)] if key else []
        elif field in ("patient_id", "issuer"):
            continue
        elif is_wild(key):
            found.append(_text(path, key))
    if (wanted.patient_id or wanted.issuer) and not is_exact(wanted.patient_id):
        found.append(lambda entry: any(_is_named(row.value, row.authority, wanted) for row in entry.identifiers))
    if (wanted.time_low and not wanted.date_low) or (wanted.time_high and not wanted.date_high):
        found.append(lambda entry: _in_hours(wanted, entry.step.start))
    return found + [_other(path, key) for path, key in wanted.others]


def _named(key: str) -> Fits:
    return lambda entry: matches_name(key, ATTRIBUTES["PatientName"](entry))


def _text(path: str, key: str) -> Fits:
    read = ATTRIBUTES[path]
    return lambda entry: matches_list(key, read(entry))


def _other(path: str, key: str) -> Fits:
    read, fits = ATTRIBUTES[path], _MATCHERS[path]
    return lambda entry: fits(key, read(entry))


def _is_named(value: str, authority: str, wanted: WorklistQuery) -> bool:
    return matches(wanted.patient_id, value) and matches(wanted.issuer, authority)


def _in_hours(wanted: WorklistQuery, start: str) -> bool:
    """Return whether a start fits the time keys that have no date to belong to."""
    after = wanted.date_low or start[8:] >= _minutes(wanted.time_low, "0000")
    before = wanted.date_high or start[8:] <= _minutes(wanted.time_high, "2359")
    return bool(after and before)


def _minutes(time: str, default: str) -> str:
    """Return HHMM of a time that may be cut after the hours or go on with seconds; what is missing comes from the default."""
    return time[:4] + default[len(time[:4]) :]
