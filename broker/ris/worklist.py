"""The modality worklist: which scheduled steps answer a query (PS3.4 K, IHE RAD-5)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from broker.ris import images, names, patients
from broker.ris.entities import Exam, Order, Patient, PatientIdentifier, Step
from broker.ris.names import fitted
from broker.ris.records import Records

_WAITING = ("scheduled", "arrived")
_STARTED = ("started",)
_LISTED_EXAMS = frozenset({"scheduled", "arrived", "in_progress"})  # not those on hold, whose steps keep their slots
_FIRST_DAY, _LAST_DAY = "00000101", "99991231"


@dataclass(frozen=True, slots=True)
class WorklistQuery:
    """Matching keys; an empty key matches everything.

    Texts may hold the wildcards `*` and `?`. Dates are YYYYMMDD and times HHMM[SS], both ends included; with both, the range
    runs from the low date and time to the high date and time (PS3.4 table K.6-1).
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
    in_progress: bool = False  # also the steps that have begun


@dataclass(frozen=True, slots=True)
class WorklistEntry:
    """One scheduled procedure step and all that surrounds it; `identifiers[0]` stands for the patient."""

    patient: Patient
    identifiers: list[PatientIdentifier]
    order: Order
    exam: Exam
    step: Step


# DICOM keyword -> field of WorklistQuery; those of the step stand in the item of the Scheduled Procedure Step Sequence
KEYS: Mapping[str, str] = {
    "ScheduledStationAETitle": "station",
    "Modality": "modality",
    "PatientID": "patient_id",
    "IssuerOfPatientID": "issuer",
    "PatientName": "patient_name",
    "AccessionNumber": "accession",
    "RequestedProcedureID": "requested_procedure_id",
    "ScheduledProcedureStepID": "sps_id",
    "StudyInstanceUID": "study_uid",
}


def from_keys(keys: Mapping[str, str], *, in_progress: bool = False) -> WorklistQuery:
    """Return the query of an identifier's matching keys, given flat by DICOM keyword; keys that do not match are left out."""
    wanted = {field: keys.get(keyword, "").strip() for keyword, field in KEYS.items()}
    date_low, date_high = _range(keys.get("ScheduledProcedureStepStartDate", "").replace(".", ""))
    time_low, time_high = _range(re.sub(r"\.\d*|:", "", keys.get("ScheduledProcedureStepStartTime", "")))
    return WorklistQuery(**wanted, date_low=date_low, date_high=date_high, time_low=time_low, time_high=time_high, in_progress=in_progress)


def _range(text: str) -> tuple[str, str]:
    low, dash, high = text.strip(" *").partition("-")
    return (low.strip(), high.strip() if dash else low.strip())


def query(records: Records, wanted: WorklistQuery) -> list[WorklistEntry]:
    """Return the matching steps in the order of their start.

    The narrowest key picks the rows by an index; the other keys are compared here.
    """
    low, high = _span(wanted)
    states = _WAITING + (_STARTED if wanted.in_progress else ())
    steps = [
        step
        for step in _candidates(records, wanted, states)
        if step.status in states
        and low <= step.start <= high
        and _in_hours(wanted, step.start)
        and matches(wanted.station, step.station)
        and matches(wanted.modality, step.modality)
        and matches(wanted.sps_id, step.sps_id)
    ]
    entries = _surrounded(records, sorted(steps, key=lambda step: (step.start, step.id)))
    holders = _holders(records, wanted) if _is_exact(wanted.patient_id) else None
    return [entry for entry in entries if (holders is None or entry.patient.id in holders) and _fits(entry, wanted)]


def attributes(records: Records, entry: WorklistEntry) -> dict[str, str]:
    """Return the entry by DICOM keyword, the step's dotted into ScheduledProcedureStepSequence; codes by their own sequences.

    Descriptions are cut to what their VR holds, identifiers and codes are not: those would become others.
    """
    step, exam, order = entry.step, entry.exam, entry.order
    procedure, protocol = fitted(exam.procedure_name), fitted(step.protocol_name)
    scheduled = {
        "ScheduledStationAETitle": step.station,
        "ScheduledStationName": step.station,
        "ScheduledProcedureStepLocation": step.room,
        "ScheduledProcedureStepStartDate": step.start[:8],
        "ScheduledProcedureStepStartTime": step.start[8:].ljust(6, "0"),
        "Modality": step.modality,
        "ScheduledPerformingPhysicianName": "",
        "ScheduledProcedureStepDescription": protocol,
        "ScheduledProcedureStepID": step.sps_id,
        "ScheduledProcedureStepStatus": step.status.upper(),
        **_code("ScheduledProtocolCodeSequence", step.protocol_code, protocol),
    }
    known = {
        **images.patient_attributes(records, entry.patient.id),
        "AccessionNumber": exam.accession,
        "StudyInstanceUID": exam.study_uid,
        "RequestedProcedureID": exam.requested_procedure_id,
        "RequestedProcedureDescription": procedure,
        "RequestedProcedurePriority": names.dicom_priority(exam.priority),
        **_code("RequestedProcedureCodeSequence", exam.procedure_code, procedure),
        "ReferringPhysicianName": names.xcn_to_pn(order.provider),
        "RequestingPhysician": names.xcn_to_pn(order.provider),
        "ReasonForTheRequestedProcedure": fitted(order.reason),
        "PlacerOrderNumberImagingServiceRequest": order.placer_number,
        "FillerOrderNumberImagingServiceRequest": order.filler_number,
        "AdmissionID": names.component(order.visit, 1),
        "CurrentPatientLocation": fitted(names.component(order.location, 1)),
    }
    return known | {f"ScheduledProcedureStepSequence.{keyword}": value for keyword, value in scheduled.items()}


