"""Which exam something unmatched belongs to most likely, and why: a pure comparison of what it says with what is planned.

The reasons name no value, so that they may be shown and logged. A score of 100 and more is as good as certain, and nothing is
done by it: a person decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import NamedTuple

from broker.ris import images, names, patients, times
from broker.ris.entities import Exam, Patient, PatientIdentifier, Step
from broker.ris.records import Records

LEAST = 20  # a lower score is not worth a look
MOST = 10  # candidates that are shown
ALIKE = 0.82  # of two names, as difflib has it
DAY = 24 * 60  # minutes

# what is alike or is not, in words, and how much it weighs
EVIDENCE: dict[str, tuple[int, str]] = {
    "study": (60, "the Study Instance UID is the exam's"),
    "accession": (50, "the accession number is the exam's"),
    "accession_near": (30, "the accession number is one slip away"),
    "patient": (40, "the patient identifier is the same"),
    "patient_near": (22, "the patient identifier is one slip away"),
    "patient_other": (-30, "the patient identifier is another known patient's"),
    "name": (25, "the name is the same"),
    "name_near": (14, "the name is similar"),
    "name_other": (-15, "the name is another"),
    "birth_date": (15, "the date of birth is the same"),
    "birth_date_near": (8, "the date of birth is one slip away"),
    "birth_date_other": (-15, "the date of birth is another"),
    "sex_other": (-10, "the sex is another"),
    "modality": (10, "the modality is the planned one"),
    "modality_other": (-20, "the modality is another"),
    "station": (10, "it was planned at this station"),
    "hour": (15, "it was planned within the hour"),
    "half_day": (8, "it was planned within twelve hours"),
    "days": (3, "it was planned within three days"),
    "far": (-10, "it was planned on another day"),
    "ended": (-15, "the exam was cancelled"),
    "filled": (-8, "the exam has images already"),
}

_OPEN = ("scheduled", "arrived", "started", "completed")  # steps that may have been performed


class Seen(NamedTuple):
    """What images or a performed step say of themselves; "" where they say nothing."""

    study_uid: str = ""
    accession: str = ""
    patient_id: str = ""
    issuer: str = ""
    name: str = ""  # PN
    birth_date: str = ""  # YYYYMMDD
    sex: str = ""
    modality: str = ""
    station: str = ""  # AE title
    at: str = ""  # YYYYMMDDHHMM[SS]


@dataclass(frozen=True, slots=True)
class Planned:
    """An exam with what is known around it."""

    exam: Exam
    patient: Patient
    identifiers: tuple[PatientIdentifier, ...] = ()
    steps: tuple[Step, ...] = ()
    starts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """An exam that something may belong to."""

    exam: Exam
    score: int
    reasons: tuple[str, ...]


def likeliest(seen: Seen, planned: Iterable[Planned], holder: int | None = None) -> list[Candidate]:
    """Return the exams that fit best, the likeliest first; `holder`: the known patient with the very identifier that was sent."""
    found = []
    for one in planned:
        evidence = _evidence(seen, one, holder)
        score = sum(EVIDENCE[name][0] for name in evidence)
        if score >= LEAST:
            weighty = sorted(evidence, key=lambda name: -EVIDENCE[name][0])
            found.append(Candidate(one.exam, score, tuple(EVIDENCE[name][1] for name in weighty)))
    return sorted(found, key=lambda one: (-one.score, one.exam.id))[:MOST]


def _evidence(seen: Seen, one: Planned, holder: int | None) -> list[str]:
    found = ["study"] if seen.study_uid and seen.study_uid == one.exam.study_uid else []
    found += _near("accession", seen.accession, [one.exam.accession])
    found += _patient(seen, one, holder)
    found += _person(seen, one.patient)
    found += _plan(seen, one)
    return found


def _near(what: str, sent: str, known: list[str]) -> list[str]:
    if not sent:
        return []
    return [what] if sent in known else [f"{what}_near"] if any(is_slip(sent, text) for text in known) else []


def _patient(seen: Seen, one: Planned, holder: int | None) -> list[str]:
    if holder is not None:
        return ["patient" if holder == one.patient.id else "patient_other"]
    return _near("patient", seen.patient_id, [known.value for known in one.identifiers])


def _person(seen: Seen, patient: Patient) -> list[str]:
    found = []
    if (sent := plain(seen.name)) and (known := plain(names.patient_to_pn(patient))):
        alike = SequenceMatcher(None, sent, known, autojunk=False).ratio()
        found.append("name" if sent == known else "name_near" if alike >= ALIKE else "name_other")
    born = names.dicom_date(patient.birth_date)
    if seen.birth_date and born:
        near = is_slip(seen.birth_date, born) or _swapped(seen.birth_date) == born
        found.append("birth_date" if seen.birth_date == born else "birth_date_near" if near else "birth_date_other")
    if seen.sex and (sex := names.dicom_sex(patient.sex)) and seen.sex != sex:
        found.append("sex_other")
    return found


def _plan(seen: Seen, one: Planned) -> list[str]:
    found = []
    if seen.modality and one.exam.modality:
        found.append("modality" if seen.modality == one.exam.modality else "modality_other")
    if seen.station and any(step.station == seen.station for step in one.steps):
        found.append("station")
    if seen.at and one.starts:
        apart = min(images.apart(start, seen.at) for start in one.starts)
        found.append("hour" if apart <= 60 else "half_day" if apart <= DAY // 2 else "days" if apart <= 3 * DAY else "far")
    if one.exam.status == "cancelled":
        found.append("ended")
    if one.exam.images:
        found.append("filled")
    return found


def plain(name: str) -> str:
    """Return the parts of a PN's first group as people compare them: upper case, sorted, without delimiters."""
    return " ".join(sorted(part for part in name.partition("=")[0].upper().replace("^", " ").replace("-", " ").split()))


