"""References and the messages built with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from broker.errors import MessageError
from broker.hl7.message import Message
from broker.pipeline import references
from broker.pipeline.layout import compile_layout, shipped_layouts
from broker.pipeline.references import compile_template
from broker.pipeline.shape import Mistakes
from broker.pipeline.tables import Table, read_table
from broker.ris.entities import Charge, Composite, Exam, Order, Patient, PatientIdentifier, Report, Step
from broker.ris.events import Event

LAYOUTS = shipped_layouts()
TABLES: Mapping[str, Table] = {"colour": read_table("colour", "key,code,text\nCT,red,Red\n")[0]}
SCOPE: Mapping[str, Any] = {
    "event": Event("exam.scheduled", accession="A1", reason="new"),
    "patient": Patient(1, "D|OE", "JANE", birth_date="19610615", sex="F", address=Composite("12 HIGH ST^^SPRINGFIELD")),
    "identifiers": [PatientIdentifier(1, 1, "4711", "HOSP", "MR"), PatientIdentifier(2, 1, "4812", "HOSP", "MR", merged_from=2)],
    "order": Order(1, 1, "P1", "EHR", "A1", "HOSP", status="SC", priority="STAT", provider=Composite("1^WELBY"), diagnoses=("R05", "J18")),
    "exam": Exam(
        1,
        1,
        1,
        "A1",
        "RP1",
        "1.2.3",
        "CTCHEST",
        "CT chest",
        "CT",
        "71260",
        ("26", "LT"),
        "scheduled",
        priority="STAT",
        scheduled_at="202603021000",
    ),
    "steps": [
        Step(1, 1, "S1", "scheduled", "CT", "CT1", "R1", "202603021000", 20),
        Step(2, 1, "S2", "scheduled", "CT", "CT1", "R1", "", 20),
    ],
    "report": Report(1, 1, "A1", status="final", text="one\ntwo", author=Composite("77&READER&RITA")),
    "charge": Charge(1, 1, "71260", ("26", "LT"), ("R05", "J18"), 1, "20260302"),
    "site": {"name": "General", "authority": "HOSP", "application": "BROKER"},
    "now": "20260302080000",
    "control_id": "1.1",
}


def build(message: str, overrides: Mapping[str, str] | None = None, scope: Mapping[str, Any] = SCOPE) -> Message:
    mistakes = Mistakes()
    builder = compile_layout(LAYOUTS[message], overrides or {}, TABLES, mistakes)
    assert mistakes.found == []
    return Message.parse(builder.build(scope))


@pytest.mark.parametrize("message", LAYOUTS)
def test_every_layout_builds_a_message_of_its_name(message: str) -> None:
    built = build(message)
    assert built.raw("MSH-9") == message
    assert built.control_id == "1.1"
    assert [built.get(f"MSH-{n}") for n in (3, 4, 7, 11, 12, 18)] == ["BROKER", "HOSP", "20260302080000", "P", "2.5.1", "UNICODE UTF-8"]
    assert built.raw("PID-3") == "4711^^^HOSP^MR"
    assert built.get("PID-5.1") == "D|OE"


def test_omi_has_one_ipc_per_step() -> None:
    built = build("OMI^O23^OMI_O23")
    assert [built.all(f"IPC[*]-{n}") for n in range(1, 6)] == [["A1", "A1"], ["RP1", "RP1"], ["1.2.3", "1.2.3"], ["S1", "S2"], ["CT", "CT"]]
    assert built.raw("ORC-2") == "P1^EHR"
    assert built.raw("ORC-12") == "1^WELBY"
    assert [built.get(path) for path in ("ORC-1", "ORC-5", "TQ1-7", "TQ1-9", "IPC-7", "IPC-9")] == [
        "NW",
        "SC",
        "202603021000",
        "S",
        "CT1",
        "CT1",
    ]


def test_a_cancelled_exam_without_steps_still_names_its_accession() -> None:
    built = build("OMI^O23^OMI_O23", scope={**SCOPE, "steps": []})
    assert [built.get(f"IPC-{n}") for n in range(1, 6)] == ["A1", "RP1", "1.2.3", "", "CT"]


def test_dft_carries_cpt_modifiers_and_icd10() -> None:
    built = build("DFT^P03^DFT_P03")
    wanted = {
        "FT1-4": "20260302",
        "FT1-6": "CG",
        "FT1-7.1": "CTCHEST",
        "FT1-10": "1",
        "FT1-25.1": "71260",
        "FT1-23.1": "A1",
        "FT1-20.2": "READER",
    }
    assert {path: built.get(path) for path in wanted} == wanted
    assert built.all("FT1-19[*].1") == ["R05", "J18"]
    assert built.all("FT1-26[*]") == ["26", "LT"]
    assert built.get("PR1-3.1") == "71260"


def test_a_charge_is_dated_by_the_service_and_posted_later() -> None:
    exam = replace(SCOPE["exam"], completed_at="20260301103000")
    built = build("DFT^P03^DFT_P03", scope={**SCOPE, "exam": exam})
    assert [built.get(path) for path in ("FT1-4", "FT1-5", "PR1-5")] == ["20260301103000", "20260302", "20260301103000"]


def test_a_diagnosis_names_its_coding_system() -> None:
    charge = replace(SCOPE["charge"], diagnoses=("R05", "786.2"))
    built = build("DFT^P03^DFT_P03", scope={**SCOPE, "charge": charge})
    assert built.raw("FT1-19") == "R05^^I10~786.2^^I9C"


@pytest.mark.parametrize(("priority", "code"), [("STAT", "S"), ("ASAP", "A"), ("ROUTINE", "R"), ("PRN", "PRN"), ("", "")])
def test_priority_is_sent_by_table_0485(priority: str, code: str) -> None:
    exam = replace(SCOPE["exam"], priority=priority)
    for message in ("OMI^O23^OMI_O23", "OMG^O19^OMG_O19", "SIU^S12^SIU_S12"):
        assert build(message, scope={**SCOPE, "exam": exam}).get("TQ1-9") == code


def test_an_appointment_has_the_fields_that_hl7_requires() -> None:
    built = build("SIU^S12^SIU_S12")
    required = ("SCH-6", "SCH-16", "SCH-20", "RGS-1", "AIS-1", "AIS-3", "AIG-1", "AIG-4", "AIL-1")
    assert [path for path in required if not built.exists(path)] == []
    assert built.raw("SCH-12") == "1^WELBY"  # the orderer is the placer's contact, not the filler's
    assert (built.get("SCH-16.2"), built.get("SCH-20.2"), built.get("SCH-8")) == ("General", "BROKER", "Normal")


def test_a_report_keeps_its_lines_and_its_status() -> None:
    built = build("ORU^R01^ORU_R01")
    assert built.get("OBX-5") == "one\ntwo"
    assert built.raw("OBX-5") == "one\\.br\\two"
    assert [built.get("OBR-25"), built.get("OBX-11"), built.raw("OBR-32")] == ["F", "F", "77&READER&RITA"]


def test_an_override_replaces_what_the_layout_says() -> None:
    built = build(
        "ORM^O01^ORM_O01", {"MSH-5": "P^CS", "ORC-5": "{exam.modality | colour}", "OBR-4.2": "{exam.modality | colour.text}", "ORC-2": "X"}
    )
    assert [built.get(path) for path in ("MSH-5", "ORC-5", "OBR-4.1", "OBR-4.2", "ORC-2")] == ["P^CS", "red", "CTCHEST", "Red", "X"]
    assert built.raw("MSH-5") == "P\\S\\CS"
    part = build("ORM^O01^ORM_O01", {"ORC-2.1": "X"})
    assert part.raw("ORC-2") == "X"


def test_an_empty_reference_is_an_error_at_its_field() -> None:
    mistakes = Mistakes()
    builder = compile_layout(LAYOUTS["ORM^O01^ORM_O01"], {"OBR-13": "{order.reason}"}, TABLES, mistakes)
    with pytest.raises(MessageError) as caught:
        builder.build(SCOPE)
    assert (caught.value.path, caught.value.why, caught.value.code) == ("OBR-13", "{order.reason} is empty", 101)


def test_a_character_that_the_charset_lacks_is_an_error_not_a_question_mark() -> None:
    scope = {**SCOPE, "patient": Patient(1, "ДОУ")}
    assert build("ADT^A08^ADT_A01", scope=scope).get("PID-5.1") == "ДОУ"
    with pytest.raises(MessageError) as caught:
        build("ADT^A08^ADT_A01", {"MSH-18": "8859/1"}, scope)
    assert caught.value.path == "MSH-18"
    assert build("ADT^A08^ADT_A01", {"MSH-18": "8859/5"}, scope).get("PID-5.1") == "ДОУ"


@pytest.mark.parametrize(
    ("text", "hl7", "plain"),
    [
        ("text", "text", "text"),
        ("a^b", "a\\S\\b", "a^b"),
        ("{exam.accession}", "A1", "A1"),
        ("Dr. {patient.family}!", "Dr. D\\F\\OE!", "Dr. D|OE!"),
        ("{order.provider}", "1^WELBY", "1^WELBY"),
        ("{order.reason?}", "", ""),
        ("{order.reason or patient.family}", "D\\F\\OE", "D|OE"),
        ("{order.reason or 'none given'}", "none given", "none given"),
        ("{exam.modifiers}", "26~LT", "26\\LT"),
        ("{exam.modality | colour}", "red", "red"),
        ("{order.reason? | colour}", "", ""),
        ("{patient.person_name}", "D\\F\\OE\\S\\JANE", "D|OE^JANE"),
        ("{event} {site.name} {now}", "exam.scheduled General 20260302080000", "exam.scheduled General 20260302080000"),
    ],
)
def test_a_reference_is_filled_in(text: str, hl7: str, plain: str) -> None:
    mistakes = Mistakes()
    template = compile_template(text, TABLES, mistakes)
    assert mistakes.found == []
    assert (template.hl7(SCOPE), template.plain(SCOPE)) == (hl7, plain)


@pytest.mark.parametrize(
    ("text", "why"),
    [("{order.reason}", "{order.reason} is empty"), ("{patient.sex | colour}", "{patient.sex | colour} is not in table colour")],
)
def test_a_reference_that_gives_nothing_is_an_error(text: str, why: str) -> None:
    with pytest.raises(MessageError) as caught:
        compile_template(text, TABLES, Mistakes()).hl7(SCOPE)
    assert caught.value.why == why


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{exam.acession}", "exam.acession is nothing the RIS knows; did you mean exam.accession?"),
        ("{foo}", "foo is nothing the RIS knows"),
        ("{}", " is nothing the RIS knows"),
        ("{exam.accession", "a brace without its partner"),
        ("{exam.modality | color}", "there is no table color"),
        ("{exam.modality | colour.txt}", "table colour has no column txt"),
    ],
)
def test_a_wrong_reference_is_a_mistake(text: str, what: str) -> None:
    mistakes = Mistakes()
    compile_template(text, TABLES, mistakes)
    assert what in mistakes.found[0].what


def test_every_reference_resolves_to_text_or_a_list() -> None:
    for name in references.names():
        for scope in (SCOPE, {"site": {}}):
            assert isinstance(references.resolve(name, scope), str | tuple), name
