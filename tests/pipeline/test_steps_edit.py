"""Steps that edit fields and segments: set, copy, move, remove, map, format, split, join, add."""

from __future__ import annotations

import pytest

from broker.dicom.storerequest import decode_request
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.pipeline.header import Header
from tests.pipeline.test_route import SPOOLED, Engine, compiled, route, run

RAW = (
    "MSH|^~\\&|EHR|H|B|R|20260302||ORU^R01|C1|P|2.5.1\r"
    "PID|1|OLD|4711^^^H~4712^^^G||DOE^JANE^Q^JR^DR||19610615|W|||||(217)555-0100~2175550199\r"
    "ORC|RE|P1\rOBR|1|P1||CT1^x\rOBX|1|TX|A||one\rNTE|1||first\rNTE|2||\rNTE|3||second\rOBX|2|TX|W||two\r"
)


def after(step: str, path: str, raw: str = RAW) -> list[str]:
    """Return what stands at a path, as it stands, after one step."""
    (sent,) = run(f"steps:\n  - {step}\nto: [{{send: ehr}}]", raw.encode()).outgoing
    message = Message.parse(sent.payload)
    return message.all(path) if "*" in path else [message.raw(path)]


def with_field(path: str, raw_text: str) -> str:
    message = Message.parse(RAW.encode())
    message.set_raw(path, raw_text)
    return message.encode().decode()


@pytest.mark.parametrize(
    ("step", "path", "expected"),
    [
        ('set: {ZPI-2: "{PID-5.1}, {PID-5.2}"}', "ZPI-2", ["DOE, JANE"]),
        ('set: {ZPI-2: "{PID-5}"}', "ZPI-2", ["DOE^JANE^Q^JR^DR"]),
        ('set: {ZPI-2: "{PID-6?}x"}', "ZPI-2", ["x"]),
        ('set: {ZPI-2: "{PID-6 or PID-7}"}', "ZPI-2", ["19610615"]),
        ('set: {ZPI-2: "{PID-8 | sex.word}"}', "ZPI-2", ["female"]),
        ('set: {ZPI-2: "{ORC[1]>OBR-4.1}"}', "ZPI-2", ["CT1"]),
        ('set: {"OBX[*]-8": N}', "OBX[*]-8", ["N", "N"]),
        ('set: {"PID-3[*].4": X}', "PID-3", ["4711^^^X~4712^^^X"]),
        ('set: {"ORC[1]>OBR-7": X}', "OBR-7", ["X"]),
        ("copy: {from: PID-3, to: [PID-2, PID-4]}", "PID-4", ["4711^^^H~4712^^^G"]),
        ('copy: {from: "OBX[*]-5", to: "OBX[*]-4"}', "OBX[*]-4", ["one", "two"]),
        ('copy: {from: "PID-3[*].1", to: "PID-4[*].1"}', "PID-4", ["4711~4712"]),
        ('copy: {from: PID-8, to: "OBX[*]-8"}', "OBX[*]-8", ["W", "W"]),
        ("copy: {from: PID-6, to: PID-8}", "PID-8", [""]),
        ("move: {from: PID-2, to: PID-4}", "PID-4", ["OLD"]),
        ("move: {from: PID-2, to: PID-4}", "PID-2", [""]),
        ("move: {from: PID-6, to: PID-8}", "PID-8", ["W"]),
        ('move: {from: "PID-3[2]", to: PID-4}', "PID-3", ["4711^^^H"]),
        ('move: {from: "PID-3[*]", to: "PID-4[*]"}', "PID-4", ["4711^^^H~4712^^^G"]),
        ('move: {from: "PID-3[*]", to: "PID-4[*]"}', "PID-3", [""]),
        ('remove: ["NTE[*]", PID-3.4]', "PID-3", ["4711^^^~4712^^^G"]),
        ('remove: "NTE[*]"', "NTE[*]", []),
        ("remove: NTE", "NTE[*]-3", ["", "second"]),
        ('map: {path: "OBX[*]-3", table: sex, missing: keep}', "OBX[*]-3", ["A", "F"]),
        ('map: {path: "OBX[*]-3", to: "OBX[*]-4", table: sex, missing: default, default: U}', "OBX[*]-4", ["U", "F"]),
        ("add: {segment: ZPI}", "ZPI[*]", ["ZPI"]),
        ('add: {segment: ZPI, after: PID, fields: {ZPI-1: "1", ZPI-2.1: "{PID-5.1}"}}', "ZPI[*]", ["ZPI|1|DOE"]),
        ("add: {segment: NTE, after: NTE, fields: {NTE-3: last}}", "NTE[*]-3", ["first", "", "second", "last"]),
        ('add: {segment: NTE, after: "NTE[1]", fields: {NTE-3: new}}', "NTE[*]-3", ["first", "new", "", "second"]),
        ("add: {segment: NTE, before: OBX, fields: {NTE-3: new}}", "NTE[*]-3", ["new", "first", "", "second"]),
    ],
)
def test_what_stands_there_afterwards(step: str, path: str, expected: list[str]) -> None:
    assert after(step, path) == expected


