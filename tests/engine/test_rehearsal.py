"""The cases beside the shipped routes hold, run as `broker test` runs them; and a case that does not hold says so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.config.files import read_document
from broker.config.load import load
from broker.config.models import Channel
from broker.connectors import registry
from broker.engine.rehearsal import Rehearsal
from broker.pipeline.cases import Case, failures, read_cases
from broker.pipeline.shape import Mistakes

ROOT = Path(__file__).parents[2]
CONFIG = load(ROOT / "channels.yaml", {}, registry)


def _cases() -> Iterator[tuple[Channel, Case]]:
    for channel in CONFIG.channels:
        assert channel.cases is not None
        document = read_document(channel.cases, channel.cases.name, {})
        mistakes = Mistakes()
        cases = read_cases(document.value, mistakes, file=document.file, line=document.line)
        assert not document.problems
        assert not mistakes.found
        assert cases
        yield from ((channel, case) for case in cases)


CASES = list(_cases())


@pytest.mark.parametrize(("channel", "case"), CASES, ids=[f"{case.file}:{case.line} {case.name}" for _, case in CASES])
def test_a_shipped_case_holds(channel: Channel, case: Case) -> None:
    assert failures(case, Rehearsal(CONFIG).run(case, channel.source, ROOT)) == []


def test_what_does_not_hold_is_said_with_what_happened_instead() -> None:
    channel, case = next((channel, case) for channel, case in CASES if channel.name == "orders")
    document = [
        {"name": "wrong", "given": case.given.file, "expect": {"answer": "AE", "sent": "none", "state": {"exam": {"modality": "MR"}}}}
    ]
    (wrong,) = read_cases(document, Mistakes())
    found = failures(wrong, Rehearsal(CONFIG).run(wrong, channel.source, ROOT))
    assert found == [
        "answer: expected AE, was AA",
        "exam.modality: expected MR, was CT",
        "sent to archive_hl7: expected nothing, was OMI^O23",
        "sent to ehr: expected nothing, was SIU^S12",
    ]


EXAM = {"accession": "A7", "status": "completed", "modality": "CT", "requested_procedure_id": "RP7", "study_uid": "1.2.3"}
STATE = {
    "patient": {"identifiers": "4711^^^GENHOSP^MR", "family": "DOE", "given": "JANE"},
    "order": {"placer_number": "P1", "filler_number": "A7", "status": "CM", "procedure_code": "CTCHEST"},
    "exam": {
        **EXAM,
        "procedure_code": "CTCHEST",
        "procedure_name": "CT chest",
        "scheduled_at": "202603020800",
        "completed_at": "20260302081500",
    },
    "steps": [{"sps_id": "S7", "station": "CT1", "modality": "CT", "start": "202603020800", "duration": 20, "status": "scheduled"}],
    "report": {"status": "final", "reported_at": "202603020900", "author": "77^READER^RITA", "diagnoses": "J18.9"},
    "charge": {"cpt": 71260, "charged_at": "20260302090000", "diagnoses": "J18.9"},
}


def outcome(channel: str, **case: object) -> list[str]:
    mistakes = Mistakes()
    (read,) = read_cases([{"name": "x", "expect": {}, **case}], mistakes)
    assert not mistakes.found
    source = next(one.source for one in CONFIG.channels if one.name == channel)
    return failures(read, Rehearsal(CONFIG).run(read, source, ROOT))


def test_a_case_may_begin_with_ris_state_and_an_event() -> None:
    sent = {"billing": [{"MSH-9.1": "DFT", "FT1-25.1": "71260", "PID-3.1": "4711", "FT1-23.1": "A7"}]}
    assert outcome("charges", state=STATE, given={"event": "charge.posted"}, expect={"sent": sent}) == []
    wrong = outcome("charges", state=STATE, given={"event": "charge.posted"}, expect={"sent": "none"})
    assert wrong == ["sent to billing: expected nothing, was DFT^P03"]
    assert (
        outcome("notices", state=STATE, given={"event": "report.final"}, expect={"sent": "none", "state": {"exam": {"accession": "A7"}}})
        == []
    )


def test_an_event_without_what_its_message_needs_is_told() -> None:
    bare = {"exam": {"accession": "A7"}}
    wrong = outcome("notices", state=bare, given={"event": "exam.scheduled"}, expect={"error": {"at": "nowhere"}})
    assert wrong == ["error at: expected nowhere, was PID-3", "it went wrong (PID-3: {patient.identifiers} is empty)"]


def test_a_message_meets_the_state_that_a_case_begins_with() -> None:
    state = {
        **STATE,
        "exam": {**STATE["exam"], "status": "scheduled"},
        "order": {**STATE["order"], "placer_authority": "EHR", "status": "SC"},
    }
    expect = {"answer": "AA", "state": {"exam": {"status": "cancelled"}}}
    assert outcome("orders", state=state, given="samples/orm_ct_cancel.hl7", expect=expect) == []


def test_why_an_image_is_held_is_expected() -> None:
    given = {"image": {"StudyInstanceUID": "1.2.3", "SOPInstanceUID": "1.2.3.4"}, "from": "CT1"}
    assert outcome("images", given=given, expect={"held": "no exam is known", "message": "parked"}) == []
    assert outcome("images", given=given, expect={"dropped": "test"}) == ["dropped: expected 'test', was 'nothing'"]


def test_a_message_that_came_before_came_by_the_listener_that_takes_it(tmp_path: Path) -> None:
    for name in ("routes", "mappings", "samples"):
        shutil.copytree(ROOT / name, tmp_path / name)
    text = (ROOT / "channels.yaml").read_text()
    text = text.replace("listeners:\n", "listeners:\n  clinic: {mllp: {port: 2599}}\n")
    text = text.replace("channels:\n", "channels:\n  clinic: {from: clinic, route: routes/clinic.yaml}\n")
    (tmp_path / "channels.yaml").write_text(text)
    (tmp_path / "routes/clinic.yaml").write_text("description: Nothing else.\naccept: MSH-9.1 = MDM\nto:\n  - send: ehr\n")
    config = load(tmp_path / "channels.yaml", {}, registry)
    for channel, case in CASES:
        assert failures(case, Rehearsal(config).run(case, channel.source, ROOT)) == []
