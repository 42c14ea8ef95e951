"""TLS settings, what is wrong with them, and contexts that follow their files; handshakes run back to back in memory."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from broker.security import tls
from broker.spec import Option
from tests.security.certificates import NOW, Authority, pem


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def read(option: Option, **values: Any) -> dict[str, Any]:
    settings = option.read(values)
    assert isinstance(settings, dict)
    return settings


def listener(**values: Any) -> dict[str, Any]:
    return read(tls.LISTENER, **values)


def destination(**values: Any) -> dict[str, Any]:
    return read(tls.DESTINATION, **values)


# -- what is wrong


def test_a_listener_in_order(authority: Authority) -> None:
    pair = authority.issue("broker")
    settings = listener(certificate=pair.certificate, key=pair.key, authorities=authority.file)
    assert list(tls.problems(settings, accepts=True)) == []
    assert list(tls.concerns(settings)) == []


def test_certificate_and_key_may_be_one_file(authority: Authority) -> None:
    pair = authority.issue("broker")
    with Path(pair.certificate).open("ab") as file:
        file.write(Path(pair.key).read_bytes())
    assert list(tls.problems(listener(certificate=pair.certificate), accepts=True)) == []


@pytest.mark.parametrize(
    ("settings", "option", "says"),
    [
        ({}, "certificate", "needs one"),
        ({"key": "broker.key"}, "key", "no certificate that it belongs to"),
        ({"certificate": "none.pem"}, "certificate", "none.pem: No such file"),
        ({"certificate": "junk.pem"}, "certificate", "no certificate in PEM"),
        ({"certificate": "broker.pem"}, "certificate", "no private key in PEM"),
        ({"certificate": "broker.pem", "key": "none.key"}, "key", "none.key: No such file"),
        ({"certificate": "broker.pem", "key": "junk.pem"}, "key", "no private key in PEM"),
        ({"certificate": "broker.pem", "key": "other.key"}, "key", "not the key of the first certificate"),
        ({"certificate": "broker.pem", "key": "locked.key"}, "key", "encrypted"),
        ({"certificate": "broker.pem", "key": "broker.key", "authorities": "junk.pem"}, "authorities", "no certificate in PEM"),
        ({"certificate": "broker.pem", "key": "broker.key", "client_certificates": "required"}, "client_certificates", "add authorities"),
        (
            {"certificate": "broker.pem", "key": "broker.key", "authorities": "hospital-ca.pem", "client_certificates": "none"},
            "client_certificates",
            "required or optional",
        ),
        ({"certificate": "broker.pem", "key": "broker.key", "names": ["ehr"]}, "names", "add authorities"),
    ],
)
def test_what_is_wrong_with_a_listener(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], option: str, says: str
) -> None:
    monkeypatch.chdir(authority.folder)
    authority.issue("broker")
    authority.issue("other")
    Path("junk.pem").write_text("DOE^JANE")
    Path("locked.key").write_bytes(pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))
    found = [what for name, what in tls.problems(listener(**settings), accepts=True) if name == option]
    assert len(found) == 1
    assert says in found[0]


def test_what_is_wrong_with_a_destination(authority: Authority) -> None:
    assert list(tls.problems(destination(), accepts=False)) == []
    [(option, what)] = tls.problems(destination(verify="none", authorities=authority.file), accepts=False)
    assert option == "verify"
    assert "nothing is checked" in what


def test_a_listener_that_connects_needs_no_certificate_and_has_no_clients() -> None:
    assert list(tls.problems(listener(), accepts=False)) == []
    assert [option for option, _ in tls.problems(listener(client_certificates="optional"), accepts=False)] == ["client_certificates"]


@pytest.mark.parametrize(("days", "says"), [(-1, "has expired on"), (10, "expires on"), (31, "")])
def test_certificates_that_expire_are_a_concern(authority: Authority, days: float, says: str) -> None:
    pair = authority.issue("broker", days=days)
    settings = listener(certificate=pair.certificate, key=pair.key, authorities=authority.file)
    assert list(tls.problems(settings, accepts=True)) == []  # a restart must not fail on it
    found = list(tls.concerns(settings, NOW))
    assert [option for option, _ in found] == (["certificate"] if says else [])
    assert says in "".join(what for _, what in found)
    assert [option for option, _ in tls.concerns(settings, NOW + timedelta(days=4000))] == ["certificate", "authorities"]


def test_what_is_not_valid_yet_or_not_checked_is_a_concern(authority: Authority) -> None:
    pair = authority.issue("broker", since=5)
    [(_, what)] = tls.concerns(listener(certificate=pair.certificate, key=pair.key))
    assert "is not valid before" in what
    assert [option for option, _ in tls.concerns(destination(verify="none"))] == ["verify"]
    assert list(tls.concerns(listener(certificate=str(authority.folder / "none.pem")))) == []  # that is a problem already


def test_credentials_of_files_that_were_never_right(authority: Authority) -> None:
    with pytest.raises(tls.Unusable, match="No such file"):
        tls.Credentials(listener(certificate=str(authority.folder / "none.pem")))


def test_the_names_of_a_certificate(authority: Authority) -> None:
    pair = authority.issue("EHR Gateway", "ehr.example.org", "10.1.3.7", "::1")
    certificate = x509.load_pem_x509_certificate(Path(pair.certificate).read_bytes())
    assert tls.names(certificate) == {"ehr gateway", "ehr.example.org", "10.1.3.7", "::1"}
    assert tls.names(x509.load_pem_x509_certificate(Path(authority.issue("plain").certificate).read_bytes())) == {"plain"}


# -- handshakes


class _Protocol:
    """What a connection creator sees of Twisted's protocol."""

    def __init__(self) -> None:
        self.failed: Any = None
        self.wrappedProtocol = self.factory = self.wrappedFactory = self

    def failVerification(self, failure: Any) -> None:
        self.failed = failure.value


