"""Reports: every version kept, and the report status of the exam moved by the law."""

from __future__ import annotations

from dataclasses import replace

from broker.errors import MessageError
from broker.ris import charges, numbers, patients, unmatched
from broker.ris.context import RisContext
from broker.ris.entities import Exam, Report
from broker.ris.events import Event, Identifier, ReceiveReport
from broker.ris.records import Records
from broker.ris.states import REPORT, allows, next_state

STATUS = "OBR-25"
_STATUSES = frozenset(event for _, event in REPORT)


def apply(records: Records, request: ReceiveReport, context: RisContext) -> list[Event]:
    """Keep one version of a report; raises MessageError at OBR-25 when it may not follow, at PID-3 when it names another patient."""
    if request.status not in _STATUSES:
        raise MessageError(STATUS, f"report status must be one of {', '.join(sorted(_STATUSES))}", 103)
    if not (request.accession or request.placer_number or request.study_uid):
        raise MessageError("OBR-18", "neither accession number nor placer order number", 101)
    exam = _named(records, request)
    report = _version(request, context)
    if exam is None:
        return _keep_unmatched(records, report, context)
    patient = patients.find(records, request.identifiers, context)
    if patient is not None and patient.id != exam.patient_id:
        raise MessageError("PID-3", "names another patient than the exam's", 204)
    next_state(REPORT, exam.report_status, report.status, STATUS)
    return link(records, records.add(report), exam, context)


def link(records: Records, report: Report, exam: Exam, context: RisContext) -> list[Event]:
    """Make the report the next version of the exam's; a status that may not follow is kept but moves nothing."""
    version = len(records.find(Report, exam_id=exam.id)) + 1
    if not allows(REPORT, exam.report_status, report.status):
        records.update(replace(report, exam_id=exam.id, version=version))
        return []
    status = next_state(REPORT, exam.report_status, report.status, STATUS)
    records.update(replace(report, exam_id=exam.id, version=version, status=status))
    moved = replace(exam, report_status=status)
    if moved != exam:
        records.update(moved)
    told = Event(
        f"report.{status}",
        patient_id=exam.patient_id,
        order_id=exam.order_id,
        exam_id=exam.id,
        report_id=report.id,
        accession=exam.accession,
    )
    return [told, *charges.settle(records, moved, context)]


def key(report: Report) -> str:
    """Return what the report is listed under when its exam is not known."""
    return report.accession or report.placer_number or report.study_uid


def versions(records: Records, listed_under: str) -> list[Report]:
    """Return the reports without an exam that are listed under this key, in the order they came."""
    found: dict[int, Report] = {}
    for name in ("accession", "placer_number", "study_uid"):
        match = {name: listed_under}
        found |= {report.id: report for report in records.find(Report, exam_id=None, **match)}
    return [report for _, report in sorted(found.items()) if key(report) == listed_under]


def _named(records: Records, request: ReceiveReport) -> Exam | None:
    """Return the exam that accession number, else placer number, else Study Instance UID names."""
    exam = records.one(Exam, accession=request.accession) if request.accession else None
    if exam is None and request.placer_number:
        order = numbers.find(records, request.placer_number)
        exam = records.one(Exam, order_id=order.id) if order else None
    if exam is None and request.study_uid:
        exam = records.one(Exam, study_uid=request.study_uid)
    return exam


def _version(request: ReceiveReport, context: RisContext) -> Report:
    patient = request.identifiers[0] if request.identifiers else Identifier("")
    return Report(
        accession=request.accession,
        placer_number=request.placer_number,
        study_uid=request.study_uid,
        sent_patient_id=patient.value,
        sent_issuer=patient.authority,
        status=request.status,
        text=request.text,
        author=request.author,
        diagnoses=request.diagnoses,
        reported_at=request.reported_at or context.now,
        message_id=context.message_id,
    )


def _keep_unmatched(records: Records, report: Report, context: RisContext) -> list[Event]:
    version = len(versions(records, key(report))) + 1
    records.add(replace(report, version=version))
    reason = "no such accession number" if report.accession else "no such order or study"
    return unmatched.listed(records, "report", key(report), report.accession, reason, context)


def latest(records: Records, exam: Exam) -> Report | None:
    """Return the newest version of the exam's report, None when it has none."""
    found = records.find(Report, exam_id=exam.id) if exam.report_status else []
    return found[-1] if found else None
