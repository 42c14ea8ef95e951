"""`broker try` and `broker explain`, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydicom.dataset import Dataset

from broker.cli import main
from broker.simulate.images import make_images
from tests.cli.test_commands import run, site, spoil

__all__ = ["site"]


def typed(site: Path, *arguments: str, stdin: bytes = b"", color: bool = False) -> Result:
    environment = {"BROKER_DATA": str(site / "data")}
    return CliRunner().invoke(main, ["--config", str(site / "channels.yaml"), *arguments], env=environment, input=stdin, color=color)


def image(folder: Path) -> Path:
    entry = Dataset()
    entry.PatientName, entry.PatientID, entry.AccessionNumber, entry.StudyInstanceUID = "DOE^J", "4711", "A00000001", "1.2.840.99999.1"
    (made,) = make_images(entry, 1, station="CT1", at="20260302080000")
    made.save_as(folder / "ct.dcm", enforce_file_format=True)
    return folder / "ct.dcm"


# -- try


def test_each_step_is_shown_with_its_conditions_look_ups_events_and_what_is_sent(site: Path) -> None:
    output = typed(site, "try", "orders", str(site / "samples/orm_ct.hl7")).output
    for said in (
        "orders: Orders from the EHR",
        "accept: MSH-9.1 in [ORM, OMG, OMI]  holds",
        "when: ORC-1 = NW  holds",
        "routes/orders.yaml:",
        "table order_control: NW → action new",
        "events: patient.created, order.placed, exam.scheduled",
        "answer: AA",
        "archive_hl7: OMI^O23  (by notices, lane 4711)",
        "ORC|NW|P1^EHR|A00000001^GENHOSP",
    ):
        assert said in output
    assert not (site / "data").exists()


def test_each_pass_of_a_repetition_says_what_it_is_about(site: Path) -> None:
    each = "steps:\n  - for_each: {group: OBR, steps: [{for_each: {segment: OBX, steps: [{when: OBX-1 = 2, drop: withdrawn}]}}]}\n"
    (site / "routes/reports.yaml").write_text(f"description: Reports.\naccept: MSH-9.1 = ORU\n{each}to: [{{send: ehr}}]\n")
    message = (site / "samples/oru_final.hl7").read_bytes() + b"OBX|2|TX|||more\r"
    output = typed(site, "try", "reports", stdin=message).output
    lines = [line.split("  routes")[0].strip() for line in output.splitlines()]
    passes = [line for line in lines if line in ("OBR[1]", "OBX[1]", "OBX[2]")]
    assert passes[:3] == ["OBR[1]", "OBX[1]", "OBX[2]"]
    assert lines[lines.index("OBX[2]") + 1].startswith("when: OBX-1 = 2")
    steps = json.loads(typed(site, "try", "reports", "--json", stdin=message).output)["steps"]
    assert ("pass", "OBX[2]") in [(step["kind"], step["name"]) for step in steps]


def test_a_change_is_shown_with_the_name_of_its_field(site: Path) -> None:
    steps = "to:\n  - send: archive_hl7\n    steps:\n      - set: {PID-3.4: ELSEWHERE, MSH-5: PACS}\n      - remove: PID-11\n"
    spoil(site / "routes/registration.yaml", "to:\n  - send: archive_hl7\n", steps)
    output = typed(site, "try", "registration", stdin=(site / "samples/adt_a04.hl7").read_bytes()).output
    assert "PID-3.4 Patient Identifier List / Assigning Authority: 'GENHOSP' → 'ELSEWHERE'" in output
    assert "MSH-5 Receiving Application: 'BROKER' → 'PACS'" in output
    assert "PID-11 Patient Address: " in output
    assert "\x1b[" not in output
    assert "\x1b[32m'ELSEWHERE'" in typed(site, "try", "registration", str(site / "samples/adt_a04.hl7"), color=True).output


def test_what_is_refused_says_where_and_ends_with_1(site: Path) -> None:
    result = typed(site, "try", "orders", str(site / "samples/orm_ct.hl7"), "--set", "OBR-4.1=NOPE")
    assert result.exit_code == 1
    assert "table procedures: NOPE → not there" in result.output
    assert "answer: AE  OBR-4.1: not in table procedures" in result.output
    assert "nothing" in result.output


def test_a_channel_that_hears_of_the_ris_is_shown_the_events(site: Path) -> None:
    before = str(site / "samples/orm_ct.hl7")
    output = typed(site, "try", "notices", str(site / "samples/orm_ct_cancel.hl7"), "--after", before).output
    assert "  order.cancelled\n" in output
    assert "when: event = order.cancelled and order.status = CA  holds" in output
    assert "→ archive_hl7: OMI^O23" in output
    output = typed(site, "try", "notices", str(site / "samples/oru_final.hl7")).output
    assert "none of its 8 conditions holds" in output


def test_an_image_is_tried_like_a_message(site: Path, tmp_path: Path) -> None:
    order = str(site / "samples/orm_ct.hl7")
    output = typed(site, "try", "images", str(image(tmp_path)), "--from", "CT1").output
    assert "held: no exam is known for this study" in output
    output = typed(site, "try", "images", str(image(tmp_path)), "--from", "CT1", "--after", order).output
    assert "PatientName Patient's Name (0010,0010): 'DOE^J' → 'DOE^JANE^Q'" in output
    assert "archive: C-STORE" in output


def test_the_message_of_a_case_can_be_tried(site: Path) -> None:
    name = "a completed exam is charged with CPT and ICD-10 once its report is final"
    output = typed(site, "try", "charges", "--case", name).output
    assert "accept: event = charge.posted  holds" in output
    assert "billing: DFT^P03  (by charges" in output
    assert typed(site, "try", "charges", "--case", "nosuch").exit_code == 2


def test_a_program_gets_the_same_as_json(site: Path) -> None:
    found: dict[str, Any] = json.loads(typed(site, "try", "orders", "--json", str(site / "samples/orm_ct.hl7")).output)
    assert found["answer"] == "AA"
    assert found["channels"] == ["orders", "notices"]
    assert [step["name"] for step in found["steps"] if step["kind"] == "step"] == ["require", "require", "ris"]
    assert {sent["destination"] for sent in found["sent"]} == {"ehr", "archive_hl7"}


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["nosuch"], b"", "there is no channel nosuch"),
        (["orders"], b"", "there is nothing in it"),
        (["orders"], b"GET / HTTP/1.1", "it cannot be read: MSH: the message does not begin with MSH"),
        (["orders", "nosuch.hl7"], b"", "does not exist"),
        (["orders", "--set", "PID-3"], b"", "write it like PID-3.1=4711"),
        (["orders", "--set", "PID3=4"], b"MSH|^~\\&|A|B|C|D|2026||ORM^O01|1|P|2.5.1\r", "it cannot be read: PID3"),
    ],
)
def test_what_cannot_be_tried_is_told(site: Path, arguments: list[str], stdin: bytes, said: str) -> None:
    result = typed(site, "try", *arguments, stdin=stdin)
    assert result.exit_code in (1, 2)
    assert said in result.output
    assert "Traceback" not in result.output


# -- explain


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("PID-3.4", "PID-3.4: Patient Identifier List / Assigning Authority (HD)"),
        ("PID-3.4", "PID-3.4.2    Universal ID (ST)"),
        ("PID-8", "table 0001 (sites may add to it): A, F, M"),
        ("PID-8.1", "the ris step reads it as patient: sex"),
        ("OBX[2]-5", "Observation Value"),
        ("PID", "PID-5    Patient Name (XPN, required)"),
        ("PatientID", "PatientID: Patient ID (0010,0020)"),
        ("(0010,0020)", "PatientID: Patient ID (0010,0020)"),
        ("00100020", "VR LO"),
        ("sender", "the calling AE title"),
        ("103", "103: Table value not found (HL7 table 0357"),
        ("0357", "207 Application internal error"),
        ("HL70119", "HL7 table 0119"),
        ("condition", "PATH matches PATTERN"),
        ("exam states", "in_progress: start → in_progress"),
        ("in_progress", "in_progress (an exam): start → in_progress"),
        ("exam.scheduled", "an event of the RIS"),
        ("ORM^O01", "its segments: AL1"),
        ("mllp.charset", "Character set of messages"),
        ("ris", "ris (step)"),
        ("scenario", "CT1 stores 3 images: ok"),
        ("{exam.accession}", "accession of the exam"),
        (
            "orders",
            "a channel (",
        ),
        ("hospital", "an mllp listener"),
        ("archive_hl7", "registration, reports, notices may send to it"),
        ("procedures", "a code table of 9 rows, looked up by code"),
    ],
)
def test_a_word_is_explained(site: Path, word: str, said: str) -> None:
    result = run(site, "explain", word)
    assert result.exit_code == 0, result.output
    assert said in result.output


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("colerce", "did you mean coerce"),
        ("PtientID", "did you mean PatientID"),
        ("prcedures", "did you mean procedures"),
        ("PID-99", "PID has 39 fields in HL7 2.5.1"),
        ("PID-3.40", "PID-3 has no part 40"),
        ("PIX-3", "PIX is no segment of HL7 2.5.1"),
        ("zzqqxx", "broker explain lists what is"),
    ],
)
def test_an_unknown_word_says_what_is_near(site: Path, word: str, said: str) -> None:
    result = run(site, "explain", word)
    assert result.exit_code == 1
    assert said in result.output
    assert len(result.output) < 300


@pytest.mark.parametrize(
    ("word", "declared", "terms"),
    [
        ("8859/1", "8859/1", "ISO_IR 100"),
        ("ISO_IR 192", "UNICODE UTF-8", "ISO_IR 192"),
        ("ASCII~ISO IR87", "ASCII~ISO IR87", "ISO 2022 IR 6\\ISO 2022 IR 87"),
        ("ISO 2022 IR 6\\ISO 2022 IR 87", "ASCII~ISO IR87", "ISO 2022 IR 6\\ISO 2022 IR 87"),
    ],
)
def test_a_character_set_is_explained_by_both_its_names(site: Path, word: str, declared: str, terms: str) -> None:
    lines = run(site, "explain", word).output.splitlines()
    assert lines[2].endswith(f"  {declared}")
    assert lines[3].endswith(f"  {terms}")


def test_a_field_is_explained_in_the_version_that_is_asked_for(site: Path) -> None:
    assert "it is in 2.4" in run(site, "explain", "PID-35", "--version", "2.3").output
    assert run(site, "explain", "PID-3", "--version", "9").exit_code == 2


def test_a_word_is_explained_without_a_configuration_too(tmp_path: Path) -> None:
    assert "Patient ID" in CliRunner().invoke(main, ["--config", str(tmp_path / "none.yaml"), "explain", "PatientID"]).output


def test_every_value_of_a_message_is_explained(site: Path) -> None:
    output = run(site, "explain", str(site / "samples/orm_ct.hl7")).output
    for said in (
        "PID  Patient Identification",
        "Patient Identifier List / Assigning Authority (HD): GENHOSP",
        "Date/Time of Birth (TS): 19610615  1961-06-15",
        "Order Control (ID, table 0119): NW  order_control: action new, meaning New order",
        "procedures: name CT chest with contrast, modality CT",
    ):
        assert said in output
    piped = typed(site, "explain", "-", stdin=(site / "samples/orm_ct.hl7").read_bytes()).output
    assert piped == output


def test_what_is_wrong_in_a_message_is_shown_beside_the_value(site: Path) -> None:
    message = 'MSH|^~\\&|A|B|C|D|2026||ORM^O01|1|P|2.5.1\rPID|1||4711\rORC|QQ\rZZZ|own|a^b&c|""\rOBR|1|||NOPE~X^Y\r'
    found = json.loads(typed(site, "explain", "-", "--json", stdin=message.encode()).output)
    shown = {one["path"]: (one["value"], one["meaning"]) for one in found}
    assert shown["ORC-1"] == ("QQ", "not in table order_control")
    assert shown["OBR-4[1]"] == ("NOPE", "not in table procedures")
    assert shown["OBR-4[2].2"] == ("Y", "")
    assert shown["ZZZ-2.2.1"] == ("b", "")
    assert shown["ZZZ-3"] == ('""', "to be deleted (HL7 null)")


def test_a_dicom_object_is_explained(site: Path, tmp_path: Path) -> None:
    output = run(site, "explain", str(image(tmp_path))).output
    assert "PatientName" in output
    assert "Patient's Name (PN): DOE^J" in output
    assert "RequestAttributesSequence.AccessionNumber" in output


@pytest.mark.parametrize("content", [b"", b"nonsense", b"MSH", b"\x00" * 128 + b"DICM" + b"\xff" * 30])
def test_a_file_that_is_neither_is_told(site: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    result = run(site, "explain", str(tmp_path / "x"))
    assert result.exit_code == 1
    assert "neither an HL7 message nor a DICOM object" in result.output