DATE = "format: {path: PID-7, date: {%s}}"
FORMATS = [
    (DATE % "to: YYYY-MM-DD", "PID-7", "19610615", "1961-06-15"),
    (DATE % "from: DD.MM.YYYY", "PID-7", "15.06.1961", "19610615"),
    (DATE % "from: DD-MMM-YYYY hh:mm AM", "PID-7", "15-jun-1961 12:05 AM", "196106150005"),
    (DATE % "to: DD-MMM-YYYY hh:mm AM", "PID-7", "196106152305", "15-JUN-1961 11:05 PM"),
    (DATE % "to: 'YYYYMMDD[HHmm[ss]]'", "PID-7", "1961061523", "19610615"),
    (DATE % "to: 'YYYYMMDD[HHmm[ss]]'", "PID-7", "196106152305", "196106152305"),
    (DATE % "to: 'YYYYMMDDHHmm'", "PID-7", "19610615230559.1234", "196106152305"),
    (DATE % "", "PID-7", "19610615230559.1234", "19610615230559.1234"),
    (DATE % "", "PID-7", "1961", "1961"),
    (DATE % "", "PID-7", "202607011200+0200", "202607011000+0000"),
    (DATE % "to: YYYYMMDDHHmm", "PID-7", "202607010030+0200", "202606302230"),
    (DATE % "to_zone: Europe/Paris", "PID-7", "202607011200", "202607011400"),
    (DATE % "from_zone: America/New_York, to: YYYYMMDDHHmmZZ", "PID-7", "202607011200", "202607011600+0000"),
    (DATE % "to: YYYYMMDDHHmmZZ, to_zone: Europe/Paris, from_zone: Europe/Paris", "PID-7", "202601011200", "202601011200+0100"),
    (DATE % "to_zone: Europe/Paris", "PID-7", "20260701", "20260701"),
    (DATE % "to: 'YYYY-MM-DDTHH:mm:ssZZ'", "PID-7", "20260701120000", "2026-07-01T12:00:00+0000"),
    (DATE % "from: HL7", "PID-7", '""', '""'),
    (DATE % "from: HL7", "PID-7", "", ""),
    ("format: {path: PID-5, to: ZPI-1, name: {to: PN}}", "ZPI-1", "O\\T\\DOE^JANE^Q^JR^DR", "O\\T\\DOE\\S\\JANE\\S\\Q\\S\\DR\\S\\JR"),
    ("format: {path: PID-5, name: {to: family first}}", "PID-5", "DOE^JANE^Q^JR", "DOE, JANE Q"),
    ("format: {path: PID-5, name: {to: given first}}", "PID-5", "DOE^JANE^Q^JR^DR", "DR JANE Q DOE JR"),
    ("format: {path: PID-5, name: {from: family first, to: XPN}}", "PID-5", "O\\T\\DOE, JANE Q", "O\\T\\DOE^JANE^Q"),
    ("format: {path: PID-5, name: {from: PN, to: XCN}}", "PID-5", "DOE\\S\\JANE\\S\\\\S\\DR", "^DOE^JANE^^^DR"),
    ("format: {path: PID-5, name: {from: XCN, to: family first}}", "PID-5", "1^DOE^JANE", "DOE, JANE"),
    ("format: {path: 'PID-13[*].1', phone: [999-9999, (999) 999-9999]}", "PID-13", "2175550100~555.0199", "(217) 555-0100~555-0199"),
    ("format: {path: PID-13, phone: +9 999 999 9999}", "PID-13", "+1 (217) 555-0100", "+1 217 555 0100"),
    ("format: {path: [PID-5, PID-8], case: upper}", "PID-5", "Doe^jane\\.br\\x&ö", "DOE^JANE\\.br\\X&Ö"),
    ("format: {path: PID-5, case: lower}", "PID-5", "DOE^JANE", "doe^jane"),
    ("format: {path: PID-5, case: title}", "PID-5", "O'BRIEN-DOE^MARY ANN", "O'Brien-Doe^Mary Ann"),
    ("format: {path: PID-5, trim: {}}", "PID-5", " DOE \\T\\ X ^ JANE ", "DOE \\T\\ X^JANE"),
    ('format: {path: PID-2, trim: {what: "0", side: left}}', "PID-2", "00470", "470"),
    ('format: {path: PID-2, trim: {what: "0", side: right}}', "PID-2", "00470", "0047"),
    ("format: {path: PID-2, pad: {length: 6}}", "PID-2", "4711", "004711"),
    ('format: {path: PID-2, pad: {length: 6, with: "-", side: right}}', "PID-2", "4711", "4711--"),
    ("format: {path: PID-2, pad: {length: 3}}", "PID-2", "4711", "4711"),
    ("format: {path: PID-2, cut: {to: 2}}", "PID-2", "4711", "47"),
    ("format: {path: PID-2, cut: {from: 2, to: 9}}", "PID-2", "4\\T\\11", "\\T\\11"),
    ("format: {path: 'PID-3[*].1', pad: {length: 6}}", "PID-3", "4711^^^H~4712", "004711^^^H~004712"),
]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ('set: {ZPI-2: "{PID-10}"}', '""'),
        ('set: {ZPI-2: "{PID-10?} x"}', " x"),
        ('set: {ZPI-2: "{PID-10?}{PID-5.1}"}', "DOE"),
        ('set: {ZPI-2: "{PID-10 or PID-5.1} x"}', "DOE x"),
        ('set: {ZPI-2: "{PID-10? | sex} x"}', " x"),
        ("format: {path: PID-10, to: ZPI-2, date: {}}", '""'),
        ("format: {path: PID-10, to: ZPI-2, case: upper}", '""'),
        ("format: {path: PID-10, to: ZPI-2, trim: {what: '\"'}}", '""'),
        ("format: {path: PID-10, to: ZPI-2, name: {to: PN}}", '""'),
        ("format: {path: PID-10, pad: {length: 8}, to: ZPI-2}", '""'),
    ],
)
def test_a_null_is_carried_over_alone_and_left_out_of_a_text(step: str, expected: str) -> None:
    assert after(step, "ZPI-2", with_field("PID-10", '""')) == [expected]


