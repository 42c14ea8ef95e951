"""The DICOM listener over in-memory connections and a clock."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock

from broker.connectors.dicom import LISTENER, DicomListener
from broker.connectors.dicom_listener import check_listener
from broker.connectors.dicom_services import HEADER, MOST_DATASET, MOST_TAKING
from broker.connectors.dicom_serving import HALF_OPEN
from broker.dicom import dimse
from broker.dicom.dataset import decode, encode
from broker.dicom.dimse import Command, Field
from broker.dicom.happenings import Aborted, Accepted, Data, Happening, Message, Rejected, Released
from broker.dicom.negotiation import (
    CALLED_NOT_RECOGNISED,
    CALLING_NOT_RECOGNISED,
    LIMIT_EXCEEDED,
    VERSION_NOT_SUPPORTED,
    Identity,
    IdentityKind,
    Rejection,
    Window,
)
from broker.dicom.states import State
from broker.errors import MessageError, StoreError
from broker.obs.metrics import Metrics
from broker.store.spool import Spool
from tests.connectors.dicom_shell import Intake, Modality, left, listener_settings, quiet, spool, statuses
from tests.dicom.cores import CT, ECHO, EXPLICIT, IMPLICIT, REQUEST, VERIFICATION, written
from tests.dicom.objects import ct, dataset_bytes

WORKLIST, MPPS = "1.2.840.10008.5.1.4.31", "1.2.840.10008.3.1.2.3.3"
AVAILABILITY = "1.2.840.10008.5.1.4.33"
STORE = ((CT, EXPLICIT),)


class Site:
    """A listener and all that is around it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.reactor, self.intake, self.metrics = MemoryReactorClock(), Intake(), Metrics()
        self.spool: Spool = spool(folder)
        self.log, self.logged = quiet()
        self.listener = DicomListener(
            "modalities", listener_settings(**settings), self.reactor, self.intake, self.spool, self.metrics, self.log
        )
        self.listener.start()

    def modality(self, *contexts: tuple[str, str], **who: str) -> Modality:
        """Return a modality with an open association."""
        modality = Modality(self.listener, **who)
        assert any(isinstance(h, Accepted) for h in modality.associate(*contexts))
        return modality

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"broker_{name}", {"listener": "modalities", **labels}) or 0.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_echo_is_answered_and_counted(site: Site) -> None:
    modality = site.modality((VERIFICATION, IMPLICIT))
    assert modality.request(Field.C_ECHO, VERIFICATION) == [0]
    assert modality.request(Field.C_ECHO, VERIFICATION) == [0]
    assert site.sample("messages_acknowledged_total", code="0x0000") == 2
    assert site.sample("associations") == site.sample("connections") == 1
    assert Released() in modality.send(written(modality.core.release()))
    modality.lose()
    assert site.sample("associations") == site.sample("connections") == 0