def _swapped(date: str) -> str:
    """Return a date with day and month exchanged."""
    return date[:4] + date[6:8] + date[4:6]


def is_slip(one: str, other: str) -> bool:
    """Whether two different texts are one slip of the fingers apart: one character other, more or less, or two neighbours exchanged."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    rest, left = one[at:], other[at:]
    if len(one) != len(other):
        return rest[1:] == left or rest == left[1:]
    return rest[1:] == left[1:] or (rest[:2] == left[1::-1] and rest[2:] == left[2:])


def slips(text: str) -> set[str]:
    """Return the texts of capital letters and digits that are one slip away, to be looked up; digits become digits only."""
    found = set()
    for at, old in enumerate(text):
        before, after = text[:at], text[at + 1 :]
        found.add(before + after)
        found |= {before + digit + after for digit in "0123456789"} if old.isdigit() else set()
        found |= {before + digit + text[at:] for digit in "0123456789"}
        if after:
            found.add(before + after[0] + old + after[1:])
    return found - {text, ""}


def holder(records: Records, seen: Seen, authority: str) -> int | None:
    """Return the patient with the identifier that was sent; `authority` assigns those that name no other."""
    row = records.one(PatientIdentifier, value=seen.patient_id, authority=seen.issuer or authority) if seen.patient_id else None
    return row.patient_id if row else None


def planned(records: Records, seen: Seen, *, wide: bool = True) -> list[Planned]:
    """Return the exams that may be meant: those that the identifiers lead to and, when it shall be `wide`, what was planned then."""
    exams: dict[int, Exam] = {}

    def add(found: Iterable[Exam]) -> None:
        exams.update((exam.id, exam) for exam in found)

    if seen.study_uid:
        add(records.find(Exam, study_uid=seen.study_uid))
    if seen.accession:
        add(records.among(Exam, "accession", {seen.accession, *slips(seen.accession)}))
    if seen.patient_id:
        known = records.among(PatientIdentifier, "value", {seen.patient_id, *slips(seen.patient_id)})
        for patient_id in dict.fromkeys(row.patient_id for row in known):
            add(records.find(Exam, patient_id=patient_id))
    if wide and seen.at:
        add(records.get(Exam, id) for id in dict.fromkeys(step.exam_id for step in _near_in_time(records, seen)))
    return [_around(records, exam) for exam in exams.values() if exam.patient_id is not None]


def _near_in_time(records: Records, seen: Seen) -> list[Step]:
    low, high = times.after(seen.at, -DAY // 2), times.after(seen.at, DAY // 2)
    match = {"station": seen.station} if seen.station else {"modality": seen.modality}
    found = [step for status in _OPEN for step in records.between(Step, "start", low, high, status=status, **match)]
    if not found and seen.modality:
        found = [step for status in _OPEN for step in records.between(Step, "start", low, high, status=status, modality=seen.modality)]
    return found


def _around(records: Records, exam: Exam) -> Planned:
    patient_id = exam.patient_id or 0
    return Planned(
        exam,
        records.get(Patient, patient_id),
        tuple(patients.identifiers_of(records, patient_id)),
        tuple(records.find(Step, exam_id=exam.id)),
        tuple(images.starts(records, exam)),
    )
