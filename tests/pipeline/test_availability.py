"""`notify:` in a route: what it sends, and where it may stand."""

from __future__ import annotations

from typing import Any

import pytest

from broker.dicom import availability
from broker.dicom.dataset import decode
from broker.dicom.dimserequest import decode_request
from broker.errors import MessageError
from broker.pipeline.subject import EventSubject
from broker.ris.entities import Exam, Instance
from broker.ris.events import Event
from tests.pipeline.test_route import Engine, compiled, route

NOTIFY = "to: [{when: event = study.complete, notify: {retrieve_ae: VNA, availability: NEARLINE}, send: archive}]"
EXAM = Exam(7, accession="A1", study_uid="1.2")


class Images(Engine):
    def __init__(self, *instances: Instance) -> None:
        self.event = Event("study.complete", exam_id=7, accession="A1")
        super().__init__({"event": self.event, "exam": EXAM})
        self.instances = list(instances)

    def images(self, exam_id: int) -> tuple[list[Instance], tuple[str, ...]]:
        assert exam_id == 7
        return self.instances, ("1.9",)


def sent(engine: Images) -> Any:
    return route(NOTIFY, "ris").run(EventSubject(engine.view()), engine).outgoing


def image(uid: str, study: str = "1.2", series: str = "1.2.1", reissue: str = "") -> Instance:
    return Instance(uid=uid, study_uid=study, series_uid=series, sop_class="1.2.840.10008.5.1.4.1.1.2", reissue=reissue)


def test_one_notification_for_each_study() -> None:
    engine = Images(image("1.2.1.1"), image("1.2.1.2"), image("1.2.2.1", series="1.2.2"), image("1.3.1.1", "1.3", "1.3.1"))
    first, second = sent(engine)
    assert (first.destination, first.kind, first.accession, first.lane) == ("archive", "N-CREATE", "A1", "IAN 1.2")
    assert first.control_id != second.control_id
    request = decode_request(first.payload)
    assert (request.kind, request.sop_class, request.sop_instance) == ("N-CREATE", availability.SOP_CLASS, first.control_id)
    dataset = decode(request.dataset, "1.2.840.10008.1.2.1")
    assert [len(series.ReferencedSOPSequence) for series in dataset.ReferencedSeriesSequence] == [2, 1]
    assert dataset.ReferencedPerformedProcedureStepSequence[0].ReferencedSOPInstanceUID == "1.9"
    said = availability.read(dataset)
    assert (said.study_uid, said.performed) == ("1.2", ("1.9",))
    assert {(one.availability, one.retrieve_ae) for one in said.instances} == {("NEARLINE", "VNA")}


def test_images_that_were_sent_under_other_uids_are_named_by_those() -> None:
    (only,) = sent(Images(image("1.2.1.1", reissue="2.25.77")))
    said = availability.read(decode(decode_request(only.payload).dataset, "1.2.840.10008.1.2.1"))
    assert said.instances[0].sop_instance != "1.2.1.1"


def test_an_exam_without_images_is_a_mistake() -> None:
    with pytest.raises(MessageError, match="no exam that has images"):
        sent(Images())


@pytest.mark.parametrize(
    ("text", "protocol", "says"),
    [
        ("to: [{notify: {retrieve_ae: VNA}, send: archive}]", "dicom", "stands alone, in a route from ris"),
        ("to: [{notify: {retrieve_ae: VNA}, build: ORM^O01^ORM_O01, send: archive}]", "ris", "stands alone"),
        ("to: [{notify: {}, send: archive}]", "ris", "retrieve_ae is missing"),
        ("to: [{notify: {retrieve_ae: VNA, availability: OFFLINE}, send: archive}]", "ris", "OFFLINE is not one of"),
        ("to: [{notify: {retrieve_ae: VNA}, send: ehr}]", "ris", "ehr is a mllp destination"),
    ],
)
def test_mistakes(text: str, protocol: Any, says: str) -> None:
    mistakes = compiled(text, protocol)[1]
    assert any(says in one.what for one in mistakes.found), mistakes.found
