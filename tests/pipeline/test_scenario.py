"""The language of scenarios: what it understands, and what it says of mistakes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from broker.pipeline.scenario import SENTENCES, Names, Scenario, read_scenario, schema, understand
from broker.pipeline.shape import Mistakes

NAMES = Names(frozenset({"hospital"}), frozenset({"ehr", "archive_hl7"}), frozenset({"archive"}))


def read(text: str) -> tuple[Scenario | None, list[str]]:
    mistakes = Mistakes()
    scenario = read_scenario(yaml.safe_load(text), mistakes, NAMES, file="s.yaml", line=lambda place: len(place))
    return scenario, [f"{'/'.join(map(str, one.place))}: {one.what} ({one.instead})" for one in mistakes.found]


def step(text: str) -> list[str]:
    return read(f"scenario: s\nsteps:\n  - {text}\n")[1]


@pytest.mark.parametrize("sentence", SENTENCES, ids=lambda sentence: sentence.name)
def test_the_example_of_each_sentence_is_that_sentence(sentence: Any) -> None:
    ((key, value),) = yaml.safe_load(sentence.example).items()
    understood = understand(key)
    assert understood is not None
    assert understood[0] is sentence
    assert step(sentence.example) == []
    document = {"scenario": "s", "steps": [{key: value}]}
    assert Draft202012Validator(schema()).is_valid(document)


def test_the_schema_is_one_and_finds_what_reading_finds() -> None:
    Draft202012Validator.check_schema(schema())
    validator = Draft202012Validator(schema())
    assert not validator.is_valid({"scenario": "s", "steps": [{"CT1 dances": "ok"}]})
    assert not validator.is_valid({"scenario": "s", "steps": []})
    assert not validator.is_valid({"steps": [{"CT1 starts": "ok"}]})


def test_a_scenario_that_turns_the_clock_says_so() -> None:
    plain, _ = read("scenario: s\nsteps: [CT1 starts: ok]")
    timed, _ = read("scenario: s\nclock: 2026-03-02 08:00\nsteps: [CT1 starts: ok]")
    turned, _ = read("scenario: s\nsteps: [clock advances: 5m]")
    assert [one and one.clocked for one in (plain, timed, turned)] == [False, True, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CT1 asks the worklist: {}", "nobody understands CT1 asks the worklist (did you mean CT1 asks worklist?)"),
        ("hospitl sends samples/x.hl7: AA", "there is no listener hospitl for HL7 (did you mean hospital?)"),
        ("archive gets: []", "there is no destination archive that gets can be said of (did you mean archive_hl7?)"),
        ("ehr has: {images: 1}", "there is no destination ehr that has can be said of"),
        ("hospital sends samples/x.hl7: OK", "OK is not one of AA"),
        ("hospital sends samples/x.hl7: {with: {PDI3: x}, answer: AA}", "not an HL7 path"),
        ("CT1 stores 2 images: {with: {PatientNam: x}, answer: ok}", "PatientNam is no DICOM keyword; did you mean PatientName?"),
        ("CT1 asks worklist: {for: {PatientID: x}, finds: [{AccesionNumber: present}]}", "AccesionNumber is no DICOM keyword"),
        ("ehr gets: [{MSH-9.1: {like: x}}]", "neither a text nor a pattern"),
        ("ehr gets: [{MSH-9.1: {matches: '('}}]", "not a regular expression"),
        ("exam A1 is: {stauts: completed}", "it shows no stauts; did you mean status?"),
        ("clock advances: soon", "write it such as 30s, 5m or 24h"),
        ("goes", "a step is one sentence and its value"),
    ],
)
def test_a_mistake_is_told_with_what_to_write(text: str, said: str) -> None:
    assert any(said in line for line in step(text)), step(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scenario: s", "steps is missing"),
        ("scenario: s\nsteps: []", "a scenario without steps"),
        ("scenario: s\nclock: noon\nsteps: [CT1 starts: ok]", "noon is no time (write it like 2026-03-02 08:00)"),
        ("scenario: s\nclock: 2026-02-31 08:00\nsteps: [CT1 starts: ok]", "is no time"),
        ("scenario: s\ntitle: t\nsteps: [CT1 starts: ok]", "unknown key title"),
        ("- 1", "a mapping is needed here, not a list"),
    ],
)
def test_a_mistake_of_the_file_is_told(text: str, said: str) -> None:
    scenario, wrong = read(text)
    assert scenario is None
    assert any(said in line for line in wrong), wrong
