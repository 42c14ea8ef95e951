"""What listeners hand over is journaled, routed and answered in one transaction: retransmissions, refusals, parked messages."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from broker.connectors.base import PerformedAnswer
from broker.dicom.dataset import dataset_of
from broker.model import Outgoing
from broker.store import audit, outbox
from tests.engine.house import CT1, House
from tests.peers import ct_image

MSH = "MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260302080000||{kind}|{id}|P|2.5.1\r"
PID = "PID|1||4711^^^GENHOSP^MR||DOE^JANE||19610615|F\rPV1|1|O|RAD\r"
ORDER = PID + "ORC|{control}|{order}^EHR\rOBR|1|{order}^EHR||{code}^X^L||||||||||||||ACC{order}\r"


def order(number: int, control: str = "NW", code: str = "CTCHEST", id: str = "") -> str:
    text = MSH + ORDER
    return text.format(kind="ORM^O01^ORM_O01", id=id or f"{control}{number}", control=control, order=number, code=code)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_an_order_is_answered_after_journal_ris_and_outbox_hold_it(house: House) -> None:
    assert "MSA|AA|NW1" in house.say(order(1))
    assert house.rows("select kind, state, accession from message") == [("ORM^O01", "routed", "ACC1")]
    assert house.rows("select accession, status from exams") == [("ACC1", "scheduled")]
    assert house.destinations() == ["archive_hl7 OMI^O23", "ehr SIU^S12"]
    assert house.rows("select state, count(*) from delivery group by state") == [("waiting", 2)]


def test_a_retransmission_gets_the_very_answer_and_is_not_applied_again(house: House) -> None:
    first = house.say(order(1))
    house.sent.clear()
    assert house.say(order(1)) == first
    assert house.sent == []
    assert house.rows("select count(*) from exams") == [(1,)]
    assert house.rows("select count(*) from message") == [(1,)]
    assert house.count("broker_messages_duplicate_total", listener="hospital") == 1
    assert house.count("broker_messages_acknowledged_total", listener="hospital", code="AA") == 2


def test_another_message_under_a_used_control_id_is_an_error_that_says_so(house: House) -> None:
    house.say(order(1, id="SAME"))
    answer = house.say(order(2, id="SAME"))
    assert "MSA|AE|SAME" in answer
    assert "ERR||MSH^1^10|205^" in answer
    assert "used for another message" in answer
    assert house.rows("select count(*) from exams") == [(1,)]


@pytest.mark.parametrize(
    ("message", "code", "place", "why"),
    [
        (order(1, code="NOSUCH"), "AE", "OBR^1^4", "not in table procedures"),
        (order(1, control="CA"), "AE", "ORC^1^2", "no order with this number"),
        (order(1).replace("PID|1||4711^^^GENHOSP^MR", "PID|1||"), "AE", "PID^1^3", "required field is empty"),
        (order(1).replace("|NW1|", "||"), "AE", "MSH^1^10", "required"),
        (MSH.format(kind="MFN^M02", id="M1"), "AR", "MSH^1^9", "no channel accepts"),
        ("GET / HTTP/1.1\r\n\r\n", "AR", "MSH", ""),
    ],
)
def test_what_cannot_be_applied_is_kept_and_answered_with_place_and_reason(
    house: House, message: str, code: str, place: str, why: str
) -> None:
    answer = house.say(message)
    assert f"MSA|{code}|" in answer
    assert f"ERR||{place}" in answer
    assert why in answer
    assert house.sent == []
    ((state, raw),) = house.rows("select state, raw from message")
    assert state == ("refused" if code == "AR" else "parked")
    assert bytes(raw) == message.encode()
    assert house.rows("select count(*) from exams") == [(0,)]
    assert house.rows("select count(*) from patients") == [(0,)]


def test_nothing_of_a_patient_reaches_the_log(house: House) -> None:
    house.say(order(1, code="NOSUCH"))
    house.say(MSH.format(kind="ADT^A04", id="X") + "PID|1||||DOE^JANE||19610615\r")
    printed = house.printed.getvalue()
    assert printed.count("message parked") == 2
    assert not any(secret in printed for secret in ("DOE", "JANE", "1961", "4711", "NOSUCH"))


@pytest.mark.parametrize(("policy", "code", "state"), [("reject", "AR", "refused"), ("park", "AA", "parked"), ("drop", "AA", "dropped")])
def test_a_message_no_channel_accepts_follows_the_listeners_policy(tmp_path: Path, policy: str, code: str, state: str) -> None:
    house = House(tmp_path, unmatched=policy)
    assert f"MSA|{code}|" in house.say(MSH.format(kind="MFN^M02", id="M1"))
    assert house.rows("select state from message") == [(state,)]
    # a sender cannot make labels
    assert house.count("broker_messages_received_total", listener="hospital", kind="other") == 1


def test_one_message_that_fails_does_not_take_its_neighbours_along(house: House) -> None:
    answers: list[bytes] = []
    for message in (order(1), order(2, code="NOSUCH"), order(3)):
        house.hl7.receive_hl7("hospital", "127.0.0.1:40000", message.encode()).addCallback(answers.append)
    while house.calls:
        house.calls.popleft()()
    assert [answer.split(b"MSA|")[1][:2] for answer in answers] == [b"AA", b"AE", b"AA"]
    assert house.rows("select accession from exams order by id") == [("ACC1",), ("ACC3",)]


def test_a_parked_message_can_be_routed_again_once_its_reason_has_gone(house: House) -> None:
    house.say(order(1, control="CA", id="EARLY"))  # the cancel overtook its order
    house.say(order(1))
    house.sent.clear()
    accepted = house.wait(house.again.route(1))
    assert accepted.verdict is not None
    assert accepted.verdict.state == "routed"
    assert house.destinations() == ["archive_hl7 OMI^O23", "ehr SIU^S15"]
    assert house.rows("select state from message order by id") == [("routed",), ("routed",)]
    with pytest.raises(Exception, match="is not parked but routed"):
        house.wait(house.again.route(1))


def test_an_image_is_counted_once_coerced_and_its_copy_is_not_kept(house: House) -> None:
    house.say(order(1))
    house.sent.clear()
    image = ct_image("4711", "SOMEBODY^ELSE", "ACC1", "1.2.3")
    assert house.store(image) == 0
    assert house.destinations() == ["archive C-STORE"]
    assert house.store(image) == 0
    assert house.destinations() == []
    assert house.rows("select images from exams") == [(1,)]
    assert len(list(house.spool.names())) == 1
    assert house.count("broker_messages_duplicate_total", listener="modalities") == 1


def test_an_image_before_its_order_is_held_and_goes_when_the_order_comes(house: House) -> None:
    assert house.store(ct_image("4711", "DOE^JANE", "ACC1", "1.2.3")) == 0
    assert house.destinations() == []
    assert house.rows("select state from message") == [("parked",)]
    assert house.rows("select kind, accession from unmatched where resolved_at is null") == [("images", "ACC1")]
    house.say(order(1))
    assert sorted(house.destinations()) == ["archive C-STORE", "archive_hl7 OMI^O23", "ehr SIU^S12"]
    assert house.rows("select state from message order by id") == [("routed",), ("routed",)]
    assert house.rows("select count(*) from unmatched where resolved_at is null") == [(0,)]


def test_what_a_stop_left_held_is_released_at_the_next_start(house: House) -> None:
    house.store(ct_image("4711", "DOE^JANE", "ACC1", "1.2.3"))
    house.dicom._intake.on_resolved = lambda exam_id: None  # the process ends here
    house.say(order(1))
    house.sent.clear()
    house.wait(house.again.release())
    assert house.destinations() == ["archive C-STORE"]


def test_an_image_of_another_patient_is_not_given_the_orders_name(house: House) -> None:
    house.say(order(1))
    house.say(MSH.format(kind="ADT^A04", id="A1") + "PID|1||4712^^^GENHOSP^MR||ROE^RICHARD\r")
    house.sent.clear()
    assert house.store(ct_image("4712", "ROE^RICHARD", "ACC1", "1.2.3")) == 0
    assert house.destinations() == []
    assert house.rows("select kind from unmatched where resolved_at is null") == [("images",)]


def test_an_object_that_is_cut_is_kept_and_parked(house: House) -> None:
    file = house.spool.begin()
    file.write([b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0\x08\x00\x60"])
    name, size, digest = house.wait(file.finish())
    from broker.model import Spooled

    spooled = Spooled(name, "1.2.840.10008.5.1.4.1.1.2", "1.2.9", "1.2.840.10008.1.2.1", size, digest)
    assert house.wait(house.dicom.receive_instance(CT1, spooled)) == 0
    assert house.rows("select state from message") == [("parked",)]
    assert name in set(house.spool.names())


def test_a_retransmission_is_known_also_after_its_control_id_was_used_for_something_else(house: House) -> None:
    first = house.say(order(1, id="SAME"))
    clash = house.say(order(2, id="SAME"))
    assert house.say(order(1, id="SAME")) == first
    assert house.say(order(2, id="SAME")) == clash
    assert house.rows("select count(*) from message") == [(2,)]


def test_an_object_that_was_refused_may_come_again_and_leaves_no_file(tmp_path: Path) -> None:
    house = House(tmp_path)
    image = ct_image("4711", "DOE^JANE", "ACC1", "1.2.3")
    channels = house.dicom._intake.router._by_source
    house.dicom._intake.router._by_source = {}  # no channel hears of the modalities
    assert house.store(image) == 0x0124
    assert house.store(image) == 0x0124
    assert list(house.spool.names()) == []
    house.dicom._intake.router._by_source = channels
    house.say(order(1))
    assert house.store(image) == 0
    assert len(list(house.spool.names())) == 1


def test_two_who_take_the_same_message_up_again_at_once_do_it_once(house: House) -> None:
    house.say(order(1, control="CA", id="EARLY"))
    house.say(order(1))
    house.sent.clear()
    ends: list[object] = []
    for _ in range(2):
        house.again.route(1).addBoth(ends.append)
    while house.calls:
        house.calls.popleft()()
    assert house.destinations() == ["archive_hl7 OMI^O23", "ehr SIU^S15"]
    assert "is not parked but routed" in str(ends[1])


def test_a_held_object_whose_file_is_gone_stops_neither_the_start_nor_the_others(house: House) -> None:
    first, second = (ct_image("4711", "DOE^JANE", "ACC1", "1.2.3", number) for number in (1, 2))
    assert house.store(first) == 0
    (name,) = house.spool.names()
    assert house.store(second) == 0
    house.dicom._intake.on_resolved = lambda exam_id: None
    house.say(order(1))
    house.sent.clear()
    house.spool.remove(name)
    house.wait(house.again.release())
    assert house.destinations() == ["archive C-STORE"]
    assert house.rows("select state from message order by id") == [("parked",), ("routed",), ("routed",)]


def test_what_fails_stands_on_the_timeline_of_the_accession_it_names(house: House) -> None:
    house.say(order(1))
    house.say(order(1, control="ZZ"))
    house.say(order(1, control="CA", id="LATE").replace("ORC|CA|1^EHR", "ORC|CA|9^EHR").replace("OBR|1|1^EHR", "OBR|1|9^EHR"))
    timeline = house.wait(house.db.read("test", audit.timeline, "ACC1"))
    answers = [(entry.kind, entry.detail) for entry in timeline if entry.what == "answered"]
    assert answers == [("ORM^O01", "AA"), ("ORM^O01", "AE"), ("ORM^O01", "AE")]


def test_that_a_message_was_routed_again_stands_on_the_timeline(house: House) -> None:
    house.say(order(1, control="CA", id="EARLY"))
    house.say(order(1))
    house.wait(house.again.route(1))
    timeline = house.wait(house.db.read("test", audit.timeline, "ACC1"))
    assert [(entry.message_id, entry.detail) for entry in timeline if entry.what == "routed again"] == [(1, "routed")]


def test_a_sender_cannot_make_labels_with_events_of_its_own(house: House) -> None:
    assert "MSA|AA|" in house.say(order(1).replace("ORM^O01^ORM_O01", "ORM^4711 DOE"))
    assert house.count("broker_messages_received_total", listener="hospital", kind="other") == 1


def test_what_a_message_sends_when_it_is_routed_again_has_control_ids_of_its_own(house: House) -> None:
    house.say(order(1, control="CA", id="EARLY"))
    house.say(order(1))
    earlier = Outgoing("ehr", "4711", "notices", "SIU^S15", b"", "1.1")  # as an event of a held message sends
    house.wait(house.db.run("test", outbox.enqueue, [(1, earlier)], 0.0))
    house.sent.clear()
    house.wait(house.again.route(1))
    assert [delivery.control_id for delivery in house.sent] == ["1.2", "1.3"]


BEGUN = {
    "PerformedProcedureStepStatus": "IN PROGRESS",
    "PerformedProcedureStepID": "P1",
    "PerformedStationAETitle": "CT1",
    "PerformedProcedureStepStartDate": "20260302",
    "PerformedProcedureStepStartTime": "100500",
    "Modality": "CT",
    "ScheduledStepAttributesSequence.StudyInstanceUID": "1.2.3",
    "ScheduledStepAttributesSequence.AccessionNumber": "ACC1",
}
ENDED = {
    "PerformedProcedureStepStatus": "COMPLETED",
    "PerformedProcedureStepEndDate": "20260302",
    "PerformedProcedureStepEndTime": "102000",
    "PerformedSeriesSequence.SeriesInstanceUID": "1.2.4",
}


def test_an_mpps_is_answered_by_what_is_wrong_with_it(house: House) -> None:
    house.say(order(1))
    begun, ended = dataset_of(BEGUN), dataset_of(ENDED)
    early = dataset_of({name: value for name, value in ENDED.items() if "End" not in name})

    def perform(create: bool, uid: str, attributes: Dataset) -> PerformedAnswer:
        return house.wait(house.dicom.receive_performed(CT1, create, uid, attributes))

    missing = perform(True, "1.2.1", Dataset())
    assert (missing.status, missing.attributes, missing.comment) == (0x0120, (0x00080060,), "required attribute is missing")
    assert perform(True, "1.2.1", dataset_of({**BEGUN, "Modality": ""})).status == 0x0121
    assert perform(True, "1.2.1", dataset_of({**BEGUN, "PerformedProcedureStepStatus": "ON FIRE"})).status == 0x0106
    assert perform(False, "1.2.1", ended).status == 0x0112
    assert perform(True, "1.2.1", begun).status == 0x0000
    assert perform(True, "1.2.1", begun).status == 0x0000  # sent again
    assert perform(True, "1.2.1", ended).status == 0x0111
    other = perform(False, "1.2.1", dataset_of({"Modality": "MR"}))
    assert (other.status, other.attributes) == (0x0106, (0x00080060,))
    assert perform(False, "1.2.1", early).attributes == (0x00400250,)
    assert perform(False, "1.2.1", ended).status == 0x0000
    assert house.rows("select status from exams") == [("completed",)]
    assert perform(False, "1.2.1", ended).status == 0x0000  # sent again
    final = perform(False, "1.2.1", dataset_of({"CommentsOnThePerformedProcedureStep": "x"}))
    assert (final.status, final.error_id) == (0x0110, 0xA710)
    assert final.comment == "performed procedure step object may no longer be updated"


def test_what_the_sender_thinks_accepted_is_parked_and_not_refused(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.dicom._intake.router._by_source = {}  # no channel hears of the modalities
    told: list[None] = []
    assert house.store(ct_image("4711", "DOE^JANE", "ACC1", "1.2.3"), early=lambda: told.append(None)) == 0
    assert told == [None]
    assert house.rows("select state from message") == [("parked",)]
    assert len(list(house.spool.names())) == 1


def test_images_that_arrive_together_are_all_counted_at_their_exam_and_one_that_fails_harms_no_other(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.say(order(1))
    images = [ct_image("4711", "DOE^JANE", "ACC1", f"1.2.{number}") for number in range(4)]
    del images[2].StudyInstanceUID
    waiting = [house.dicom.receive_instance(CT1, house.spooled(image)) for image in images]
    assert [house.wait(one) for one in waiting] == [0, 0, 0, 0]
    assert house.rows("select state, count(*) from message where kind = 'C-STORE' group by state order by state") == [
        ("parked", 1),
        ("routed", 3),
    ]
    assert house.rows("select images from exams") == [(3,)]
