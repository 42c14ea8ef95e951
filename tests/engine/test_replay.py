"""Messages of a journal through two configurations: only what the configurations do differently is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from broker.config.load import load
from broker.config.models import Config
from broker.connectors import registry
from broker.dicom.dataset import dataset_of
from broker.engine.replay import Replay
from broker.engine.shadow import Happened, Shadow, number_in
from broker.engine.tally import Tally, masked
from broker.model import Delivery, Journaled
from broker.store.history import Wanted
from tests.engine.house import CT1, ROOT, House
from tests.peers import ct_image

MSH = "MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260302080000||{kind}|{id}|P|2.5.1\r"
PID = "PID|1||{patient}^^^GENHOSP^MR||DOE^JANE||19610615|F\rPV1|1|O|RAD\r"
ORDER = "ORC|{control}|{order}^EHR\rOBR|1|{order}^EHR||{code}^X^L\r"
REPORT = (
    "ORC|RE|{order}^EHR\rOBR|1|{order}^EHR||CTCHEST^X^L||||||||||||||{accession}||||20260302110000|||F\rOBX|1|FT|1^X^LN||Clear.||||||F\r"
)

DAY, MORNING = 1772352000.0, 1772438400.0  # yesterday at 08:00 UTC, and today

Change = tuple[str, str, str]  # file, old, new


class Story:
    """Two patients: of one all was done yesterday; the other was ordered yesterday, and examined and reported today."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.say(DAY, "ADT^A04^ADT_A01", "1", PID.format(patient="1000"))
        self.order(DAY + 10, "1000", "P1")
        self.order(DAY + 20, "4711", "P2")
        ((self.accession, self.study),) = house.rows("select accession, study_uid from exams where accession = 'A00000002'")
        ((sps_id,),) = house.rows("select sps_id from steps where exam_id = 2")
        self.perform(MORNING + 60, True, "IN PROGRESS", sps_id)
        house.at = MORNING + 70
        house.store(ct_image("4711", "DOE^JANE", self.accession, self.study))
        self.perform(MORNING + 80, False, "COMPLETED", sps_id)
        self.say(MORNING + 90, "ORU^R01^ORU_R01", "R1", PID.format(patient="4711") + REPORT.format(order="P2", accession=self.accession))

    def say(self, at: float, kind: str, id: str, rest: str) -> None:
        self.house.at = at
        assert "MSA|AA|" in self.house.say(MSH.format(kind=kind, id=id) + rest)

    def order(self, at: float, patient: str, order: str, code: str = "CTCHEST") -> None:
        text = PID.format(patient=patient) + ORDER.format(control="NW", order=order, code=code)
        self.say(at, "ORM^O01^ORM_O01", f"O{order}", text)

    def perform(self, at: float, create: bool, status: str, sps_id: str) -> None:
        self.house.at = at
        step = {
            "PerformedProcedureStepStatus": status,
            "ScheduledStepAttributesSequence.AccessionNumber": self.accession,
            "ScheduledStepAttributesSequence.StudyInstanceUID": self.study,
            "ScheduledStepAttributesSequence.ScheduledProcedureStepID": sps_id,
            "PatientID": "4711",
            "Modality": "CT",
            "PerformedProcedureStepStartDate": "20260302",
            "PerformedProcedureStepStartTime": "080100",
            "PerformedProcedureStepID": "P1",
            "PerformedStationAETitle": "CT1",
        }
        if not create:
            step |= {"PerformedProcedureStepEndDate": "20260302", "PerformedProcedureStepEndTime": "081000"}
            step |= {"PerformedSeriesSequence.SeriesInstanceUID": "1.2.4"}
        found: Dataset = dataset_of(step)
        assert self.house.wait(self.house.dicom.receive_performed(CT1, create, "1.2.3.4", found)).status == 0


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def candidate(tmp_path: Path) -> Callable[..., Config]:
    """Return the shipped configuration with something changed."""

    def candidate(*changes: Change) -> Config:
        folder = tmp_path / "candidate"
        for name in ("routes", "mappings"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copy(ROOT / "channels.yaml", folder)
        for name, old, new in changes:
            text = (folder / name).read_text()
            assert old in text
            (folder / name).write_text(text.replace(old, new))
        return load(folder / "channels.yaml", {}, registry)

    return candidate


def replay(house: House, new: Config, **which: Any) -> Tally:
    """Replay what came since this morning."""

    def look(fn: Callable[..., Any], *args: Any) -> Any:
        return house.wait(house.db.read("test", fn, *args))

    run = Replay(house.config, new, house.spool._path, look, 3)
    try:
        return run.run(Wanted(**{"since": MORNING, **which}))
    finally:
        run.close()


def told(tally: Tally) -> set[str]:
    return {f"{one.what}: {one.where}: {one.path} {one.change}".strip() for one in tally.found.values()}


def test_the_same_configuration_makes_the_same_of_everything(house: House) -> None:
    Story(house)
    tally = replay(house, house.config)
    assert tally.found == {}
    # what was made yesterday is found by the numbers that the modality and the report name, although another order's came before
    assert (tally.compared, tally.context, tally.differing, tally.otherwise, tally.gone) == (4, 1, 0, 0, 0)


def test_nothing_is_written_and_no_object_is_touched(house: House) -> None:
    Story(house)
    tables = ("message", "delivery", "exams", "steps", "charges", "audit_note", "number_sequence")
    before = [house.rows(f"select * from {table}") for table in tables], sorted(house.spool.names())
    house.sent.clear()
    replay(house, house.config)
    assert ([house.rows(f"select * from {table}") for table in tables], sorted(house.spool.names())) == before
    assert house.sent == []


def test_a_changed_table_is_seen_in_every_field_it_reaches(house: House, candidate: Callable[..., Config]) -> None:
    Story(house)
    tally = replay(house, candidate(("mappings/procedures.csv", "CTCHEST,CT chest with contrast", "CTCHEST,CT Thorax")), since=DAY)
    assert "field: archive_hl7 OMI^O23: OBR-4.2 changed" in told(tally)
    assert "field: billing DFT^P03: FT1-7.2 changed" in told(tally)
    assert "record: exam: procedure_name changed" in told(tally)
    (found,) = [one for one in tally.found.values() if one.where == "archive_hl7 OMI^O23" and one.path == "OBR-4.2"]
    assert found.messages == 2
    assert {(one.before, one.after) for one in found.examples} == {("CT chest with contrast", "CT Thorax")}
    assert [one.message_id for one in found.examples] == [2, 3]


def test_what_leaves_less_and_what_leaves_more_is_told(house: House, candidate: Callable[..., Config]) -> None:
    Story(house)
    less = candidate(("routes/reports.yaml", "send: [ehr, archive_hl7]", "send: [ehr, billing]"))
    tally = replay(house, less)
    assert told(tally) == {"delivery: archive_hl7 ORU^R01: lost", "delivery: billing ORU^R01: gained"}
    assert (tally.compared, tally.differing) == (4, 1)


def test_what_is_refused_now_is_told_with_its_reason(house: House, candidate: Callable[..., Config]) -> None:
    Story(house)
    tally = replay(house, candidate(("routes/reports.yaml", "accept: MSH-9.1 = ORU", "accept: PID-3.1 = NOBODY and MSH-9.1 = ORU")))
    assert "outcome: ORU^R01: routed -> refused no channel accepts this message" in told(tally)


def test_what_was_parked_then_is_judged_with_what_its_patient_had(house: House, candidate: Callable[..., Config]) -> None:
    Story(house)
    house.at = MORNING + 100
    text = PID.format(patient="1000") + ORDER.format(control="ZZ", order="P1", code="CTCHEST")
    assert "MSA|AE|" in house.say(MSH.format(kind="ORM^O01^ORM_O01", id="Z1") + text)
    tally = replay(house, candidate(("mappings/order_control.csv", "\nNW,", "\nZZ,cancel,\nNW,")), limit=1)
    (outcome,) = [one for one in tally.found.values() if one.what == "outcome"]
    assert (outcome.path, outcome.messages, tally.context) == ("parked -> routed", 1, 2)
    assert "delivery: archive_hl7 OMI^O23: gained" in told(tally)


def test_objects_that_wait_for_their_exam_are_released_on_both_sides(house: House) -> None:
    house.at = MORNING
    house.store(ct_image("4711", "DOE^JANE", "EXT1", "1.2.3.99"))
    assert house.rows("select state from message") == [("parked",)]
    text = PID.format(patient="4711") + ORDER.format(control="NW", order="P9", code="CTCHEST").rstrip("\r") + "||||||||||||||EXT1\r"
    house.at = MORNING + 10
    house.say(MSH.format(kind="ORM^O01^ORM_O01", id="L1") + text)
    assert house.rows("select state from message order by id") == [("routed",), ("routed",)]
    tally = replay(house, house.config)
    assert (tally.found, tally.compared, tally.otherwise) == ({}, 2, 0)


def test_messages_can_be_chosen_and_what_they_need_comes_along(house: House) -> None:
    Story(house)
    tally = replay(house, house.config, kind="ORU^R01")
    assert (tally.compared, tally.context, tally.otherwise, tally.found) == (1, 4, 0, {})
    assert replay(house, house.config, until=MORNING + 75).compared == 2
    assert replay(house, house.config, listener="modalities").compared == 3
    assert replay(house, house.config, since=MORNING + 1000).compared == 0


def test_an_object_that_has_left_the_spool_is_counted(house: House) -> None:
    Story(house)
    for name in list(house.spool.names()):
        house.spool.remove(name)
    tally = replay(house, house.config)
    assert (tally.compared, tally.gone, tally.found) == (3, 1, {})


def test_what_the_journal_no_longer_explains_is_counted(house: House) -> None:
    story = Story(house)
    house.wait(house.db.run("test", lambda tx: tx.execute("delete from message where id = 3")))
    tally = replay(house, house.config)
    assert tally.otherwise == len(tally.otherwise_examples) >= 1
    assert tally.found == {}
    assert story.accession


def test_two_shadows_make_the_same_uids(house: House, tmp_path: Path) -> None:
    row = Journaled(1, MORNING, "hospital", "hl7", "ORM^O01", "EHR|GENHOSP", "", "1", "d", b"", "routed", b"AA", "", "")
    raw = (
        MSH.format(kind="ORM^O01^ORM_O01", id="1") + PID.format(patient="1") + ORDER.format(control="NW", order="1", code="CTCHEST")
    ).encode()
    made: list[Happened] = []
    for _ in range(2):
        shadow = Shadow(house.config, tmp_path)
        made.append(shadow.take(replace(row, raw=raw), None))
        shadow.close()
    assert made[0].state == "routed"
    assert made[0].sent == made[1].sent != []


def test_a_number_is_found_in_what_was_made_of_it() -> None:
    assert number_in("A{number:08d}", "A00000042") == 42
    assert number_in("{number}-X", "7-X") == 7
    assert number_in("A{number:08d}", "ACC42") is None
    assert number_in("A{number:08d}", "A42") is None


def test_values_keep_their_shape_only() -> None:
    assert masked("DOE^JANE 19610615 ü") == "xxx^xxxx 99999999 x"


def test_the_numbers_the_broker_gives_its_own_messages_are_no_difference() -> None:
    def sent(id: str, name: str) -> Delivery:
        payload = f"MSH|^~\\&|BROKER|||||20260302||ORM^O01|{id}|P|2.5\rPID|1||4711||{name}\r".replace(
            "|||||20260302", "||||20260302"
        ).encode()
        return Delivery(1, 1, "ehr", "", "notices", "ORM^O01", payload, id, "", 0)

    row = Journaled(9, 0.0, "hospital", "hl7", "ORM^O01", "", "", "", "", b"", "routed", b"", "", "")
    tally = Tally()
    tally.compare(row, Happened("routed", "AA", "", [sent("1.1", "DOE")]), Happened("routed", "AA", "", [sent("1.2", "DOE")]))
    assert (tally.compared, tally.differing, tally.found) == (1, 0, {})
    tally.compare(row, Happened("routed", "AA", "", [sent("1.1", "DOE")]), Happened("routed", "AA", "", [sent("C5", "ROE")]))
    assert told(tally) == {"field: ehr ORM^O01: MSH-10 changed", "field: ehr ORM^O01: PID-5 changed"}
    assert tally.differing == 1
