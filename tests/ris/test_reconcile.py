"""What comes before its order is tied to it afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from broker.ris.entities import Instance, Performed, Report, Unmatched


def test_images_by_accession_number(ris: Any) -> None:
    ris.do(ris.image("1"))
    ris.do(ris.image("2", accession="ACC1"))
    events = ris.do(ris.order(accession="ACC1"))
    assert [event.name for event in events] == [
        "patient.created",
        "order.placed",
        "exam.scheduled",
        "unmatched.resolved",
        "study.stored",
    ]
    exam = ris.exam()
    assert (exam.images, events[3].reason, events[3].exam_id) == (2, "images", exam.id)
    assert {instance.exam_id for instance in ris.records.find(Instance)} == {exam.id}
    assert ris.open_entries() == []
    (entry,) = ris.records.find(Unmatched)
    assert (entry.exam_id, entry.resolved_at) == (exam.id, ris.time.timestamp())


def test_images_by_study(ris: Any) -> None:
    ris.do(ris.image("1"))
    assert ris.told(ris.order(study_uid="2.25.555"))[-2:] == ["unmatched.resolved", "study.stored"]


def test_images_of_another_patient_stay_listed(ris: Any) -> None:
    ris.register("other")
    ris.do(ris.image("1", accession="ACC1", patient="other"))
    ris.do(ris.image("2", accession="ACC1"))
    assert "unmatched.resolved" not in ris.told(ris.order(accession="ACC1"))
    assert ris.exam().images == 1
    assert [entry.reason for entry in ris.open_entries()] == ["patient differs"]


def test_images_of_another_accession_number_stay_listed(ris: Any) -> None:
    ris.do(ris.image("1", accession="ACC1"))
    ris.do(ris.image("2", accession="ACC2"))
    ris.do(ris.order("P1", accession="ACC1"))
    assert (ris.exam("P1").images, len(ris.open_entries())) == (1, 1)


def test_a_merge_brings_the_images_home(ris: Any) -> None:
    exam = ris.place()
    ris.register("other")
    ris.do(ris.image("1", exam.study_uid, exam.accession, patient="other"))
    assert ris.merge("4711", "other") == ["patient.merged", "unmatched.resolved", "study.stored"]
    assert ris.open_entries() == []


def test_performed_step(ris: Any) -> None:
    ris.do(ris.start("ACC1"))
    assert ris.told(ris.order(accession="ACC1"))[-2:] == ["unmatched.resolved", "exam.started"]
    assert ris.told(ris.end()) == ["exam.completed"]
    assert ris.the_order().status == "CM"


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_performed_step_that_has_ended(ris: Any, status: str) -> None:
    ris.do(ris.start("", study_uid="1.2.3"))
    ris.do(ris.end(status))
    told = ris.told(ris.order(study_uid="1.2.3"))
    assert told[-4:] == ["unmatched.resolved", "exam.started", f"exam.{status.lower()}", "exam.replaced"]
    assert ris.records.one(Performed, uid="2.25.9001").exam_id == ris.exam().id


def test_performed_step_of_another_patient_stays_listed(ris: Any) -> None:
    ris.register("other")
    ris.do(ris.start("ACC1", patient_id="other"))
    assert "unmatched.resolved" not in ris.told(ris.order(accession="ACC1"))
    assert ris.exam().status == "scheduled"


@pytest.mark.parametrize(
    ("sent", "ordered"),
    [
        ({"accession": "ACC1"}, {"accession": "ACC1"}),
        ({"placer_number": "P1"}, {}),
        ({"accession": "WRONG", "placer_number": "P1"}, {}),
        ({"study_uid": "1.2.3"}, {"study_uid": "1.2.3"}),
    ],
)
def test_report(ris: Any, sent: dict[str, str], ordered: dict[str, str]) -> None:
    ris.do(ris.report("preliminary", text="one", **sent))
    ris.do(ris.report("final", text="two", **sent))
    assert [report.version for report in ris.records.find(Report, exam_id=None)] == [1, 2]
    assert ris.told(ris.order(**ordered))[-3:] == ["unmatched.resolved", "report.preliminary", "report.final"]
    exam = ris.exam()
    assert exam.report_status == "final"
    assert [(report.version, report.text) for report in ris.reports(exam)] == [(1, "one"), (2, "two")]
    assert ris.open_entries() == []


def test_reports_out_of_order_are_versions_that_move_nothing(ris: Any) -> None:
    ris.do(ris.report("final", "ACC1"))
    ris.do(ris.report("preliminary", "ACC1"))
    assert ris.told(ris.order(accession="ACC1"))[-2:] == ["unmatched.resolved", "report.final"]
    assert (ris.exam().report_status, len(ris.reports(ris.exam()))) == ("final", 2)


def test_report_of_another_patient_stays_listed(ris: Any) -> None:
    ris.register("other")
    ris.do(ris.report("final", "ACC1", identifiers=ris.person("other").identifiers))
    assert "unmatched.resolved" not in ris.told(ris.order(accession="ACC1"))
    assert ris.exam().report_status == ""


def test_everything_before_the_order(ris: Any) -> None:
    ris.do(ris.start("ACC1"))
    ris.do(ris.image("1", accession="ACC1"))
    ris.do(ris.end())
    ris.do(ris.report("final", "ACC1"))
    assert ris.told(ris.order(accession="ACC1")) == [
        "patient.created",
        "order.placed",
        "exam.scheduled",
        "unmatched.resolved",
        "exam.started",
        "exam.completed",
        "unmatched.resolved",
        "study.stored",
        "unmatched.resolved",
        "report.final",
        "charge.posted",
    ]


def test_resolved_once(ris: Any) -> None:
    ris.do(ris.image("1", accession="ACC1"))
    ris.do(ris.order("P1", accession="ACC1"))
    assert "unmatched.resolved" not in ris.told(ris.order("P2"))
    assert ris.told(ris.image("2", accession="ACC1")) == []
    assert ris.exam("P1").images == 2
