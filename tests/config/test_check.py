"""Every mistake is found, at its file and line, with what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.load import load
from broker.connectors import registry
from broker.errors import ConfigError
from tests.config.conftest import REGISTRY, Check

TOP, ORDERS, IMAGES = "channels.yaml", "routes/orders.yaml", "routes/images.yaml"


def test_the_small_configuration_is_right(check: Check) -> None:
    checked = check()
    assert checked.problems == []
    assert checked.warnings == []
    config = checked.config
    assert config is not None
    assert [(one.name, one.kind, one.settings["port"], one.unmatched) for one in config.listeners] == [
        ("hospital", "mllp", 2575, "reject"),
        ("modalities", "dicom", 11112, "reject"),
    ]
    assert config.listeners[0].settings["idle"] == 30.0
    assert [(one.name, one.kind, one.line) for one in config.destinations] == [("archive", "dicom", 16), ("ehr", "mllp", 18)]
    assert [(one.name, one.source, one.protocol) for one in config.channels] == [
        ("orders", "hospital", "hl7"),
        ("images", "modalities", "dicom"),
    ]
    assert [station.aet for station in config.stations] == ["CT1"]


def test_the_environment_is_what_was_passed_in(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HL7_PORT", "1")
    config = check(env={"HL7_PORT": "7000"}).config
    assert config is not None
    assert config.listeners[0].settings["port"] == 7000


MISTAKES = [
    # where, replaced, by; line, what, what to write instead
    (TOP, "data: ./data", "dta: ./data", 4, "unknown key dta", "did you mean data?"),
    (TOP, "data: ./data", "data: ./data\ndata: ./other", 5, "key data stands here again", "it is also in line 4"),
    (TOP, "version: 1\n", "", 1, "version is missing", "add version"),
    (TOP, "version: 1", "version: 2", 1, "version 2 is not known to this broker", "write version: 1"),
    (TOP, "authority: HOSP", "name: Hospital", 2, "authority is missing", "add authority"),
    (TOP, "authority: HOSP", "authority: HOSP\n  timezone: Mars/Olympus", 4, "Mars/Olympus is no time zone", "Europe/Paris"),
    (TOP, "authority: HOSP", "authority: HOSP\n  accession: fixed", 4, "not a format that counts", "A{number:08d}"),
    (TOP, "data: ./data", "store: mysql://x", 4, "neither sqlite nor the URL of a PostgreSQL", "postgresql://"),
    (TOP, "port: 11112", 'port: "11112"', 14, "an integer is needed here, not text", "without quotes"),
    (TOP, "port: 11112", "port: 70000", 14, "70000 is no TCP port", "1 to 65535"),
    (TOP, "port: 11112", "port: 2575", 14, "listener modalities and listener hospital share port 2575", "another port"),
    (TOP, "port: 11112", "port: 8080", 7, "web and listener modalities share port 8080", "another port"),
    (TOP, "    mllp:\n", "    mlp:\n", 10, "unknown key mlp", "did you mean mllp?"),
    (TOP, "{port: 4242}", "{port: 4242, hots: x}", 17, "unknown key hots", "did you mean host?"),
    (TOP, "${HL7_PORT:-2575}", "${HL7_PORT}", 11, "environment variable HL7_PORT is not set", "${HL7_PORT:-a default}"),
    (TOP, "${HL7_PORT:-2575}", "${file:/no/such/secret}", 11, "/no/such/secret cannot be read", ""),
    (TOP, "from: hospital", "from: hopsital", 21, "there is no listener hopsital", "did you mean hospital?"),
    (TOP, "routes/orders.yaml", "routes/order.yaml", 21, "there is no file routes/order.yaml", "did you mean routes/orders.yaml?"),
    (TOP, "routes/orders.yaml", "routes", 21, "routes is a folder", "name a file in it, such as routes/images.yaml"),
    (TOP, "tables: tables/", "tables: missing/", 5, "there is no folder missing/", "create it"),
    (TOP, "tables: tables/", "tables: tables/\nstations: station", 6, "there is no table station", "did you mean stations?"),
    (ORDERS, "description: Orders.\n", "", 1, "description is missing", "add description"),
    (ORDERS, "accept:", "acept:", 2, "unknown key acept", "did you mean accept?"),
    (ORDERS, "MSH-9.1 = ORM", "MSH-9.1 == ORM", 2, "not a condition", "MSH-9.1 in [ORM, OMG]"),
    (ORDERS, "MSH-9.1 = ORM", "MSH9.1 = ORM", 2, "not an HL7 path", "PID-3.1"),
    (ORDERS, "MSH-9.1 = ORM", "MSH.9.1 = ORM", 2, "not an HL7 path: 'MSH.9.1'", "did you mean MSH-9.1?"),
    (ORDERS, "MSH-9.1 = ORM", "msh-9.1 = ORM", 2, "not an HL7 path: 'msh-9.1'", "did you mean MSH-9.1?"),
    (ORDERS, "- require: PID-3.1", "- set: {PID-3-1: x}", 4, "not an HL7 path: 'PID-3-1'", "did you mean PID-3.1?"),
    (ORDERS, "- require: PID-3.1", "- set: {PID-3(2).1: x}", 4, "not an HL7 path", "did you mean PID-3[2].1?"),
    (ORDERS, "- require: PID-3.1", "- set: {ZPI-1: [a, b]}", 4, "a text is needed here, not a list", "quotes"),
    (ORDERS, "- require: PID-3.1", "- set: {ZPI-1: {PID-5.1}}", 4, "a text is needed here, not a mapping", '"{PID-5.1}"'),
    (ORDERS, "- require: PID-3.1", "- add: {segment: ZPI, fields: {ZPI-1: {a: b}}}", 4, "a text is needed here, not a mapping", "quotes"),
    (ORDERS, "send: ehr", "send: ehr\n    set: {MSH-5: {exam.accession}}", 8, "a text is needed here, not a mapping", '"{exam.accession}"'),
    (
        ORDERS,
        "- require: PID-3.1",
        "- when: PV1-2 = E\n    drop: x\n    otherwise: [{drop: y}]",
        5,
        "drop cannot stand beside",
        "steps: [{drop: x}]",
    ),
    (ORDERS, "- require: PID-3.1", "- when: PV1-2 matches '(a+)+$'\n    drop: x", 4, "repeats what repeats already", ""),
    (ORDERS, "to:\n  - send: ehr", "to: [ehr]", 6, "a mapping is needed here, not text", "write {send: ehr}"),
    (ORDERS, "MSH-9.1 = ORM", "MSH-9.1 = ORM and MSH-9.1 = ADT", 2, "it can never hold", "use `or`"),
    (ORDERS, "- require: PID-3.1", "- requires: PID-3.1", 4, "unknown step requires", "did you mean require?"),
    (ORDERS, "- require: PID-3.1", "- require: PID3.1", 4, "not an HL7 path", ""),
    (ORDERS, "- require: PID-3.1", "- link: {by: AccessionNumber}", 4, "link does not work on HL7 messages", "DICOM requests"),
    (ORDERS, "- require: PID-3.1", "- require", 4, "a step is one name with its settings", ""),
    (ORDERS, "table: sex", "table: sexes", 5, "there is no table sexes", "did you mean sex?"),
    (ORDERS, "table: sex", "table: sex, column: cod", 5, "table sex has no column cod", "did you mean code?"),
    (ORDERS, "table: sex", "tabel: sex", 5, "unknown key tabel", "did you mean table?"),
    (ORDERS, "table: sex", "table: sex, missing: ignore", 5, "ignore is not one of error, keep, default", "write one of these"),
    (ORDERS, "send: ehr", "send: her", 7, "there is no destination her", "did you mean ehr?"),
    (ORDERS, "send: ehr", "send: archive", 7, "archive is a dicom destination and takes no HL7 messages", "ehr"),
    (ORDERS, "send: ehr", "send: ehr\n    set: {MSH-5: '{exam.acession}'}", 8, "exam.acession is nothing the RIS knows", "exam.accession"),
    (ORDERS, "send: ehr", "send: ehr\ncases: tests/none.yaml", 8, "there is no file tests/none.yaml", ""),
    (ORDERS, "description: Orders.", "description: [Orders.", 2, "not YAML", ""),
    (
        IMAGES,
        "description: Images.",
        "description: Images.\naccept: PatentID exists",
        2,
        "PatentID is no DICOM keyword",
        "did you mean PatientID?",
    ),
    (IMAGES, "description: Images.", "description: Images.\naccept: kind = C-STOR", 2, "there is no kind C-STOR", "did you mean C-STORE?"),
    (IMAGES, "description: Images.", "description: Images.\neach: order", 2, "only a route of HL7 messages repeats its steps", "remove"),
    ("tables/sex.csv", "F,F", "M,F", 3, "key M stands here again", "line 2"),
    ("tables/sex.csv", "sent,code", "sent,sent", 1, "column sent is named twice", ""),
    ("tables/sex.csv", "sent,code", "sent,", 1, "column 2 has no name", ""),
    ("tables/sex.csv", "F,F", "F,F,x", 3, "3 cells in a table of 2 columns", "quote"),
    ("tables/stations.csv", "opens,closes", "opening,closes", 1, "has no column opens", "its columns are"),
    ("tables/stations.csv", "0800,1800", "0800,0700", 1, "closes before it opens", ""),
]


@pytest.mark.parametrize(("file", "old", "new", "line", "what", "instead"), MISTAKES, ids=[f"{m[0]}: {m[4]}" for m in MISTAKES])
def test_a_mistake_is_shown_at_its_place(
    check: Check, tmp_path: Path, file: str, old: str, new: str, line: int, what: str, instead: str
) -> None:
    checked = check((file, old, new))
    assert checked.config is None
    found = [p for p in checked.problems if what in str(p) and instead in str(p)]
    assert found, checked.problems
    if not file.endswith("stations.csv"):  # shown where channels.yaml names the table
        assert (Path(found[0].file).relative_to(tmp_path), found[0].line) == (Path(file), line)


def test_all_mistakes_are_shown_at_once(check: Check) -> None:
    checked = check(
        (TOP, "data:", "dta:"), (ORDERS, "table: sex", "table: sexes"), (ORDERS, "send: ehr", "send: her"), (IMAGES, "send:", "sned:")
    )
    assert len(checked.problems) >= 5
    assert [p.line for p in checked.problems if p.file.endswith("orders.yaml")] == [5, 7]


def test_a_wrong_destination_is_one_mistake_not_one_per_route(check: Check) -> None:
    checked = check((TOP, "{port: 2577}", "{prot: 2577}"))
    assert {Path(p.file).name for p in checked.problems} == {"channels.yaml"}


def test_one_port_on_two_addresses_is_right(check: Check) -> None:
    assert check((TOP, "port: 11112", "port: 2575\n      bind: 127.0.0.2")).problems == []
    shared = check((TOP, "port: 11112", "port: 2575\n      bind: 0.0.0.0"))
    assert ["share port" in p.what for p in shared.problems] == [True]


def test_port_0_is_any_port_and_may_stand_twice(check: Check) -> None:
    assert check((TOP, "port: 11112", "port: 0"), env={"HL7_PORT": "0"}).problems == []


def test_ris_routes_name_known_events_and_layouts(check: Check) -> None:
    channel = (TOP, "  orders:", "  notices: {from: ris, route: routes/notices.yaml}\n  orders:")
    right = "description: N.\nto:\n  - when: event = exam.scheduled\n    build: OMI^O23^OMI_O23\n    set: {MSH-5: PACS}\n    send: ehr\n"
    assert check(channel, files={"routes/notices.yaml": right}).problems == []
    for old, new, what in (
        ("exam.scheduled", "exam.schedulled", "there is no event exam.schedulled"),
        ("OMI^O23^OMI_O23", "OMI^O24^OMI_O23", "there is no layout OMI^O24^OMI_O23"),
        ("MSH-5", "ZZZ-5", "OMI^O23^OMI_O23 has no segment ZZZ"),
        ("    build: OMI^O23^OMI_O23\n", "", "a RIS event is no message yet"),
        ("event = ", "exam.acession = ", "exam.acession is nothing the RIS knows"),
    ):
        found = check(channel, files={"routes/notices.yaml": right.replace(old, new)}).problems
        assert any(what in str(p) for p in found), found


def test_a_missing_file_is_one_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.yaml", {}, REGISTRY)
    assert [p.what for p in caught.value.problems] == ["cannot be read: No such file or directory"]


@pytest.mark.parametrize("text", ["", "- a\n- b", "just text", "version: 1"])
def test_a_file_that_is_no_configuration_is_a_problem(check: Check, text: str) -> None:
    checked = check(files={TOP: text})
    assert checked.config is None
    assert checked.problems


def test_the_shipped_configuration_is_right_and_moves_with_the_environment() -> None:
    root = Path(__file__).parents[2]
    moved = {
        "BROKER_DATA": "/var/lib/broker",
        "BIND": "127.0.0.9",
        "HL7_PORT": "1001",
        "DICOM_PORT": "1002",
        "DICOM_AET": "12345",
        "WEB_PORT": "1003",
        "ARCHIVE_HOST": "archive",
        "ARCHIVE_DICOM_PORT": "1004",
        "ARCHIVE_AET": "VNA",
        "ARCHIVE_HL7_PORT": "1005",
        "EHR_HOST": "ehr",
        "EHR_HL7_PORT": "1006",
        "BILLING_HOST": "billing",
        "BILLING_HL7_PORT": "1007",
    }
    config = load(root / "channels.yaml", moved, registry)
    assert config.warnings == ()
    assert str(config.data) == "/var/lib/broker"
    assert (config.web.bind, config.web.port) == ("127.0.0.9", 1003)
    hospital, modalities = config.listeners
    assert (hospital.settings["bind"], hospital.settings["port"]) == ("127.0.0.9", 1001)
    assert (modalities.settings["bind"], modalities.settings["port"], modalities.settings["ae_title"]) == ("127.0.0.9", 1002, "12345")
    assert {one.name: (one.settings["host"], one.settings["port"]) for one in config.destinations} == {
        "archive": ("archive", 1004),
        "archive_hl7": ("archive", 1005),
        "ehr": ("ehr", 1006),
        "billing": ("billing", 1007),
    }
    assert config.destinations[0].settings["ae_title"] == "VNA"
    default = load(root / "channels.yaml", {}, registry)
    assert (default.listeners[0].settings["port"], default.listeners[1].settings["port"], default.web.port) == (2575, 11112, 8080)


def test_a_wrong_time_zone_is_one_problem_also_for_routes_that_read_times(check: Check) -> None:
    problems = check(
        (TOP, "authority: HOSP", "authority: HOSP\n  timezone: Mars/Olympus"), (IMAGES, "to:\n", "steps:\n  - ris: image\nto:\n")
    ).problems
    assert [problem.where for problem in problems] == ["site.timezone"]


CASES = "- name: c\n  given: samples/a.hl7\n  expect: {answer: AA}\n"


@pytest.mark.parametrize(
    ("cases", "line", "what", "instead"),
    [
        (CASES, 0, "", ""),
        (CASES.replace("expect", "expects"), 3, "unknown key expects", "did you mean expect?"),
        (CASES.replace("answer", "anwser"), 3, "unknown key anwser", "did you mean answer?"),
        (CASES + CASES.replace("a.hl7", "b.hl7"), 4, "there is no file samples/b.hl7", "name a sample from the folder of channels.yaml"),
        (CASES.replace("  given", "  after: samples/b.hl7\n  given"), 1, "there is no file samples/b.hl7", "name a sample"),
        ("a: b\n", 1, "a list of cases is needed here", "begin each with - name:"),
        ("- [\n", 3, "not YAML", "close every bracket"),
    ],
)
def test_the_files_of_cases_are_checked(check: Check, cases: str, line: int, what: str, instead: str) -> None:
    files = {"routes/t.yaml": cases, "samples/a.hl7": "MSH|"}
    problems = check((ORDERS, "send: ehr", "send: ehr\ncases: t.yaml"), files=files).problems
    assert any(what in p.what and instead in p.instead and p.line == line for p in problems) is bool(what), problems
    assert what or not problems


@pytest.mark.parametrize("build", ["build: OMI^O23^OMI_O23\n    set: {%s}", "steps:\n      - build: {message: OMI^O23^OMI_O23, set: {%s}}"])
@pytest.mark.parametrize(("field", "instead"), [("ORC-1: [a]", "quotes"), ("ORC-1: {exam.accession}", '"{exam.accession}"')])
def test_a_field_of_a_message_that_is_built_is_a_text(check: Check, build: str, field: str, instead: str) -> None:
    problems = [one for one in check((ORDERS, "send: ehr", f"send: ehr\n    {build % field}")).problems if "ORC-1" in one.where]
    assert [one.what.startswith("a text is needed here") and instead in one.instead for one in problems] == [True]


def test_a_file_of_cases_that_is_not_there_is_one_problem(check: Check) -> None:
    assert [p.what for p in check((ORDERS, "send: ehr", "send: ehr\ncases: none.yaml")).problems] == ["there is no file none.yaml"]