@pytest.mark.parametrize(("step", "path", "sent", "expected"), FORMATS)
def test_format(step: str, path: str, sent: str, expected: str) -> None:
    source = step.partition("path: ")[2].lstrip("['").partition(",")[0].partition("[")[0].partition("'")[0]
    assert after(step, path, with_field(source, sent)) == [expected]


@pytest.mark.parametrize(
    ("rule", "sent", "says"),
    [
        ("date: {from: DD.MM.YYYY}", "19610615", "does not fit date DD.MM.YYYY"),
        ("date: {}", "19611315", "does not fit date HL7"),
        ("date: {}", "19610231", "does not fit date HL7"),
        ("date: {to: YYYYMMDDHHmm}", "19610615", "or holds less than YYYYMMDDHHmm"),
        ("date: {}", "19610615^D", "holds several parts"),
        ("date: {from: YYYY hh AM}", "1961 13 PM", "does not fit date"),
        ("date: {to_zone: America/New_York}", "00010101000000", "does not fit date"),
        ("name: {from: family first, to: XPN}", "SECRET", "does not fit name family first"),
        ("name: {to: PN}", "^JANE", "does not fit name XPN"),
        ("phone: 999-9999", "12345678", "does not fit phone 999-9999"),
        ("phone: 999-9999", "555-0100 ext", "does not fit phone 999-9999"),
        ("cut: {from: 9, to: 12}", "SECRET", "does not fit cut"),
    ],
)
def test_what_does_not_fit_is_an_error_with_its_place_unless_told(rule: str, sent: str, says: str) -> None:
    raw = with_field("PID-7", sent)
    with pytest.raises(MessageError) as caught:
        after(f"format: {{path: PID-7, {rule}}}", "PID-7", raw)
    assert (caught.value.path, caught.value.code) == ("PID-7", 102)
    assert says in caught.value.why
    assert "SECRET" not in str(caught.value)
    if "parts" not in says:
        assert after(f"format: {{path: PID-7, {rule}, otherwise: keep}}", "PID-7", raw) == [sent]
        assert after(f"format: {{path: PID-7, {rule}, otherwise: empty}}", "PID-7", raw) == [""]


