"""Scenarios in process: what each sentence says when it does not see what it must see, and that time only passes when it is let."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from broker.config.files import parse_document
from broker.config.load import load
from broker.config.models import Config
from broker.connectors import registry
from broker.errors import ConfigError
from broker.pipeline.scenario import Scenario, read_scenario
from broker.pipeline.shape import Mistakes
from broker.simulate.scenarios import names, play, run

ROOT = Path(__file__).parents[2]
CONFIG = load(ROOT / "channels.yaml", {}, registry)
ORDER = "hospital sends samples/orm_ct.hl7: AA"
ASKS = 'CT1 asks worklist: {for: {PatientID: "4711"}, finds: [{AccessionNumber: present}]}'


def scenario(*steps: str, top: str = "") -> Scenario:
    text = "scenario: s\n" + top + "steps:\n" + "".join(f"  - {step}\n" for step in steps)
    document, mistakes = parse_document(text, "s.yaml", {}), Mistakes()
    found = read_scenario(document.value, mistakes, names(CONFIG), file="s.yaml", line=document.line)
    assert not mistakes.found
    assert found is not None
    return found


def failures(*steps: str, top: str = "") -> list[str]:
    return play(CONFIG, scenario(*steps, top=top)).failures


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (["hospital sends samples/orm_ct.hl7: AE"], "MSA-1: expected AE, was AA"),
        (["hospital sends samples/orm_ct.hl7: {with: {OBR-4.1: X}, answer: AA}"], "ERR-8: OBR-4.1: not in table procedures"),
        (["hospital sends text: {text: GET, answer: AA}"], "MSA-1: expected AA, was AR"),
        ([ORDER, ASKS.replace("4711", "99")], "expected 1 entries, were 0"),
        ([ORDER, ASKS.replace("present", "WRONG")], "AccessionNumber: expected WRONG, was A00000001"),
        ([ORDER, ASKS, "CT1 starts: '0x0110'"], "expected 0x0110, was 0x0000"),
        ([ORDER, ASKS, "CT1 stores 2 images: '0x0124'"], "expected 0x0124, was 0x0000, 0x0000"),
        ([ORDER, ASKS, "CT1 starts: ok", "CT1 discontinues: {with: {Modality: MR}, answer: '0x0110'}"], "expected 0x0110, was 0x0106"),
        (["CT1 asks for commitment: {committed: 1}"], "expected ok, was 0x0115"),
        ([ORDER, ASKS, "CT1 stores 1 image: ok", "CT1 asks for commitment: {committed: 2}"], "committed: expected 2, was 1"),
        ([ORDER, "ehr gets: []"], "expected nothing, was SIU^S12"),
        ([ORDER, "ehr gets: [SIU^S13]"], "SIU^S12: MSH-9.2: expected S13, was S12"),
        ([ORDER, "ehr gets: [SIU^S12, SIU^S12]"], "expected 2, was SIU^S12"),
        ([ORDER, "ehr gets: [SIU^S12]", "hospital sends samples/orm_ct_cancel.hl7: AA"], "ehr got more: SIU^S15"),
        (["archive has: {images: 1}"], "expected 1 images, were 0"),
        (
            [ORDER, ASKS, "CT1 stores 1 image: ok", "archive has: {images: 1, each: {PatientID: X}}"],
            "image 1: PatientID: expected X, was 4711",
        ),
        (["ehr goes down:", ORDER, "queue of ehr has: {waiting: 0}"], "waiting: expected 0, was 1"),
        ([ORDER, "exam A99 is: {status: scheduled}"], "there is no such exam"),
        ([ORDER, "exam A00000001 is: {status: completed}"], "status: expected completed, was scheduled"),
        ([ORDER, "broker lists unmatched: [{kind: images}]"], "expected 1, was nothing"),
        (["hospital sends samples/orm_ct_cancel.hl7: AE", "broker keeps parked: []"], "expected nothing, was ORM^O01 (ORC-2: no order"),
        ([ORDER, "broker counts: {'broker_messages_routed_total{channel=\"orders\"}': 2}"], "expected 2, was 1"),
        ([ORDER, "timeline of A00000001 has: {at least: 99}"], "expected at least 99 entries, were "),
        ([ORDER, "timeline of A00000001 has: {in order: [charge.posted charge]}"], "charge.posted charge is not there"),
    ],
)
def test_a_step_that_does_not_see_what_it_must_says_what_it_saw(steps: list[str], said: str) -> None:
    played = play(CONFIG, scenario(*steps))
    assert any(said in line for line in played.failures), played.failures
    assert played.line == 2 + len(steps)


def test_a_modality_that_is_not_among_the_peers_is_rejected_and_a_service_that_is_not_offered_refused() -> None:
    def listening(**changes: object) -> Config:
        settings = [replace(one, settings={**one.settings, **changes}) if one.kind == "dicom" else one for one in CONFIG.listeners]
        return replace(CONFIG, listeners=tuple(settings))

    (wrong,) = play(listening(peers={"CT1": {}}), scenario("CT1 echoes: ok", "CT9 echoes: ok")).failures
    assert wrong == "CT9 echoes: modalities rejects the association: CT9 is not among its peers"
    (wrong,) = play(listening(services=("store",)), scenario("CT1 echoes: ok", "CT1 starts: ok")).failures
    assert wrong == "CT1 starts: modalities does not offer mpps"


def test_what_an_archive_must_commit_first_has_no_report_yet() -> None:
    [dicom] = [one for one in CONFIG.listeners if one.kind == "dicom"]
    settings = {**dicom.settings, "commitment": {**dicom.settings["commitment"], "by": "archive"}}
    config = replace(CONFIG, listeners=tuple(replace(one, settings=settings) if one is dicom else one for one in CONFIG.listeners))
    played = play(config, scenario(ORDER, ASKS, "CT1 stores 1 image: ok", "CT1 asks for commitment: {committed: 1}"))
    assert played.failures == ["CT1 asks for commitment: no report came"]


def test_what_is_sent_once_more_must_be_answered_the_same() -> None:
    assert failures(ORDER, "hospital repeats the last message: AA", "ehr gets: [SIU^S12]") == []
    assert failures(ORDER, "hospital repeats the last message: AE") != []


def test_the_clock_stands_until_it_is_turned_and_then_what_is_due_happens() -> None:
    down = ("ehr goes down:", ORDER)
    assert (
        failures(*down, "ehr comes back:", "queue of ehr has: {waiting: 1}", "clock advances: 2s", "queue of ehr has: {waiting: 0}") == []
    )
    assert failures(*down, "clock advances: 1h", "queue of ehr has: {waiting: 1}") == []


def test_a_scenario_begins_when_it_says_in_the_time_of_the_site() -> None:
    answer = 'hospital sends samples/orm_ct.hl7: {answer: {MSA-1: AA, MSH-7: "20300102030405"}}'
    assert failures(answer, top="clock: 2030-01-02 03:04:05\n") == []
    later = answer.replace("030405", "040405").replace("orm_ct", "adt_a04")
    assert failures(answer, "clock advances: 1h", later, top="clock: 2030-01-02 03:04:05\n") == []


def test_a_receiver_that_is_out_of_resources_is_tried_again_and_one_that_refuses_is_not() -> None:
    stored = (ORDER, ASKS, "CT1 stores 1 image: ok")
    assert failures("archive answers: '0x0110'", *stored, "queue of archive has: {waiting: 0, parked: 1}") == []
    assert failures("archive answers: '0xA700'", *stored, "queue of archive has: {waiting: 1, parked: 0}") == []


def test_the_same_scenario_goes_the_same_way_every_time() -> None:
    asked = scenario(ORDER, ASKS, "CT1 stores 1 image: ok", "ehr gets: [{SCH-2: present}]", "archive_hl7 gets: [{IPC-3: NOTHING}]")
    first, second = play(CONFIG, asked), play(CONFIG, asked)
    assert first == second
    assert len(first.failures) == 1
    assert first.channels == {"orders", "images", "notices"}
    assert {file.resolve() for file in first.files} == {ROOT / "samples/orm_ct.hl7"}


def test_a_sample_that_is_not_there_is_a_mistake_of_the_scenario() -> None:
    with pytest.raises(ConfigError, match=r"s\.yaml:1: .*nosuch\.hl7: No such file"):
        run(CONFIG, scenario("hospital sends samples/nosuch.hl7: AA"))
