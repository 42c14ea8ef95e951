"""The RIS state a case begins with."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from broker.pipeline.recorded import Recorded, read_recorded
from broker.pipeline.shape import Mistakes
from broker.ris.entities import Charge, Composite, Exam, Order, Patient, PatientIdentifier, Report, Step
from broker.ris.events import Event

WHOLE = {
    "patient": {"identifiers": "4711^^^GENHOSP^MR~99^^^NAT&1.2&ISO^NI", "family": "DOE", "address": "1 HIGH ST^^SPRINGFIELD"},
    "order": {"placer_number": "P1", "diagnoses": ["R05", "J18.9"]},
    "exam": {"accession": "A1", "status": "completed", "images": 3},
    "steps": [{"station": "CT1", "duration": 20}, {"station": "CT2"}],
    "report": {"status": "final"},
    "charge": {"cpt": 71260},
}


class Kept:
    """Records that are only added."""

    def __init__(self) -> None:
        self.added: list[Any] = []

    def add(self, entity: Any) -> Any:
        entity = dataclasses.replace(entity, id=len(self.added) + 1)
        self.added.append(entity)
        return entity


def read(value: Any) -> tuple[Recorded, list[str]]:
    mistakes = Mistakes()
    recorded = read_recorded(value, mistakes)
    return recorded, [f"{'.'.join(map(str, one.place))}: {one.what} ({one.instead})" for one in mistakes.found]


def test_records_are_written_and_point_to_each_other() -> None:
    recorded, wrong = read(WHOLE)
    assert wrong == []
    store: Any = Kept()
    event = recorded.write(store, "charge.posted")
    assert store.added == [
        Patient(1, family="DOE", address=Composite("1 HIGH ST^^SPRINGFIELD")),
        PatientIdentifier(2, 1, "4711", "GENHOSP", "MR"),
        PatientIdentifier(3, 1, "99", "NAT", "NI"),
        Order(4, 1, "P1", diagnoses=("R05", "J18.9")),
        Exam(5, 4, 1, "A1", status="completed", images=3),
        Step(6, 5, station="CT1", duration=20),
        Step(7, 5, station="CT2"),
        Report(8, 5, status="final", version=1),
        Charge(9, 5, "71260"),
    ]
    assert event == Event("charge.posted", patient_id=1, order_id=4, exam_id=5, report_id=8, charge_id=9, accession="A1")


def test_an_exam_may_stand_alone() -> None:
    recorded, wrong = read({"exam": {"accession": "A1"}})
    assert wrong == []
    store: Any = Kept()
    assert recorded.write(store).exam_id == 1
    assert store.added == [Exam(1, None, None, "A1")]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"exams": {}}, "exams: there is no record exams (did you mean exam?)"),
        ({"exam": {"acession": "A1"}}, "exam.acession: exam has no field acession (did you mean accession?)"),
        ({"exam": {"id": 5}}, "exam.id: exam has no field id"),
        ({"exam": {"images": "many"}}, "exam.images: not a value of images (write a number)"),
        ({"exam": {"status": ["a"]}}, "exam.status: not a value of status (write a text)"),
        ({"exam": "A1"}, "exam: fields and their values are needed here"),
        ({"report": {"status": "final"}}, "report: report without the exam they belong to"),
        ({"steps": [{"station": "CT1"}]}, "steps: steps without the exam they belong to"),
        ({"patient": {"identifier": "4711"}}, "patient.identifier: patient has no field identifier (did you mean identifiers?)"),
    ],
)
def test_a_mistake_is_told_with_its_place(value: Any, said: str) -> None:
    _, wrong = read(value)
    assert any(line.startswith(said) for line in wrong), wrong