@pytest.mark.parametrize("pieces", [1, 3])
def test_an_object_that_is_too_large_is_refused_and_leaves_nothing(tmp_path: Path, pieces: int) -> None:
    site = Site(tmp_path, max_object="100 KB")
    modality, heard = site.modality(*STORE), list[Happening]()
    sent = modality.ask(Field.C_STORE, CT, bytes(300 << 10), "1.2.3")
    for at in range(pieces):
        heard += modality.send(sent[at * len(sent) // pieces : (at + 1) * len(sent) // pieces])
        assert bool(left(site.spool)) is (pieces == 3 and at == 0)  # before the object has ended
    [answer] = [one.command for one in heard if isinstance(one, Message)]
    assert (answer.status, answer.comment) == (0xA700, "object larger than max_object")
    assert modality.request(Field.C_STORE, CT, bytes(1000), "1.2.4") == [0]
    assert [spooled.sop_instance for _, spooled in site.intake.stored] == ["1.2.4"]
    assert "object too large" in site.logged.getvalue()


def test_an_object_is_durable_before_the_intake_hears_of_it(site: Site) -> None:
    ds = ct(64)
    modality = site.modality(*STORE)
    assert modality.request(Field.C_STORE, CT, dataset_bytes(ds), "1.2.3") == [0]
    [(caller, spooled)] = site.intake.stored
    assert (caller.listener, caller.ae_title, caller.called, caller.peer) == ("modalities", "CT1", "BROKER", "127.0.0.1:50112")
    assert (spooled.sop_class, spooled.sop_instance, spooled.transfer_syntax) == (CT, "1.2.3", EXPLICIT)
    assert spooled.size == site.spool.path(spooled.name).stat().st_size
    assert dcmread(site.spool.path(spooled.name)).PixelData == ds.PixelData
    assert site.sample("ack_seconds_count") == 1


def test_the_digest_is_that_of_the_dataset(site: Site) -> None:
    modality = site.modality(*STORE)
    for instance in ("1.2.3", "1.2.4"):
        modality.request(Field.C_STORE, CT, dataset_bytes(ct(instance="1.9")), instance)
    first, second = (spooled for _, spooled in site.intake.stored)
    assert (first.digest == second.digest, first.name == second.name) == (False, False)
    same = dataset_bytes(ct(instance="1.9"))
    modality.request(Field.C_STORE, CT, same, "1.2.5")
    modality.request(Field.C_STORE, CT, same, "1.2.6")
    assert site.intake.stored[2][1].digest == site.intake.stored[3][1].digest


def test_the_status_of_the_intake_is_the_answer(site: Site) -> None:
    site.intake.status = 0xB000
    assert site.modality(*STORE).request(Field.C_STORE, CT, b"\0" * 8, "1.2.3") == [0xB000]


def test_while_one_object_is_worked_on_the_next_is_held_and_reading_pauses(site: Site) -> None:
    site.intake.gate = gate = Deferred()
    modality = site.modality(*STORE)
    assert modality.request(Field.C_STORE, CT, b"\1" * 8, "1.2.3") == []
    assert modality.transport.producerState == "producing"
    assert modality.request(Field.C_STORE, CT, b"\2" * 8, "1.2.4") == []
    assert modality.transport.producerState == "paused"
    assert len(site.intake.stored) == 1
    gate.callback(None)
    assert statuses(modality.heard()) == [0, 0]
    assert modality.transport.producerState == "producing"
    assert [spooled.sop_instance for _, spooled in site.intake.stored] == ["1.2.3", "1.2.4"]


def test_messages_of_one_read_are_answered_in_order(site: Site) -> None:
    modality = site.modality(*STORE, (VERIFICATION, IMPLICIT))
    together = b"".join(
        (
            modality.ask(Field.C_STORE, CT, b"\1" * 8, "1.2.3"),
            modality.ask(Field.C_ECHO, VERIFICATION, context=3),
            modality.ask(Field.C_STORE, CT, b"\2" * 8, "1.2.4"),
        )
    )
    answers = [h.command for h in modality.send(together) if isinstance(h, Message)]
    assert [(a.message_id, a.field, a.status) for a in answers] == [(1, 0x8001, 0), (2, 0x8030, 0), (3, 0x8001, 0)]


@pytest.mark.parametrize("how", ["abort", "lost", "release", "fault"])
def test_an_unfinished_object_leaves_nothing(site: Site, how: str) -> None:
    modality = site.modality(*STORE)
    core, command = modality.core, dimse.request(Field.C_STORE, 1, CT, "1.2.3")
    modality.send(core.message(1, command) + core.data_head(1, 1 << 16, last=False) + bytes(1 << 16))
    assert len(left(site.spool)) == 1
    if how == "abort":
        modality.send(written(core.abort()))
    elif how == "release":
        modality.send(written(core.release()))
    elif how == "fault":
        assert Aborted("peer", 2, 1) in modality.send(b"\x99\0\0\0\0\4abcd")
    modality.lose()
    assert left(site.spool) == []
    assert site.intake.stored == []


class Full:
    """A spool whose disk is full, at once or after the first write."""

    def __init__(self, good: int) -> None:
        self.good, self.aborted = good, 0

    def begin(self, head: bytes = b"") -> Any:
        if self.good < 0:
            raise StoreError("spool: No space left on device")
        return self

    def write(self, pieces: list[Any]) -> None:
        self.good -= 1
        if self.good < 0:
            raise StoreError("spool: No space left on device")

    def finish(self, *, durable: bool = True) -> Deferred[Any]:
        return fail(StoreError("spool: Input/output error"))

    def abort(self) -> None:
        self.aborted += 1


@pytest.mark.parametrize("good", [-1, 0, 9])
def test_a_spool_that_fails_is_out_of_resources_and_the_association_goes_on(site: Site, good: int) -> None:
    site.listener._serving.spool = Full(good)  # type: ignore[assignment]
    modality = site.modality(*STORE, (VERIFICATION, IMPLICIT))
    assert modality.request(Field.C_STORE, CT, bytes(50000), "1.2.3") == [0xA700]
    assert modality.request(Field.C_ECHO, VERIFICATION, context=3) == [0]
    assert site.intake.stored == []
    assert "spool" in site.logged.getvalue()


@pytest.mark.parametrize(
    ("asked", "granted"), [(Window(), Window()), (Window(4, 4), Window(4, 1)), (Window(0, 0), Window(8, 1)), (Window(99, 1), Window(8, 1))]
)
def test_several_objects_may_be_on_their_way_where_that_is_asked_for(site: Site, asked: Window, granted: Window) -> None:
    modality = Modality(site.listener)
    [accepted] = [one for one in modality.associate(*STORE, ("1.2.840.10008.9.9", IMPLICIT), window=asked) if isinstance(one, Accepted)]
    assert accepted.answer.window == granted
    site.intake.gate = gate = Deferred()
    count = granted.invoked
    sent = b"".join(modality.ask(Field.C_STORE, CT, bytes(70_000), f"1.2.{number}") for number in range(count))
    assert modality.send(sent) == []
    assert len(site.intake.stored) == 1
    gate.callback(None)
    answers = [one.command for one in modality.heard() if isinstance(one, Message)]
    assert [(one.message_id, one.status) for one in answers] == [(number + 1, 0) for number in range(count)]
    assert [spooled.sop_instance for _, spooled in site.intake.stored] == [f"1.2.{number}" for number in range(count)]


def test_where_more_is_asked_than_storage_one_operation_waits_for_the_other(site: Site) -> None:
    modality = Modality(site.listener)
    [accepted] = [one for one in modality.associate(*STORE, (WORKLIST, IMPLICIT), window=Window(8, 1)) if isinstance(one, Accepted)]
    assert accepted.answer.window == Window()


def test_the_header_goes_with_the_object(site: Site) -> None:
    data = bytes(range(256)) * 100
    assert site.modality(*STORE).request(Field.C_STORE, CT, data, "1.2.3") == [0]
    assert site.intake.headers == [data[:HEADER]]


def test_a_listener_that_is_not_durable_answers_before_the_object_is_journaled(tmp_path: Path) -> None:
    site = Site(tmp_path, durable=False)
    site.intake.gate = gate = Deferred()
    modality = site.modality(*STORE)
    assert modality.request(Field.C_STORE, CT, bytes(8), "1.2.3") == [0]
    gate.errback(StoreError("store: gone"))  # too late for the sender
    assert modality.heard() == []
    assert "request failed" in site.logged.getvalue()
    assert modality.request(Field.C_STORE, CT, bytes(8), "1.2.4") == [0]


def test_what_is_not_durable_cannot_be_committed() -> None:
    asked = {"durable": False, "services": ["store", "commitment"]}
    assert [key for key, _ in check_listener(listener_settings(**asked))] == ["durable"]
    assert list(check_listener(listener_settings(**asked | {"durable": True}))) == []
    assert list(check_listener(listener_settings(**asked | {"services": ["store"]}))) == []


def test_what_is_answered_and_not_journaled_is_bounded(tmp_path: Path) -> None:
    site = Site(tmp_path, durable=False)
    gates: list[Deferred[Any]] = []
    modality = site.modality(*STORE)
    for number in range(MOST_TAKING):
        site.intake.gate = Deferred()
        gates.append(site.intake.gate)
        assert modality.request(Field.C_STORE, CT, bytes(8), f"1.2.{number}") == [0]
    site.intake.gate = last = Deferred()
    assert modality.request(Field.C_STORE, CT, bytes(8), "1.2.999") == []
    last.callback(None)
    assert statuses(modality.heard()) == [0]
    gates[0].callback(None)
    site.intake.gate = Deferred()
    assert modality.request(Field.C_STORE, CT, bytes(8), "1.2.1000") == [0]


@pytest.mark.parametrize(("error", "status"), [(StoreError("store: gone"), 0xA700), (RuntimeError("DOE^JANE"), 0x0110)])
def test_an_intake_that_fails_is_answered_and_logged_without_patient_data(site: Site, error: Exception, status: int) -> None:
    site.intake.gate = Deferred()
    gate = site.intake.gate
    modality = site.modality(*STORE)
    modality.request(Field.C_STORE, CT, bytes(8), "1.2.3")
    gate.errback(error)
    assert statuses(modality.heard()) == [status]
    assert "request failed" in site.logged.getvalue()
    assert "DOE" not in site.logged.getvalue()


@pytest.mark.parametrize(
    ("field", "abstract", "instance", "status"),
    [
        (Field.C_STORE, "1.2.840.10008.5.1.4.1.1.4", "1.2.3", 0x0122),
        (Field.C_STORE, CT, "../../etc/passwd", 0x0117),
        (Field.C_STORE, CT, "", 0x0117),
        (Field.C_STORE, CT, "1" * 65, 0x0117),
        (Field.C_STORE, CT, "1..2", 0x0117),
        (Field.C_FIND, CT, "", 0x0211),
        (Field.N_SET, CT, "1.2.3", 0x0211),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_and_nothing_kept(
    site: Site, field: Field, abstract: str, instance: str, status: int
) -> None:
    modality = site.modality(*STORE)
    assert modality.request(field, abstract, bytes(100), instance) == [status]
    assert left(site.spool) == []
    assert site.sample("messages_acknowledged_total", code=f"0x{status:04X}") == 1


def test_a_store_without_a_dataset_is_not_understood(site: Site) -> None:
    modality = site.modality(*STORE)
    command = dimse.request(Field.C_STORE, 1, CT, "1.2.3").replace(b"\0\0\0\x08\x02\0\0\0\x01\0", b"\0\0\0\x08\x02\0\0\0\x01\x01")
    assert statuses(modality.send(modality.core.message(1, command))) == [0xC000]


def test_a_response_to_an_scp_aborts(site: Site) -> None:
    modality = site.modality((VERIFICATION, IMPLICIT))
    answer = dimse.response(Command(Field.C_ECHO, 1, False, VERIFICATION), 0)
    assert Aborted("peer", 0, 0) in modality.send(modality.core.message(1, answer))
    assert site.sample("protocol_errors_total", fault="response without a request") == 1


# who may


@pytest.mark.parametrize(
    ("peers", "who", "rejection"),
    [
        ({"*": "refuse"}, {}, CALLING_NOT_RECOGNISED),
        ({"CT1": {"from": "10.0.0.0/8"}, "*": {}}, {}, CALLING_NOT_RECOGNISED),
        ({"CT1": {"from": ["10.0.0.0/8", "127.0.0.1"]}}, {}, None),
        ({"CT1": {}}, {"calling": "CT2"}, CALLING_NOT_RECOGNISED),
        ({"CT1": "refuse", "*": {}}, {}, CALLING_NOT_RECOGNISED),
        ({"*": {}}, {"called": "OTHER"}, CALLED_NOT_RECOGNISED),
        (None, {"host": "10.1.1.1"}, CALLING_NOT_RECOGNISED),
        (None, {"host": "127.0.0.9"}, None),
        (None, {"host": "::1"}, None),
    ],
)
def test_who_may_associate(tmp_path: Path, peers: Any, who: dict[str, str], rejection: Any) -> None:
    site = Site(tmp_path, **({"peers": peers} if peers else {}))
    answer = Modality(site.listener, **who).associate((VERIFICATION, IMPLICIT))
    assert (Rejected(rejection) in answer) == (rejection is not None)
    assert any(isinstance(h, Accepted) for h in answer) == (rejection is None)
    if rejection:
        assert site.sample("associations_rejected_total", reason=rejection.text) == 1
        assert site.sample("associations") == 0


def test_the_called_ae_title_may_be_ignored(tmp_path: Path) -> None:
    site = Site(tmp_path, check_called=False)
    assert site.modality((VERIFICATION, IMPLICIT), called="OTHER").request(Field.C_ECHO, VERIFICATION) == [0]


def test_associations_have_limits_and_places_become_free(tmp_path: Path) -> None:
    site = Site(tmp_path, associations=2, peers={"CT1": {"associations": 1}, "*": {}})
    first = site.modality((VERIFICATION, IMPLICIT))
    assert Rejected(LIMIT_EXCEEDED) in Modality(site.listener).associate((VERIFICATION, IMPLICIT))
    site.modality((VERIFICATION, IMPLICIT), calling="CT2")
    assert Rejected(LIMIT_EXCEEDED) in Modality(site.listener, calling="CT3").associate((VERIFICATION, IMPLICIT))
    first.lose()
    assert site.modality((VERIFICATION, IMPLICIT), calling="CT3").request(Field.C_ECHO, VERIFICATION) == [0]


def test_nobody_takes_every_place(tmp_path: Path) -> None:
    site = Site(tmp_path, associations=8, peers={"CT1": {}, "*": {}})
    for who in ("CT2", "CT3"):
        [site.modality((VERIFICATION, IMPLICIT), calling=who) for _ in range(3)]
    assert Rejected(LIMIT_EXCEEDED) in Modality(site.listener, calling="CT4").associate((VERIFICATION, IMPLICIT))
    [site.modality((VERIFICATION, IMPLICIT)) for _ in range(2)]
    assert Rejected(LIMIT_EXCEEDED) in Modality(site.listener).associate((VERIFICATION, IMPLICIT))


def test_a_peer_that_is_alone_may_take_every_place(tmp_path: Path) -> None:
    site = Site(tmp_path, associations=4, peers={"CT1": {}})
    [site.modality((VERIFICATION, IMPLICIT)) for _ in range(4)]
    assert Rejected(LIMIT_EXCEEDED) in Modality(site.listener).associate((VERIFICATION, IMPLICIT))


def test_of_too_many_connections_that_ask_for_nothing_the_oldest_of_the_greediest_address_is_cut(site: Site) -> None:
    patient = Modality(site.listener, host="127.0.0.7")
    greedy = [Modality(site.listener) for _ in range(HALF_OPEN + 5)]
    assert [one.transport.disconnected for one in greedy] == [True] * 6 + [False] * (HALF_OPEN - 1)
    assert any(isinstance(h, Accepted) for h in patient.associate((VERIFICATION, IMPLICIT)))
    assert site.sample("protocol_errors_total", fault="too many connections without an association") == 6


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        (None, "user identity missing"),
        (Identity(IdentityKind.PASSCODE, b"anna", b"wrong"), "user identity not accepted"),
        (Identity(IdentityKind.PASSCODE, b"otto", b"4711"), "user identity not accepted"),
        (Identity(IdentityKind.USER, b"anna"), "user identity not accepted"),
        (Identity(IdentityKind.KERBEROS, b"ticket"), "user identity of a kind that is not supported"),
        (Identity(IdentityKind.SAML, b"<saml/>"), "user identity of a kind that is not supported"),
        (Identity(9, b"anna", b"4711"), "user identity of a kind that is not supported"),
        (Identity(IdentityKind.PASSCODE, b"anna", b"4711"), ""),
        (Identity(IdentityKind.PASSCODE, b"anna", b"4711", wants_answer=True), ""),
    ],
)
def test_a_peer_says_who_it_is(tmp_path: Path, identity: Identity | None, reason: str) -> None:
    site = Site(tmp_path, peers={"CT1": {"identity": {"user": "anna", "passcode": "4711"}}, "*": {}})
    answer = Modality(site.listener).associate((VERIFICATION, IMPLICIT), identity=identity)
    if reason:
        assert Rejected(Rejection(1, 1, 1)) in answer
        assert site.sample("associations_rejected_total", reason=reason) == 1
    else:
        [accepted] = [h.answer for h in answer if isinstance(h, Accepted)]
        assert identity is not None
        assert accepted.identified == identity.wants_answer
    assert not {"anna", "otto", "4711", "wrong"} & set(site.logged.getvalue().split())


def test_a_user_name_alone_will_do_where_no_passcode_is_asked_for(tmp_path: Path) -> None:
    site = Site(tmp_path, peers={"CT1": {"identity": {"user": "anna"}}})
    named = Identity(IdentityKind.USER, b"anna")
    assert any(isinstance(h, Accepted) for h in Modality(site.listener).associate((VERIFICATION, IMPLICIT), identity=named))


def test_an_identity_that_nobody_asked_for_is_passed_over(site: Site) -> None:
    told = Identity(IdentityKind.JWT, b"token", wants_answer=True)
    [accepted] = [h.answer for h in Modality(site.listener).associate((VERIFICATION, IMPLICIT), identity=told) if isinstance(h, Accepted)]
    assert not accepted.identified


@pytest.mark.parametrize(
    ("services", "abstract", "private", "granted"),
    [
        (["store"], CT, False, True),
        (["store"], "1.2.840.10008.5.1.4.1.1.6", False, True),  # ultrasound, retired, still sent
        (["store"], "1.2.840.10008.5.1.4.34.7", False, True),  # RT beams delivery instruction
        (["store"], "1.3.12.2.1107.5.9.1", False, False),
        (["store"], "1.3.12.2.1107.5.9.1", True, True),
        (["store"], "1.2.840.10008.5.1.4.1.2.2.1", True, False),  # study root FIND is no storage
        (["store"], WORKLIST, False, False),
        (["mpps"], CT, False, False),
        (["mpps"], MPPS, False, True),
        (["worklist"], WORKLIST, False, True),
        ([], VERIFICATION, False, True),
    ],
)
def test_what_is_accepted(tmp_path: Path, services: list[str], abstract: str, private: bool, granted: bool) -> None:
    site = Site(tmp_path, services=services, peers={"*": {"private": private}})
    [answer] = [h.answer for h in Modality(site.listener).associate((abstract, IMPLICIT)) if isinstance(h, Accepted)]
    assert (bool(answer.contexts), answer.refused) == (granted, {} if granted else {1: 3})


def test_objects_come_in_any_transfer_syntax_but_queries_only_in_decodable_ones(tmp_path: Path) -> None:
    site = Site(tmp_path)
    [answer] = [
        h.answer
        for h in Modality(site.listener).associate((CT, "1.2.840.10008.1.2.4.90"), (CT, "1.2.3.4"), (WORKLIST, "1.2.840.10008.1.2.1.99"))
        if isinstance(h, Accepted)
    ]
    assert {c.syntax for c in answer.contexts.values()} == {"1.2.840.10008.1.2.4.90", "1.2.3.4"}
    assert answer.refused == {5: 4}


# timers


def test_a_connection_that_asks_for_nothing_is_closed(site: Site) -> None:
    modality = Modality(site.listener)
    site.reactor.advance(29)
    assert not modality.transport.disconnecting
    site.reactor.advance(2)
    assert modality.transport.disconnecting


def test_an_idle_association_is_aborted_but_not_while_work_goes_on(site: Site) -> None:
    site.intake.gate = gate = Deferred()
    modality = site.modality(*STORE)
    site.reactor.advance(500)
    modality.request(Field.C_STORE, CT, bytes(8), "1.2.3")
    site.reactor.advance(599)
    site.reactor.advance(599)
    assert modality.heard() == []
    gate.callback(None)
    assert statuses(modality.heard()) == [0]
    site.reactor.advance(600)
    site.reactor.advance(600)
    assert Aborted("peer", 0, 0) in modality.heard()


# stopping


def test_who_sends_an_object_drop_by_drop_is_aborted(site: Site) -> None:
    modality = site.modality(*STORE)
    modality.request(Field.C_STORE, CT, bytes(50_000), "1.2.3")
    modality.send(modality.ask(Field.C_STORE, CT, bytes(50_000), "1.2.4")[:200])
    for _ in range(40):
        site.reactor.advance(60)
        modality.shell.dataReceived(b"\0")
    assert Aborted("peer", 0, 0) in modality.heard()
    assert site.sample("protocol_errors_total", fault="slower than 100 bytes a second") == 1
    assert len(left(site.spool)) == 1


def test_a_slow_sender_is_let_to_end(site: Site) -> None:
    modality = site.modality(*STORE)
    data = modality.ask(Field.C_STORE, CT, bytes(300_000), "1.2.3")
    for at in range(0, len(data), 10_000):
        site.reactor.advance(60)
        modality.shell.dataReceived(data[at : at + 10_000])
    assert statuses(modality.heard()) == [0]


def test_an_association_that_seldom_says_something_is_left_alone(site: Site) -> None:
    modality = site.modality((VERIFICATION, IMPLICIT))
    for _ in range(10):
        site.reactor.advance(590)
        assert modality.request(Field.C_ECHO, VERIFICATION) == [0]


def test_stopping_answers_what_is_worked_on_and_aborts_the_rest(site: Site) -> None:
    site.intake.gate = gate = Deferred()
    working, resting = site.modality(*STORE), site.modality((VERIFICATION, IMPLICIT), calling="CT2")
    working.request(Field.C_STORE, CT, bytes(8), "1.2.3")
    stopped: list[None] = []
    site.listener.stop().addCallback(stopped.append)
    assert Aborted("peer", 0, 0) in resting.heard()
    resting.lose()
    assert Modality(site.listener).shell is None
    assert not stopped
    gate.callback(None)
    heard = working.heard()
    assert statuses(heard) == [0]
    assert Aborted("peer", 0, 0) in heard
    working.lose()
    assert stopped == [None]
    assert site.reactor.getDelayedCalls() == []


def test_stopping_cuts_what_takes_too_long(site: Site) -> None:
    site.intake.gate = Deferred()
    modality = site.modality(*STORE)
    modality.request(Field.C_STORE, CT, bytes(8), "1.2.3")
    site.listener.stop()
    site.reactor.advance(11)
    assert modality.transport.disconnected or modality.transport.disconnecting


def test_a_port_in_use_is_an_os_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_use(*args: Any, **more: Any) -> None:
        raise CannotListenError("127.0.0.1", 104, OSError(98, "Address already in use"))

    monkeypatch.setattr(site.reactor, "listenTCP", in_use)
    errors: list[Any] = []
    site.listener.start().addErrback(errors.append)
    assert isinstance(errors[0].value, OSError)
    assert errors[0].value.errno == 98


# worklist


def identifier(**keys: str) -> bytes:
    ds = Dataset()
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    ds.PatientName = "*"
    return encode(ds, IMPLICIT)


def found(happenings: list[Any]) -> list[Dataset]:
    """Return the datasets of pending responses."""
    data, results = b"", []
    for h in happenings:
        if isinstance(h, Data):
            data += bytes(h.view)
            if h.last:
                results.append(decode(data, IMPLICIT))
                data = b""
    return results


def entries(*names: str) -> list[Dataset]:
    made = []
    for name in names:
        ds = Dataset()
        ds.PatientName, ds.AccessionNumber = name, "A1"
        made.append(ds)
    return made


@pytest.mark.parametrize(
    ("asked", "settings", "charset", "name"),
    [
        ("ISO_IR 100", {"charset": "ISO_IR 144"}, "ISO_IR 100", "MÜLLER^Zoe"),
        ("ISO_IR 100", {"charset": "ISO_IR 101"}, "ISO_IR 101", "MÜLLER^Zoě"),
        ("ISO_IR 100", {"unencodable": "unicode"}, "ISO_IR 192", "MÜLLER^Zoě"),
        ("", {"charset": "ISO_IR 100"}, "ISO_IR 100", "MÜLLER^Zoe"),
        ("", {}, "ISO_IR 192", "MÜLLER^Zoě"),
        ("nonsense", {}, "ISO_IR 192", "MÜLLER^Zoě"),
        ("ISO_IR 6", {}, "ISO_IR 6", "MULLER^Zoe"),
        ("ISO_IR 100", {}, "ISO_IR 192", "MÜLLER^山"),  # no letter is near
    ],
)
def test_the_worklist_is_answered_in_the_set_asked_for(tmp_path: Path, asked: str, settings: Any, charset: str, name: str) -> None:
    site = Site(tmp_path, peers={"CT1": settings})
    site.intake.entries = entries("MÜLLER^山" if "山" in name else "MÜLLER^Zoě")
    modality = site.modality((WORKLIST, IMPLICIT))
    heard = modality.send(modality.ask(Field.C_FIND, WORKLIST, identifier(**({"SpecificCharacterSet": asked} if asked else {}))))
    assert statuses(heard) == [0xFF00, 0]
    [answer] = found(heard)
    assert (answer.SpecificCharacterSet, str(answer.PatientName)) == (charset, name)
    [(caller, query)] = site.intake.found
    assert (caller.ae_title, str(query.PatientName)) == ("CT1", "*")


def test_no_match_is_success_alone(site: Site) -> None:
    assert site.modality((WORKLIST, IMPLICIT)).request(Field.C_FIND, WORKLIST, identifier()) == [0]


def test_responses_wait_for_the_peer_and_a_cancel_ends_them(site: Site) -> None:
    site.intake.entries = entries(*(f"N{at}" for at in range(100)))
    modality = site.modality((WORKLIST, IMPLICIT))
    plain = modality.transport.write

    def slow(data: bytes) -> None:
        plain(data)
        if modality.transport.producer is not None:
            modality.transport.producer.pauseProducing()

    modality.transport.write = slow  # type: ignore[method-assign]
    assert modality.request(Field.C_FIND, WORKLIST, identifier()) == [0xFF00]
    flow: Any = modality.transport.producer
    modality.send(modality.core.message(1, dimse.cancel(99)))
    flow.resumeProducing()
    assert statuses(modality.heard()) == [0xFF00]
    modality.send(modality.core.message(1, dimse.cancel(1)))
    flow.resumeProducing()
    assert statuses(modality.heard()) == [0xFE00]


def test_a_cancel_before_the_matches_are_there_ends_the_query(site: Site) -> None:
    site.intake.gate = gate = Deferred()
    site.intake.entries = entries("A", "B")
    modality = site.modality((WORKLIST, IMPLICIT))
    assert modality.request(Field.C_FIND, WORKLIST, identifier()) == []
    modality.send(modality.core.message(1, dimse.cancel(1)))
    gate.callback(None)
    assert statuses(modality.heard()) == [0xFE00]
    assert modality.request(Field.C_FIND, WORKLIST, identifier()) == [0xFF00, 0xFF00, 0]


def test_a_peer_that_leaves_amid_a_query_is_forgotten(site: Site) -> None:
    site.intake.gate = gate = Deferred()
    site.intake.entries = entries("A")
    modality = site.modality((WORKLIST, IMPLICIT))
    modality.request(Field.C_FIND, WORKLIST, identifier())
    modality.lose()
    gate.callback(None)
    assert modality.transport.value() == b""
    assert site.logged.getvalue() == ""


def test_a_second_request_during_a_query_aborts(site: Site) -> None:
    site.intake.gate = Deferred()
    modality = site.modality((WORKLIST, IMPLICIT), (VERIFICATION, IMPLICIT))
    modality.request(Field.C_FIND, WORKLIST, identifier())
    assert Aborted("peer", 0, 0) in modality.send(modality.core.message(3, ECHO))


@pytest.mark.parametrize(("data", "status"), [(bytes(MOST_DATASET + 2), 0xA700), (b"\x40\0\0\x01\xff\xff\xff\xff\xfe\xff\x00\xe0", 0xA900)])
def test_an_identifier_too_large_or_damaged_is_refused(site: Site, data: bytes, status: int) -> None:
    assert site.modality((WORKLIST, IMPLICIT)).request(Field.C_FIND, WORKLIST, data) == [status]
    assert site.intake.found == []


def test_too_many_matches_end_with_out_of_resources(site: Site) -> None:
    site.intake.entries, site.intake.exceeded = entries("A", "B"), True
    assert site.modality((WORKLIST, IMPLICIT)).request(Field.C_FIND, WORKLIST, identifier()) == [0xFF00, 0xFF00, 0xA700]


def test_a_peer_has_terms_of_its_own(tmp_path: Path) -> None:
    own = {"stations": "CT1", "modality": "CT", "most": 5, "ahead": "2d"}
    site = Site(tmp_path, worklist={"most": 9, "past": "1d"}, peers={"CT7": {"worklist": own}, "*": {}})
    for calling in ("CT7", "CT8"):
        site.modality((WORKLIST, IMPLICIT), calling=calling).request(Field.C_FIND, WORKLIST, identifier())
    first, second = site.intake.terms
    assert (first.most, first.stations, first.modality, first.past, first.ahead) == (5, ("CT1",), "CT", 86400.0, 172800.0)
    assert (second.most, second.stations, second.modality, second.past, second.ahead) == (9, (), "", 86400.0, None)


@pytest.mark.parametrize(
    ("worklist", "says"),
    [
        ({"station": "CT1"}, "unknown key station"),
        ({"most": 0}, "most: write a whole number from 1 on"),
        ({"ahead": "soon"}, "ahead"),
        ("CT1", "needed here"),
    ],
)
def test_mistakes_in_a_peers_worklist_are_told(tmp_path: Path, worklist: Any, says: str) -> None:
    with pytest.raises(ValueError, match=r"CT7\.worklist: .*" + says):
        Site(tmp_path, peers={"CT7": {"worklist": worklist}})


# availability, and the end of an association


def test_a_notification_is_handed_over_and_answered(tmp_path: Path) -> None:
    site = Site(tmp_path, services=["availability"])
    said = Dataset()
    said.StudyInstanceUID = "1.2"
    modality = site.modality((AVAILABILITY, IMPLICIT), calling="ARCHIVE")
    assert modality.request(Field.N_CREATE, AVAILABILITY, encode(said, IMPLICIT), "2.25.5") == [0]
    [(caller, uid, dataset)] = site.intake.available
    assert (caller.ae_title, uid, dataset.StudyInstanceUID) == ("ARCHIVE", "2.25.5", "1.2")


def test_how_an_association_ended_is_told(site: Site) -> None:
    modality = site.modality((VERIFICATION, IMPLICIT))
    modality.send(written(modality.core.release()))
    modality.lose()
    site.modality((VERIFICATION, IMPLICIT), calling="CT2").lose()
    assert site.intake.ended == [("CT1", True), ("CT1", False), ("CT2", False)]


# performed procedure steps


def performed() -> bytes:
    ds = Dataset()
    ds.PerformedProcedureStepStatus = "IN PROGRESS"
    return encode(ds, EXPLICIT)


def test_a_step_is_created_and_set(site: Site) -> None:
    modality = site.modality((MPPS, EXPLICIT))
    assert modality.request(Field.N_CREATE, MPPS, performed(), "1.2.3") == [0]
    assert modality.request(Field.N_SET, MPPS, performed(), "1.2.3") == [0]
    assert [(create, uid) for _, create, uid, _ in site.intake.performed] == [(True, "1.2.3"), (False, "1.2.3")]
    assert site.intake.performed[0][3].PerformedProcedureStepStatus == "IN PROGRESS"


def test_a_creation_without_a_uid_gets_one(site: Site) -> None:
    modality = site.modality((MPPS, EXPLICIT))
    [answer] = [h.command for h in modality.send(modality.ask(Field.N_CREATE, MPPS, performed())) if isinstance(h, Message)]
    assert answer.sop_instance == site.intake.performed[0][2] != ""


@pytest.mark.parametrize(
    ("field", "instance", "data", "status"),
    [
        (Field.N_SET, "", performed(), 0x0117),
        (Field.N_CREATE, "1.2.3", bytes(MOST_DATASET + 2), 0x0213),
        (Field.N_CREATE, "1.2.3", b"\x40\0\x70\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0", 0x0110),
    ],
)
def test_a_step_that_cannot_be_taken_is_refused(site: Site, field: Field, instance: str, data: bytes, status: int) -> None:
    assert site.modality((MPPS, EXPLICIT)).request(field, MPPS, data, instance) == [status]
    assert site.intake.performed == []


def test_a_refusal_of_the_intake_is_the_answer(site: Site) -> None:
    site.intake.status = 0x0110
    assert site.modality((MPPS, EXPLICIT)).request(Field.N_CREATE, MPPS, performed(), "1.2.3") == [0x0110]


# settings


@pytest.mark.parametrize(
    ("peers", "words"),
    [
        ({"CT1": {"form": "10.0.0.1"}}, "CT1.form: unknown"),
        ({"CT1": {"from": "10.0.0.300"}}, "CT1.from: write addresses"),
        ({"CT1": {"charset": "latin1"}}, "CT1.charset: write defined terms"),
        ({"CT1": {"associations": 0}}, "CT1.associations: write a whole number"),
        ({"CT1": {"private": "yes"}}, "CT1.private: write true or false"),
        ({"CT1": "refused"}, "CT1: write refuse"),
        ({"CT1": {"identity": {"passcode": "4711"}}}, "CT1.identity: write user:"),
        ({"CT1": {"identity": {"user": "anna", "passcode": 4711}}}, "CT1.identity: user: and passcode: are texts"),
        ({"CT1": {"certificate": "sha256:12"}}, "CT1.certificate: write names"),
        ({"CT1": {"certificate": []}}, "CT1.certificate: name at least one"),
        ({"CT1": {"tls": {"verfy": "none"}}}, "CT1.tls: verfy"),
        ({"CT1": {"tls": {"certificate": "/nowhere.pem"}}}, "CT1.tls: certificate: /nowhere.pem"),
        ({"CT1": {"tls": "yes"}}, "CT1.tls: "),
        ({"CT1": {"identify_as": {"passcode": "4711"}}}, "CT1.identify_as: write user:"),
        ({"AN AE TITLE THAT IS TOO LONG": {}}, "1 to 16 characters"),
    ],
)
def test_peers_that_make_no_sense_are_refused_with_what_to_write(tmp_path: Path, peers: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Site(tmp_path, peers=peers)


def test_the_example_of_the_spec_is_taken(tmp_path: Path) -> None:
    import yaml

    settings = yaml.safe_load(StringIO(LISTENER.example))["dicom"]
    assert Site(tmp_path, **{k: v for k, v in settings.items() if k != "port"}).listener.name == "modalities"


def test_a_fault_of_this_side_ends_one_association_only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, whole = site.modality(*STORE), site.modality((VERIFICATION, IMPLICIT), calling="CT2")
    monkeypatch.setattr(broken.shell, "on_message", lambda message: 1 / 0)
    broken.shell._orders[Message] = broken.shell.on_message
    heard = broken.send(broken.ask(Field.C_STORE, CT, bytes(8), "1.2.3"))
    assert Aborted("peer", 0, 0) in heard
    assert broken.shell.core.state is State.AWAIT_CLOSE
    assert whole.request(Field.C_ECHO, VERIFICATION) == [0]
    assert "ZeroDivisionError" in site.logged.getvalue()


def test_a_message_error_of_the_intake_is_a_processing_failure(site: Site) -> None:
    site.intake.gate = gate = Deferred()
    modality = site.modality((MPPS, EXPLICIT))
    modality.request(Field.N_CREATE, MPPS, performed(), "1.2.3")
    gate.errback(MessageError("PerformedProcedureStepStatus", "not a status"))
    assert statuses(modality.heard()) == [0x0110]


@pytest.mark.parametrize("title", ["", "   ", "LONGER THAN SIXTEEN", "BRÖKER", "A\\B"])
def test_an_ae_title_that_is_none_is_refused(tmp_path: Path, title: str) -> None:
    with pytest.raises(ValueError, match="ae_title: an AE title has 1 to 16 characters"):
        Site(tmp_path, ae_title=title)


def test_an_unknown_protocol_version_is_rejected_and_counted(site: Site) -> None:
    modality = Modality(site.listener)
    modality.core.associate(REQUEST)
    request = bytearray(written(modality.core.connected()))
    request[6:8] = b"\0\2"
    assert Rejected(VERSION_NOT_SUPPORTED) in modality.send(bytes(request))
    assert site.sample("protocol_errors_total", fault="protocol version not supported") == 1
