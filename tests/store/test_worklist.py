"""The look-up of worklist entries, on every engine: which rows, in which order, and by which index."""

from __future__ import annotations

from typing import Any

import pytest

from broker.ris.entities import Exam, Order, Patient, PatientIdentifier, Step
from broker.ris.worklist import LISTED, WorklistQuery
from broker.store import worklist
from broker.store.engine import Transaction
from broker.store.records import RecordStore


@pytest.fixture
def plan(store: Any) -> Any:
    """Six steps: E1 to E3 on CT1, E4 and E5 on MR1, E6 on CT2; E2 has arrived, E5 has begun, the exam of E6 is on hold."""

    def fill(tx: Transaction) -> None:
        records = RecordStore(tx)
        states = {"E2": ("arrived", "arrived"), "E5": ("in_progress", "started"), "E6": ("on_hold", "scheduled")}
        for number in range(1, 7):
            name = f"E{number}"
            patient = records.add(Patient(family=name, allergies=("Nuts", "Iodine")))
            for value, type_ in ((f"X{number}", "PI"), (f"P{number}", "MR")):
                records.add(PatientIdentifier(patient_id=patient.id, value=value, authority="HOSP", type=type_))
            records.add(PatientIdentifier(patient_id=patient.id, value=f"OLD{number}", authority="HOSP", merged_from=9))
            order = records.add(Order(patient_id=patient.id, placer_number=name))
            exam_state, step_state = states.get(name, ("scheduled", "scheduled"))
            exam = Exam(order_id=order.id, patient_id=patient.id, accession=f"A{number}", study_uid=f"1.{number}", status=exam_state)
            station = "CT2" if number == 6 else "MR1" if number > 3 else "CT1"
            records.add(
                Step(
                    exam_id=records.add(exam).id,
                    sps_id=f"S{number}",
                    status=step_state,
                    modality=station[:2],
                    station=station,
                    start=f"20260302{9 + number // 2:02d}00",
                )
            )

    store.run(fill)
    return store


def found(store: Any, after: worklist.Place = worklist.BEGINNING, count: int = 100, **keys: Any) -> list[str]:
    rows = store.run(worklist.page, WorklistQuery(**keys), after, count)
    return [worklist.entry(*row).order.placer_number for row in rows]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "E1 E2 E3 E4"),
        ({"states": LISTED}, "E1 E2 E3 E4 E5"),
        ({"station": "CT1"}, "E1 E2 E3"),
        ({"station": "CT1\\MR1", "states": ("scheduled",)}, "E1 E3 E4"),
        ({"modality": "MR", "states": LISTED}, "E4 E5"),
        ({"station": "CT1", "modality": "MR"}, ""),
        ({"station": "CT?"}, "E1 E2 E3 E4"),  # a wildcard is for the filters
        ({"date_low": "20260303"}, ""),
        ({"date_low": "20260302", "date_high": "20260302", "time_low": "1000", "time_high": "1059"}, "E2 E3"),
        ({"accession": "A3"}, "E3"),
        ({"study_uid": "1.2\\1.4\\1.9"}, "E2 E4"),
        ({"study_uid": "1.2\\1.4", "modality": "MR"}, "E4"),
        ({"sps_id": "S4"}, "E4"),
        ({"sps_id": "S4", "station": "CT1"}, ""),
        ({"patient_id": "P2"}, "E2"),
        ({"patient_id": "OLD2"}, "E2"),
        ({"patient_id": "P2", "issuer": "HOSP"}, "E2"),
        ({"patient_id": "P2", "issuer": "CLINIC"}, ""),
        ({"accession": "A6"}, ""),
        ({"first_day": "20260303"}, ""),
        ({"date_low": "20260301", "date_high": "20260303", "first_day": "20260302", "last_day": "20260302"}, "E1 E2 E3 E4"),
    ],
)
def test_exact_keys_and_spans_are_looked_up(plan: Any, keys: dict[str, Any], expected: str) -> None:
    assert found(plan, **keys) == expected.split()


def test_pages_follow_one_another(plan: Any) -> None:
    pages, after = [], worklist.BEGINNING
    while rows := plan.run(worklist.page, WorklistQuery(), after, 1):
        pages.append(worklist.entry(*rows[0][:2]).order.placer_number)
        after = worklist.place_of(rows[-1][0])
    assert pages == ["E1", "E2", "E3", "E4"]  # E2 and E3 begin at the same time


def test_an_entry_has_all_that_surrounds_the_step(plan: Any) -> None:
    ((row, identifiers),) = plan.run(worklist.page, WorklistQuery(accession="A1"), worklist.BEGINNING, 5)
    entry = worklist.entry(row, identifiers)
    assert (entry.patient.family, entry.patient.allergies) == ("E1", ("Nuts", "Iodine"))
    assert [one.value for one in entry.identifiers] == ["P1", "X1"]  # the medical record number first, none that is retired
    assert (entry.exam.accession, row[worklist.ACCESSION]) == ("A1", "A1")
    assert (entry.step.sps_id, row[worklist.STEP_ID]) == ("S1", entry.step.id)


@pytest.mark.parametrize(
    ("keys", "index"),
    [
        ({"station": "CT1", "date_low": "20260302", "date_high": "20260302"}, "steps_worklist"),
        ({"modality": "CT", "date_low": "20260302", "date_high": "20260302"}, "steps_modality"),
        ({"date_low": "20260302"}, "steps_status"),
        ({"accession": "A1"}, "exams_accession"),
        ({"study_uid": "1.1"}, "exams_study"),
        ({"requested_procedure_id": "R1"}, "exams_procedure"),
        ({"patient_id": "P1"}, "exams_patient"),
        ({"sps_id": "S1"}, "steps_sps"),
    ],
)
def test_the_narrowest_key_has_an_index(harness: Any, keys: dict[str, str], index: str) -> None:
    asked: list[tuple[str, Any]] = []

    class Asked:
        def all(self, sql: str, params: Any) -> list[Any]:
            asked.append((sql, params))
            return []

    worklist.page(Asked(), WorklistQuery(**keys), worklist.BEGINNING, 10)  # type: ignore[arg-type]
    harness.db = harness.open(":memory:")
    for sql, params in asked:
        steps = [row[3] for row in harness.run(lambda tx, sql=sql, params=params: tx.all(f"explain query plan {sql}", params))]
        assert any(index in step for step in steps[:2]), steps
        assert not any(step.startswith("SCAN") for step in steps), steps
        if index in ("steps_worklist", "steps_modality", "steps_status"):  # these give the order too
            assert not any("TEMP B-TREE" in step for step in steps), steps


def test_many_stations_are_looked_up_at_once(plan: Any) -> None:
    stations = "\\".join(f"XX{number}" for number in range(worklist.MOST_PARTS)) + "\\CT1\\MR1"
    assert found(plan, station=stations, states=LISTED) == found(plan, station="CT1\\MR1", states=LISTED) == ["E1", "E2", "E3", "E4", "E5"]
