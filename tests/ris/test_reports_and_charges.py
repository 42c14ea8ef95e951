"""Reports, charges, and the view of an event."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.errors import MessageError
from broker.ris import charges
from broker.ris.entities import Charge, Composite, Exam, Unmatched
from broker.ris.events import Event, Procedure
from broker.ris.view import view


def test_versions_are_kept(ris: Any) -> None:
    exam = ris.place()
    for status in ("preliminary", "final", "corrected", "corrected"):
        (event,) = ris.do(ris.report(status, exam.accession, text=status, author=Composite("9^BAILEY")))
        assert (event.name, event.exam_id, event.accession) == (f"report.{status}", exam.id, exam.accession)
        assert event.report_id == ris.reports(exam)[-1].id
    assert [(one.version, one.status, one.author) for one in ris.reports(exam)] == [
        (1, "preliminary", "9^BAILEY"),
        (2, "final", "9^BAILEY"),
        (3, "corrected", "9^BAILEY"),
        (4, "corrected", "9^BAILEY"),
    ]
    assert ris.exam().report_status == "corrected"


@pytest.mark.parametrize("status", ["final", "corrected"])
def test_preliminary_after_a_signed_one_is_refused(ris: Any, status: str) -> None:
    exam = ris.place()
    ris.do(ris.report(status, exam.accession))
    with pytest.raises(MessageError) as refused:
        ris.do(ris.report("preliminary", exam.accession))
    assert (refused.value.path, refused.value.code) == ("OBR-25", 207)
    assert len(ris.reports(exam)) == 1


def test_final_after_corrected_is_a_correction(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.report("corrected", exam.accession))
    assert ris.told(ris.report("final", exam.accession)) == ["report.corrected"]
    assert [one.status for one in ris.reports(exam)] == ["corrected", "corrected"]


def test_cancelled_and_written_anew(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.report("preliminary", exam.accession))
    assert ris.told(ris.report("cancelled", exam.accession)) == ["report.cancelled"]
    assert ris.told(ris.report("final", exam.accession)) == ["report.final"]


@pytest.mark.parametrize(("sent", "path", "code"), [({"status": "draft"}, "OBR-25", 103), ({"accession": ""}, "OBR-18", 101)])
def test_what_cannot_be_a_report(ris: Any, sent: dict[str, str], path: str, code: int) -> None:
    ris.place(accession="ACC1")
    with pytest.raises(MessageError) as refused:
        ris.do(ris.report(**({"status": "final", "accession": "ACC1"} | sent)))
    assert (refused.value.path, refused.value.code) == (path, code)


@pytest.mark.parametrize("by", ["placer_number", "study_uid"])
def test_found_without_accession_number(ris: Any, by: str) -> None:
    exam = ris.place()
    value = "P1" if by == "placer_number" else exam.study_uid
    assert ris.told(ris.report("final", "", **{by: value})) == ["report.final"]


def test_of_another_patient_is_refused(ris: Any) -> None:
    exam = ris.place()
    ris.register("other")
    with pytest.raises(MessageError) as refused:
        ris.do(ris.report("final", exam.accession, identifiers=ris.person("other").identifiers))
    assert (refused.value.path, refused.value.code) == ("PID-3", 204)
    assert ris.told(ris.report("final", exam.accession, identifiers=ris.person("4711").identifiers)) == ["report.final"]


def test_unknown_is_kept_and_listed_once(ris: Any) -> None:
    (event,) = ris.do(ris.report("preliminary", "NONE"))
    assert (event.name, event.accession, event.reason) == ("unmatched.listed", "NONE", "report: no such accession number")
    assert ris.told(ris.report("final", "NONE")) == []
    assert [(entry.kind, entry.key) for entry in ris.open_entries()] == [("report", "NONE")]
    assert ris.told(ris.report("final", "", placer_number="NOBODY")) == ["unmatched.listed"]


def test_charged_when_both_are_there(ris: Any) -> None:
    exam = ris.place(diagnoses=("R05",))
    assert ris.told(ris.report("final", exam.accession)) == ["report.final"]
    assert ris.perform(exam.accession) == ["exam.started", "exam.completed", "charge.posted"]


def test_charged_when_both_are_there_the_other_way_round(ris: Any) -> None:
    exam = ris.place(diagnoses=("R05",))
    assert ris.perform(exam.accession) == ["exam.started", "exam.completed"]
    assert ris.told(ris.report("preliminary", exam.accession)) == ["report.preliminary"]
    told, posted = ris.do(ris.report("final", exam.accession))
    assert (told.name, posted.name, posted.exam_id, posted.order_id) == ("report.final", "charge.posted", exam.id, exam.order_id)
    charge = ris.records.get(Charge, posted.charge_id)
    assert (charge.exam_id, charge.cpt, charge.modifiers, charge.diagnoses) == (exam.id, "71260", ("TC",), ("R05",))
    assert (charge.quantity, charge.charged_at) == (1, "20260302080000")


def test_charged_once(ris: Any) -> None:
    exam = ris.place()
    ris.perform(exam.accession)
    ris.do(ris.report("final", exam.accession))
    assert ris.told(ris.report("corrected", exam.accession)) == ["report.corrected"]
    assert ris.told(ris.report("cancelled", exam.accession)) == ["report.cancelled"]
    assert ris.told(ris.report("final", exam.accession)) == ["report.final"]
    assert ris.perform(exam.accession, "2.25.2") == []
    assert len(ris.records.find(Charge)) == 1


def test_a_discontinued_exam_is_not_charged(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.start(exam.accession))
    ris.do(ris.end("DISCONTINUED"))
    assert ris.told(ris.report("final", exam.accession)) == ["report.final"]


def test_diagnoses_of_the_latest_signed_report_that_has_any(ris: Any) -> None:
    exam = ris.place(diagnoses=("R05",))
    for status, diagnoses in (("preliminary", ("A00",)), ("final", ("J18.9",)), ("corrected", ())):
        ris.do(ris.report(status, exam.accession, diagnoses=diagnoses))
    ris.perform(exam.accession)
    assert ris.records.one(Charge).diagnoses == ("J18.9",)


def test_view(ris: Any) -> None:
    exam = ris.place()
    ris.perform(exam.accession)
    told, posted = ris.do(ris.report("final", exam.accession, text="fine"))
    seen = view(ris.records, posted, 42)
    assert (seen["event"], seen["message_id"], seen["exam"], seen["order"]) == (posted, 42, ris.exam(), ris.the_order())
    assert (seen["patient"], [row.value for row in seen["identifiers"]]) == (ris.holder("4711"), ["4711"])
    assert (seen["steps"], seen["report"].text, seen["charge"].cpt) == (ris.steps(exam), "fine", "71260")
    assert view(ris.records, told, 42)["report"] == seen["report"]
    assert view(ris.records, told, 42)["charge"] is None


def test_view_of_a_patient_and_of_nothing(ris: Any) -> None:
    ris.register("old")
    ris.merge("new", "old")
    seen = view(ris.records, Event("patient.merged", patient_id=ris.holder("new").id), 1)
    assert ([row.value for row in seen["identifiers"]], seen["order"], seen["exam"], seen["steps"]) == (["new", "old"], None, None, [])
    assert [row.merged_from is not None for row in seen["identifiers"]] == [False, True]
    empty = view(ris.records, Event("unmatched.listed"), 1)
    assert (empty["patient"], empty["identifiers"], empty["report"]) == (None, [], None)


def test_view_finds_order_and_patient_by_the_exam(ris: Any) -> None:
    exam = ris.place()
    seen = view(ris.records, Event("exam.changed", exam_id=exam.id), 1)
    assert (seen["order"], seen["patient"]) == (ris.the_order(), ris.holder("4711"))


def test_view_of_a_cancelled_exam_still_has_its_steps(ris: Any) -> None:
    exam = ris.place()
    *_, cancelled = ris.do(ris.control("cancel"))
    assert [step.exam_id for step in view(ris.records, cancelled, 1)["steps"]] == [exam.id]


def test_view_leaves_out_a_step_that_is_no_longer_planned(ris: Any) -> None:
    two = Procedure("CTTWO", "CT two", "CT", duration=30, steps=(("H", "Head"), ("C", "Chest")))
    ris.place(procedure=two)
    *_, changed = ris.do(ris.control("change", procedure=replace(two, code="CTONE", steps=(("H", "Head"),))))
    assert [step.protocol_code for step in view(ris.records, changed, 1)["steps"]] == ["H"]


def test_what_cannot_be_coded_is_listed_instead_of_charged_and_does_not_hold_up_the_report(ris: Any) -> None:
    exam = ris.place(procedure=Procedure("CTNEW", "CT, new", "CT"))
    ris.perform(exam.accession)
    assert ris.told(ris.report("final", exam.accession)) == ["report.final", "unmatched.listed"]
    assert ris.told(ris.report("corrected", exam.accession)) == ["report.corrected"]
    (entry,) = ris.records.find(Unmatched, resolved_at=None)
    assert (entry.kind, entry.accession, entry.reason) == ("charge", exam.accession, "the procedure has no CPT code")
    assert ris.records.find(Charge) == []


def test_what_could_not_be_coded_is_charged_once_it_can(ris: Any) -> None:
    exam = ris.place(procedure=Procedure("CTNEW", "CT, new", "CT"))
    ris.perform(exam.accession)
    ris.do(ris.report("final", exam.accession))
    ris.records.update(replace(ris.records.get(Exam, exam.id), cpt="71260"))
    assert [event.name for event in charges.settle(ris.records, ris.records.get(Exam, exam.id), ris.context)] == [
        "charge.posted",
        "unmatched.resolved",
    ]
    assert ris.records.find(Unmatched, resolved_at=None) == []
