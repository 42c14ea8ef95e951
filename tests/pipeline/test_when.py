"""The condition language."""

from __future__ import annotations

import pytest

from broker.hl7.message import Message
from broker.pipeline.header import Header
from broker.pipeline.subject import EventSubject
from broker.pipeline.when import ConditionError, compile_condition
from broker.ris.entities import Exam
from broker.ris.events import Event

ORM = Message.parse(
    b"MSH|^~\\&|EHR|H|B|R|2026||ORM^O01|1|P|2.3.1\rPID|1||4711^^^H~99^^^N\rPV1|1|E\rOBX|1|NM|A||7.5\rOBX|2|ST|B||it's\rZAA|(x)|a, b]\r"
)

TRUE = [
    "MSH-9.1 = ORM",
    "MSH-9.1 in [ORM, OMG]",
    "MSH-9.1 not in [ADT]",
    "MSH-9.1 != ADT",
    "PID-3[*].1 = 99",
    "PID-3[*].1 in [98, 99]",
    "PID-3[2].4 = N",
    "PID-3.1 exists",
    "not PID-5 exists",
    "PID-5 is missing",
    "OBX[*]-3 = B",
    "OBX-5 > 7",
    "OBX-5 >= 7.5",
    "OBX-5 < 10",
    "PID-3.1 > 999",
    'OBX[2]-5 = "it\'s"',
    "ZAA-2 = 'a, b]'",
    "ZAA-1 = '(x)'",
    "OBX[*]-5 matches '^it'",
    "MSH-9.1 = ADT or PV1-2 = E",
    "MSH-9.1 = ORM and (PV1-2 = I or PV1-2 = E)",
    "MSH-9.1 = ADT and PV1-2 = I or PV1-2 = E",
    "not (MSH-9.1 = ADT or PV1-2 = I)",
    "not not PV1-2 = E",
]
FALSE = [
    "MSH-9.1 = orm",
    "MSH-9.1 in [ADT]",
    "PID-3[*].1 != 99",
    "PID-3[*].1 not in [98, 99]",
    "PID-5 exists",
    "OBX-5 > 10",
    "PID-5 < 10",
    "PID-5 matches '.'",
    "MSH-9.1 = ADT and (PV1-2 = I or PV1-2 = E)",
    "not PV1-2 = E",
]


@pytest.mark.parametrize(("text", "holds"), [(t, True) for t in TRUE] + [(t, False) for t in FALSE])
def test_a_condition_on_hl7(text: str, holds: bool) -> None:
    assert compile_condition(text, "hl7").holds(ORM) is holds


