"""Routes: what they accept, do and send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from broker.dicom.storerequest import decode_request
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.model import Protocol, Spooled
from broker.pipeline.compilation import Compilation, Receiver
from broker.pipeline.context import Outcome
from broker.pipeline.header import Header
from broker.pipeline.layout import shipped_layouts
from broker.pipeline.route import Route, compile_route
from broker.pipeline.shape import Mistakes
from broker.pipeline.subject import EventSubject
from broker.pipeline.tables import read_table
from broker.ris.entities import Exam, Order, Patient, PatientIdentifier
from broker.ris.events import Event, Request

LAYOUTS = shipped_layouts()
TABLES = {
    name: read_table(name, text)[0]
    for name, text in {
        "sex": "sent,code,word\nM,M,male\nW,F,female\n",
        "order_control": "code,action\nNW,new\n",
        "priority": "sent,code\nR,ROUTINE\n",
        "procedures": "code,name,modality,duration,cpt,modifiers,steps\nCT1,CT one,CT,20,70000,,\nMR1,MR one,MR,20,70001,,\n",
        "report_status": "code,status\nF,final\n",
        "attributes": "attribute,value\nPatientID,{patient.identifier}\n"
        "PatientName,{patient.person_name}\nAccessionNumber,{exam.accession}\n",
    }.items()
}
DESTINATIONS = {"ehr": Receiver("mllp", "hl7"), "archive": Receiver("dicom", "dicom"), "copy": Receiver("mllp", "hl7")}
RAW = (
    b"MSH|^~\\&|EHR|H|B|R|2026||ORM^O01|C1|P|2.3.1\rPID|1||4711^^^H||DOE^JANE||19610615|W\r"
    b"ORC|NW|P1\rOBR|1|P1||CT1^x\rORC|NW|P2\rOBR|2|P2||MR1^x\r"
)
VIEW = {
    "event": Event("exam.scheduled", accession="A1"),
    "patient": Patient(1, "DOE", "JANE"),
    "identifiers": [PatientIdentifier(1, 1, "4711", "H")],
    "order": Order(1, 1, "P1", status="SC", filler_number="A1"),
    "exam": Exam(1, 1, 1, "A1", "RP1", "1.2", "CT1", "CT one", "CT"),
    "steps": [],
}
SPOOLED = Spooled("s1", "1.2.840.10008.5.1.4.1.1.2", "1.1", "1.2.840.10008.1.2.1", 10, "d")


class Engine:
    """A context that remembers what it was asked."""

    now = "20260302080000"

    def __init__(
        self, view: Mapping[str, Any] | None = None, spooled: Spooled | None = None, exam: Mapping[str, Any] | None = None
    ) -> None:
        self.requests: list[Request] = []
        self.asked: list[Mapping[str, str]] = []
        self.spooled, self._view, self._exam, self._count = spooled, view or {}, exam, 0

    def apply(self, request: Request) -> list[Event]:
        self.requests.append(request)
        return [Event("exam.scheduled", accession=f"A{len(self.requests)}")]

    def view(self) -> Mapping[str, Any]:
        return self._view

    instance = None

    def find_exam(self, **keys: str) -> Mapping[str, Any] | None:
        self.asked.append(keys)
        return self._exam if keys == {"accession": "A1"} else None

    def control_id(self) -> str:
        self._count += 1
        return f"N{self._count}"


def compiled(text: str, protocol: Protocol = "hl7") -> tuple[Route, Mistakes]:
    site = {"name": "General", "authority": "H", "application": "BROKER"}
    compilation = Compilation(protocol=protocol, tables=TABLES, layouts=LAYOUTS, destinations=DESTINATIONS, site=site, mistakes=Mistakes())
    return compile_route(yaml.safe_load("description: A route.\n" + text), "channel", compilation), compilation.mistakes


def route(text: str, protocol: Protocol = "hl7") -> Route:
    made, mistakes = compiled(text, protocol)
    assert mistakes.found == []
    return made


def run(text: str, raw: bytes = RAW, engine: Engine | None = None) -> Outcome:
    return route(text).run(Message.parse(raw), engine or Engine())


def test_what_is_not_changed_leaves_as_the_very_bytes() -> None:
    odd = RAW.replace(b"\r", b"\r\n").replace(b"DOE", b"D\xd6E")
    (sent,) = run("to: [{send: ehr}]", odd).outgoing
    assert sent.payload == odd
    assert (sent.destination, sent.channel, sent.kind, sent.control_id, sent.lane) == ("ehr", "channel", "ORM^O01", "C1", "4711")


def test_a_target_that_changes_something_works_on_a_copy() -> None:
    subject = Message.parse(RAW)
    made = route("to: [{send: ehr, set: {MSH-5: PACS}, steps: [{map: {path: PID-8, table: sex}}]}, {send: copy}]")
    changed, same = made.run(subject, Engine()).outgoing
    assert Message.parse(changed.payload).get("MSH-5") == "PACS"
    assert Message.parse(changed.payload).get("PID-8") == "F"
    assert same.payload == RAW
    assert subject.encode() == RAW


def test_steps_change_what_every_target_sends_but_not_the_received_message() -> None:
    subject = Message.parse(RAW)
    made = route("steps: [{set: {MSH-5: PACS}}, {copy: {from: PID-3.1, to: PID-2}}, {remove: [PID-5]}]\nto: [{send: [ehr, copy]}]")
    outgoing = made.run(subject, Engine()).outgoing
    assert [one.destination for one in outgoing] == ["ehr", "copy"]
    assert {one.payload for one in outgoing} == {
        RAW.replace(b"|B|R", b"|PACS|R").replace(b"PID|1||4711^^^H||DOE^JANE", b"PID|1|4711|4711^^^H||")
    }
    assert subject.encode() == RAW


def test_accept_and_when() -> None:
    made = route("accept: MSH-9.1 = ORM\nto: [{when: PID-8 = M, send: ehr}, {when: PID-8 = W, send: copy}]")
    assert made.accepts(Message.parse(RAW))
    assert not made.accepts(Message.parse(RAW.replace(b"ORM", b"ADT")))
    assert [one.destination for one in made.run(Message.parse(RAW), Engine()).outgoing] == ["copy"]


def test_a_lane_may_be_any_path() -> None:
    assert run("lane: PID-5.1\nto: [{send: ehr}]").outgoing[0].lane == "DOE"


def test_drop_ends_the_route_and_only_the_target_when_it_stands_there() -> None:
    outcome = run("steps: [{when: PID-5.1 = DOE, drop: test patient}]\nto: [{send: ehr}]")
    assert (outcome.dropped, outcome.outgoing) == ("test patient", ())
    outcome = run("to: [{send: ehr, steps: [{when: PID-5.1 = DOE, drop: not wanted}]}, {send: copy}]")
    assert (outcome.dropped, [one.destination for one in outcome.outgoing]) == ("", ["copy"])


def test_a_copy_that_does_not_fit_is_an_error_at_its_source() -> None:
    with pytest.raises(MessageError) as caught:
        run("steps: [{copy: {from: PID-5, to: PID-2.1}}]")
    assert (caught.value.path, caught.value.code) == ("PID-5", 102)
    assert "DOE" not in str(caught.value)


def test_require_names_the_first_path_that_is_empty() -> None:
    run("steps: [{require: [PID-3.1, PID-19 or PID-5]}]")
    with pytest.raises(MessageError) as caught:
        run("steps: [{require: [PID-3.1, PID-19 or PID-18]}]")
    assert (caught.value.path, caught.value.why, caught.value.code) == ("PID-19", "required field is empty, and so is PID-18", 101)


@pytest.mark.parametrize(
    ("settings", "sent", "result"),
    [
        ("", "W", "F"),
        (", column: word", "W", "female"),
        (", missing: keep", "?", "?"),
        (", missing: default, default: U", "?", "U"),
        ("", "", ""),
        ("", '""', '""'),  # what the receiver shall delete is no code (2.5.1 chapter 2.7)
        (", missing: default, default: U", '""', '""'),
    ],
)
def test_map(settings: str, sent: str, result: str) -> None:
    raw = RAW.replace(b"|W\r", f"|{sent}\r".encode())
    outgoing = run(f"steps: [{{map: {{path: PID-8, table: sex{settings}}}}}]\nto: [{{send: ehr}}]", raw).outgoing
    assert Message.parse(outgoing[0].payload).get("PID-8") == result


def test_map_of_an_unknown_code_is_an_error_that_does_not_repeat_it() -> None:
    with pytest.raises(MessageError) as caught:
        run("steps: [{map: {path: PID-8, table: sex}}]", RAW.replace(b"|W\r", b"|SECRET\r"))
    assert (caught.value.path, caught.value.code) == ("PID-8", 103)
    assert "SECRET" not in str(caught.value)


def test_each_order_is_applied_and_the_message_is_sent_once() -> None:
    engine = Engine()
    outcome = run("each: order\nsteps: [{ris: order}]\nto: [{send: ehr}]", engine=engine)
    assert [(r.placer_number, r.procedure.code) for r in engine.requests] == [("P1", "CT1"), ("P2", "MR1")]  # type: ignore[union-attr]
    assert [one.payload for one in outcome.outgoing] == [RAW]
    assert outcome.accession == outcome.outgoing[0].accession == "A2"


def test_a_message_without_a_group_is_an_error_not_silence() -> None:
    with pytest.raises(MessageError) as caught:
        run("each: order\nsteps: [{ris: order}]", RAW.split(b"ORC")[0])
    assert (caught.value.path, caught.value.code) == ("ORC", 100)


def test_fields_of_a_sender_that_keeps_them_elsewhere() -> None:
    engine = Engine()
    run("each: order\nsteps: [{ris: {apply: order, fields: {placer_number: [OBR-1], accession: PID-3.1}}}]", engine=engine)
    assert (engine.requests[0].placer_number, engine.requests[0].accession) == ("1", "4711")  # type: ignore[union-attr]


def test_a_ris_event_becomes_a_message_with_a_control_id_of_its_own() -> None:
    made = route(
        "accept: event = exam.scheduled\nto: [{build: OMI^O23^OMI_O23, set: {MSH-5: '{exam.modality}'}, send: [ehr, copy]}]", "ris"
    )
    subject = EventSubject(VIEW)
    assert made.accepts(subject)
    assert not made.accepts(EventSubject({**VIEW, "event": Event("exam.cancelled")}))
    outcome = made.run(subject, Engine(VIEW))
    assert [(one.destination, one.kind, one.control_id, one.lane, one.accession) for one in outcome.outgoing] == [
        ("ehr", "OMI^O23", "N1", "4711", "A1"),
        ("copy", "OMI^O23", "N2", "4711", "A1"),
    ]
    assert [Message.parse(one.payload).control_id for one in outcome.outgoing] == ["N1", "N2"]
    assert Message.parse(outcome.outgoing[0].payload).get("MSH-5") == "CT"


IMAGES = """
steps:
  - link: {by: [StudyInstanceUID, AccessionNumber], otherwise: OTHERWISE}
  - coerce: {table: attributes}