@pytest.mark.parametrize(
    ("step", "path", "sent", "target", "expected"),
    [
        ('split: {path: ZPI-2, at: ",", into: [PID-5.1, PID-5.2]}', "ZPI-2", "ROE, RICHARD", "PID-5", ["ROE^RICHARD^Q^JR^DR"]),
        ('split: {path: ZPI-2, at: ",", into: [PID-5.1, PID-5.2]}', "ZPI-2", "ROE", "PID-5", ["ROE^^Q^JR^DR"]),
        ('split: {path: ZPI-2, at: ",", into: [PID-5.1, PID-5.2]}', "ZPI-2", "", "PID-5", ["DOE^JANE^Q^JR^DR"]),
        ('split: {path: ZPI-2, at: ",", into: [PID-5.1, PID-5.2], otherwise: keep}', "ZPI-2", "A,B,C", "PID-5", ["DOE^JANE^Q^JR^DR"]),
        ('split: {path: ZPI-2, at: ",", into: [ZPI-3, ZPI-4], otherwise: last}', "ZPI-2", "A,B,C", "ZPI-4", ["B,C"]),
        ('split: {path: ZPI-2, at: ",", into: [ZPI-3, ZPI-4], trim: false}', "ZPI-2", "A, B", "ZPI-4", [" B"]),
        ('split: {path: ZPI-2, at: ";", into: "PID-13[*].1"}', "ZPI-2", "1;2;3", "PID-13", ["1~2~3"]),
        ('split: {path: ZPI-2, at: ";", into: "PID-13[*].1"}', "ZPI-2", "1", "PID-13", ["1~"]),
        ('split: {path: OBX-5, at: "\\n", into: "NTE[*]-3"}', "OBX-5", "a\\.br\\b", "NTE[*]-1", ["1", "2", "1", "2", "3"]),
        ('split: {path: OBX-5, at: "\\n", into: "NTE[*]-3"}', "OBX-5", "a\\.br\\b", "NTE[*]-3", ["a", "b", "first", "", "second"]),
        (
            'split: {path: "ORC>OBX[2]-5", at: "\\n", into: "NTE[*]-3"}',
            "OBX[2]-5",
            "a\\.br\\b",
            "NTE[*]-3",
            ["first", "", "second", "a", "b"],
        ),
        ('join: {from: [PID-5.1, PID-6, PID-5.2], with: ", ", to: ZPI-2}', "ZPI-1", "", "ZPI-2", ["DOE, JANE"]),
        ('join: {from: "NTE[*]-3", with: "\\n", to: OBX-5}', "ZPI-1", "", "OBX-5", ["first\\.br\\second"]),
        ('join: {from: "NTE[*]-3", with: "\\n", to: OBX-5, empty: keep}', "ZPI-1", "", "OBX-5", ["first\\.br\\\\.br\\second"]),
        ('join: {from: "NTE[*]-3", with: " ", to: "ORC[1]>OBX[2]-5"}', "ZPI-1", "", "OBX[2]-5", ["first second"]),
    ],
)
def test_split_and_join(step: str, path: str, sent: str, target: str, expected: list[str]) -> None:
    assert after(step, target, with_field(path, sent) if sent else RAW) == expected