def shake(client: tls.Credentials, server: tls.Credentials) -> SSL.Connection:
    """Return the server's end after a handshake; raises SSL.Error of whichever side gives up."""
    watch = _Protocol()
    ends = client.clientConnectionForTLS(watch), server.serverConnectionForTLS(_Protocol())
    ends[0].set_connect_state()
    ends[1].set_accept_state()
    for _ in range(10):
        for end, other in (ends, ends[::-1]):
            try:
                end.do_handshake()
                end.recv(1)  # TLS 1.3 tells a client only here that its certificate was refused
            except SSL.WantReadError:
                pass
            except SSL.Error:
                if watch.failed is not None:
                    raise watch.failed from None
                raise
            with suppress(SSL.WantReadError):
                other.bio_write(end.bio_read(65536))
    return ends[1]


def serving(authority: Authority, *names: str, **more: Any) -> tls.Credentials:
    pair = authority.issue("broker", *(names or ("127.0.0.1", "broker.example.org")))
    return tls.Credentials(listener(certificate=pair.certificate, key=pair.key, **more))


def test_one_sided(authority: Authority) -> None:
    end = shake(tls.Credentials(destination(authorities=authority.file), "127.0.0.1"), serving(authority))
    assert end.get_peer_certificate() is None
    assert end.get_protocol_version_name() == "TLSv1.3"


def test_mutual(authority: Authority) -> None:
    pair = authority.issue("ehr")
    client = tls.Credentials(destination(authorities=authority.file, certificate=pair.certificate, key=pair.key), "broker.example.org")
    server = serving(authority, authorities=authority.file, names=["EHR"])
    certificate = shake(client, server).get_peer_certificate()
    assert certificate
    assert tls.names(certificate.to_cryptography()) & server.names


def test_a_client_without_a_certificate_where_one_is_required(authority: Authority) -> None:
    client = tls.Credentials(destination(authorities=authority.file), "127.0.0.1")
    with pytest.raises(SSL.Error, match="did not return a certificate"):
        shake(client, serving(authority, authorities=authority.file))
    shake(client, serving(authority, authorities=authority.file, client_certificates="optional"))


