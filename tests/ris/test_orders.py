"""Orders: new, cancel, discontinue, change, hold, release, arrive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.errors import MessageError
from broker.ris.apply import apply
from broker.ris.entities import Composite, Exam, Step
from broker.ris.events import PatientData, PlaceOrder, Procedure
from broker.ris.states import ORDER

ABDOMEN = Procedure("CTABD", "CT abdomen", "CT", duration=30, cpt="74176")
TWO = Procedure("CTTWO", "CT head and chest", "CT", duration=25, steps=(("H", "Head"), ("C", "Chest")))


def test_new(ris: Any) -> None:
    request = ris.order(requested_at="202603021000", priority="ROUTINE", provider=Composite("7^GREY^MEREDITH"), reason="cough")
    events = ris.do(request)
    exam, order = ris.exam(), ris.the_order()
    assert [event.name for event in events] == ["patient.created", "order.placed", "exam.scheduled"]
    assert {(event.order_id, event.exam_id, event.accession) for event in events[1:]} == {(order.id, exam.id, exam.accession)}
    assert (order.status, order.provider, order.reason, order.procedure_code) == ("SC", "7^GREY^MEREDITH", "cough", "CTCHEST")
    assert (order.filler_number, order.filler_authority) == (exam.accession, "HOSP")
    assert (exam.accession, exam.requested_procedure_id, exam.study_uid) == ("A00000001", "RP00000001", "2.25.1")
    assert (exam.status, exam.cpt, exam.modifiers, exam.scheduled_at) == ("scheduled", "71260", ("TC",), "202603021000")
    (step,) = ris.steps(exam)
    assert (step.sps_id, step.status, step.station, step.room, step.start, step.duration) == (
        "SPS00000001",
        "scheduled",
        "CT1",
        "Room 1",
        "202603021000",
        20,
    )
    assert (step.protocol_code, step.protocol_name, step.modality) == ("CTCHEST", "CT chest", "CT")


def test_steps_share_the_slot(ris: Any) -> None:
    exam = ris.place(procedure=TWO)
    assert [(s.protocol_code, s.start[8:], s.duration, s.station) for s in ris.steps(exam)] == [
        ("H", "0800", 12, "CT1"),
        ("C", "0812", 13, "CT1"),
    ]
    assert len({step.sps_id for step in ris.steps(exam)}) == 2


def test_numbers_given_by_the_placer_are_kept(ris: Any) -> None:
    exam = ris.place(accession="ACC1", requested_procedure_id="RQ1", study_uid="1.2.3", filler_number="F1", filler_authority="RIS")
    assert (exam.accession, exam.requested_procedure_id, exam.study_uid) == ("ACC1", "RQ1", "1.2.3")
    assert (ris.the_order().filler_number, ris.the_order().filler_authority) == ("F1", "RIS")


def test_a_generated_accession_number_leaves_out_those_taken(ris: Any) -> None:
    ris.place("P1", accession="A00000001")
    assert ris.place("P2").accession == "A00000002"


@pytest.mark.parametrize(
    ("second", "path", "code"),
    [
        ({}, "ORC-2", 205),
        ({"placer": "P2", "accession": "ACC1"}, "OBR-18", 205),
        ({"placer": "P2", "accession": "A" * 17}, "OBR-18", 102),
        ({"placer": "P2", "filler_number": "F1"}, "ORC-3", 205),
        ({"placer": "P2", "patient": "other", "study_uid": "1.2.3"}, "ZDS-1", 205),
        ({"placer": ""}, "ORC-2", 101),
        ({"placer": "P2", "procedure": None}, "OBR-4", 101),
        ({"placer": "P2", "patient": ""}, "PID-3", 101),
    ],
)
def test_what_is_refused_leaves_nothing(ris: Any, second: dict[str, Any], path: str, code: int) -> None:
    ris.place("P1", accession="ACC1", filler_number="F1", study_uid="1.2.3")
    with pytest.raises(MessageError) as refused:
        ris.do(ris.order(**second))
    assert (refused.value.path, refused.value.code) == (path, code)
    assert len(ris.records.find(Exam)) == len(ris.records.find(Step)) == 1


def test_placer_numbers_of_two_placers_are_two_orders(ris: Any) -> None:
    first = ris.place("P1", placer_authority="EHR1")
    ris.do(ris.order("P1", placer_authority="EHR2"))
    assert ris.told(ris.control("cancel", placer_authority="EHR2")) == ["order.cancelled", "exam.cancelled"]
    assert ris.records.get(Exam, first.id).status == "scheduled"


def test_a_placer_number_without_authority_must_be_the_only_one(ris: Any) -> None:
    ris.place("P1", placer_authority="EHR1")
    assert ris.told(ris.control("hold")) == ["order.held"]
    ris.do(ris.order("P1", placer_authority="EHR2"))
    with pytest.raises(MessageError) as refused:
        ris.do(ris.control("release"))
    assert (refused.value.path, refused.value.code) == ("ORC-2", 204)


@pytest.mark.parametrize("action", ["cancel", "discontinue", "change", "hold", "release", "arrive"])
def test_unknown_order(ris: Any, action: Any) -> None:
    with pytest.raises(MessageError) as refused:
        ris.do(ris.control(action))
    assert (refused.value.path, refused.value.code) == ("ORC-2", 204)


def test_filler_number_instead_of_placer_number(ris: Any) -> None:
    exam = ris.place()
    request = PlaceOrder("cancel", ris.person(), "", filler_number=exam.accession)
    assert ris.told(request) == ["order.cancelled", "exam.cancelled"]
    with pytest.raises(MessageError) as refused:
        ris.do(replace(request, filler_number="none"))
    assert (refused.value.path, refused.value.code) == ("ORC-3", 204)
    with pytest.raises(MessageError) as refused:
        ris.do(replace(request, filler_number=""))
    assert (refused.value.path, refused.value.code) == ("ORC-2", 101)


def test_placer_and_filler_number_of_two_orders(ris: Any) -> None:
    ris.place("P1")
    other = ris.place("P2")
    with pytest.raises(MessageError) as refused:
        ris.do(ris.control("cancel", filler_number=other.accession))
    assert (refused.value.path, refused.value.code) == ("ORC-3", 204)


def test_an_order_raised_here_learns_its_placer_number(ris: Any) -> None:
    ris.do(ris.order("", filler_number="F1"))
    ris.do(ris.control("change", "P9", filler_number="F1"))
    assert ris.the_order("P9").filler_number == "F1"


def test_cancel(ris: Any) -> None:
    exam = ris.place()
    events = ris.do(ris.control("cancel"))
    assert [(event.name, event.reason) for event in events] == [("order.cancelled", "cancel"), ("exam.cancelled", "cancel")]
    assert (ris.the_order().status, ris.exam().status) == ("CA", "cancelled")
    assert [step.status for step in ris.steps(exam)] == ["cancelled"]
    assert ris.told(ris.control("cancel")) == []


def test_cancel_of_a_begun_exam_is_refused_but_discontinue_is_not(ris: Any) -> None:
    exam = ris.place(procedure=TWO)
    ris.do(ris.start(exam.accession, sps_id=ris.steps(exam)[0].sps_id))
    with pytest.raises(MessageError) as refused:
        ris.do(ris.control("cancel"))
    assert (refused.value.path, refused.value.code) == ("ORC-1", 207)
    assert ris.told(ris.control("discontinue")) == ["order.cancelled", "exam.discontinued"]
    assert (ris.the_order().status, ris.exam().status) == ("DC", "discontinued")
    assert [step.status for step in ris.steps(exam)] == ["discontinued", "cancelled"]


def test_discontinue_before_anything_began_cancels_the_exam(ris: Any) -> None:
    ris.place()
    assert ris.told(ris.control("discontinue")) == ["order.cancelled", "exam.cancelled"]
    assert (ris.the_order().status, ris.exam().status) == ("DC", "cancelled")


@pytest.mark.parametrize("action", ["cancel", "discontinue", "change", "hold", "release", "arrive"])
def test_another_patient_is_refused(ris: Any, action: Any) -> None:
    ris.place()
    ris.register("other")
    for patient in ("other", "nobody"):
        with pytest.raises(MessageError) as refused:
            ris.do(ris.control(action, patient=patient))
        assert (refused.value.path, refused.value.code) == ("PID-3", 204)


def test_without_identifiers_the_order_number_is_enough(ris: Any) -> None:
    ris.place()
    assert ris.told(PlaceOrder("hold", PatientData(()), "P1")) == ["order.held"]


def test_an_order_brings_the_patient_up_to_date(ris: Any) -> None:
    ris.register("4711", family="DOE")
    request = replace(ris.order(), patient=ris.person("4711", family="ROE"))
    assert ris.told(request) == ["patient.updated", "order.placed", "exam.scheduled"]
    assert ris.holder("4711").family == "ROE"


def test_change_of_details_keeps_the_slot(ris: Any) -> None:
    ris.place(requested_at="202603021000", reason="cough", diagnoses=("R05",))
    before = ris.steps(ris.exam())
    assert ris.told(ris.control("change", reason='""', provider=Composite("8^YANG"))) == ["order.changed", "exam.changed"]
    order = ris.the_order()
    assert (order.reason, order.provider, order.diagnoses) == ("", "8^YANG", ("R05",))
    assert ris.steps(ris.exam()) == before


def test_change_of_time_moves_the_step(ris: Any) -> None:
    before = ris.place(requested_at="202603021000")
    ris.do(ris.control("change", requested_at="202603031100"))
    after = ris.exam()
    assert (after.scheduled_at, after.accession, after.study_uid) == ("202603031100", before.accession, before.study_uid)
    assert [(step.sps_id, step.start, step.status) for step in ris.steps(after)] == [("SPS00000001", "202603031100", "scheduled")]


def test_change_gives_the_old_slot_back(ris: Any) -> None:
    ris.stations = ris.stations[:1]
    ris.place("P1", requested_at="202603021000")
    ris.do(ris.control("change", requested_at="202603021005"))  # would overlap its own old slot
    assert ris.exam().scheduled_at == "202603021005"
    assert ris.place("P2", requested_at="202603020945").scheduled_at == "202603020945"


def test_change_to_stat_moves_forward(ris: Any) -> None:
    ris.place(requested_at="202603051000", priority="ROUTINE")
    ris.do(ris.control("change", priority="STAT"))
    assert (ris.exam().scheduled_at, ris.exam().priority) == ("202603020800", "STAT")


def test_change_of_procedure(ris: Any) -> None:
    ris.place(requested_at="202603021000")
    ris.do(ris.control("change", procedure=TWO))
    exam = ris.exam()
    assert (exam.procedure_code, ris.the_order().procedure_code) == ("CTTWO", "CTTWO")
    assert [(s.sps_id, s.protocol_code, s.start) for s in ris.steps(exam)] == [
        ("SPS00000001", "H", "202603021000"),
        ("SPS00000002", "C", "202603021012"),
    ]
    ris.do(ris.control("change", procedure=ABDOMEN))
    assert [(s.sps_id, s.status, s.duration) for s in ris.steps(exam)] == [
        ("SPS00000001", "scheduled", 30),
        ("SPS00000002", "cancelled", 13),
    ]


def test_change_of_a_begun_exam_keeps_its_steps(ris: Any) -> None:
    exam = ris.place(requested_at="202603021000")
    ris.do(ris.start(exam.accession))
    before = ris.steps(exam)
    ris.do(ris.control("change", procedure=ABDOMEN, requested_at="202603031000"))
    assert (ris.exam().cpt, ris.exam().status) == ("74176", "in_progress")
    assert ris.steps(exam) == before


def test_change_of_a_completed_order_is_refused(ris: Any) -> None:
    ris.perform(ris.place().accession)
    with pytest.raises(MessageError) as refused:
        ris.do(ris.control("change", reason="late"))
    assert (refused.value.path, refused.value.code) == ("ORC-1", 207)


@pytest.mark.parametrize(("field", "path"), [("accession", "OBR-18"), ("study_uid", "ZDS-1")])
def test_accession_number_and_study_never_change(ris: Any, field: str, path: str) -> None:
    exam = ris.place()
    ris.do(ris.control("change", **{field: getattr(exam, field)}))
    with pytest.raises(MessageError) as refused:
        ris.do(ris.control("change", **{field: "9.9"}))
    assert (refused.value.path, refused.value.code) == (path, 204)


def test_change_to_another_station(ris: Any) -> None:
    ris.place(requested_at="202603021000")
    ris.do(ris.control("change", station="CT2"))
    assert [(step.station, step.start) for step in ris.steps(ris.exam())] == [("CT2", "202603021000")]
    ris.do(ris.control("change", station="ELSEWHERE"))
    assert [(step.station, step.start) for step in ris.steps(ris.exam())] == [("CT2", "202603021000")]


def test_hold_and_release(ris: Any) -> None:
    ris.place(requested_at="202603021000")
    assert ris.told(ris.control("hold")) == ["order.held"]
    assert (ris.the_order().status, ris.exam().status) == ("HD", "on_hold")
    assert ris.told(ris.control("hold")) == []
    assert ris.told(ris.control("release")) == ["order.released"]
    assert (ris.the_order().status, ris.exam().status, ris.exam().scheduled_at) == ("SC", "scheduled", "202603021000")
    with pytest.raises(MessageError):
        ris.do(ris.control("release"))


def test_release_after_the_slot_has_passed_gives_a_new_one(ris: Any) -> None:
    ris.place(requested_at="202603020900")
    ris.do(ris.control("hold"))
    ris.later(hours=3)
    assert ris.told(ris.control("release")) == ["order.released", "exam.changed"]
    assert ris.exam().scheduled_at == ris.steps(ris.exam())[0].start == "202603021100"


def test_arrive(ris: Any) -> None:
    exam = ris.place()
    assert ris.told(ris.control("arrive")) == ["exam.arrived"]
    assert ris.told(ris.control("arrive")) == []
    assert (ris.exam().status, ris.the_order().status, ris.steps(exam)[0].status) == ("arrived", "SC", "arrived")


def test_orders_of_a_group_are_orders_of_their_own(ris: Any) -> None:
    exams = [ris.place(placer, group_number="G1") for placer in ("P1", "P2")]
    assert exams[0].accession != exams[1].accession
    assert {ris.the_order(placer).group_number for placer in ("P1", "P2")} == {"G1"}


@pytest.mark.parametrize("action", sorted({event for _, event in ORDER if event in {"cancel", "discontinue", "change", "hold", "release"}}))
@pytest.mark.parametrize("before", [(), ("hold",), ("cancel",), ("discontinue",)])
def test_what_the_table_refuses_is_refused(ris: Any, before: tuple[Any, ...], action: Any) -> None:
    ris.place()
    for step in before:
        ris.do(ris.control(step))
    state = ris.the_order().status
    if (state, action) in ORDER:
        ris.do(ris.control(action))
        assert ris.the_order().status == ORDER[state, action]
        return
    with pytest.raises(MessageError) as refused:
        ris.do(ris.control(action))
    assert refused.value.path == "ORC-1"


def test_formats_that_give_too_long_numbers_are_told(ris: Any) -> None:
    for field in ("accession_format", "procedure_format", "step_format"):
        context = replace(ris.context, **{field: "X" * 16 + "{number}"})
        with pytest.raises(MessageError), ris.tx.savepoint():
            apply(ris.records, ris.order(), context)
    assert ris.records.find(Exam) == []


@pytest.mark.parametrize("uid", ["STUDY-1", "1", "1.2.", "1..2", "1.2 3", "1." + "2" * 63])
def test_a_study_that_is_no_uid_is_refused(ris: Any, uid: str) -> None:
    with pytest.raises(MessageError) as refused:
        ris.do(ris.order(study_uid=uid))
    assert (refused.value.path, refused.value.code) == ("ZDS-1", 102)


def test_a_requested_procedure_id_fits_an_sh(ris: Any) -> None:
    assert ris.place("P1", requested_procedure_id="R" * 16).requested_procedure_id == "R" * 16
    with pytest.raises(MessageError) as refused:
        ris.do(ris.order("P2", requested_procedure_id="R" * 17))
    assert (refused.value.path, refused.value.code) == ("OBR-19", 102)