to:
  - send: archive
"""
HEADER = {"StudyInstanceUID": "9.9", "AccessionNumber": "A1", "PatientID": "4711", "PatientName": "DOE^J"}


def test_an_image_takes_what_its_exam_says_and_only_that() -> None:
    engine = Engine(spooled=SPOOLED, exam=VIEW)
    header = Header(HEADER)
    (sent,) = route(IMAGES.replace("OTHERWISE", "hold"), "dicom").run(header, engine).outgoing
    request = decode_request(sent.payload)
    assert request.spooled == SPOOLED
    assert request.changes == {"PatientName": "DOE^JANE"}
    assert (sent.kind, sent.control_id, sent.accession, sent.lane) == ("C-STORE", "1.1", "A1", "4711")
    assert engine.asked == [{"study_uid": "9.9"}, {"accession": "A1"}]
    assert header.changes == {}


@pytest.mark.parametrize(
    ("otherwise", "sent", "held", "dropped"), [("hold", 0, True, False), ("forward", 1, False, False), ("drop", 0, False, True)]
)
def test_an_image_of_no_known_exam(otherwise: str, sent: int, held: bool, dropped: bool) -> None:
    engine = Engine(spooled=SPOOLED)
    outcome = route(IMAGES.replace("OTHERWISE", otherwise), "dicom").run(Header(HEADER), engine)
    assert (len(outcome.outgoing), bool(outcome.held), bool(outcome.dropped)) == (sent, held, dropped)
    assert outcome.accession == ("A1" if otherwise == "forward" else "")
    assert all(decode_request(one.payload).changes == {} for one in outcome.outgoing)


def test_the_keywords_a_route_reads_are_known() -> None:
    made = route("accept: Modality = CT\nlane: PatientID" + IMAGES.replace("OTHERWISE", "hold"), "dicom")
    assert made.paths >= {"Modality", "PatientID", "StudyInstanceUID", "AccessionNumber", "PatientName"}


def test_a_request_that_is_no_image_cannot_be_sent_on() -> None:
    with pytest.raises(MessageError):
        route("to: [{send: archive}]", "dicom").run(Header({}, kind="C-FIND"), Engine())


@pytest.mark.parametrize(
    ("text", "protocol", "what"),
    [
        ("{}", "hl7", "this route does nothing"),
        ("each: order\nsteps: [{set: {MSH-5: X}}]", "hl7", "a step that changes the message cannot stand under each:"),
        (
            "each: order\nsteps: [{ris: order}]\nto: [{build: OMI^O23^OMI_O23, send: ehr}]",
            "hl7",
            "build: cannot stand in a route with each:",
        ),
        ("steps: [{ris: image}]", "hl7", "a message of hl7 is no image"),
        ("steps: [{ris: {apply: order, fields: {acession: PID-3}}}]", "hl7", "order has no field acession"),
        ("steps: [{ris: {apply: order, vocabulary: none}}]", "hl7", "there is no table none"),
        ("steps: [{map: {path: PID-8, table: sex, missing: default}}]", "hl7", "missing is default, but there is none"),
        ("steps: [{set: {MSH-2: X}}]", "hl7", "MSH-2 cannot be written"),
        ("steps: [{set: {PID: X}}]", "hl7", "PID cannot be written"),
        ("steps: [{set: {kind: X}}]", "dicom", "kind is not an attribute"),
        ("steps: [{copy: {from: PID-3, to: MSH-1}}]", "hl7", "MSH-1 cannot be written"),
        ("steps: {require: PID-3}", "hl7", "a list of steps is needed here"),
        ("steps: [{require: PID-3, drop: x}]", "hl7", "a step is one name with its settings"),
        ("to: {send: ehr}", "hl7", "a list of targets is needed here"),
        ("to: [{set: {MSH-5: X}}]", "hl7", "send is missing"),
        ("to: [{send: [ehr, ehr]}]", "hl7", "ehr stands here twice"),
    ],
)
def test_a_route_that_makes_no_sense_is_a_mistake(text: str, protocol: Protocol, what: str) -> None:
    _, mistakes = compiled(text if text != "{}" else "", protocol)
    assert any(what in mistake.what for mistake in mistakes.found), mistakes.found