def test_a_client_of_another_authority(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    pair = Authority(tmp_path / "other", "other-ca").issue("ehr")
    client = tls.Credentials(destination(authorities=authority.file, certificate=pair.certificate, key=pair.key), "127.0.0.1")
    with pytest.raises(SSL.Error, match="certificate verify failed"):
        shake(client, serving(authority, authorities=authority.file))


def test_a_server_of_another_name(authority: Authority) -> None:
    from service_identity import VerificationError

    server = serving(authority, "archive.example.org")
    with pytest.raises(VerificationError):
        shake(tls.Credentials(destination(authorities=authority.file), "10.1.3.9"), server)
    for more in ({"name": "archive.example.org"}, {"verify": "chain"}):
        shake(tls.Credentials(destination(authorities=authority.file, **more), "10.1.3.9"), server)


def test_a_server_whose_certificate_has_a_common_name_only(authority: Authority) -> None:
    from service_identity import VerificationError

    pair = authority.issue("archive.example.org")
    server = tls.Credentials(listener(certificate=pair.certificate, key=pair.key))
    shake(tls.Credentials(destination(authorities=authority.file, name="Archive.example.org"), "10.1.3.9"), server)
    for host in ("10.1.3.9", "vna.example.org"):
        with pytest.raises(VerificationError):
            shake(tls.Credentials(destination(authorities=authority.file), host), server)


def test_a_server_that_nobody_vouches_for(authority: Authority) -> None:
    with pytest.raises(SSL.Error, match="certificate verify failed"):
        shake(tls.Credentials(destination(), "127.0.0.1"), serving(authority))  # the system knows nothing of this authority
    shake(tls.Credentials(destination(verify="none"), "127.0.0.1"), serving(authority))


def test_an_older_version_than_wanted(authority: Authority) -> None:
    end = shake(tls.Credentials(destination(authorities=authority.file), "127.0.0.1"), serving(authority, minimum="1.3"))
    assert end.get_protocol_version_name() == "TLSv1.3"
    old = SSL.Context(SSL.TLS_METHOD)
    old.set_max_proto_version(SSL.TLS1_2_VERSION)
    client = tls.Credentials(destination(verify="none"), "127.0.0.1")
    client._maker = type("Old", (), {"clientConnectionForTLS": lambda self, protocol: SSL.Connection(old, None)})()
    shake(client, serving(authority))
    with pytest.raises(SSL.Error):
        shake(client, serving(authority, minimum="1.3"))


# -- files that change


def touched(path: str) -> None:
    """Make sure that a file looks changed, whatever the resolution of the clock."""
    before = os.stat(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))


def test_a_new_certificate_is_taken_for_the_next_connection(authority: Authority) -> None:
    loaded: list[datetime | None] = []
    kept: list[str] = []
    pair = authority.issue("old", "127.0.0.1", days=20, file="broker")
    server = tls.Credentials(listener(certificate=pair.certificate, key=pair.key), "", loaded.append, kept.append)
    client = tls.Credentials(destination(authorities=authority.file), "127.0.0.1")
    running = shake(client, server)
    shake(client, server)
    assert loaded == [NOW + timedelta(days=20)]

    authority.issue("new", "127.0.0.1", days=400, file="broker")
    touched(pair.certificate)
    shake(client, server)
    assert loaded == [NOW + timedelta(days=20), NOW + timedelta(days=400)]
    assert running.send(b"still open") == 10
    assert kept == []


def test_a_changed_file_that_is_wrong_leaves_the_one_before_in_use(authority: Authority) -> None:
    kept: list[str] = []
    pair = authority.issue("broker", "127.0.0.1")
    server = tls.Credentials(listener(certificate=pair.certificate, key=pair.key), kept=kept.append)
    client = tls.Credentials(destination(authorities=authority.file), "127.0.0.1")
    whole = Path(pair.certificate).read_bytes()
    Path(pair.certificate).write_bytes(whole[:100])
    shake(client, server)
    shake(client, server)
    assert len(kept) == 1  # said once
    assert "no certificate in PEM" in kept[0]
    Path(pair.certificate).unlink()
    shake(client, server)
    assert "No such file" in kept[1]
    Path(pair.certificate).write_bytes(whole)
    touched(pair.certificate)
    shake(client, server)
    assert len(kept) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" CT1.Example.org ", "ct1.example.org"),
        ("sha256:" + "ab" * 32, "sha256:" + "ab" * 32),
        ("SHA256:" + ":".join(["AB"] * 32), "sha256:" + "ab" * 32),
        ("https://ct1.example.org/dicom", "https://ct1.example.org/dicom"),
    ],
)
def test_who_may_come_is_written_as_a_name_or_a_fingerprint(text: str, expected: str) -> None:
    assert tls.identifier(text) == expected


@pytest.mark.parametrize("text", ["", "  ", "sha256:", "sha256:abc", "sha256:" + "xy" * 32])
def test_what_names_no_certificate_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"fingerprint has 64|at least one"):
        tls.identifier(text)


def test_a_certificate_goes_by_its_names_and_its_fingerprint(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("CT1", "ct1.example.org", "10.1.3.7")
    certificate = x509.load_pem_x509_certificate(Path(pair.certificate).read_bytes())
    assert tls.identifiers(certificate) == {
        "ct1",
        "ct1.example.org",
        "10.1.3.7",
        f"sha256:{certificate.fingerprint(hashes.SHA256()).hex()}",
    }
