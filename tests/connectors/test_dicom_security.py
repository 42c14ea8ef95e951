"""What is wrong with, or worth a warning in, the settings of who may talk DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.connectors.dicom_identity import identity_of
from broker.connectors.registry import CHECKS, WARNINGS
from broker.dicom.negotiation import Identity, IdentityKind
from tests.connectors.dicom_shell import destination_settings, listener_settings
from tests.security.certificates import Authority

USER = {"user": "anna", "passcode": "4711"}


def wrong(section: str, settings: dict[str, Any]) -> list[tuple[str, str]]:
    return list(CHECKS[section, "dicom"](settings))


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """Return the TLS settings of a listener that asks for certificates."""
    authority = Authority(tmp_path)
    pair = authority.issue("broker", "127.0.0.1")
    return {"certificate": pair.certificate, "key": pair.key, "authorities": authority.file}


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"ae_title": "A\\B"}, "ae_title", "without a backslash"),
        ({"associations": 0}, "associations", "at least one"),
        ({"associations_per_peer": 0}, "associations_per_peer", "at least one"),
        ({"peers": {"CT1": {"certificate": "ct1"}}}, "peers", "CT1.certificate: without TLS nobody shows one"),
        ({"peers": {"CT1": {"form": "x"}}}, "peers", "CT1.form: unknown"),
        ({"tls": {}}, "tls", "certificate: who accepts connections needs one"),
    ],
)
def test_a_listener_that_makes_no_sense(settings: dict[str, Any], key: str, words: str) -> None:
    [(found, what)] = wrong("listeners", listener_settings(**settings))
    assert found == key
    assert words in what


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"calling_ae_title": ""}, "calling_ae_title", "1 to 16 characters"),
        ({"identity": {"user": ""}}, "identity", "write user:"),
        ({"identity": {"user": "anna", "passcode": ""}}, "identity", "are texts"),
        ({"tls": {"key": "/nowhere"}}, "tls", "key: there is no certificate"),
    ],
)
def test_a_destination_that_makes_no_sense(settings: dict[str, Any], key: str, words: str) -> None:
    [(found, what)] = wrong("destinations", destination_settings(**settings))
    assert found == key
    assert words in what


def test_what_is_right_is_right(own: dict[str, str]) -> None:
    peers = {"CT1": {"certificate": ["ct1", "sha256:" + "0" * 64], "identity": USER}, "*": "refuse"}
    assert wrong("listeners", listener_settings(tls=own, peers=peers)) == []
    assert wrong("destinations", destination_settings(tls=own, identity=USER)) == []


def test_a_passcode_in_the_clear_is_a_warning(own: dict[str, str]) -> None:
    listener, destination = {"peers": {"CT1": {"identity": USER}, "*": "refuse"}}, {"identity": USER}
    [(key, what)] = WARNINGS["dicom"](listener_settings(**listener))
    assert (key, "CT1.identity: without TLS" in what, "4711" in what) == ("peers", True, False)
    assert [key for key, _ in WARNINGS["dicom"](destination_settings(**destination))] == ["identity"]
    assert list(WARNINGS["dicom"](listener_settings(**listener, tls=own))) == []
    assert list(WARNINGS["dicom"](destination_settings(**destination, tls=own))) == []
    assert list(WARNINGS["dicom"](destination_settings(identity={"user": "anna"}))) == []


@pytest.mark.parametrize(
    ("settings", "identity"),
    [
        (None, None),
        ({"user": "änna"}, Identity(IdentityKind.USER, "änna".encode())),
        (USER, Identity(IdentityKind.PASSCODE, b"anna", b"4711")),
    ],
)
def test_who_this_side_says_it_is(settings: dict[str, str] | None, identity: Identity | None) -> None:
    assert identity_of(destination_settings(identity=settings)) == identity
