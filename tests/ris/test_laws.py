"""Whatever peers send, in whatever order, the laws of the department hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from broker.errors import MessageError
from broker.ris import times
from broker.ris.context import Station
from broker.ris.entities import Charge, Exam, Instance, Order, Patient, PatientIdentifier, Performed, Report, Step, Unmatched
from broker.ris.events import Event, MergePatients, Procedure, ScheduledItem, SeriesMade
from broker.ris.performed import open_items
from broker.ris.schedule import BUSY
from broker.ris.states import TABLES

PATIENTS = st.sampled_from(["a", "b", "c", "a@X"])
PLACERS = st.sampled_from([f"P{number}" for number in range(6)])
ACCESSIONS = st.sampled_from(["", "", "ACC1", "ACC2", "A00000001", "A00000002"])
STUDIES = st.sampled_from(["", "", "1.2.1", "1.2.2", "2.25.1", "2.25.2"])
MPPS = st.sampled_from([f"1.9.{number}" for number in range(6)])
PROCEDURES = st.sampled_from(
    [
        Procedure("CTCHEST", "CT chest", "CT", 20, "71260"),
        Procedure("CTTWO", "CT two", "CT", 45, "74177", steps=(("H", "Head"), ("C", "Chest"))),
        Procedure("PET", "PET", "PT", 60, "78815"),
    ]
)
ACTIONS = st.sampled_from(["cancel", "discontinue", "change", "hold", "release", "arrive"])
TIMES = st.sampled_from(["", "202603020800", "202603020810", "202603021750", "20260303", "junk"])


def machine(world: Any) -> type[RuleBasedStateMachine]:
    """A department that is sent anything; `world` makes a fresh one."""

    class Department(RuleBasedStateMachine):
        @initialize()
        def open(self) -> None:
            self.ris = world(stations=(Station("CT1", "CT"), Station("CT2", "CT", opens="0900")))
            self.told: list[Event] = []
            self.refused: list[tuple[str, str]] = []

        def teardown(self) -> None:
            if hasattr(self, "ris"):
                self.ris.close()

        def send(self, request: Any) -> None:
            try:
                self.told += self.ris.do(request)
            except MessageError as refused:
                self.refused.append((refused.path, refused.why))

        @rule(patient=PATIENTS, family=st.sampled_from(["", "DOE", '""']))
        def register(self, patient: str, family: str) -> None:
            self.ris.register(patient, family=family)

        @rule(survivor=PATIENTS, retired=PATIENTS)
        def merge(self, survivor: str, retired: str) -> None:
            self.send(MergePatients(self.ris.person(survivor), self.ris.person(retired).identifiers))

        @rule(
            placer=PLACERS,
            patient=PATIENTS,
            procedure=PROCEDURES,
            accession=ACCESSIONS,
            study_uid=STUDIES,
            requested_at=TIMES,
            priority=st.sampled_from(["", "STAT"]),
            station=st.sampled_from(["", "CT2", "NOBODY"]),
        )
        def place(self, placer: str, patient: str, procedure: Procedure, **asked: str) -> None:
            self.send(self.ris.order(placer, patient, procedure, **asked))

        @rule(
            action=ACTIONS,
            placer=PLACERS,
            patient=PATIENTS,
            procedure=st.one_of(st.none(), PROCEDURES),
            requested_at=TIMES,
            priority=st.sampled_from(["", "STAT", "ROUTINE"]),
        )
        def control(self, action: str, placer: str, patient: str, **asked: Any) -> None:
            self.send(self.ris.control(action, placer, patient, **asked))

        @rule(
            uid=MPPS, accession=ACCESSIONS, study_uid=STUDIES, sps_id=st.sampled_from(["", "SPS00000001", "SPS00000003"]), patient=PATIENTS
        )
        def start(self, uid: str, accession: str, study_uid: str, sps_id: str, patient: str) -> None:
            self.send(self.ris.start(accession, uid, study_uid=study_uid, sps_id=sps_id, patient_id=patient))

        @rule(
            uid=MPPS,
            status=st.sampled_from(["IN PROGRESS", "COMPLETED", "COMPLETED", "DISCONTINUED"]),
            outcome=st.sampled_from(["", "reschedule"]),
            series=st.sampled_from(["", "1.7.1", "1.7.2"]),
        )
        def end(self, uid: str, status: str, outcome: str, series: str) -> None:
            made = (SeriesMade(series, 1),) if series else ()
            self.send(self.ris.end(status, uid, outcome=outcome if status == "DISCONTINUED" else "", made=made))

        @rule(uid=MPPS, items=st.lists(st.tuples(ACCESSIONS, STUDIES), min_size=1, max_size=3), patient=PATIENTS)
        def start_several(self, uid: str, items: list[tuple[str, str]], patient: str) -> None:
            self.send(self.ris.start("", uid, items=tuple(ScheduledItem(*item) for item in items), patient_id=patient))

        @rule(uid=st.integers(1, 8), study=STUDIES, accession=ACCESSIONS, patient=st.sampled_from(["", "a", "b", "z"]))
        def store(self, uid: int, study: str, accession: str, patient: str) -> None:
            self.send(self.ris.image(f"1.5.{uid}", study, accession, patient, series_uid=f"1.7.{uid % 3}"))

        @rule(
            status=st.sampled_from(["preliminary", "final", "final", "corrected", "cancelled"]),
            accession=ACCESSIONS,
            placer_number=st.sampled_from(["", "P1", "P2"]),
        )
        def write(self, status: str, accession: str, placer_number: str) -> None:
            self.send(self.ris.report(status, accession, placer_number=placer_number))

        @rule(minutes=st.integers(1, 500))
        def wait(self, minutes: int) -> None:
            self.ris.later(minutes=minutes)

        def all(self, kind: type) -> list[Any]:
            return self.ris.records.find(kind)

        @invariant()
        def no_slot_is_booked_twice(self) -> None:
            ends: dict[str, str] = {}
            for step in sorted((s for s in self.all(Step) if s.status in BUSY and s.station), key=lambda s: (s.station, s.start)):
                assert step.start >= ends.get(step.station, "")
                begins = times.read(step.start)
                assert begins is not None
                assert step.duration > 0
                ends[step.station] = times.write(begins + times.minutes(step.duration))

        @invariant()
        def accession_numbers_are_unique_and_fit(self) -> None:
            accessions = [exam.accession for exam in self.all(Exam)]
            assert len(set(accessions)) == len(accessions)
            assert all(0 < len(accession) <= 16 for accession in accessions)

        @invariant()
        def no_state_is_outside_of_its_table(self) -> None:
            for kind, name in ((Order, "order"), (Exam, "exam"), (Step, "step"), (Performed, "performed")):
                assert {row.status for row in self.all(kind)} <= set(TABLES[name].values())
            assert {exam.report_status for exam in self.all(Exam)} <= {"", *TABLES["report"].values()}

        @invariant()
        def one_charge_for_what_was_done_and_signed(self) -> None:
            charged = Counter(charge.exam_id for charge in self.all(Charge))
            assert set(charged.values()) <= {1}
            assert Counter(event.exam_id for event in self.told if event.name == "charge.posted") == charged
            for exam in self.all(Exam):
                if exam.status == "completed" and exam.report_status in {"final", "corrected"} and exam.cpt:
                    assert charged[exam.id] == 1

        @invariant()
        def exam_and_order_agree(self) -> None:
            agreed = {
                "scheduled": {"SC"},
                "arrived": {"SC"},
                "on_hold": {"HD"},
                "in_progress": {"IP"},
                "completed": {"CM"},
                "discontinued": {"DC"},
                "cancelled": {"CA", "DC"},
            }
            for exam in self.all(Exam):
                if exam.order_id is None:
                    assert exam.status in {"in_progress", "completed", "discontinued", "replaced"}
                    continue
                order = self.ris.records.get(Order, exam.order_id)
                assert order.status in agreed[exam.status]
                assert order.patient_id == exam.patient_id

        @invariant()
        def steps_agree_with_their_exam(self) -> None:
            for exam in self.all(Exam):
                states = {step.status for step in self.ris.steps(exam)} - {"cancelled"}
                if exam.status in {"completed", "discontinued", "cancelled", "replaced"}:
                    assert not states & BUSY
                if exam.status == "cancelled":
                    assert not states
                if exam.status in {"scheduled", "arrived", "on_hold"}:
                    assert states
                    assert states <= {"scheduled", "arrived"}

        @invariant()
        def everything_is_tied_or_listed(self) -> None:
            images = Counter(image.exam_id for image in self.all(Instance) if image.exam_id is not None)
            assert {exam.id: exam.images for exam in self.all(Exam) if exam.images} == images
            entries = [entry for entry in self.all(Unmatched) if entry.resolved_at is None and entry.kind != "charge"]
            open_ = {(entry.kind, entry.key) for entry in entries}
            assert len(open_) == len(entries)
            loose = {("images", one.study_uid or one.uid) for one in self.all(Instance) if one.exam_id is None}
            loose |= {("performed", one.uid) for one in self.all(Performed) if open_items(self.ris.records, one)}
            loose |= {("report", one.accession or one.placer_number) for one in self.all(Report) if one.exam_id is None}
            assert loose == open_

        @invariant()
        def identifiers_name_living_patients_once(self) -> None:
            rows = self.all(PatientIdentifier)
            assert len({(row.value, row.authority) for row in rows}) == len(rows)
            alive = {patient.id for patient in self.all(Patient) if patient.merged_into is None}
            assert {row.patient_id for row in rows} == alive
            assert {exam.patient_id for exam in self.all(Exam) if exam.patient_id is not None or exam.order_id is not None} <= alive

        @invariant()
        def a_refusal_names_its_place(self) -> None:
            assert all(path and why for path, why in self.refused)

        @invariant()
        def versions_count_up(self) -> None:
            for exam in self.all(Exam):
                versions = [report.version for report in self.ris.reports(exam)]
                assert sorted(versions) == list(range(1, len(versions) + 1))

    return Department


def test_laws(new_world: Any) -> None:
    run_state_machine_as_test(machine(new_world), settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