def test_split_into_new_segments_in_for_each_stands_below_each() -> None:
    raw = RAW.replace("one", "a, b").replace("two", "c")
    (sent,) = run(
        'steps: [{for_each: {segment: OBX, steps: [{split: {path: OBX-5, at: ",", into: "NTE[*]-3"}}]}}]\nto: [{send: ehr}]', raw.encode()
    ).outgoing
    lines = sent.payload.decode().split("\r")
    assert lines[4:7] == ["OBX|1|TX|A||a, b", "NTE|1||a", "NTE|2||b"]
    assert lines[-3:] == ["OBX|2|TX|W||c", "NTE|1||c", ""]


@pytest.mark.parametrize(
    ("step", "path", "code"),
    [
        ('split: {path: PID-5.1, at: "O", into: [PID-5.1]}', "PID-5.1", 102),
        ("add: {segment: ZPI, after: PV1}", "PV1", 100),
        ("add: {segment: ZPI, before: PV1}", "PV1", 100),
        ('add: {segment: ZPI, fields: {ZPI-2: "{PID-6}"}}', "ZPI-2", 101),
        ('set: {ZPI-2: "{PID-6}"}', "ZPI-2", 101),
        ('map: {path: "OBX[*]-3", table: sex}', "OBX[1]-3", 103),
        ('format: {path: "OBX[*]-5", date: {}}', "OBX[1]-5", 102),
        ("move: {from: PID-5, to: PID-2.1}", "PID-5", 102),
    ],
)
def test_an_error_names_its_place(step: str, path: str, code: int) -> None:
    with pytest.raises(MessageError) as caught:
        after(step, "PID-5")
    assert (caught.value.path, caught.value.code) == (path, code)


