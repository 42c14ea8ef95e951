"""A configuration is held against HL7 and DICOM."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.check import check_config
from broker.config.load import load
from broker.connectors import registry
from tests.config.conftest import FILES, POINTER, REGISTRY, Check

TOP, ORDERS, IMAGES = "channels.yaml", "routes/orders.yaml", "routes/images.yaml"
STEP, SEND = "- require: PID-3.1", "send: ehr"

HL7 = [
    # replaced in routes/orders.yaml, by; line, severity, what, what to write instead
    (STEP, "- require: PID-99", 4, "problem", "PID has no field 99", "its last is PID-40"),
    (STEP, "- require: PID-5.99", 4, "problem", "PID-5 (Patient Name, XPN) has no part 99", "write PID-5"),
    (STEP, "- require: PID-5.1.9", 4, "problem", "PID-5.1 (Patient Name / Family Name, FN) has no part 9", "write PID-5.1"),
    (STEP, "- require: ORC-1.2", 4, "problem", "ORC-1 (Order Control, ID) has no part 2", "write ORC-1"),
    (STEP, "- require: OBZ-1", 4, "problem", "HL7 has no segment OBZ", "did you mean OBX?"),
    (STEP, '- require: "ORC[2]>OBR-99"', 4, "problem", "OBR has no field 99", "OBR-54"),
    (STEP, "- when: PID-99 exists\n    require: PID-3", 4, "problem", "PID has no field 99", ""),
    (STEP, "- copy: {from: PID-2, to: PID-99}", 4, "problem", "PID has no field 99", ""),
    (STEP, "- set: {ZPI-1: '{PID-99}'}", 4, "problem", "PID has no field 99", ""),
    ("accept: MSH-9.1 = ORM", "accept: MSH-9.1 = ORM and PID-99 = x", 2, "problem", "PID has no field 99", ""),
    ("accept: MSH-9.1 = ORM", "accept: MSH-9.1 = OMR", 2, "warning", "OMR is not in HL7 table 0076", "ORM"),
    ("accept: MSH-9.1 = ORM", "accept: MSH-12 = 2.3 and TQ1-9 exists", 2, "warning", "HL7 2.3 has no TQ1-9", "it is in 2.5 to 2.8.2"),
    (
        "accept: MSH-9.1 = ORM",
        "accept: MSH-9 = ORM^O01",
        2,
        "warning",
        "MSH-9 (Message Type) is compared whole",
        "MSH-9.1 = ORM and MSH-9.2 = O01",
    ),
    (STEP, "- when: PID-3 != 4711\n    drop: x", 4, "warning", "PID-3 (Patient Identifier List) is compared whole", "write PID-3.1"),
    (
        STEP,
        "- when: not (PV1-2 = E or OBX[*]-3 in [A, B])\n    drop: x",
        4,
        "warning",
        "OBX[*]-3 (Observation Identifier) is",
        "OBX[*]-3.1",
    ),
    (STEP, "- for_each: {segment: OXB, steps: [{drop: x}]}", 4, "problem", "HL7 has no segment OXB", "OBX"),
    (STEP, "- add: {segment: OXB}", 4, "problem", "HL7 has no segment OXB", "OBX"),
    (STEP, "- add: {segment: ZPI, after: PDI}", 4, "problem", "HL7 has no segment PDI", "did you mean PID?"),
    (STEP, "- set: {ORC-1: NWW}", 4, "warning", "NWW is not in HL7 table 0119 (Order Control)", "write one of NW, "),
    (STEP, "- set: {OBX-11: 7}", 4, "warning", "7 is not in HL7 table 0085", "write one of C, D, F"),
    (STEP, "- set: {MSH-9: XXX}", 4, "warning", "XXX is not in HL7 table 0076", "…"),
    (STEP, "- set: {MSH-18: LATIN}", 4, "warning", "LATIN is not in HL7 table 0211", "8859/1"),
    (STEP, "- set: {MSH-10: abcdefghijklmnopqrstu}", 4, "warning", "MSH-10 (Message Control ID) holds 20 characters, this has 21", ""),
    (STEP, "- set: {PID-3.1: '1234567890123456'}", 4, "warning", "holds 15 characters", ""),
    (STEP, "- set: {PID-3: 1^^^HOSP}", 4, "warning", "PID-3 is written as plain text", "such as PID-3.1"),
    (STEP, "- set: {PID-7.1: 2026-03-02}", 4, "warning", "is no DTM", "20260302143000"),
    (STEP, "- set: {PID-1: one}", 4, "warning", "is no SI", "whole number"),
    (STEP, "- map: {path: ORC-5, table: sex, missing: default, default: ZZ}", 4, "warning", "ZZ is not in HL7 table 0038", "CM"),
    (SEND, "send: ehr\n    set: {MSH-11: X}", 7, "warning", "X is not in HL7 table 0103", "D, P, T"),
]


@pytest.mark.parametrize(("old", "new", "line", "severity", "what", "instead"), HL7, ids=[f"{m[1]}: {m[4]}" for m in HL7])
def test_what_hl7_does_not_know_is_shown_at_its_place(
    check: Check, old: str, new: str, line: int, severity: str, what: str, instead: str
) -> None:
    checked = check((ORDERS, old, new))
    found = [one for one in checked.findings if what in one.problem.what]
    assert found, checked.findings
    assert (found[0].severity, Path(found[0].problem.file).name) == (severity, "orders.yaml")
    if "\n    set" not in new:
        assert found[0].problem.line == line
    assert instead in found[0].problem.instead
    assert found[0].stage == "fields"


@pytest.mark.parametrize(
    "step",
    [
        "- require: ZPI-7.2",  # a segment of the site's own may hold anything
        "- require: ORC-7.6",  # only until 2.6
        "- require: PID-40.1",  # only since 2.7
        "- require: PID-8.1",  # a primitive is its own first component
        "- require: OBX-5.9",  # of whatever type OBX-2 says
        "- set: {PID-8: X}",  # table 0001 is the user's
        "- when: MSH-12 in [2.3, 2.3.1] and MSH-11 = P and PID-7 = 19610615\n    drop: x",  # what else they have nobody sends
        "- when: PID-3 exists and PV1-2 = E\n    drop: x",
        "- for_each: {segment: ZPI, steps: [{drop: x}]}",
        "- set: {ORC-1: '{ORC-1 or ORC-5}'}",  # not known before a message comes
        "- set: {PID-19: '\"\"'}",  # deletes
        "- set: {TQ1-9.1: TD5}",  # TD<integer>
        "- set: {ORC-1: NW, OBX-11: F, MSH-11: P, PID-7: 1980}",
        "- map: {path: PID-8, table: sex}",
    ],
)
def test_what_hl7_knows_is_right(check: Check, step: str) -> None:
    assert check((ORDERS, STEP, step)).findings == ()


def test_a_senders_own_fields_can_be_declared(check: Check) -> None:
    extensions = (TOP, "data: ./data", "data: ./data\nextensions: [PID-99, OBZ, ORC-1]")
    assert check(extensions, (ORDERS, STEP, "- require: [PID-99.2, OBZ-1.1, ORC-1.2]")).findings == ()
    assert check(extensions, (ORDERS, STEP, "- require: PID-98")).problems


def test_the_cells_of_a_table_are_shown_in_the_table(check: Check) -> None:
    checked = check((ORDERS, "path: PID-8", "path: ORC-5"))
    assert [(Path(w.file).name, w.line, w.where) for w in checked.warnings] == [("sex.csv", 2, "ORC-5"), ("sex.csv", 3, "ORC-5")]
    assert "M is not in HL7 table 0038" in checked.warnings[0].what
    through = check((ORDERS, STEP, "- set: {ORC-5: '{PID-8 | sex}'}"))
    assert [Path(w.file).name for w in through.warnings] == ["sex.csv", "sex.csv"]


def test_a_message_that_is_built_is_held_against_the_version_it_names(check: Check) -> None:
    channel = (TOP, "  orders:", "  notices: {from: ris, route: routes/notices.yaml}\n  orders:")
    route = "description: N.\nto:\n  - build: OMI^O23^OMI_O23\n    set: {%s}\n    send: ehr\n"
    right = {"routes/notices.yaml": route % "ORC-1: XO"}
    assert check(channel, files=right).findings == ()
    wrong = check(channel, files={"routes/notices.yaml": route % "ORC-1: XOO, PID-40: x, PID-99: y"})
    assert {(one.severity, one.problem.what.partition(" (")[0], one.problem.line) for one in wrong.findings} == {
        ("warning", "HL7 2.5.1 has no PID-40", 4),
        ("warning", "XOO is not in HL7 table 0119", 4),
        ("problem", "PID has no field 99", 4),
    }


DICOM = [
    ("- set: {AccessionNumber: A1234567890123456}", "AccessionNumber cannot hold it: SH holds 16 characters, this has 17"),
    ("- set: {Modality: ct}", "Modality cannot hold it: CS holds capital letters"),
    ("- set: {PatientBirthDate: 2026-03-02}", "PatientBirthDate cannot hold it: DA holds a date such as 20260302"),
    ("- set: {StudyInstanceUID: 1.02}", "StudyInstanceUID cannot hold it: UI"),
    ("- set: {PatientName: A=B=C=D}", "PN has at most three"),
    ('- set: {PatientID: "a\\\\b"}', "PatientID has one value"),
    ("- map: {path: Modality, table: long}", "Modality cannot hold it: CS holds 16 characters"),
    ("- coerce: {table: attributes}", "AccessionNumber cannot hold it: SH holds 16"),
]
TABLES = {"tables/long.csv": "a,b\nCT,ABCDEFGHIJKLMNOPQ\n", "tables/attributes.csv": "attribute,value\nAccessionNumber,A1234567890123456\n"}


@pytest.mark.parametrize(("step", "what"), DICOM, ids=[m[1] for m in DICOM])
def test_what_an_attribute_cannot_hold_is_a_problem(check: Check, step: str, what: str) -> None:
    checked = check((IMAGES, "to:\n", f"steps:\n  {step}\nto:\n"), files=TABLES)
    found = [p for p in checked.problems if what in p.what]
    assert found, checked.findings
    at = {"long": ("long.csv", 2), "attributes": ("attributes.csv", 2)}
    assert (Path(found[0].file).name, found[0].line) == next((place for name, place in at.items() if name in step), ("images.yaml", 3))


@pytest.mark.parametrize("step", ["- set: {AccessionNumber: A1, Modality: CT, ImageType: 'ORIGINAL\\PRIMARY', PatientComments: 'a\\b'}"])
def test_what_an_attribute_can_hold_is_right(check: Check, step: str) -> None:
    assert check((IMAGES, "to:\n", f"steps:\n  {step}\nto:\n")).findings == ()


PROCEDURES = "code,name,modality,duration,cpt,modifiers,steps\n"
ORDER_TABLES = {
    "tables/procedures.csv": PROCEDURES + "CTCHEST,CT,CT,20,71260,,\n",
    "tables/order_control.csv": "code,action\nNW,new\n",
    "tables/priority.csv": "sent,code\nS,STAT\n",
}


@pytest.mark.parametrize(
    ("row", "column", "what"),
    [
        ("CTCHESTWITHCONTRAST,CT,CT,20,1,,", "code", "the worklist cannot hold it: SH holds 16 characters, this has 19"),
        ("CT\\A,CT,CT,20,1,,", "code", "a backslash separates values"),
        ("A,CT,ct,20,1,,", "modality", "CS holds capital letters"),
        ("A,CT,CT,20,1,,S1 One;STEPNUMBERTWOOFTWO Two", "steps", "SH holds 16 characters, this has 18"),
        ("A,CT,CT,0,1,,", "duration", "not a number of minutes"),
    ],
)
def test_a_code_that_the_worklist_cannot_hold_is_a_problem(check: Check, row: str, column: str, what: str) -> None:
    order = (ORDERS, "accept: MSH-9.1 = ORM\n", "accept: MSH-9.1 = ORM\neach: order\n")
    step = (ORDERS, "- map: {path: PID-8, table: sex}", "- ris: {apply: order, vocabulary: order_control}")
    assert check(order, step, files=ORDER_TABLES).problems == []
    problems = check(order, step, files=ORDER_TABLES | {"tables/procedures.csv": f"{PROCEDURES}{row}\n"}).problems
    assert [(Path(p.file).name, p.line, p.where) for p in problems] == [("procedures.csv", 2, column)]
    assert what in problems[0].what


@pytest.mark.parametrize(
    ("cells", "column"), [("CT1_OF_THE_MAIN_SITE,CT,R,0800,1800", "ae_title"), ("CT1,CT,The room at the very end,0800,1800", "room")]
)
def test_a_station_that_the_worklist_cannot_hold_is_a_problem(check: Check, cells: str, column: str) -> None:
    problems = check(("tables/stations.csv", "CT1,CT,Room 1,0800,1800", cells)).problems
    assert [(Path(p.file).name, p.line, p.where) for p in problems] == [("stations.csv", 2, column)]


@pytest.mark.parametrize(
    ("charset", "unencodable", "warned"), [("8859/1", "refuse", True), ("UNICODE UTF-8", "refuse", False), ("8859/1", "escape", False)]
)
def test_a_text_that_a_destination_cannot_take_is_a_warning(tmp_path: Path, charset: str, unencodable: str, warned: bool) -> None:
    top = "version: 1\nsite: {authority: HOSP}\nlisteners: {hospital: {mllp: {port: 2575}}}\n"
    top += f"destinations: {{ehr: {{mllp: {{host: h, port: 1, charset: {charset}, unencodable: {unencodable}}}}}}}\n"
    (tmp_path / "channels.yaml").write_text(f"{top}channels: {{o: {{from: hospital, route: o.yaml}}}}\n{POINTER}")
    (tmp_path / "o.yaml").write_text(f"description: O.\nto:\n  - send: ehr\n    steps:\n      - set: {{PID-11.3: Łódź}}\n{POINTER}")
    checked = check_config(tmp_path / "channels.yaml", {}, registry)
    assert checked.problems == []
    assert [w.line for w in checked.warnings if "ehr takes 8859/1" in w.what] == [5] * warned


def test_the_broker_runs_what_only_the_standard_does_not_know(tmp_path: Path) -> None:
    """`broker run` loads no tables of the standard, `broker check` does."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace(STEP, "- require: PID-99"))
    assert check_config(tmp_path / "channels.yaml", {}, REGISTRY).problems
    assert load(tmp_path / "channels.yaml", {}, REGISTRY).channels
