"""`broker check` as a person and a program read it, and how it ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cli import main
from tests.engine.house import ROOT


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of the shipped configuration that may be spoilt."""
    for name in ("routes", "mappings", "samples", "docs/reference"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "channels.yaml", tmp_path)
    return tmp_path


def run(site: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--config", str(site / "channels.yaml"), *arguments], env={"BROKER_DATA": str(site / "data")})


def spoil(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_the_shipped_configuration_is_in_order(site: Path) -> None:
    result = run(site, "check")
    assert result.exit_code == 0
    assert "in order: 2 listeners, 4 destinations, 7 channels" in result.output


def test_every_mistake_is_told_at_once_with_its_place(site: Path) -> None:
    spoil(site / "channels.yaml", "unmatched: reject", "unmached: reject")
    spoil(site / "routes" / "orders.yaml", "vocabulary: order_control", "vocabulary: order_controls")
    spoil(site / "routes" / "charges.yaml", "send: billing", "send: biling")
    result = run(site, "check")
    assert result.exit_code == 2
    assert "channels.yaml:" in result.output
    assert "unknown key unmached (did you mean unmatched?)" in result.output
    assert "there is no table order_controls (did you mean order_control?)" in result.output
    assert "there is no destination biling (did you mean billing?)" in result.output
    found = json.loads(run(site, "check", "--json").output)["findings"]
    assert len([one for one in found if one["severity"] == "problem"]) >= 3
    assert all(one["line"] > 0 for one in found)


def test_an_order_step_that_would_read_only_the_first_order_is_found(site: Path) -> None:
    spoil(site / "routes" / "orders.yaml", "each: order", "each: patient")
    result = run(site, "check")
    assert result.exit_code == 2
    assert "only the first order would be read (add each: order to the route)" in result.output


def test_the_cells_of_a_senders_own_tables_are_checked_where_a_route_names_them(site: Path) -> None:
    (site / "mappings" / "ed_control.csv").write_text("sent,action\nSTART,new\nSTOP,cancell\n")
    (site / "mappings" / "ed_codes.csv").write_text("code,name,modality,duration,cpt,modifiers,steps\nHEAD,CT head,CT,15x,70450,,\n")
    spoil(
        site / "routes" / "orders.yaml", "procedures: procedures, vocabulary: order_control", "procedures: ed_codes, vocabulary: ed_control"
    )
    output = run(site, "check").output
    assert "mappings/ed_control.csv:3: action: cancell is no action (did you mean cancel?)" in output
    assert "mappings/ed_codes.csv:2: duration: not a number of minutes" in output


def test_a_wrong_ae_title_or_peer_is_found_before_the_start(site: Path) -> None:
    spoil(site / "channels.yaml", 'ae_title: "${DICOM_AET:-BROKER}"', 'ae_title: "A_TITLE_OF_MORE_THAN_16_CHARACTERS"')
    spoil(site / "channels.yaml", "CT1: {}", "CT1: {from: nowhere}")
    output = run(site, "check").output
    assert "an AE title has 1 to 16 characters" in output
    assert "CT1" in output


def test_a_warning_lets_it_pass(site: Path) -> None:
    (site / "mappings" / "spare.csv").write_text("a,b\n1,2\n")
    result = run(site, "check")
    assert result.exit_code == 0
    assert result.output.splitlines()[0].endswith("mappings/spare.csv:1: no route uses this table (remove it, or name spare in a step)")
    assert result.output.startswith("warning: ")


def test_each_stage_has_its_own_verdict(site: Path) -> None:
    (site / "mappings" / "spare.csv").write_text("a,b\n1,2\n")
    spoil(site / "routes" / "orders.yaml", "OBR-4.1", "OBR-99")
    report = json.loads(run(site, "check", "--json", "--environment").output)
    assert report["stages"] == {"fields": "problems", "topology": "warnings", "environment": "skipped"}
    assert {tuple(finding) for finding in report["findings"]} == {("stage", "severity", "file", "line", "path", "what", "instead")}
    (problem,) = [one for one in report["findings"] if one["severity"] == "problem"]
    assert (problem["file"], problem["line"], problem["path"]) == (str(site / "routes/orders.yaml"), 10, "steps[2].require")
    assert problem["what"] == "OBR has no field 99"
    assert report["tried"] == []


def test_one_stage_can_be_shown_alone(site: Path) -> None:
    (site / "mappings" / "spare.csv").write_text("a,b\n1,2\n")
    spoil(site / "routes" / "orders.yaml", "OBR-4.1", "OBR-99")
    fields, topology = run(site, "check", "--stage", "fields"), run(site, "check", "--stage", "topology")
    assert ("OBR has no field" in fields.output, "spare" in fields.output) == (True, False)
    assert ("OBR has no field" in topology.output, "spare" in topology.output) == (False, True)
    assert (fields.exit_code, topology.exit_code) == (2, 2)  # as a whole it cannot run
    assert "mend the configuration first" in run(site, "check", "--environment").output


def test_files_without_schemas_are_told_once_for_each(site: Path) -> None:
    assert run(site, "check").output.count("warning") == 0
    shutil.rmtree(site / "docs")
    missing = [line for line in run(site, "check").output.splitlines() if "for editors to read" in line]
    assert len(missing) == 3
    assert "broker schema" in missing[0]
    spoil(site / "routes" / "orders.yaml", "# yaml-language-server: $schema=../docs/reference/route.schema.json\n", "")
    spoil(site / "routes" / "charges.yaml", "# yaml-language-server: $schema=../docs/reference/route.schema.json\n", "")
    output = run(site, "check").output
    assert output.count("editors do not know") == 1
    assert "routes/orders.yaml:1: editors do not know what may stand in this file and 1 more" in output
    assert "begin it with # yaml-language-server: $schema=../docs/reference/route.schema.json" in output


def test_every_shipped_yaml_file_names_its_schema() -> None:
    files = [ROOT / "channels.yaml", *sorted((ROOT / "routes").rglob("*.yaml")), *sorted((ROOT / "tests/scenarios").glob("*.yaml"))]
    assert len(files) > 20
    for file in files:
        first = file.read_text().splitlines()[0]
        prefix, _, schema = first.partition("$schema=")
        assert prefix == "# yaml-language-server: ", file
        assert (file.parent / schema).is_file(), file