@pytest.mark.parametrize(
    ("step", "key", "what"),
    [
        ("set: {ZPI-2: '{PID-5.1'}", ("set", "ZPI-2"), "a brace without its partner"),
        ("set: {ZPI-2: '{PID5.1}'}", ("set", "ZPI-2"), "not an HL7 path"),
        ("set: {ZPI-2: '{OBX[*]-5}'}", ("set", "ZPI-2"), "names several places; use the step join"),
        ("copy: {from: 'OBX[*]-5', to: ZPI-2}", ("copy", "to"), "names several places"),
        ("move: {from: PID-3, to: PID-3}", ("move", "to"), "it stands there already"),
        ("move: {from: MSH-2, to: PID-3}", ("move", "from"), "MSH-2 cannot be written"),
        ("remove: MSH", ("remove",), "a message without MSH is none"),
        ("remove: MSH-2", ("remove",), "MSH-2 cannot be written"),
        ("map: {path: PID-8, table: sex, default: U}", ("map", "default"), "default is never written"),
        ("map: {path: 'OBX[*]-5', to: ZPI-2, table: sex}", ("map", "to"), "names several places"),
        ("format: {path: PID-7}", ("format",), "nothing to do"),
        ("format: {path: PID-7, case: upper, trim: {}}", ("format",), "case and trim in one step"),
        ("format: {path: PID-7, date: {from: DD.MM.YY}}", ("format", "date", "from"), "Y means nothing here"),
        ("format: {path: PID-7, date: {from: DD.MM}}", ("format", "date", "from"), "a date without YYYY"),
        ("format: {path: PID-7, date: {to: YYYYMMDDhh}}", ("format", "date", "to"), "goes with AM"),
        ("format: {path: PID-7, date: {to: 'YYYY[MM'}}", ("format", "date", "to"), "a bracket without its partner"),
        ("format: {path: PID-7, date: {to: 'YYYYMM]'}}", ("format", "date", "to"), "a bracket without its partner"),
        ("format: {path: PID-7, date: {to: YYYYMMYYYY}}", ("format", "date", "to"), "stands here twice"),
        ("format: {path: PID-7, date: {from_zone: Mars/Olympus}}", ("format", "date", "from_zone"), "no time zone"),
        ("format: {path: PID-7, date: {frm: HL7}}", ("format", "date", "frm"), "unknown key frm"),
        ("format: {path: PID-5, name: {to: XPN}}", ("format", "name", "to"), "from and to are the same"),
        ("format: {path: PID-5, name: {to: display}}", ("format", "name", "to"), "display is not one of"),
        ("format: {path: PID-13, phone: ['999', '99-9']}", ("format", "phone"), "each pattern needs its own number of 9"),
        ("format: {path: PID-2, trim: {what: ''}}", ("format", "trim", "what"), "not characters to take away"),
        ("format: {path: PID-2, pad: {length: 0}}", ("format", "pad", "length"), "0 is no length"),
        ("format: {path: PID-2, pad: {length: 3, with: ab}}", ("format", "pad", "with"), "one character is needed"),
        ("format: {path: PID-2, cut: {from: 3, to: 2}}", ("format", "cut"), "no characters from 3 to 2"),
        ("format: {path: [PID-2, PID-4], to: ZPI-1, case: upper}", ("format", "to"), "several paths and one to:"),
        ("split: {path: ZPI-2, at: '', into: PID-5.1}", ("split", "at"), "nothing to cut at"),
        ("split: {path: 'OBX[*]-5', at: x, into: PID-5.1}", ("split", "path"), "names several texts"),
        ("split: {path: ZPI-2, at: x, into: [PID-5.1, 'PID-3[*]']}", ("split", "into"), "several paths are needed"),
        ("split: {path: ZPI-2, at: x, into: 'NTE[*]-3[*]'}", ("split", "into"), "several paths are needed"),
        ("join: {from: [PID-5], with: x, to: 'OBX[*]-5'}", ("join", "to"), "names several places"),
        ("add: {segment: MSH}", ("add", "segment"), "MSH is no segment that can be added"),
        ("add: {segment: zpi}", ("add", "segment"), "zpi is no segment that can be added"),
        ("add: {segment: ZPI, after: PID, before: OBR}", ("add", "before"), "either before: or after:"),
        ("add: {segment: ZPI, after: PID-3}", ("add", "after"), "PID-3 is not one segment"),
        ("add: {segment: ZPI, fields: {PID-3: x}}", ("add", "fields", "PID-3"), "PID-3 is no field of the new ZPI"),
    ],
)
def test_mistakes_have_their_place(step: str, key: tuple[str, ...], what: str) -> None:
    _, mistakes = compiled(f"steps:\n  - {step}")
    assert any(mistake.place == ("steps", 0, *key) and what in mistake.what for mistake in mistakes.found), mistakes.found


DICOM = {"PatientID": "004711", "PatientName": "DOE^JANE", "PatientBirthDate": "19610615", "OtherPatientIDs": "a\\b", "kind": "C-STORE"}


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        ('format: {path: PatientID, trim: {what: "0", side: left}}', {"PatientID": "4711"}),
        ("format: {path: OtherPatientIDs, case: upper}", {"OtherPatientIDs": "A\\B"}),
        ("format: {path: PatientName, to: PatientComments, name: {from: PN, to: family first}}", {"PatientComments": "DOE, JANE"}),
        ("format: {path: PatientBirthDate, to: PatientComments, date: {to: DD.MM.YYYY}}", {"PatientComments": "15.06.1961"}),
        ("move: {from: PatientID, to: PatientComments}", {"PatientID": "", "PatientComments": "004711"}),
        ('set: {PatientComments: "{PatientName} {OtherPatientIDs} {kind}"}', {"PatientComments": "DOE^JANE a\\b C-STORE"}),
    ],
)
def test_steps_on_the_header_of_an_image(step: str, changes: dict[str, str]) -> None:
    header = Header(DICOM)
    made = route(f"steps:\n  - {step}\n  - require: PatientID or PatientComments\nto: [{{send: archive}}]", "dicom")
    (sent,) = made.run(header, Engine(spooled=SPOOLED)).outgoing
    assert decode_request(sent.payload).changes == changes


def test_a_form_of_hl7_is_a_mistake_in_an_image() -> None:
    _, mistakes = compiled("steps: [{format: {path: PatientName, name: {to: PN}}}]", "dicom")
    assert [(mistake.place[-1], mistake.what) for mistake in mistakes.found] == [("from", "an attribute holds no XPN")]
