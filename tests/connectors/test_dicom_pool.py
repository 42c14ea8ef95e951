"""The associations of a DICOM destination: how many, what they are asked for, what goes over them side by side, how they end."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.error import ConnectionRefusedError
from twisted.python.failure import Failure

from broker.dicom.dimserequest import DimseRequest, encode_request
from broker.dicom.negotiation import CALLED_NOT_RECOGNISED, LIMIT_EXCEEDED
from broker.errors import Aborted, NotYet, Refused, Retry
from broker.model import Delivery
from tests.connectors.dicom_archive import EXPLICIT, Archive, Site
from tests.connectors.dicom_shell import delivery
from tests.dicom.cores import written
from tests.dicom.objects import ct, dataset_bytes

MPPS = "1.2.840.10008.3.1.2.3.3"
IMPLICIT = "1.2.840.10008.1.2"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def open_associations(site: Site) -> float:
    return site.metrics.registry.get_sample_value("broker_destination_associations", {"destination": "archive"}) or 0.0


def test_what_comes_at_once_takes_as_many_associations_as_there_may_be(tmp_path: Path) -> None:
    site = Site(tmp_path, associations=2)
    results = [site.send(site.keep(ct())) for _ in range(3)]
    assert site.connections == 2
    one, two = (site.archive(at).accept() for at in range(2))
    assert open_associations(site) == 2
    one.answer()
    two.answer()
    assert (results[0], results[1], results[2]) == (["0x0000"], ["0x0000"], [])
    one.answer()
    assert results[2] == ["0x0000"]


def test_a_peer_that_allows_fewer_associations_gets_fewer_and_nothing_fails(site: Site) -> None:
    results = [site.send(site.keep(ct())) for _ in range(3)]
    assert site.connections == 3
    one = site.archive(0).accept()
    for at in (1, 2):
        other = site.archive(at)
        other.hear()
        other.say(written(other.core.reject(LIMIT_EXCEEDED)))
        other.lose()
    for _ in results:
        one.answer()
    assert results == [["0x0000"]] * 3
    assert site.connections == 3
    assert site.outcome("rejected") == 0


def test_objects_follow_each_other_where_the_peer_agrees_to_several_operations(site: Site) -> None:
    objects = [ct(64) for _ in range(5)]
    assert site.destination.width == 4 * 2
    results = [site.send(site.keep(objects[0]))]
    one = site.archive(0).accept(operations=3)
    results += [site.send(site.keep(ds)) for ds in objects[1:3]]
    one.hear()
    assert site.connections == 1
    assert [m.command.sop_instance for m in one.messages] == [str(ds.SOPInstanceUID) for ds in objects[:3]]
    one.answer(at=2)
    one.answer(at=0)
    assert results == [["0x0000"], [], ["0x0000"]]
    assert site.destination.width == 4 * 4
    one.answer(at=1)
    assert results == [["0x0000"]] * 3


def test_no_more_operations_are_asked_for_than_the_settings_say(tmp_path: Path) -> None:
    site = Site(tmp_path, associations=1, operations=2)
    results = [site.send(site.keep(ct())) for _ in range(4)]
    one = site.archive().accept(operations=0)  # no limit
    assert one.request is not None
    assert one.request.window.invoked == 2
    one.hear()
    assert len(one.messages) == 2
    for at in range(4):
        one.answer(at=at)
    assert results == [["0x0000"]] * 4


def test_an_association_that_breaks_sends_each_of_its_objects_once_more(tmp_path: Path) -> None:
    site = Site(tmp_path, associations=1)
    site.send(site.keep(ct()))
    one = site.archive().accept(operations=4)
    one.answer()
    results = [site.send(site.keep(ct())) for _ in range(2)]
    one.hear()
    one.lose()
    two = site.archive().accept(operations=4)
    two.hear()
    two.answer(at=0)
    two.answer(at=1)
    assert results == [["0x0000"]] * 2


def test_contexts_are_those_of_lately_and_never_more_than_there_can_be(tmp_path: Path) -> None:
    site = Site(tmp_path, associations=1)
    archive: Archive | None = None
    for number in range(130):
        ds = ct()
        ds.SOPClassUID = f"1.2.840.{number + 1}"
        results = site.send(site.keep(ds))
        if archive is not None:
            archive.hear()
            archive.close()
        archive = site.archive().accept()
        archive.answer()
        assert results == ["0x0000"]
    assert archive is not None
    assert archive.request is not None
    assert [offer.abstract for offer in archive.request.offers] == [f"1.2.840.{number}" for number in range(130, 2, -1)]
    assert archive.request.offers[-1].id == 255


def test_a_peer_that_allowed_fewer_is_asked_again_after_a_while(tmp_path: Path) -> None:
    site = Site(tmp_path, associations=2, linger="5m")
    results = [site.send(site.keep(ct())) for _ in range(2)]
    one, other = site.archive(0).accept(), site.archive(1)
    other.hear()
    other.say(written(other.core.reject(LIMIT_EXCEEDED)))
    one.answer()
    one.answer()
    site.reactor.advance(61)
    results += [site.send(site.keep(ct())) for _ in range(2)]
    assert site.connections == 3
    site.archive().accept().answer()
    one.answer()
    assert results == [["0x0000"]] * 4


def test_an_association_that_others_keep_busy_makes_place_for_what_it_was_not_asked_for(tmp_path: Path) -> None:
    site = Site(tmp_path, associations=1)
    other = ct()
    other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    results = [site.send(site.keep(ct()))]
    one = site.archive().accept()
    results += [site.send(site.keep(other)), site.send(site.keep(ct()))]
    one.answer()
    one.hear()
    assert one.released
    two = site.archive().accept()
    two.answer()
    two.answer()
    assert results == [["0x0000"]] * 3


def test_all_that_waits_is_asked_for_at_once(tmp_path: Path) -> None:
    site = Site(tmp_path, associations=1)
    objects = [ct() for _ in range(3)]
    for number, ds in enumerate(objects):
        ds.SOPClassUID = f"1.2.840.{number + 1}"
    results = [site.send(site.keep(ds)) for ds in objects]
    one = site.archive().accept()
    for _ in objects:  # the first was alone when the association was asked for
        one.answer()
        if one.released:
            one.close()
            one = site.archive().accept()
    one.answer()
    assert results == [["0x0000"]] * 3
    assert site.connections == 2


def test_closing_while_an_association_is_being_opened_gives_up(site: Site) -> None:
    connecting = site.send(site.keep(ct()))
    closed: list[None] = []
    site.destination.close().addCallback(closed.append)
    assert closed == [None]
    assert isinstance(connecting[0], Retry)
    assert site.reactor.getDelayedCalls() == []
    later = site.send(site.keep(ct()))
    site.archive().accept().answer()
    assert later == ["0x0000"]


def test_closing_while_the_answer_to_the_request_is_due_gives_up(site: Site) -> None:
    results = site.send(site.keep(ct()))
    archive = site.archive()
    archive.hear()
    site.destination.close()
    assert isinstance(results[0], Retry)
    archive.lose()
    site.reactor.advance(6)
    assert site.reactor.getDelayedCalls() == []


def test_a_dataset_without_a_byte_is_sent_as_one(site: Site) -> None:
    ds = ct()
    spooled = site.keep(ds)
    path = site.spool.path(spooled.name)
    path.write_bytes(path.read_bytes()[: -len(dataset_bytes(ds))])
    results = site.send(spooled)
    archive = site.archive().accept()
    assert archive.answer(0xC000).command.sop_instance == ds.SOPInstanceUID
    assert isinstance(results[0], Refused)


# what an attempt means


@pytest.mark.parametrize(("permanent", "settings", "kind"), [
    (True, {}, Retry),
    (False, {}, Retry),
    (True, {"rejected": "refuse"}, Refused),
    (False, {"rejected": "refuse"}, Retry),
    (False, {"busy": "refuse"}, Refused),
])  # fmt: skip
def test_a_rejection_means_what_the_settings_say(tmp_path: Path, permanent: bool, settings: dict[str, str], kind: type) -> None:
    site = Site(tmp_path, outcomes=settings)
    results = site.send(site.keep(ct()))
    archive = site.archive()
    archive.hear()
    archive.say(written(archive.core.reject(CALLED_NOT_RECOGNISED if permanent else LIMIT_EXCEEDED)))
    assert type(results[0]) is not Aborted
    assert isinstance(results[0], kind)
    assert site.outcome("rejected") == 1


def test_a_status_means_what_the_settings_say_and_is_counted(tmp_path: Path) -> None:
    site = Site(tmp_path, outcomes={"A900": "warning", "C000-CFFF": "retry"})
    warned, retried = site.send(site.keep(ct())), site.send(site.keep(ct()))
    one, two = (site.archive(at).accept() for at in range(2))
    one.answer(0xA900)
    two.answer(0xC123)
    assert warned == ["0xA900 data set does not match SOP class, taken with a warning"]
    assert type(retried[0]) is Retry
    assert (site.outcome("warning"), site.outcome("retry")) == (1, 1)


@pytest.mark.parametrize("how", ["abort", "lost", "silence"])
def test_an_end_in_the_midst_of_an_object_may_be_because_of_it(site: Site, how: str) -> None:
    results = site.send(site.keep(ct()))
    archive = site.archive().accept()
    archive.hear()
    if how == "abort":
        archive.say(written(archive.core.abort()))
    elif how == "lost":
        archive.lose()
    else:
        site.reactor.advance(61)
    assert type(results[0]) is Aborted
    assert site.outcome("aborted") == 1


def test_a_peer_that_is_not_there_is_no_fault_of_the_object(site: Site) -> None:
    results = site.send(site.keep(ct()))
    site.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
    assert type(results[0]) is Retry
    assert site.outcome("unreachable") == 1


def test_a_limit_of_bandwidth_spreads_an_object_over_time(tmp_path: Path) -> None:
    site = Site(tmp_path, bandwidth="100 KB")
    ds = ct(512)  # 512 KB
    results = site.send(site.keep(ds))
    archive = site.archive().accept()
    archive.hear()
    assert 50_000 < len(archive.data) < 130_000  # a second's worth at once
    site.reactor.pump([0.1] * 20)
    archive.hear()
    assert 250_000 < len(archive.data) < 350_000
    site.reactor.pump([0.1] * 25)
    archive.answer()
    assert (archive.data == dataset_bytes(ds), results) == (True, ["0x0000"])


# requests that are no C-STORE


def asking(kind: str, **fields: object) -> Delivery:
    request = DimseRequest(kind, MPPS, "1.2.3", dataset_bytes(ct()), **fields)  # type: ignore[arg-type]
    return Delivery(1, 1, "archive", "lane", "performed", kind, encode_request(request), "", "A1", 0)


@pytest.mark.parametrize("kind", ["N-CREATE", "N-SET", "N-ACTION"])
def test_a_request_goes_out_as_it_is(site: Site, kind: str) -> None:
    results = site.give(asking(kind, type_id=1 if kind == "N-ACTION" else 0))
    archive = site.archive().accept()
    command = archive.answer().command
    assert (command.sop_class, command.sop_instance) == (MPPS, "1.2.3")
    assert (bool(archive.data), command.type_id) == (True, 1 if kind == "N-ACTION" else 0)
    assert results == ["0x0000"]


def test_a_peer_that_takes_implicit_vr_alone_gets_it(site: Site) -> None:
    ds = ct()
    request = DimseRequest("N-SET", MPPS, "1.2.3", dataset_bytes(ds))
    results = site.give(Delivery(1, 1, "archive", "lane", "performed", "N-SET", encode_request(request), "", "A1", 0))
    archive = site.archive().accept(lambda offer: offer.syntaxes[0] if offer.syntaxes[0] == IMPLICIT else 4)
    archive.answer()
    assert (archive.data, results) == (dataset_bytes(ds, implicit=True), ["0x0000"])


def test_a_service_that_the_peer_has_not_is_refused_by_name(site: Site) -> None:
    results = site.give(asking("N-CREATE"))
    site.archive().accept(lambda offer: 3)
    assert isinstance(results[0], Refused)
    assert f"SOP class {MPPS}: transfer syntax {EXPLICIT}: SOP class not supported" in str(results[0])


def test_what_the_peer_has_already_counts_as_delivered(site: Site) -> None:
    results = site.give(asking("N-CREATE"))
    site.archive().accept().answer(0x0111)
    assert results == ["0x0111 duplicate SOP instance, taken with a warning"]


def test_the_end_of_a_step_that_has_ended_there_counts_as_delivered(tmp_path: Path) -> None:
    site = Site(tmp_path)
    given = site.give(asking("N-SET"))
    site.archive().accept().answer(0x0110, error_id=0xA710)  # the answer to the first attempt was lost
    assert given == ["0x0110 processing failure (0xA710 may no longer be updated), taken with a warning"]


@pytest.mark.parametrize(("settings", "error_id"), [({}, 0xA711), ({}, 0), ({"0110": "later"}, 0xA710)])
def test_the_end_of_a_step_that_fails_otherwise_is_sent_again(tmp_path: Path, settings: dict[str, str], error_id: int) -> None:
    site = Site(tmp_path, outcomes=settings)
    given = site.give(asking("N-SET"))
    site.archive().accept().answer(0x0110, error_id=error_id)
    assert isinstance(given[0], NotYet)


def test_a_kind_that_is_none_and_a_payload_that_is_none_are_refused(site: Site) -> None:
    [error] = site.give(asking("N-JUMP"))
    assert isinstance(error, Refused)
    [error] = site.give(Delivery(1, 1, "archive", "lane", "c", "N-SET", b"{}", "", "", 0))
    assert isinstance(error, Refused)


def test_objects_and_requests_share_an_association(tmp_path: Path) -> None:
    site = Site(tmp_path, associations=1)
    stored = site.give(delivery(site.keep(ct())))
    asked = site.give(asking("N-SET"))
    one = site.archive().accept()
    one.answer()
    one.hear()
    if one.released:
        one.close()
        one = site.archive().accept()
    one.answer()
    assert (stored, asked) == (["0x0000"], ["0x0000"])