def test_a_condition_on_a_dicom_header_and_on_an_event() -> None:
    image = Header({"Modality": "CT", "ImageType": "ORIGINAL\\PRIMARY"}, sender="CT1")
    assert compile_condition("kind = C-STORE and Modality in [CT, MR] and sender = CT1", "dicom").holds(image)
    assert not compile_condition("PatientID exists", "dicom").holds(image)
    event = EventSubject({"event": Event("exam.scheduled", accession="A1"), "exam": Exam(modality="CT", modifiers=("26", "LT"))})
    assert compile_condition("event = exam.scheduled and exam.modality = CT and accession = A1", "ris").holds(event)
    assert not compile_condition("order.status = SC", "ris").holds(event)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "a path was expected instead of the end (column 1)"),
        ("MSH-9.1", "expected instead of the end"),
        ("MSH-9.1 = ", "a text was expected instead of the end"),
        ("MSH-9.1 == ORM", "a text was expected instead of = (column 10)"),
        ("MSH-9.1 in ORM", "[ expected instead of ORM (column 12)"),
        ("MSH-9.1 in [ORM", "] expected instead of the end"),
        ("MSH-9.1 in []", "a text was expected instead of ]"),
        ("(MSH-9.1 = ORM", ") expected instead of the end"),
        ("MSH-9.1 = ORM MSH-9.2 = O01", "MSH-9.2 was not expected (column 15)"),
        ("and MSH-9.1 = ORM", "a path was expected instead of and"),
        ("MSH-9.1 = 'ORM", "' does not belong here (column 11)"),
        ("PID-3.1 matches '('", "is no regular expression"),
        ("PID-0 exists", "numbers begin at 1"),
        ("(" * 60 + "PID-3 exists" + ")" * 60, "nested too deeply"),
        ("not " * 60 + "PID-3 exists", "nested too deeply"),
        ("MSH-9.1 == ORM", "; write = instead of =="),
        ("PV1-2 = E && PID-8 = F", "; write and instead of &&"),
        ("PV1-2 = E || PID-8 = F", "; write or instead of ||"),
        ("PV1-2 = E AND PID-8 = F", "; write and instead of AND"),
        ("PV1-2 <> E", "; write != instead of <>"),
        ("PV1-2 contains E", "; write matches instead of contains"),
        ("PV1-2 in (E, I)", "; write a list in brackets, [E, I]"),
        ("PID-5.1 = DOE JANE", '; a text with blanks stands in quotes, "DOE JANE"'),
        ("PID-5.1 = DOE JANE and PV1-2 = E", '"DOE JANE"'),
    ],
)
def test_what_is_no_condition_says_why(text: str, what: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text, "hl7")
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("text", "never"),
    [
        ("MSH-9.1 = ORM and MSH-9.1 = ADT", True),
        ("MSH-9.1 in [ORM, OMG] and MSH-9.1 = OMG", False),
        ("MSH-9.1 = ORM or MSH-9.1 = ADT", False),
        ("(MSH-9.1 = ORM or MSH-9.1 = OMG) and MSH-9.1 = ADT", True),
        ("(MSH-9.1 = ORM or PV1-2 = E) and MSH-9.1 = ADT", False),
        ("not MSH-9.1 = ORM and MSH-9.1 = ADT", False),
        ("PID-3[*].1 = 1 and PID-3[*].1 = 2", False),
    ],
)
def test_a_condition_that_contradicts_itself_is_known(text: str, never: bool) -> None:
    assert compile_condition(text, "hl7").never is never


GROUPS = Message.parse(
    b"MSH|^~\\&|||||||ORM^O01|1|P|2.3.1\rPID|1\rORC|NW\rOBR|1|||CT\rOBX|1|NM|||2\rORC|NW\rOBR|2|||MR\rOBX|1|NM|||7\rOBX|2|NM|||9\r"
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("ORC[2]>OBR-4 = MR", True),
        ("ORC>OBR-4=CT", True),
        ("ORC[2]>OBX[*]-5 > 8", True),
        ("ORC[1]>OBX[*]-5 > 8", False),
        ("ORC[*]>OBR-4 in [XR, MR] and not ORC[2]>NTE exists", True),
        ("PID[1]>ORC[2]>OBX[2]-5 >= 9", True),
        ("OBX-5 > 1", True),
        ("OBX-5>1", True),
        ("OBX-5>OBX", False),
        ("OBR-4 > ABC", True),
        ("(ORC[2]>OBR-4 is missing or OBX-5 < 3)", True),
    ],
)
def test_a_group_and_a_comparison_are_told_apart(text: str, holds: bool) -> None:
    assert compile_condition(text, "hl7").holds(GROUPS) is holds


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("ORC[2] > OBR-4 = MR", "= was not expected (column 16)"),
        ("ORC[2]>OBR-4", "expected instead of the end"),
        ("ORC-2>OBR-4 = MR", "= was not expected (column 13)"),
    ],
)
def test_a_group_with_blanks_is_a_comparison(text: str, what: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text, "hl7")
    assert what in str(caught.value)


def test_the_paths_it_reads_are_known() -> None:
    assert compile_condition("Modality = CT and (PatientID exists or not AccessionNumber exists)", "dicom").paths == (
        "Modality",
        "PatientID",
        "AccessionNumber",
    )