def _code(sequence: str, value: str, meaning: str) -> dict[str, str]:
    """Return the item of a code sequence; "L" is the designator of codes that are the site's own (PS3.3 8.2)."""
    return {f"{sequence}.CodeValue": value, f"{sequence}.CodingSchemeDesignator": "L" if value else "", f"{sequence}.CodeMeaning": meaning}


def matches(pattern: str, value: str) -> bool:
    """Return whether the value fits the key: empty fits all, `*` any text, `?` any one character; case counts."""
    return pattern in ("", "*") or (bool(_compiled(pattern).fullmatch(value)) if _is_wild(pattern) else pattern == value)


def matches_name(pattern: str, name: str) -> bool:
    """Return whether the PN fits the key: as `matches`, but without regard to case and to empty components at the end."""
    return matches(pattern.rstrip("^= ").casefold(), name.rstrip("^= ").casefold())


def _is_wild(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = (".*" if part[0] == "*" else "." if part == "?" else re.escape(part) for part in re.findall(r"\*+|\?|[^*?]+", pattern))
    return re.compile("".join(parts), re.DOTALL)


def _span(wanted: WorklistQuery) -> tuple[str, str]:
    """Return the first and the last start (YYYYMMDDHHMM) that the date keys allow, with the times where they belong to a date."""
    low = (wanted.date_low or _FIRST_DAY) + (_minutes(wanted.time_low, "0000") if wanted.date_low else "0000")
    high = (wanted.date_high or _LAST_DAY) + (_minutes(wanted.time_high, "2359") if wanted.date_high else "2359")
    return low, high


def _in_hours(wanted: WorklistQuery, start: str) -> bool:
    """Return whether a start fits the time keys that have no date to belong to."""
    after = wanted.date_low or start[8:] >= _minutes(wanted.time_low, "0000")
    before = wanted.date_high or start[8:] <= _minutes(wanted.time_high, "2359")
    return bool(after and before)


def _minutes(time: str, default: str) -> str:
    """Return HHMM of a time that may be cut after the hours or go on with seconds; what is missing comes from the default."""
    return time[:4] + default[len(time[:4]) :]


def _candidates(records: Records, wanted: WorklistQuery, states: Iterable[str]) -> Iterable[Step]:
    """Return the steps that one indexed look-up gives for the narrowest key."""
    if _is_exact(wanted.sps_id):
        return records.find(Step, sps_id=wanted.sps_id)
    for name in ("accession", "study_uid", "requested_procedure_id"):
        if _is_exact(value := getattr(wanted, name)):
            return _steps(records, records.find(Exam, **{name: value}))
    if _is_exact(wanted.patient_id):
        return _steps(records, [exam for id in _holders(records, wanted) for exam in records.find(Exam, patient_id=id)])
    low, high = _span(wanted)
    if _is_exact(wanted.station):
        return records.between(Step, "start", low, high, station=wanted.station)
    return [step for status in states for step in records.between(Step, "start", low, high, status=status)]


def _is_exact(key: str) -> bool:
    return bool(key) and not _is_wild(key)


def _steps(records: Records, exams: Iterable[Exam]) -> list[Step]:
    return [step for exam in exams for step in records.find(Step, exam_id=exam.id)]


def _holders(records: Records, wanted: WorklistQuery) -> list[int]:
    """Return the ids of the patients with that identifier, under any authority when none is asked for; retired identifiers count."""
    authority = {"authority": wanted.issuer} if _is_exact(wanted.issuer) else {}
    return list(dict.fromkeys(row.patient_id for row in records.find(PatientIdentifier, value=wanted.patient_id, **authority)))


def _surrounded(records: Records, steps: Iterable[Step]) -> Iterable[WorklistEntry]:
    """Give each step with its exam, order and patient, which are read once each."""
    exam: Callable[[int], Exam] = cache(lambda id: records.get(Exam, id))
    order: Callable[[int], Order] = cache(lambda id: records.get(Order, id))
    patient: Callable[[int], Patient] = cache(lambda id: records.get(Patient, id))
    identifiers: Callable[[int], list[PatientIdentifier]] = cache(lambda id: patients.identifiers_of(records, id))
    for step in steps:
        of = exam(step.exam_id)
        if of.order_id is not None and of.patient_id is not None and of.status in _LISTED_EXAMS:
            yield WorklistEntry(patient(of.patient_id), identifiers(of.patient_id), order(of.order_id), of, step)


def _fits(entry: WorklistEntry, wanted: WorklistQuery) -> bool:
    """Return whether exam and patient fit the keys that concern them."""
    exam = entry.exam
    return (
        matches(wanted.accession, exam.accession)
        and matches(wanted.study_uid, exam.study_uid)
        and matches(wanted.requested_procedure_id, exam.requested_procedure_id)
        and matches_name(wanted.patient_name, names.patient_to_pn(entry.patient))
        and (_is_exact(wanted.patient_id) or any(_is_named(row, wanted) for row in entry.identifiers))
    )


def _is_named(row: PatientIdentifier, wanted: WorklistQuery) -> bool:
    return matches(wanted.patient_id, row.value) and matches(wanted.issuer, row.authority)
