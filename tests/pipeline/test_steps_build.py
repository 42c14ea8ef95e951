"""`build` as a step: what stands behind it works on the new message, whatever the route hears."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from broker.hl7.message import Message
from broker.model import Protocol
from broker.pipeline.header import Header
from broker.pipeline.subject import EventSubject
from tests.pipeline.test_route import LAYOUTS, RAW, SPOOLED, VIEW, Engine, compiled, route

ORDER = "ORM^O01^ORM_O01"


def sent(text: str, protocol: Protocol, subject: Any, **engine: Any) -> Message:
    [outgoing] = route(text, protocol).run(subject, Engine(**engine)).outgoing  # type: ignore[arg-type]
    message = Message.parse(outgoing.payload)
    assert (outgoing.kind, outgoing.control_id) == (message.type, message.control_id)
    return message


def test_what_is_built_of_an_event_can_be_changed_and_converted() -> None:
    text = f"""
to:
  - send: ehr
    set: {{MSH-6: EHR}}
    steps:
      - when: event = exam.scheduled
        steps: [{{require: exam.accession}}]
      - build: {{message: {ORDER}, set: {{ORC-1: SC}}}}
      - set: {{OBR-4.1: "{{MSH-3}}-1"}}
      - convert: 2.3.1
      - when: MSH-12 = 2.3.1
        set: {{MSH-11: T}}
"""
    message = sent(text, "ris", EventSubject(VIEW), view=VIEW)
    assert (message.raw("MSH-9"), message.get("MSH-12"), message.get("MSH-6"), message.get("MSH-11")) == ("ORM^O01", "2.3.1", "EHR", "T")
    assert (message.get("ORC-1"), message.get("OBR-4.1"), message.get("OBR-18")) == ("SC", "BROKER-1", "A1")


def test_what_is_built_in_a_route_of_messages_may_take_fields_of_the_one_that_came() -> None:
    text = f"""
steps:
  - ris: {{apply: patient}}
to:
  - send: ehr
    steps:
      - build: {{message: {ORDER}, set: {{ORC-4: "{{MSH-10}} {{PID-5.1}}", PID-13: "{{PID-5}}"}}}}
  - send: copy
    when: MSH-10 = never
"""
    message = sent(text, "hl7", Message.parse(RAW), view=VIEW)
    assert message.get("ORC-4") == "C1 DOE"
    assert message.raw("PID-13") == "DOE^JANE"
    assert message.get("MSH-10") == "N1"


def test_a_route_of_messages_may_go_on_with_what_it_built() -> None:
    text = f"steps:\n  - build: {ORDER}\n  - set: {{PV1-2: I}}\nto:\n  - {{send: ehr, when: PV1-2 = I, set: {{MSH-5: X}}}}\n"
    message = sent(text, "hl7", Message.parse(RAW), view=VIEW)
    assert (message.get("PV1-2"), message.get("MSH-5"), message.get("PID-5.1")) == ("I", "X", "DOE")


@pytest.mark.parametrize("how", [f"build: {ORDER}", f"steps: [build: {ORDER}]"])
def test_an_image_may_be_told_by_a_message(how: str) -> None:
    text = f"steps: [{{link: {{otherwise: forward}}}}]\nto: [{{send: archive}}, {{send: ehr, {how}}}]\n"
    made = route(text, "dicom")
    engine = Engine(spooled=SPOOLED, exam=VIEW)
    image, told = made.run(Header({"AccessionNumber": "A1", "PatientID": "4711"}), engine).outgoing  # type: ignore[arg-type]
    assert (image.kind, told.kind) == ("C-STORE", "ORM^O01")
    assert Message.parse(told.payload).get("OBR-18") == "A1"


WRONG: list[tuple[str, Protocol, str]] = [
    ("to: [{send: ehr, steps: [{build: NOSUCH}]}]", "ris", "there is no layout NOSUCH"),
    ("to: [{send: ehr, steps: [{set: {MSH-5: X}}, {build: ORM^O01^ORM_O01}]}]", "ris", "set does not work on RIS events"),
    ("to: [{send: ehr, steps: [{when: event = exam.scheduled, build: ORM^O01^ORM_O01}]}]", "ris", "built only sometimes"),
    ("steps: [{build: ORM^O01^ORM_O01}]\nto: [{send: ehr}]", "ris", "nothing that the targets' conditions look at"),
    ("to: [{send: ehr, build: ORM^O01^ORM_O01, steps: [{build: ORM^O01^ORM_O01}]}]", "ris", "two messages are built"),
    ("to: [{send: ehr}]", "ris", "a RIS event is no message yet"),
    ("to: [{send: archive, steps: [{build: ORM^O01^ORM_O01}]}]", "dicom", "takes no HL7 messages"),
    ("to: [{send: ehr, steps: [{build: {message: ORM^O01^ORM_O01, set: {ZZZ-1: x}}}]}]", "ris", "has no segment ZZZ"),
    ("steps: [{for_each: {segment: OBX, steps: [{build: ORM^O01^ORM_O01}]}}]\nto: [{send: ehr}]", "hl7", "inside for_each"),
]


@pytest.mark.parametrize(("text", "protocol", "what"), WRONG)
def test_a_mistake_is_told(text: str, protocol: Protocol, what: str) -> None:
    _, mistakes = compiled(text, protocol)
    assert any(what in mistake.what for mistake in mistakes.found), mistakes.found


def test_the_example_names_a_layout() -> None:
    from broker.pipeline.steps.build import SPEC

    assert yaml.safe_load(SPEC.example)["build"]["message"] in LAYOUTS
