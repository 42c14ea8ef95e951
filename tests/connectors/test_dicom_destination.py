"""The DICOM destination over in-memory connections and a clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom import dcmread
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.python.failure import Failure

from broker.connectors.dicom import DESTINATION, echo
from broker.connectors.dicom_outflow import CHUNK
from broker.dicom import dimse
from broker.dicom.negotiation import CALLED_NOT_RECOGNISED, Offer
from broker.dicom.storerequest import encode_request
from broker.errors import NotYet, Refused, Retry
from broker.model import Spooled, StoreRequest
from tests.connectors.dicom_archive import EXPLICIT, Site
from tests.connectors.dicom_shell import delivery
from tests.dicom.cores import written
from tests.dicom.objects import ct, dataset_bytes, part10


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_an_unchanged_object_is_sent_as_it_came(site: Site) -> None:
    ds = ct(64)
    results = site.send(site.keep(ds))
    archive = site.archive().accept()
    assert archive.request is not None
    assert (archive.request.calling, archive.request.called) == ("BROKER", "ARCHIVE")
    assert archive.request.offers == (Offer(1, ds.SOPClassUID, (EXPLICIT,)),)
    command = archive.answer().command
    assert (command.sop_class, command.sop_instance) == (ds.SOPClassUID, ds.SOPInstanceUID)
    assert archive.data == dataset_bytes(ds)
    assert results == ["0x0000"]


def test_a_changed_object_has_a_new_header_and_its_old_pixels(site: Site, tmp_path: Path) -> None:
    ds = ct(64)
    results = site.send(site.keep(ds), PatientID="9", SOPInstanceUID="1.2.3.4")
    archive = site.archive().accept()
    assert archive.answer().command.sop_instance == "1.2.3.4"
    (tmp_path / "got").write_bytes(part10(ds)[: -len(dataset_bytes(ds))] + archive.data)
    got = dcmread(tmp_path / "got")
    assert (got.PatientID, got.SOPInstanceUID, got.PixelData) == ("9", "1.2.3.4", ds.PixelData)
    assert got.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientID == "4711"
    assert results == ["0x0000"]


@pytest.mark.parametrize("size", [20_000, 300_000])
def test_a_header_with_much_of_a_vendors_private_data_is_changed_too(site: Site, tmp_path: Path, size: int) -> None:
    ds = ct(64)
    ds.private_block(0x0029, "VENDOR", create=True).add_new(0x10, "OB", bytes(size))
    results = site.send(site.keep(ds), PatientID="9")
    archive = site.archive().accept()
    archive.answer()
    (tmp_path / "got").write_bytes(part10(ds)[: -len(dataset_bytes(ds))] + archive.data)
    got = dcmread(tmp_path / "got")
    assert (got.PatientID, got[0x0029, 0x1010].value, got.PixelData) == ("9", bytes(size), ds.PixelData)
    assert results == ["0x0000"]


def test_what_is_removed_is_gone_and_what_is_emptied_is_empty(site: Site, tmp_path: Path) -> None:
    ds = ct(64)
    request = StoreRequest(site.keep(ds), {"PatientName": "", "AccessionNumber": ""}, removals=("PatientName",))
    site.destination.send(replace(delivery(request.spooled), payload=encode_request(request)))
    archive = site.archive().accept()
    archive.answer()
    (tmp_path / "got").write_bytes(part10(ds)[: -len(dataset_bytes(ds))] + archive.data)
    got = dcmread(tmp_path / "got")
    assert "PatientName" not in got
    assert got.AccessionNumber == ""
    assert got.PixelData == ds.PixelData


def test_who_asked_for_a_move_is_named_with_its_objects(site: Site) -> None:
    request = StoreRequest(site.keep(ct()), originator=("WS1", 7))
    site.destination.send(replace(delivery(request.spooled), payload=encode_request(request)))
    assert site.archive().accept().answer().command.originator == ("WS1", 7)


@pytest.mark.parametrize("max_pdu", [128, 4096, 1 << 17, 0])
def test_an_object_larger_than_a_chunk_fits_any_pdu(site: Site, max_pdu: int) -> None:
    ds = ct(16 if max_pdu == 128 else 600)
    assert max_pdu == 128 or len(ds.PixelData) > CHUNK
    results = site.send(site.keep(ds))
    archive = site.archive(max_pdu=max_pdu or 1 << 17)
    archive.accept()
    archive.answer()
    assert archive.data == dataset_bytes(ds)
    assert results == ["0x0000"]


def test_the_association_is_used_again_and_released_when_idle(site: Site) -> None:
    objects = [ct(), ct()]
    site.send(site.keep(objects[0]))
    archive = site.archive().accept()
    archive.answer()
    site.reactor.advance(1.9)
    results = site.send(site.keep(objects[1]))
    assert archive.answer().command.message_id == 2
    assert (results, site.connections, archive.released) == (["0x0000"], 1, False)
    site.reactor.advance(1.9)
    archive.hear()
    assert not archive.released
    site.reactor.advance(0.2)
    archive.hear()
    assert archive.released
    archive.close()
    assert site.reactor.getDelayedCalls() == []


def test_another_context_opens_a_new_association_with_all_of_them(tmp_path: Path) -> None:
    site = Site(tmp_path, associations=1)
    first, second = ct(), ct()
    second.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    site.send(site.keep(first))
    one = site.archive().accept()
    one.answer()
    results = site.send(site.keep(second))
    one.hear()
    assert one.released
    two = site.archive().accept()
    assert two.request is not None
    assert {o.abstract for o in two.request.offers} == {first.SOPClassUID, second.SOPClassUID}
    two.answer()
    assert results == ["0x0000"]
    again = site.send(site.keep(ct()))
    two.answer()
    assert (again, site.connections) == (["0x0000"], 2)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0xB000, str),
        (0xB007, str),
        (0xA700, Retry),
        (0xA7FF, Retry),
        (0xA900, Refused),
        (0xC000, Refused),
        (0x0122, Refused),
        (0x0110, NotYet),
        (0x0213, Retry),
        (0xFE00, Refused),
    ],
)
def test_statuses_become_answers_retries_and_refusals(site: Site, status: int, kind: type) -> None:
    results = site.send(site.keep(ct()))
    site.archive().accept().answer(status)
    assert type(results[0]) is kind
    assert f"0x{status:04X}" in str(results[0])


def test_a_refused_context_is_named_and_does_not_end_the_association(site: Site) -> None:
    ds = ct()
    results = site.send(site.keep(ds))
    site.archive().accept(lambda offer: 4)
    assert isinstance(results[0], Refused)
    assert str(results[0]) == (f"context refused: SOP class {ds.SOPClassUID}: transfer syntax {EXPLICIT}: transfer syntax not supported")
    assert isinstance(site.send(site.keep(ct()))[0], Refused)
    assert site.connections == 1


def test_a_rejected_association_is_a_retry_that_says_why(site: Site) -> None:
    results = site.send(site.keep(ct()))
    archive = site.archive()
    archive.hear()
    archive.say(written(archive.core.reject(CALLED_NOT_RECOGNISED)))
    assert isinstance(results[0], Retry)
    assert "called AE title not recognised" in str(results[0])
    archive.lose()
    assert site.reactor.getDelayedCalls() == []


def test_a_connection_refused_is_a_retry(site: Site) -> None:
    results = site.send(site.keep(ct()))
    site.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
    assert isinstance(results[0], Retry)
    assert "ConnectionRefusedError" in str(results[0])
    assert site.reactor.getDelayedCalls() == []


@pytest.mark.parametrize("how", ["lost", "abort", "release", "fault"])
@pytest.mark.parametrize("when", ["before accepting", "before answering"])
def test_whatever_ends_an_association_is_a_retry(site: Site, how: str, when: str) -> None:
    results = site.send(site.keep(ct()))
    archive = site.archive()
    archive.hear()
    if when == "before answering":
        archive.accept()
    elif how == "release":
        how = "fault"
    if how == "abort":
        archive.say(written(archive.core.abort()))
    elif how == "release":
        archive.say(written(archive.core.release()))
    elif how == "fault":
        archive.say(b"\x99\0\0\0\0\4abcd")
    assert isinstance(results[0], Retry) if how != "lost" else not results
    archive.lose()
    assert isinstance(results[0], Retry)
    later = site.send(site.keep(ct()))
    site.archive().accept().answer()
    assert later == ["0x0000"]


def test_an_association_that_ended_unseen_is_replaced_at_once(site: Site) -> None:
    site.send(site.keep(ct()))
    archive = site.archive().accept()
    archive.answer()
    ds = ct(64)
    results = site.send(site.keep(ds))
    archive.lose()
    assert (results, site.connections) == ([], 2)
    second = site.archive().accept()
    second.answer()
    assert second.data == dataset_bytes(ds)
    assert results == ["0x0000"]


@pytest.mark.parametrize("step", ["accept", "answer"])
def test_silence_is_a_retry(site: Site, step: str) -> None:
    results = site.send(site.keep(ct()))
    archive = site.archive()
    if step == "answer":
        archive.accept()
    site.reactor.advance(59)
    assert results == []
    site.reactor.advance(2)
    assert isinstance(results[0], Retry)
    assert "no answer in 60 s" in str(results[0])
    assert archive.transport.disconnecting


def test_a_peer_that_reads_slowly_is_waited_for_and_not_flooded(site: Site) -> None:
    ds = ct(1024)
    results = site.send(site.keep(ds))
    archive = site.archive()
    plain = archive.transport.write

    def slow(data: bytes) -> None:
        plain(data)
        if archive.transport.producer is not None:
            archive.transport.producer.pauseProducing()

    archive.transport.write = slow  # type: ignore[method-assign]
    archive.accept()
    for _ in range(10):
        assert len(archive.transport.value()) <= CHUNK + 1000
        archive.hear()
        site.reactor.advance(50)  # each piece starts the patience anew
        if archive.transport.producer is None:
            break
        archive.transport.producer.resumeProducing()
    assert archive.data == dataset_bytes(ds)
    archive.answer()
    assert results == ["0x0000"]


def test_answers_to_other_requests_are_ignored(site: Site) -> None:
    results = site.send(site.keep(ct()))
    archive = site.archive().accept()
    stranger = dimse.Command(dimse.Field.C_STORE, 77, True, ct().SOPClassUID, "1.2")
    archive.say(archive.core.message(1, dimse.response(stranger, 0xC000)))
    assert results == []
    archive.answer()
    assert results == ["0x0000"]


def test_deliveries_take_turns(site: Site) -> None:
    first, second = site.send(site.keep(ct())), site.send(site.keep(ct()))
    archive = site.archive().accept()
    archive.hear()
    assert len(archive.messages) == 1
    archive.answer()
    archive.answer()
    assert (first, second) == (["0x0000"], ["0x0000"])


def test_closing_releases_and_waits_for_the_end(site: Site) -> None:
    site.send(site.keep(ct()))
    archive = site.archive().accept()
    archive.answer()
    closed: list[None] = []
    site.destination.close().addCallback(closed.append)
    archive.hear()
    assert (archive.released, closed) == (True, [])
    archive.close()
    assert closed == [None]
    site.destination.close().addCallback(closed.append)
    assert closed == [None, None]
    assert site.reactor.getDelayedCalls() == []


def test_a_peer_that_does_not_release_is_cut(site: Site) -> None:
    site.send(site.keep(ct()))
    archive = site.archive().accept()
    archive.answer()
    site.destination.close()
    site.reactor.advance(6)
    assert archive.transport.disconnecting


# what can never be sent


def test_an_object_that_is_gone_is_refused(site: Site) -> None:
    spooled = site.keep(ct())
    site.spool.path(spooled.name).unlink()
    assert isinstance(site.send(spooled)[0], Refused)
    assert isinstance(site.send(spooled, PatientID="1")[0], Refused)


def test_a_name_that_is_not_the_spools_is_refused(site: Site) -> None:
    assert isinstance(site.send(Spooled("../../etc/passwd", "1.2", "1.2.3", EXPLICIT, 1, ""))[0], Refused)


def test_a_change_that_cannot_be_made_is_refused_without_its_value(site: Site) -> None:
    [error] = site.send(site.keep(ct()), Rows="DOE")
    assert isinstance(error, Refused)
    assert "DOE" not in str(error)


def test_a_payload_that_is_none_is_refused(site: Site) -> None:
    from dataclasses import replace

    results: list[Any] = []
    site.destination.send(replace(delivery(site.keep(ct())), payload=b"{}")).addErrback(lambda f: results.append(f.value))
    assert isinstance(results[0], Refused)


# verification


def test_echo_associates_asks_and_releases(site: Site) -> None:
    results: list[int] = []
    done: Deferred[int] = echo(site.reactor, "127.0.0.1", 104, called="ARCHIVE", log=site.log)
    done.addCallback(results.append)
    archive = site.archive().accept()
    archive.answer()
    assert results == [0]
    assert archive.released


def test_echo_that_is_not_offered_is_refused(site: Site) -> None:
    errors: list[Any] = []
    echo(site.reactor, "127.0.0.1", 104, called="ARCHIVE", log=site.log).addErrback(lambda f: errors.append(f.value))
    site.archive().accept(lambda offer: 3)
    assert isinstance(errors[0], Refused)


def test_the_example_of_the_spec_is_read() -> None:
    settings = DESTINATION.read(yaml.safe_load(DESTINATION.example)["dicom"])
    assert settings["retry"] == {"first": 1.0, "most": 300.0, "park_after": 86400.0, "tries": 5}


@pytest.mark.parametrize("setting", ["ae_title", "calling_ae_title"])
def test_an_ae_title_that_is_none_is_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ValueError, match=f"^{setting}: an AE title has 1 to 16 characters"):
        Site(tmp_path, **{setting: "LONGER THAN SIXTEEN"})
