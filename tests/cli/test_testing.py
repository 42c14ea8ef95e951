"""`broker test`: cases and scenarios, coverage, JUnit, and the watch."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from broker.cli.junit import junit
from broker.cli.test import affected, gather
from broker.cli.watch import Watched
from broker.engine.suite import Item, Result
from tests.cli.test_commands import run, site, spoil

__all__ = ["site"]

ORDERS = "routes/tests/orders.yaml"
ONE_CT = "routes/tests/scenarios/one_ct.yaml"


def test_without_arguments_all_cases_and_scenarios_are_run(site: Path) -> None:
    output = run(site, "test").output
    assert "ok   orders: a CT order is scheduled, and archive and EHR are told" in output
    assert "ok   scenario: one CT, from registration to charge" in output
    assert " passed, 0 failed in " in output


@pytest.mark.parametrize(
    ("what", "suites"),
    [
        (["orders"], {"orders"}),
        ([ORDERS], {"orders"}),
        ([ONE_CT], {"scenario"}),
        (["routes/tests/scenarios"], {"scenario"}),
        (["charges", ONE_CT], {"charges", "scenario"}),
        (["routes/tests"], {"charges", "images", "notices", "orders", "performed", "registration", "reports", "scenario"}),
    ],
)
def test_channels_files_and_folders_choose_what_is_run(
    site: Path, monkeypatch: pytest.MonkeyPatch, what: list[str], suites: set[str]
) -> None:
    monkeypatch.chdir(site)
    lines = [json.loads(line) for line in run(site, "test", "--json", *what).output.splitlines()]
    assert {"scenario" if "scenario" in line else line["channel"] for line in lines} == suites
    assert all(line["failures"] == [] for line in lines)


def test_what_fails_in_a_scenario_is_told_with_the_line_of_the_step(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site)
    spoil(site / ONE_CT, "images: 3, each", "images: 4, each")
    result = run(site, "test", ONE_CT)
    assert result.exit_code == 1
    line = next(number for number, text in enumerate((site / ONE_CT).read_text().splitlines(), 1) if "archive has" in text)
    assert f"FAIL scenario: one CT, from registration to charge  ({ONE_CT}:{line})" in result.output
    assert "archive has: expected 4 images, were 3" in result.output


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("CT1 starts: ok", "CT1 begins: ok", "nobody understands CT1 begins"),
        ("ehr gets: [SIU^S12]", "her gets: [SIU^S12]", "there is no destination her"),
        ("samples/orm_ct.hl7", "samples/nosuch.hl7", "nosuch.hl7: No such file"),
    ],
)
def test_a_mistake_in_a_scenario_is_told_with_its_place(site: Path, old: str, new: str, said: str) -> None:
    spoil(site / ONE_CT, old, new)
    result = run(site, "test", str(site / ONE_CT))
    assert result.exit_code == 2
    assert "one_ct.yaml:" in result.output
    assert said in result.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- name: x\n  given: samples/orm_ct.hl7\n  expect: {}\n", "is no scenario, and no route names it under cases:"),
        ("scenario: [\n", "not YAML"),
    ],
)
def test_a_file_that_is_neither_is_told(site: Path, text: str, said: str) -> None:
    (site / "other.yaml").write_text(text)
    result = run(site, "test", str(site / "other.yaml"))
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (
            "{name: x, given: {event: exam.sheduled}, state: {exam: {}}, expect: {}}",
            "there is no event exam.sheduled (did you mean exam.scheduled?)",
        ),
        ("{name: x, given: {event: exam.scheduled}, expect: {}}", "an event is about records of the RIS (write them under state:)"),
        ("{name: x, given: samples/orm_ct.hl7, state: {exams: {}}, expect: {}}", "there is no record exams"),
        ("{name: x, given: samples/orm_ct.hl7, expect: {sent: {ehr: [{MSH-9.1: {matches: '('}}]}}}", "not a regular expression"),
        ("{name: x, given: {image: 5}, expect: {}}", "neither a sample file nor what a modality sends nor an event"),
        ("{name: x, after: {event: exam.scheduled}, given: samples/orm_ct.hl7, expect: {}}", "is no message that came before"),
    ],
)
def test_a_mistake_in_a_case_is_told_with_its_place(site: Path, case: str, said: str) -> None:
    (site / ORDERS).write_text(f"- {case}\n")
    result = run(site, "test")
    assert result.exit_code == 2
    assert "orders.yaml:1" in result.output
    assert said in result.output


def test_what_no_case_has_reached_is_listed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site)
    whole = run(site, "test", "--coverage", "--fail-under", "100")
    assert whole.exit_code == 0, whole.output
    assert "together        100.0 %" in whole.output
    spoil(site / "routes" / "orders.yaml", "steps:\n", "steps:\n  - when: MSH-11.1 = T\n    drop: test message\n")
    result = run(site, "test", "orders", "--coverage", "--fail-under", "90")
    assert result.exit_code == 1
    line = next(number for number, text in enumerate((site / "routes/orders.yaml").read_text().splitlines(), 1) if "MSH-11.1" in text)
    assert f"routes/orders.yaml:{line}: when never held" in result.output
    assert f"routes/orders.yaml:{line + 1}: step drop never ran" in result.output
    assert "the routes are covered to" in result.output
    assert "registration" not in result.output
    assert "unused: OC" in result.output


def test_a_channel_without_cases_counts_as_not_covered(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site)
    shutil.rmtree(site / "routes/tests/scenarios")
    spoil(site / "routes" / "charges.yaml", "cases: tests/charges.yaml\n", "")
    result = run(site, "test", "--coverage", "--fail-under", "100")
    assert re.search(r"^  charges +0 %", result.output, re.MULTILINE)
    assert "together        100.0 %" not in result.output
    assert result.exit_code == 1


def test_coverage_is_said_to_programs_too(site: Path) -> None:
    last = json.loads(run(site, "test", "orders", "--coverage", "--json").output.splitlines()[-1])["coverage"]
    assert last["percent"] == 100.0
    assert [route["name"] for route in last["routes"]] == ["orders"]
    assert {table["name"] for table in last["tables"]} >= {"order_control", "procedures"}


def test_results_are_written_as_junit(site: Path, tmp_path: Path) -> None:
    spoil(site / ORDERS, "answer: AE", "answer: AA")
    assert run(site, "test", "--junit", str(tmp_path / "out.xml")).exit_code == 1
    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    cases = root.findall("testsuite/testcase")
    assert root.get("tests") == str(len(cases))
    assert int(root.get("failures", "0")) == len(root.findall(".//failure")) > 0
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "answer: expected AA, was AE (OBR-4.1: not in table procedures)"
    assert {case.get("classname") for case in cases} >= {"orders", "scenario"}
    assert all(int(case.get("line", "0")) > 0 and case.get("file") and case.get("time") for case in cases)
    assert run(site, "test", "--junit", str(tmp_path / "no" / "out.xml")).exit_code == 1


def test_a_name_of_any_characters_makes_valid_xml() -> None:
    item = Item("a&b", 'x < "y"\x00\ud800', "f.yaml", 1, lambda: Result())
    root = ElementTree.fromstring(junit([(item, Result(("<was> & \x1b",)))]))
    assert root.find(".//testcase") is not None


# -- the watch


class Person:
    """Stands in for the pauses between two looks: does something in each, and then interrupts."""

    def __init__(self, *acts: object) -> None:
        self.acts = list(acts)

    def __call__(self, seconds: float) -> None:
        if not self.acts:
            raise KeyboardInterrupt
        act = self.acts.pop(0)
        assert callable(act)
        act()


def test_a_change_runs_what_it_concerns_and_nothing_else(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site)
    cases = site / "routes/tests/registration.yaml"
    person = Person(
        lambda: spoil(cases, "family: DOE-SMITH, identifier", "family: DOE-SMITHS, identifier"),
        lambda: spoil(cases, "family: DOE-SMITHS, identifier", "family: DOE-SMITH, identifier"),
    )
    monkeypatch.setattr(sys.modules["broker.cli.test"], "pause", person)
    output = run(site, "test", "--watch").output
    first, second, third = output.split("\nchanged: ")
    assert "ok   orders:" in first
    assert "waiting for a change of " in first
    assert "routes/tests/registration.yaml" in second.splitlines()[0]
    assert "FAIL registration: an update changes what is known" in second
    assert "orders:" not in second
    assert " passed, 0 failed" in third
    assert "Traceback" not in output


def test_a_configuration_that_is_not_in_order_is_told_and_waited_for(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site)
    route = site / "routes/charges.yaml"
    person = Person(lambda: spoil(route, "send: billing", "send: biling"), lambda: spoil(route, "send: biling", "send: billing"))
    monkeypatch.setattr(sys.modules["broker.cli.test"], "pause", person)
    first, second, third = run(site, "test", "--watch").output.split("\nchanged: ")
    assert "there is no destination biling (did you mean billing?)" in second
    assert " passed, 0 failed" in first
    assert "ok   charges:" in third
    assert "ok   orders:" not in third


def test_a_route_concerns_the_cases_that_ran_through_it(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site)
    gathered = gather(site / "channels.yaml", ["charges", "orders", "performed"])
    last = {item.key: item.run() for item in gathered.items}
    suites = {item.suite for item in affected(gathered, last, {site / "routes/charges.yaml"})}
    assert suites == {"charges"}
    assert {item.suite for item in affected(gathered, last, {site / "routes/performed.yaml"})} == {"performed"}
    assert affected(gathered, last, {site / "channels.yaml"}) == gathered.items
    assert affected(gathered, last, {site / "mappings/sex.csv"}) == gathered.items
    assert {item.suite for item in affected(gathered, last, {site / "samples/omg_mr.hl7"})} == {"orders"}
    assert affected(gathered, {}, set()) == gathered.items


def test_files_that_come_and_go_are_changes(tmp_path: Path) -> None:
    file, watched = tmp_path / "a", Watched()
    assert watched.look([file, tmp_path]) == set()
    file.write_text("1")
    assert watched.look([file, tmp_path]) == {file, tmp_path}
    assert watched.look([file, tmp_path]) == set()
    file.unlink()
    assert watched.look([file, tmp_path]) == {file, tmp_path}


@pytest.mark.parametrize("option", [["--json"], ["--junit", "x.xml"], ["--fail-under", "5"]])
def test_the_watch_is_for_a_person(site: Path, option: list[str]) -> None:
    result = run(site, "test", "--watch", *option)
    assert result.exit_code == 2
    assert "--watch is for a person" in result.output
