"""What becomes of an object whose transfer syntax the peer does not take, or that is to be sent in a smaller one."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from broker.connectors.dicom import DESTINATION
from broker.connectors.dicom_destination import check_sending
from broker.connectors.dicom_syntaxes import _NAMES, syntaxes_of
from broker.dicom.negotiation import Offer
from broker.dicom.transcode import COMPRESSED, NATIVE
from broker.errors import MessageError, Refused, Retry
from tests.connectors.dicom_archive import EXPLICIT, Site
from tests.connectors.dicom_shell import destination_settings
from tests.dicom.objects import ct, dataset_bytes, part10

J2K, JPEG_LS, IMPLICIT, BASELINE = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.50"


class Transcoder:
    """Writes a file of another patient, so that a test sees which one went out; what is not in `able` is refused."""

    def __init__(self, folder: Path, *able: str) -> None:
        self.folder, self.able, self.asked = folder, able, list[str]()
        self.made = ct(64, name="TURNED^INTO")

    def transcode(self, path: str, target: str) -> Deferred[str]:
        self.asked.append(target)
        if target not in self.able:
            return fail(MessageError("PixelData", "it has no pixels"))
        file = self.folder / f"{len(self.asked)}.dcm"
        file.write_bytes(part10(self.made, target, implicit=target == IMPLICIT))
        return succeed(str(file))


def taking(*syntaxes: str) -> dict[str, object]:
    def decide(offer: Offer) -> str | int:
        return offer.syntaxes[0] if offer.syntaxes[0] in syntaxes else 4

    return {"decide": decide}


def site_with(folder: Path, *able: str, **settings: object) -> tuple[Site, Transcoder]:
    (folder / "made").mkdir()
    transcoder = Transcoder(folder / "made", *able)
    return Site(folder, transcoder, **settings), transcoder


def test_the_original_goes_when_it_is_taken_and_nothing_is_turned_into_anything(tmp_path: Path) -> None:
    site, transcoder = site_with(tmp_path, EXPLICIT)
    ds = ct(64)
    results = site.send(site.keep(ds, J2K))
    archive = site.archive().accept()
    assert archive.request is not None
    assert [offer.syntaxes[0] for offer in archive.request.offers] == [J2K, EXPLICIT, IMPLICIT]
    archive.answer()
    assert (archive.data, results, transcoder.asked) == (dataset_bytes(ds), ["0x0000"], [])


def test_what_the_peer_refuses_goes_in_the_first_it_takes_over_the_same_association(tmp_path: Path) -> None:
    site, transcoder = site_with(tmp_path, EXPLICIT, IMPLICIT)
    results = site.send(site.keep(ct(64), J2K), PatientID="9")
    archive = site.archive().accept(**taking(EXPLICIT, IMPLICIT))  # type: ignore[arg-type]
    message = archive.answer()
    assert message.context.syntax == EXPLICIT
    assert (results, transcoder.asked, site.connections) == (["0x0000"], [EXPLICIT], 1)
    assert b"TURNED^INTO" in archive.data  # and with the changes of the header
    assert b"\x10\x00\x20\x00LO\x02\x009 " in archive.data
    assert archive.data.endswith(transcoder.made.PixelData)
    assert not list((tmp_path / "made").iterdir())


def test_one_that_cannot_be_made_gives_way_to_the_next(tmp_path: Path) -> None:
    site, transcoder = site_with(tmp_path, IMPLICIT)
    results = site.send(site.keep(ct(64), J2K))
    archive = site.archive().accept(**taking(EXPLICIT, IMPLICIT))  # type: ignore[arg-type]
    assert archive.answer().context.syntax == IMPLICIT
    assert (results, transcoder.asked) == (["0x0000"], [EXPLICIT, IMPLICIT])


def test_what_can_be_sent_in_no_way_is_parked_with_all_that_was_tried(tmp_path: Path) -> None:
    site, _ = site_with(tmp_path)
    results = site.send(site.keep(ct(64), J2K))
    site.archive().accept(**taking(EXPLICIT))  # type: ignore[arg-type]
    assert isinstance(results[0], Refused)
    assert str(results[0]) == (
        f"context refused: SOP class {ct().SOPClassUID}: transfer syntax {J2K}: transfer syntax not supported; "
        f"transfer syntax {EXPLICIT}: accepted; transfer syntax {IMPLICIT}: transfer syntax not supported; "
        f"cannot be turned into {EXPLICIT}: PixelData: it has no pixels"
    )


def test_refused_contexts_may_be_tried_again(tmp_path: Path) -> None:
    site, _ = site_with(tmp_path, outcomes={"contexts": "retry"})
    results = site.send(site.keep(ct(64), J2K))
    site.archive().accept(lambda offer: 3)
    assert type(results[0]) is Retry


def test_never_offers_the_original_alone(tmp_path: Path) -> None:
    site, transcoder = site_with(tmp_path, EXPLICIT, transcode="never")
    results = site.send(site.keep(ct(64), J2K))
    archive = site.archive().accept(**taking(EXPLICIT))  # type: ignore[arg-type]
    assert isinstance(results[0], Refused)
    assert archive.request is not None
    assert (len(archive.request.offers), transcoder.asked) == (1, [])


def test_a_thin_link_gets_the_smaller_one_though_the_original_would_be_taken(tmp_path: Path) -> None:
    site, transcoder = site_with(tmp_path, JPEG_LS, prefer=["JPEG-LS"])
    results = site.send(site.keep(ct(64)))
    archive = site.archive().accept()
    assert archive.answer().context.syntax == JPEG_LS
    assert (results, transcoder.asked) == (["0x0000"], [JPEG_LS])


def test_what_cannot_be_made_smaller_goes_as_it_is(tmp_path: Path) -> None:
    site, _ = site_with(tmp_path, prefer=["JPEG-LS"])
    ds = ct(64)
    results = site.send(site.keep(ds))
    archive = site.archive().accept()
    assert archive.answer().context.syntax == EXPLICIT
    assert (archive.data, results) == (dataset_bytes(ds), ["0x0000"])


def test_what_is_compressed_already_is_not_made_smaller(tmp_path: Path) -> None:
    site, transcoder = site_with(tmp_path, JPEG_LS, prefer=["JPEG-LS"])
    site.send(site.keep(ct(64), J2K))
    assert site.archive().accept().answer().context.syntax == J2K
    assert transcoder.asked == []


@pytest.mark.parametrize(("settings", "original", "choices"), [
    ({}, J2K, (J2K, EXPLICIT, IMPLICIT)),
    ({}, EXPLICIT, (EXPLICIT, IMPLICIT)),
    ({"transcode": "never"}, J2K, (J2K,)),
    ({"transcode": ["JPEG-LS", "explicit"]}, J2K, (J2K, JPEG_LS, EXPLICIT)),
    ({"transcode": BASELINE, "lossy": "allowed"}, EXPLICIT, (EXPLICIT, BASELINE)),
    ({"prefer": "JPEG 2000"}, EXPLICIT, (J2K, EXPLICIT, IMPLICIT)),
])  # fmt: skip
def test_choices(settings: dict[str, object], original: str, choices: tuple[str, ...]) -> None:
    assert syntaxes_of(destination_settings(**settings)).choices(original) == choices


@pytest.mark.parametrize(("settings", "wrong"), [
    ({"transcode": "JPEG"}, ("transcode", "'JPEG' is no transfer syntax")),
    ({"prefer": "1.2.840.10008.1.2.4.203"}, ("prefer", "no transfer syntax that objects can be written in")),  # HTJ2K with a loss
    ({"transcode": ["lossless", "JPEG-LS"]}, ("transcode", "'lossless' is no transfer syntax")),
    ({"transcode": "JPEG baseline"}, ("transcode", "'JPEG baseline' loses something; add lossy: allowed")),
    ({"prefer": [BASELINE]}, ("prefer", "loses something")),
    ({"outcomes": {"A70": "retry"}}, ("outcomes", "A70 is no status")),
    ({"outcomes": {"A700": "again"}}, ("outcomes", "A700: write one of delivered, warning, retry, later, refuse")),
    ({"outcomes": {"rejected": "later"}}, ("outcomes", "rejected: nothing was delivered; write retry or refuse")),
    ({"outcomes": {"contexts": "warning"}}, ("outcomes", "contexts: nothing was delivered; write retry or later or refuse")),
    ({"outcomes": {122: "retry"}}, ("outcomes", "122 is read as a number; write it in quotes")),
    ({"outcomes": {"B7FF-B000": "retry"}}, ("outcomes", "B7FF-B000 is no status")),
    ({"window": "at night"}, ("window", "'at night' is no time of the week")),
    ({"associations": 0}, ("associations", "1 at least")),
    ({"operations": 0}, ("operations", "1 at least")),
])  # fmt: skip
def test_settings_that_make_no_sense_are_named(settings: dict[str, object], wrong: tuple[str, str]) -> None:
    [(option, what)] = check_sending(destination_settings(**settings))
    assert option == wrong[0]
    assert wrong[1] in what


def test_the_defaults_make_sense() -> None:
    assert list(check_sending(DESTINATION.read({"host": "h", "port": 1, "ae_title": "A"}))) == []


def test_every_transfer_syntax_that_can_be_named_can_be_written() -> None:
    assert set(_NAMES.values()) == {*COMPRESSED, *NATIVE}
