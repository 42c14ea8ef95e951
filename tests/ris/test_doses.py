"""Doses of exams."""

from __future__ import annotations

from typing import Any

from broker.ris import doses
from broker.ris.entities import Dose
from broker.ris.events import DoseReading

SR = "1.2.840.10008.5.1.4.1.1.88.67"


def report(ris: Any, uid: str, *readings: DoseReading, **fields: Any) -> Any:
    exam = ris.exam()
    sent = {"sop_class": SR, "doses": readings, **fields}
    return ris.image(uid, exam.study_uid, exam.accession, **sent)


def event(uid: str, dlp: float, ctdivol: float = 1.0) -> DoseReading:
    return DoseReading(uid, modality="CT", ctdivol=ctdivol, phantom="113691", dlp=dlp, exposures=1)


def test_a_report_is_told_and_kept_with_the_exam(ris: Any) -> None:
    exam = ris.place()
    total = DoseReading(scope=exam.study_uid, modality="CT", dlp=30.0, exposures=2)
    told = ris.do(report(ris, "1.5.1", total, event("1.6.1", 10.0), event("1.6.2", 20.0, 5.25)))
    assert [(one.name, one.reason) for one in told][-1] == ("dose.recorded", "RDSR: CTDIvol 5.25 mGy, DLP 30 mGy.cm, 2 exposures")
    kept = ris.records.find(Dose, exam_id=exam.id)
    assert [(one.event_uid, one.dlp) for one in kept] == [("", 30.0), ("1.6.1", 10.0), ("1.6.2", 20.0)]
    assert {one.report_uid for one in kept} == {"1.5.1"}


def test_an_event_counts_once_whoever_reports_it(ris: Any) -> None:
    exam = ris.place()
    ris.do(report(ris, "1.5.1", event("1.6.1", 10.0)))
    ris.do(report(ris, "1.5.2", event("1.6.1", 10.0), event("1.6.2", 5.0)))
    assert doses.of_exam(ris.records, exam).dlp == "15"
    assert doses.of_exam(ris.records, exam).exposures == "2"


def test_the_same_report_again_adds_nothing(ris: Any) -> None:
    ris.place()
    one = report(ris, "1.5.1", DoseReading(dlp=10.0))
    assert "dose.recorded" in ris.told(one)
    assert ris.told(one) == []
    assert len(ris.records.find(Dose)) == 1


def test_a_later_total_of_the_same_scope_takes_the_place_of_the_first(ris: Any) -> None:
    exam = ris.place()
    ris.do(report(ris, "1.5.1", DoseReading(scope="9.1", dlp=10.0, exposures=1)))
    ris.do(report(ris, "1.5.2", DoseReading(scope="9.1", dlp=25.0, exposures=2)))
    ris.do(report(ris, "1.5.3", DoseReading(scope="9.2", dlp=5.0, exposures=1)))
    found = doses.of_exam(ris.records, exam)
    assert (found.dlp, found.exposures) == ("30", "3")
    ris.do(report(ris, "1.5.4", DoseReading(scope=exam.study_uid, dlp=31.0, exposures=3)))  # of the whole study
    assert doses.of_exam(ris.records, exam).dlp == "31"


def test_a_report_goes_before_what_the_mpps_says(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.start(exam.accession))
    told = ris.do(ris.end(dose=DoseReading(modality="CT", dap=0.5, exposures=9)))
    assert [(one.name, one.reason) for one in told][-1] == ("dose.recorded", "MPPS: DAP 0.5 Gy.m2, 9 exposures")
    assert doses.of_exam(ris.records, exam) == doses.ExamDose("MPPS", dap="0.5", exposures="9")
    ris.do(report(ris, "1.5.1", DoseReading(dap=0.4, entrance=2.0, glandular=1.5)))
    assert doses.of_exam(ris.records, exam) == doses.ExamDose("RDSR", dap="0.4", entrance="2", glandular="1.5")


def test_two_performed_steps_are_added(ris: Any) -> None:
    exam = ris.place()
    for uid in ("2.25.1", "2.25.2"):
        ris.do(ris.start(exam.accession, uid))
        ris.do(ris.end(uid=uid, dose=DoseReading(dap=0.25)))
    assert doses.of_exam(ris.records, exam).dap == "0.5"


def test_what_comes_before_its_order_is_tied_with_it(ris: Any) -> None:
    ris.do(ris.image("1.5.1", "1.2.77", "LATE", sop_class=SR, doses=(DoseReading(dlp=10.0),)))
    assert [one.exam_id for one in ris.records.find(Dose)] == [None]
    told = ris.told(ris.order(accession="LATE"))
    assert "dose.recorded" in told
    assert doses.of_exam(ris.records, ris.exam()).dlp == "10"


def test_the_dose_of_an_unscheduled_exam_goes_with_it(ris: Any) -> None:
    ris.do(ris.start(study_uid="1.2.77"))
    ris.do(ris.end(dose=DoseReading(dap=0.5)))
    ris.do(ris.order(study_uid="1.2.77"))
    assert doses.of_exam(ris.records, ris.exam()).dap == "0.5"


def test_what_cannot_be_taken_is_listed(ris: Any) -> None:
    exam = ris.place()
    assert ris.told(report(ris, "1.5.1", dose_fault="dap (122130): its unit is none of Gy.m2"))[-1] == "unmatched.listed"
    ris.do(ris.start(exam.accession))
    ris.do(ris.end(dose_fault="the dose is no number"))
    assert [(one.kind, one.key) for one in ris.open_entries()] == [("dose", "1.5.1"), ("dose", "2.25.9001")]
    assert ris.records.find(Dose) == []
    ris.merge("4711", "4712")  # looks at the list again
    assert len(ris.open_entries()) == 2


def test_no_dose_is_no_figures(ris: Any) -> None:
    assert doses.of_exam(ris.records, ris.place()) == doses.ExamDose()
    assert doses.described(doses.ExamDose(), "MPPS") == "MPPS: no figures"
