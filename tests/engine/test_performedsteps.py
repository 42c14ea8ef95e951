"""MPPS from the listener to the store and on: kept whole, given back by N-GET, relayed, counted as dose."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from broker.config.load import load
from broker.connectors import registry
from broker.connectors.base import PerformedAnswer
from broker.dicom.dataset import dataset_of, decode, encode
from broker.dicom.dimserequest import decode_request
from tests.engine.house import CT1, ROOT, House
from tests.engine.test_intake import BEGUN, ENDED, order
from tests.peers import ct_image

MANAGER = """
  manager:
    dicom: {host: 127.0.0.1, port: 11113, ae_title: MANAGER}
"""
RELAY = """\
description: Further managers hear of every performed step.
accept: kind in [N-CREATE, N-SET]
to:
  - send: manager
"""


def relaying(folder: Path, route: str = RELAY, without: str = "\0") -> House:
    """A house with one more channel, which passes MPPS on."""
    for name in ("routes", "mappings", "samples"):
        shutil.copytree(ROOT / name, folder / name)
    text = (ROOT / "channels.yaml").read_text()
    text = text.replace("\ndestinations:\n", f"\ndestinations:{MANAGER}", 1) + "  relay: {from: modalities, route: routes/relay.yaml}\n"
    (folder / "channels.yaml").write_text(text.replace(without, ""))
    (folder / "routes" / "relay.yaml").write_text(route)
    return House(folder, load(folder / "channels.yaml", {}, registry))


def perform(house: House, create: bool, attributes: Dataset, uid: str = "1.2.1", raw: bytes = b"") -> PerformedAnswer:
    return house.wait(house.dicom.receive_performed(CT1, create, uid, attributes, raw))


def get(house: House, *tags: int, uid: str = "1.2.1", syntax: str = ExplicitVRLittleEndian) -> tuple[int, Dataset, tuple[int, ...]]:
    answer = house.wait(house.dicom.get_performed(CT1, uid, tags, syntax))
    return answer.status, decode(answer.dataset, syntax), answer.attributes


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_what_was_created_and_set_is_given_back_as_one(house: House) -> None:
    house.say(order(1))
    perform(house, True, dataset_of({**BEGUN, "SpecificCharacterSet": "ISO_IR 100", "PatientName": "MÜLLER^EVA"}))
    perform(house, False, dataset_of({"PerformedProcedureStepDescription": "头部", "SpecificCharacterSet": "GB18030"}))
    perform(house, False, dataset_of(ENDED))
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        status, found, missing = get(house, syntax=syntax)
        assert (status, missing) == (0, ())
        assert (str(found.PatientName), found.PerformedProcedureStepDescription, found.Modality) == ("MÜLLER^EVA", "头部", "CT")
        assert (found.PerformedProcedureStepStatus, found.PerformedProcedureStepEndTime) == ("COMPLETED", "102000")
        assert found.PerformedSeriesSequence[0].SeriesInstanceUID == "1.2.4"
        assert found.PatientSex == ""  # type 2, though it never came


def test_attributes_are_given_as_asked_for_and_those_that_are_not_there_named(house: House) -> None:
    perform(house, True, dataset_of(BEGUN))
    status, found, missing = get(house, 0x00400252, 0x00080060, 0x00281050)
    assert (status, missing) == (0x0001, (0x00281050,))
    assert [element.keyword for element in found] == ["Modality", "PerformedProcedureStepStatus"]
    assert house.wait(house.dicom.get_performed(CT1, "1.9", (), ExplicitVRLittleEndian)) == PerformedAnswer(0x0112)


def test_a_request_that_is_refused_changes_nothing_of_what_is_kept(house: House) -> None:
    perform(house, True, dataset_of(BEGUN))
    assert perform(house, False, dataset_of({"PatientID": "OTHER", "PerformedProcedureStepDescription": "x"})).status == 0x0106
    assert perform(house, False, dataset_of({**ENDED, "PerformedProcedureStepEndDate": ""})).status == 0x0121
    _, found, _ = get(house)
    assert found.PerformedProcedureStepStatus == "IN PROGRESS"
    assert not found.PerformedProcedureStepDescription
    assert not found.PatientID


def test_a_channel_may_take_what_a_modality_cannot_say_better(tmp_path: Path) -> None:
    route = "description: All that comes.\naccept: kind in [N-CREATE, N-SET]\nsteps:\n  - ris: {apply: performed, incomplete: take}\n"
    house = relaying(tmp_path, route, without="  performed: {from: modalities, route: routes/performed.yaml}\n")
    house.say(order(1))
    short = {"PerformedProcedureStepStatus": "IN PROGRESS", "ScheduledStepAttributesSequence.AccessionNumber": "ACC1"}
    assert perform(house, True, dataset_of(short)).status == 0
    assert perform(house, False, dataset_of({"PerformedProcedureStepStatus": "COMPLETED", "PatientID": "OTHER"})).status == 0
    assert house.rows("select status from exams") == [("completed",)]
    assert not get(house)[1].PatientID


def test_further_managers_get_the_very_bytes_in_the_order_of_the_step(tmp_path: Path) -> None:
    house = relaying(tmp_path)
    house.say(order(1))
    house.sent.clear()
    raw = encode(dataset_of(BEGUN), ExplicitVRLittleEndian)
    raw += (
        bytes.fromhex("0904 1000") + b"LO" + bytes.fromhex("0400") + b"VEND"
    )  # a private block, with a group that pydicom writes elsewhere
    perform(house, True, decode(raw, ExplicitVRLittleEndian), raw=raw)
    perform(house, False, dataset_of(ENDED))
    relayed = [one for one in house.sent if one.destination == "manager"]
    assert [(one.kind, one.lane, one.control_id, one.accession) for one in relayed] == [
        ("N-CREATE", "MPPS 1.2.1", "1.2.1", "ACC1"),
        ("N-SET", "MPPS 1.2.1", "1.2.1", "ACC1"),
    ]
    created, ended = (decode_request(one.payload) for one in relayed)
    assert (created.kind, created.sop_class, created.sop_instance) == ("N-CREATE", "1.2.840.10008.3.1.2.3.3", "1.2.1")
    assert created.dataset == raw
    assert decode(ended.dataset, ExplicitVRLittleEndian).PerformedProcedureStepStatus == "COMPLETED"


def test_what_the_route_changes_is_changed_for_the_manager_alone(tmp_path: Path) -> None:
    changed = "  - steps:\n      - set: {PerformedStationAETitle: CT-EAST, PatientName: X}\n    send: manager"
    route = RELAY.replace("  - send: manager", changed)
    house = relaying(tmp_path, route)
    perform(house, True, dataset_of(BEGUN))
    [relayed] = [one for one in house.sent if one.destination == "manager"]
    sent = decode(decode_request(relayed.payload).dataset, ExplicitVRLittleEndian)
    assert (sent.PerformedStationAETitle, str(sent.PatientName)) == ("CT-EAST", "X")
    assert "OriginalAttributesSequence" not in sent
    assert get(house)[1].PerformedStationAETitle == "CT1"


def test_a_step_that_is_refused_is_passed_on_to_nobody(tmp_path: Path) -> None:
    house = relaying(tmp_path)
    assert perform(house, True, dataset_of({**BEGUN, "Modality": ""})).status == 0x0121
    assert house.sent == []


def test_images_of_a_step_that_was_begun_by_mistake_are_listed(house: House) -> None:
    house.say(order(1))
    ((study, identifier),) = house.rows("select study_uid, value from exams join patient_identifiers using (patient_id)")
    perform(house, True, dataset_of({**BEGUN, "ScheduledStepAttributesSequence.StudyInstanceUID": study}))
    images = [ct_image(identifier, "DOE^JANE", "ACC1", study, number) for number in (1, 2, 3)]
    for image in images:
        image.SeriesInstanceUID = "1.2.4"
    assert house.store(images[0]) == house.store(images[1]) == 0
    mistaken = {**ENDED, "PerformedProcedureStepStatus": "DISCONTINUED"}
    reason = "PerformedProcedureStepDiscontinuationReasonCodeSequence"
    mistaken |= {f"{reason}.CodeValue": "110514", f"{reason}.CodingSchemeDesignator": "DCM"}
    assert perform(house, False, dataset_of(mistaken)).status == 0
    assert house.rows("select status, images from exams") == [("scheduled", 0)]
    assert house.rows("select status from steps") == [("scheduled",)]
    house.sent.clear()
    assert house.store(images[2]) == 0  # one that comes late
    assert house.sent == []
    assert house.rows("select kind, key, reason from unmatched") == [("images", study, "incorrect worklist entry")]
    assert house.rows("select count(*) from instances where exam_id is null") == [(3,)]


def test_the_dose_of_an_mpps_is_on_the_timeline(house: House) -> None:
    house.say(order(1))
    perform(house, True, dataset_of(BEGUN))
    ended = dataset_of({**ENDED, "ImageAndFluoroscopyAreaDoseProduct": "12.5"})
    ended.TotalNumberOfExposures = 3
    perform(house, False, ended)
    assert house.rows("select detail from audit_note where what = 'dose.recorded'") == [("MPPS: DAP 0.000125 Gy.m2, 3 exposures",)]
