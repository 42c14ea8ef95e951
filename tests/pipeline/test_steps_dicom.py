"""Steps on the attributes of an image: keywords and tags, into items, private ones; what a VR cannot hold is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from broker.dicom.storerequest import decode_request, encode_request
from broker.errors import MessageError
from broker.model import StoreRequest
from broker.pipeline.compilation import Compilation
from broker.pipeline.header import Header
from broker.pipeline.route import Route, compile_route
from broker.pipeline.shape import Mistake, Mistakes
from tests.pipeline.test_route import DESTINATIONS, SPOOLED, TABLES, Engine

VALUES = {
    "PatientID": "4711",
    "PatientName": "DOE^JANE",
    "Modality": "CT",
    "AccessionNumber": "A1",
    "StudyDescription": "CT chest",
    "PatientSex": "W",
    "RequestAttributesSequence.ScheduledProcedureStepID": "S1",
}


def compiled(text: str) -> tuple[Route, list[Mistake]]:
    mistakes = Mistakes()
    compilation = Compilation("dicom", TABLES, {}, DESTINATIONS, {"authority": "H"}, mistakes)
    route = compile_route(yaml.safe_load("description: x\nto: [{send: archive}]\n" + text), "images", compilation)
    return route, mistakes.found


def request(text: str, values: dict[str, str] | None = None) -> StoreRequest:
    """Return what is sent of an image that went through the steps."""
    route, found = compiled(text)
    assert found == []
    engine: Any = Engine(spooled=SPOOLED)
    [outgoing] = route.run(Header({**VALUES, **(values or {})}), engine).outgoing
    return decode_request(outgoing.payload)


STEPS = {
    "set: {InstitutionName: GENHOSP}": {"InstitutionName": "GENHOSP"},
    'set: {"(0008,0080)": GENHOSP}': {"InstitutionName": "GENHOSP"},
    "set: {PatientID: 4711}": {},
    'set: {"(0010,0020)": "4711"}': {},
    "set: {'RequestAttributesSequence[1].ScheduledProcedureStepID': S1}": {},
    'set: {"(0040,0275)[1].(0040,0009)": S2}': {"RequestAttributesSequence.ScheduledProcedureStepID": "S2"},
    "set: {'RequestAttributesSequence[2].ScheduledProcedureStepID': S2}": {"RequestAttributesSequence[2].ScheduledProcedureStepID": "S2"},
    "set: {'(0029,\"ACME\",10)': x}": {'(0029,"ACME",10)': "x"},
    'set: {StudyDescription: "{Modality} {AccessionNumber}"}': {"StudyDescription": "CT A1"},
    'copy: {from: "(0008,0050)", to: ["(0020,0010)"]}': {"StudyID": "A1"},
    "map: {path: PatientSex, table: sex}": {"PatientSex": "F"},
    'map: {path: "(0010,0040)", table: sex, to: "(0040,0275)[2].(0040,0009)"}': {
        "RequestAttributesSequence[2].ScheduledProcedureStepID": "F"
    },
}


@pytest.mark.parametrize(("step", "changes"), STEPS.items())
def test_a_step_notes_what_changes(step: str, changes: dict[str, str]) -> None:
    found = request(f"steps:\n  - {step}\n", {"PatientSex": "W"})
    tables = {"F": "F"}
    assert found.changes == {path: tables.get(text, text) for path, text in changes.items()}
    assert found.removals == ()


def test_what_is_removed_goes_away() -> None:
    found = request("steps:\n  - remove: [StudyDescription, '(0008,0050)', RequestAttributesSequence, '(0029,\"ACME\",10)', StudyID]\n")
    gone = ("StudyDescription", "AccessionNumber", "RequestAttributesSequence", '(0029,"ACME",10)')
    assert found.removals == gone
    assert found.changes == dict.fromkeys(gone, "")


def test_what_is_set_empty_is_emptied_and_what_is_set_after_a_removal_stays() -> None:
    found = request("steps:\n  - set: {StudyDescription: ''}\n  - remove: AccessionNumber\n  - set: {AccessionNumber: A1}\n")
    assert found.changes == {"StudyDescription": "", "AccessionNumber": "A1"}
    assert found.removals == ()


def test_an_item_is_removed_by_its_number() -> None:
    found = request("steps:\n  - remove: 'RequestAttributesSequence[1]'\n")
    assert found.removals == ("RequestAttributesSequence[1]",)


def test_what_is_kept_leaves_as_it_came() -> None:
    found = request(
        "steps:\n"
        "  - set: {PatientName: X, StudyDescription: Y, RequestAttributesSequence.ScheduledProcedureStepID: Z,"
        " 'RequestAttributesSequence[2].ScheduledProcedureStepID': Z}\n"
        "  - remove: AccessionNumber\n"
        "  - keep: ['(0010,0010)', RequestAttributesSequence, AccessionNumber]\n"
    )
    assert found.changes == {"StudyDescription": "Y"}
    assert found.removals == ()


def test_a_target_keeps_for_itself() -> None:
    route, found = compiled("")
    text = "description: x\nsteps: [{set: {PatientName: X}}]\nto: [{send: archive, steps: [{keep: PatientName}]}, {send: archive}]\n"
    mistakes = Mistakes()
    route = compile_route(yaml.safe_load(text), "images", Compilation("dicom", TABLES, {}, DESTINATIONS, {"authority": "H"}, mistakes))
    assert mistakes.found == found == []
    engine: Any = Engine(spooled=SPOOLED)
    sent = [decode_request(one.payload).changes for one in route.run(Header(VALUES), engine).outgoing]
    assert sent == [{}, {"PatientName": "X"}]


TOO_LONG = {
    "AccessionNumber": ("x" * 17, "SH holds 16 characters, this has 17; its tag is (0008,0050)"),
    "StudyDescription": ("x" * 65, "LO holds 64 characters"),
    "PatientName": ("x" * 65, "PN holds 64 characters in each component group"),
    "PatientBirthDate": ("2 March", "DA holds a date"),
    "RequestAttributesSequence[2].ScheduledProcedureStepID": ("x" * 17, "its tag is (0040,0009)"),
}


@pytest.mark.parametrize(("path", "text", "why"), [(path, *rest) for path, rest in TOO_LONG.items()], ids=TOO_LONG)
def test_what_a_vr_cannot_hold_is_refused_with_its_tag_and_without_the_value(path: str, text: str, why: str) -> None:
    with pytest.raises(MessageError) as error:
        Header(VALUES).set(path, text)
    assert why in error.value.why
    assert (error.value.path, error.value.code) == (path, 104)
    assert text not in str(error.value)
    Header(VALUES).set("PatientName", "=".join(["x" * 64] * 3))


def test_a_reference_that_does_not_fit_is_refused_where_it_is_written() -> None:
    route, found = compiled("steps:\n  - set: {AccessionNumber: '{StudyDescription}'}\n")
    assert found == []
    engine: Any = Engine(spooled=SPOOLED)
    with pytest.raises(MessageError, match="AccessionNumber: SH holds 16 characters"):
        route.run(Header({**VALUES, "StudyDescription": "much too long for that"}), engine)


WRONG = {
    "set: {PatientIDD: x}": "no DICOM keyword; did you mean PatientID?",
    "set: {kind: x}": "kind is not an attribute",
    "set: {'RequestAttributesSequence[1]': x}": "names an item",
    "set: {'(0029,1010)': x}": "is private: name it with its creator",
    "copy: {from: 'RequestAttributesSequence[2]', to: StudyID}": "names an item; name an attribute in it",
    "move: {from: '(0029,10)', to: StudyID}": "write it like",
    "keep: PatientIDD": "no DICOM keyword",
    "remove: (0008,0018)": "an object without SOPInstanceUID is none",
    "set: {TransferSyntaxUID: 1.2.840.10008.1.2}": "no part of the header",
    "remove: PixelData": "no part of the header",
    "remove: '(0029,\"ACME\",1)'": "is no DICOM keyword or tag",
}


@pytest.mark.parametrize(("step", "what"), WRONG.items())
def test_a_mistake_is_told_before_anything_runs(step: str, what: str) -> None:
    _, found = compiled(f"steps:\n  - {step}\n")
    assert any(what in mistake.what for mistake in found), found


def test_what_is_never_read_is_not_asked_of_an_arriving_object() -> None:
    route, _ = compiled(
        "steps:\n  - set: {'RequestAttributesSequence[2].ScheduledProcedureStepID': S2, '(0010,0020)': X}\n  - remove: '(0040,0275)'\n"
    )
    assert route.paths == {"PatientID"}


def test_a_request_of_an_earlier_broker_is_read() -> None:
    old = encode_request(StoreRequest(SPOOLED, {"PatientID": "1"}))
    assert b"removals" not in old
    assert decode_request(old).removals == ()


PLACES = {
    '(0029,"ACME",10)': "north",
    "RequestAttributesSequence[2].ScheduledProcedureStepID": "S2",
    'RequestAttributesSequence[2].(0029,"ACME",11)': "inner",
}


@pytest.mark.parametrize(("path", "value"), PLACES.items())
def test_what_is_private_or_in_another_item_is_read(path: str, value: str) -> None:
    quoted = path.replace('"', '\\"')
    for step in (f'copy: {{from: "{quoted}", to: StudyID}}', f"set: {{StudyID: '{{{path}}}'}}"):
        route, found = compiled(f"steps: [{step}]")
        assert found == []
        assert path in route.paths  # so that it is looked for as an object arrives
        assert request(f"steps: [{step}]", {path: value}).changes["StudyID"] == value
    route, found = compiled(f"accept: '{path} = {value} and Modality = CT'")
    assert found == []
    assert path in route.paths
    assert route.accepts(Header({"Modality": "CT", path: value}))
    assert not route.accepts(Header({"Modality": "CT", path: "other"}))


def test_a_tag_in_a_condition_is_the_attribute() -> None:
    route, found = compiled("accept: '(0010,0020) = 4711 and (not (0008,0060) in [MR, US])'")
    assert found == []
    assert route.accepts(Header(VALUES))
