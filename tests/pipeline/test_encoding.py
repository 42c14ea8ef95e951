"""What a destination is sent, in the character set it takes."""

from __future__ import annotations

import pytest
import yaml

from broker.errors import MessageError
from broker.hl7.message import Message
from broker.model import Outgoing, Protocol
from broker.pipeline.compilation import Compilation, Receiver
from broker.pipeline.route import compile_route
from broker.pipeline.shape import Mistakes
from broker.pipeline.subject import EventSubject
from tests.pipeline.test_route import LAYOUTS, TABLES, VIEW, Engine

RECEIVERS = {
    "any": Receiver("mllp", "hl7"),
    "latin": Receiver("mllp", "hl7", "8859/1"),
    "near": Receiver("mllp", "hl7", "8859/1", "transliterate"),
    "all": Receiver("mllp", "hl7", "8859/1", "escape"),
    "unicode": Receiver("mllp", "hl7", "UNICODE UTF-8"),
}
ADT = "MSH|^~\\&|EHR|H|B|R|2026||ADT^A04|C1|P|2.5.1||||||UNICODE UTF-8\rPID|1||4711^^^H||{name}\r"


def sent(text: str, name: str, protocol: Protocol = "hl7") -> list[Outgoing]:
    site = {"name": "General", "authority": "H", "application": "BROKER"}
    mistakes = Mistakes()
    compilation = Compilation(protocol=protocol, tables=TABLES, layouts=LAYOUTS, destinations=RECEIVERS, site=site, mistakes=mistakes)
    route = compile_route(yaml.safe_load("description: A route.\n" + text), "channel", compilation)
    assert mistakes.found == []
    if protocol == "ris":
        patient = {**VIEW, "patient": VIEW["patient"].__class__(1, name, "JANE")}
        return list(route.run(EventSubject(patient), Engine(patient)).outgoing)
    return list(route.run(Message.parse(ADT.format(name=name).encode()), Engine()).outgoing)


def test_each_destination_gets_its_own_set() -> None:
    outgoing = sent("to: [{send: [any, latin, near, unicode]}]", "Müller")
    payloads = {one.destination: one.payload for one in outgoing}
    latin = ADT.format(name="Müller").replace("UNICODE UTF-8", "8859/1").encode("latin-1")
    assert payloads == {"any": ADT.format(name="Müller").encode(), "latin": latin, "near": latin, "unicode": payloads["any"]}
    assert {one.control_id for one in outgoing} == {"C1"}


def test_what_does_not_fit_follows_the_policy() -> None:
    near, escaped = sent("to: [{send: near}, {send: all}]", "Wałęsa")
    assert b"||Walesa\r" in near.payload
    assert b"||Wa\\XC582C499\\sa\r" in escaped.payload
    assert Message.parse(escaped.payload).get("PID-5") == "Wałęsa"


@pytest.mark.parametrize(("destination", "name"), [("latin", "Wałęsa"), ("near", "山田")])
def test_a_refusal_names_the_field_and_the_destination(destination: str, name: str) -> None:
    with pytest.raises(MessageError) as caught:
        sent(f"to: [{{send: any}}, {{send: {destination}}}]", name)
    assert (caught.value.path, caught.value.code, caught.value.reject) == ("PID-5", 102, False)
    assert caught.value.why == f"a character that 8859/1 does not have, and destination {destination} takes no other"


def test_a_message_that_is_built_follows_it_too() -> None:
    [near] = sent("to: [{build: OMI^O23^OMI_O23, send: near}]", "Wałęsa", "ris")
    built = Message.parse(near.payload)
    assert (built.get("MSH-18"), built.get("PID-5.1"), near.control_id) == ("8859/1", "Walesa", built.control_id)
    [plain] = sent("to: [{build: OMI^O23^OMI_O23, send: any}]", "Wałęsa", "ris")
    assert Message.parse(plain.payload).get("PID-5.1") == "Wałęsa"
    with pytest.raises(MessageError, match="destination latin"):
        sent("to: [{build: OMI^O23^OMI_O23, send: latin}]", "Wałęsa", "ris")
