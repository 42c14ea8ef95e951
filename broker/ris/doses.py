"""Doses: what dose reports (RDSR) and MPPS say of an exam, each irradiation event once, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from broker.ris import unmatched
from broker.ris.context import RisContext
from broker.ris.entities import Dose, Exam, Instance, Performed
from broker.ris.events import DoseReading, Event, PerformStep, StoreInstance
from broker.ris.records import Records

RDSR, MPPS = "RDSR", "MPPS"
_SAID = tuple(field.name for field in fields(DoseReading))


@dataclass(frozen=True, slots=True)
class ExamDose:
    """What the doses of an exam come to; "" is not known. A dose report goes before what the modality says in its MPPS."""

    source: str = ""  # RDSR, MPPS
    ctdivol: str = ""  # mGy, the largest
    phantom: str = ""  # code of its CTDI phantom: 113690 head, 113691 body (DCM)
    dlp: str = ""  # mGy.cm
    dap: str = ""  # Gy.m2
    entrance: str = ""  # mGy
    glandular: str = ""  # mGy, average glandular dose
    exposures: str = ""


UNITS = {"ctdivol": "mGy", "dlp": "mGy.cm", "dap": "Gy.m2", "entrance": "mGy", "glandular": "mGy"}


def of_performed(records: Records, performed: Performed, request: PerformStep, context: RisContext) -> list[Event]:
    """Keep what an MPPS that has ended says; its dose is that of its first exam."""
    return _kept(records, MPPS, performed.uid, performed, request.dose_fault, [request.dose] if request.dose else [], context)


def of_instance(records: Records, request: StoreInstance, context: RisContext) -> list[Event]:
    """Keep what a dose report says that was stored; another one of the same events adds nothing but its totals."""
    instance = records.one(Instance, uid=request.uid)
    if instance is None or not (request.doses or request.dose_fault) or records.one(Dose, report_uid=request.uid) is not None:
        return []
    return _kept(records, RDSR, request.uid, instance, request.dose_fault, request.doses, context)


def follow(records: Records, instances: Iterable[Instance], exam: Exam) -> list[Event]:
    """Tie the doses of these reports to the exam that they were found to belong to."""
    found = [dose for one in instances for dose in records.find(Dose, report_uid=one.uid)]
    for dose in found:
        records.update(replace(dose, exam_id=exam.id))
    return [_told(records, exam, found[0].source)] if found else []


def move(records: Records, before: Exam, exam: Exam) -> None:
    """Let the doses of one exam become those of another."""
    for dose in records.find(Dose, exam_id=before.id):
        records.update(replace(dose, exam_id=exam.id))


def _kept(
    records: Records,
    source: str,
    uid: str,
    origin: Performed | Instance,
    fault: str,
    readings: Sequence[DoseReading],
    context: RisContext,
) -> list[Event]:
    events = unmatched.listed(records, "dose", uid, origin.accession, fault, context) if fault else []
    for reading in readings:
        if reading.event_uid and records.one(Dose, event_uid=reading.event_uid) is not None:
            continue
        said = {name: getattr(reading, name) for name in _SAID}
        records.add(
            Dose(
                exam_id=origin.exam_id,
                source=source,
                report_uid=uid,
                study_uid=origin.study_uid,
                accession=origin.accession,
                message_id=context.message_id,
                **said,
            )
        )
    if readings and origin.exam_id is not None:
        events.append(_told(records, records.get(Exam, origin.exam_id), source))
    return events


def _told(records: Records, exam: Exam, source: str) -> Event:
    return Event(
        "dose.recorded",
        patient_id=exam.patient_id,
        order_id=exam.order_id,
        exam_id=exam.id,
        accession=exam.accession,
        reason=described(of_exam(records, exam), source),
    )


def described(dose: ExamDose, source: str) -> str:
    """Return the dose in a line of a timeline: "RDSR: CTDIvol 12.3 mGy, DLP 456 mGy.cm"."""
    names = {"ctdivol": "CTDIvol", "dlp": "DLP", "dap": "DAP", "entrance": "entrance dose", "glandular": "AGD"}
    said = [f"{name} {value} {UNITS[field]}" for field, name in names.items() if (value := getattr(dose, field))]
    said += [f"{dose.exposures} exposures"] if dose.exposures else []
    return f"{source}: {', '.join(said) or 'no figures'}"


def of_exam(records: Records, exam: Exam) -> ExamDose:
    """Return what the doses of the exam come to."""
    doses = records.find(Dose, exam_id=exam.id)
    reported = [dose for dose in doses if dose.source == RDSR]
    return total(reported or doses)


def total(doses: Sequence[Dose]) -> ExamDose:
    """Return what doses of one source come to: totals by their scope, the latest of each, else the sum of the events.

    A total over the whole study holds what the other totals say. CTDIvol is no sum: the largest counts.
    """
    events = [dose for dose in doses if dose.event_uid]
    scopes = {dose.scope or dose.report_uid: dose for dose in doses if not dose.event_uid}
    whole = [dose for scope, dose in scopes.items() if scope == dose.study_uid]
    totals = whole or list(scopes.values())
    highest = max((dose for dose in doses if dose.ctdivol is not None), key=lambda dose: dose.ctdivol or 0.0, default=None)
    return ExamDose(
        source=doses[0].source if doses else "",
        ctdivol=_text(highest.ctdivol) if highest else "",
        phantom=highest.phantom if highest else "",
        exposures=_text(_sum("exposures", totals) if _sum("exposures", totals) is not None else len(events) or None),
        **{name: _text(_first(_sum(name, totals), _sum(name, events))) for name in ("dlp", "dap", "entrance", "glandular")},
    )


def _sum(name: str, doses: Iterable[Dose]) -> float | None:
    values = [value for dose in doses if (value := getattr(dose, name)) is not None]
    return sum(values) if values else None


def _first(one: float | None, other: float | None) -> float | None:
    return other if one is None else one


def _text(value: float | None) -> str:
    """Return the number with up to six significant digits, which is more than any dosimeter has."""
    return "" if value is None else f"{value:.6g}"
