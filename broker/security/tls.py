"""TLS of listeners and destinations: what may be configured, and contexts that follow their files when these change."""

from __future__ import annotations

import ipaddress
import os
import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.ssl import (
    AcceptableCiphers,
    Certificate,
    CertificateOptions,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.spec import Option

_VERSIONS = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}
# The TLS secure transport profiles of PS3.15 annex B: forward secrecy and authenticated encryption, in the extended one of 256 bits.
# What older peers need goes beyond RFC 9325, but for nothing that is broken. The suites of TLS 1.3 are all good.
_PROFILES = {
    "bcp195": AcceptableCiphers.fromOpenSSLCipherString("ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL"),
    "bcp195-extended": AcceptableCiphers.fromOpenSSLCipherString("ECDHE+AESGCM+AES256:DHE+AESGCM+AES256:!aNULL"),
    "compatible": None,
}
_FINGERPRINT = re.compile("sha256:[0-9a-f]{64}")
SOON = timedelta(days=30)  # before a certificate expires, in which `broker check` warns

_CERTIFICATE = Option(
    "certificate", "path", "PEM file with this side's certificate, and after it those up to its root.", None, "/etc/broker/tls/broker.pem"
)
_KEY = Option(
    "key", "path", "PEM file with the private key, without a passphrase; else it is in `certificate`.", None, "/etc/broker/tls/broker.key"
)
_MINIMUM = Option("minimum", "text", "The oldest version of TLS that is spoken.", "1.2", choices=tuple(_VERSIONS))
_PROFILE = Option(
    "profile",
    "text",
    "The cipher suites of TLS 1.2: those of BCP 195 (RFC 9325), of its extended profile in DICOM PS3.15, or `compatible` with older peers, "
    "CBC and RSA key exchange too.",
    "bcp195",
    choices=tuple(_PROFILES),
)

LISTENER = Option(
    "tls",
    "mapping",
    "Speak TLS. The files are read again when they change; connections that are open stay.",
    default=None,
    example={"certificate": "/etc/broker/tls/broker.pem", "authorities": "/etc/broker/tls/hospital-ca.pem"},
    options=(
        _CERTIFICATE,
        _KEY,
        Option("authorities", "path", "PEM file with whose certificates a peer may show.", None, "/etc/broker/tls/hospital-ca.pem"),
        Option(
            "client_certificates",
            "text",
            "Whether a peer must show one: `required` with `authorities` and `none` without, unless said otherwise.",
            None,
            choices=("required", "optional", "none"),
        ),
        Option(
            "names",
            "texts",
            "Who may connect: a peer's certificate must carry one of these, as common name or alternative name (DNS, IP, URI, e-mail).",
            None,
            ["ehr.example.org"],
        ),
        _MINIMUM,
        _PROFILE,
    ),
)

DESTINATION = Option(
    "tls",
    "mapping",
    "Speak TLS. The files are read again when they change; connections that are open stay.",
    default=None,
    example={"authorities": "/etc/broker/tls/hospital-ca.pem"},
    options=(
        _CERTIFICATE,
        _KEY,
        Option(
            "authorities",
            "path",
            "PEM file with whose certificates the peer may show; else those the system trusts.",
            None,
            "/etc/broker/tls/ca.pem",
        ),
        Option(
            "verify",
            "text",
            "What the peer's certificate must be: `name` of one of `authorities` and for its name, `chain` the former only, `none` any.",
            "name",
            choices=("name", "chain", "none"),
        ),
        Option("name", "text", "The name that the peer's certificate must carry, where it is not its `host`.", None, "archive.example.org"),
        _MINIMUM,
        _PROFILE,
    ),
)


class Unusable(ValueError):
    """A file that cannot be used: `option` names the setting, the text says why."""

    def __init__(self, option: str, why: str) -> None:
        super().__init__(why)
        self.option = option


def problems(settings: Mapping[str, Any], *, accepts: bool) -> Iterator[tuple[str, str]]:
    """Yield (option, what is wrong) of a `tls` mapping: files that cannot be read or do not fit, settings that contradict each other.

    `accepts`: of a side that is connected to, not one that connects.
    """
    if accepts and not settings["certificate"]:
        yield "certificate", "who accepts connections needs one: name the PEM file"
    if settings["key"] and not settings["certificate"]:
        yield "key", "there is no certificate that it belongs to: add certificate:"
    if accepts:
        wanted = settings["client_certificates"]
        if wanted in ("required", "optional") and not settings["authorities"]:
            yield "client_certificates", "there is nothing to check them against: add authorities:"
        if wanted == "none" and settings["authorities"]:
            yield "client_certificates", "authorities: says whose certificates are taken: write required or optional"
        if settings["names"] and _clients(settings) != "required":
            yield "names", "only certificates that are required can carry them: add authorities:"
    elif settings.get("client_certificates"):
        yield "client_certificates", "this listener connects itself, so there are no clients: remove it"
    elif settings.get("verify") == "none" and (settings["authorities"] or settings["name"]):
        yield "verify", "nothing is checked: write name or chain, or remove authorities: and name:"
    for option, load in (("certificate", _own), ("authorities", _trusted)):
        try:
            if settings[option]:
                load(settings)
        except Unusable as wrong:
            yield wrong.option, str(wrong)


def concerns(settings: Mapping[str, Any], now: datetime | None = None) -> Iterator[tuple[str, str]]:
    """Yield (option, what) of certificates that have expired or will soon, and of checks that are switched off."""
    now = now or datetime.now(UTC)
    for option in ("certificate", "authorities"):
        try:
            chain = _certificates(settings, option) if settings[option] else ()
        except Unusable:
            continue
        for certificate in chain:
            day = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
            if certificate.not_valid_after_utc <= now:
                yield option, f"{settings[option]} has expired on {day}: put a new one in its place"
            elif certificate.not_valid_before_utc > now:
                yield option, f"{settings[option]} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
            elif certificate.not_valid_after_utc - now < SOON:
                yield option, f"{settings[option]} expires on {day}: put a new one in its place"
    if settings.get("verify") == "none":
        yield "verify", "whoever answers is taken for the peer: write name or chain"


def names(certificate: x509.Certificate) -> frozenset[str]:
    """Return the common name and the alternative names of a certificate, in lower case."""
    found = {str(one.value) for one in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)}
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset(name.lower() for name in found)
    for kind in (x509.DNSName, x509.IPAddress, x509.UniformResourceIdentifier, x509.RFC822Name):
        found |= {str(value) for value in alternative.get_values_for_type(kind)}
    return frozenset(name.lower() for name in found)


def identifier(text: str) -> str:
    """Return a name or a `sha256:` fingerprint as `identifiers` has it; raises ValueError when it is neither."""
    text = text.strip().lower()
    if text.startswith("sha256:"):
        text = "sha256:" + text[7:].replace(":", "")
        if not _FINGERPRINT.fullmatch(text):
            raise ValueError("a fingerprint has 64 hexadecimal digits")
    if not text:
        raise ValueError("a name has at least one character")
    return text


def identifiers(certificate: x509.Certificate) -> frozenset[str]:
    """Return all that a certificate may be named by: its names, and `sha256:` with its fingerprint."""
    return names(certificate) | {f"sha256:{certificate.fingerprint(hashes.SHA256()).hex()}"}


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class Credentials:
    """Makes the TLS side of each new connection, from the files as they are then; raises Unusable when they never could be used.

    `loaded` hears when this side's own certificate expires (None without one), each time it is read; `kept` hears why a changed
    file was not taken, in which case the earlier ones stay in use.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        host: str = "",
        loaded: Callable[[datetime | None], None] = lambda _: None,
        kept: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`host`: the peer's name or address when this side connects, "" when it accepts."""
        self._settings, self._host, self._loaded, self._kept = settings, host, loaded, kept
        self._name = settings.get("name") or host
        # a listener that connects itself has a list of names, which is looked at once the connection stands
        self._verify = settings.get("verify") or ("chain" if settings.get("names") else "name")
        named = (settings["certificate"], settings["key"], settings["authorities"])
        self._files = tuple(Path(name) for name in named if name)
        self._stamp = self._look()
        self._maker: Any = self._make()

    @property
    def names(self) -> frozenset[str]:
        """Of which a peer's certificate must carry one; empty when any will do."""
        return frozenset(name.lower() for name in self._settings.get("names") or ())

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Return the connection of a peer that was accepted."""
        self._refresh()
        made: SSL.Connection = self._maker.serverConnectionForTLS(protocol)
        return made

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Return the connection to a peer."""
        self._refresh()
        connection: SSL.Connection = self._maker.clientConnectionForTLS(protocol)
        name = self._name
        if self._verify == "name":
            connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _looking_for(name, protocol))
        elif not _is_address(name):
            connection.set_tlsext_host_name(name.encode("idna"))
        return connection

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        """Return what tells a changed file; three calls of the system for each new connection."""
        found = []
        for path in self._files:
            with suppress(OSError):  # one that is gone differs from what it was, too
                stat = os.stat(path)
                found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return tuple(found)

    def _refresh(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._maker = self._make()
        except Unusable as wrong:
            self._kept(f"{wrong.option}: {wrong}")

    def _make(self) -> Any:
        settings, expires = self._settings, None
        ciphers = _PROFILES[settings["profile"]]
        options: dict[str, Any] = {"raiseMinimumTo": _VERSIONS[settings["minimum"]], "acceptableCiphers": ciphers}
        if settings["certificate"]:
            key, chain = _own(settings)
            options |= {"privateKey": key, "certificate": chain[0], "extraCertChain": list(chain[1:])}
            expires = min(one.not_valid_after_utc for one in chain)
        trusted = _trusted(settings) if settings["authorities"] else ()
        maker = self._client(options, trusted) if self._host else self._server(options, trusted)
        self._loaded(expires)
        return maker

    def _server(self, options: dict[str, Any], trusted: tuple[x509.Certificate, ...]) -> Any:
        clients = _clients(self._settings)
        if clients != "none":
            options |= {
                "verify": True,
                "caCerts": [crypto.X509.from_cryptography(one) for one in trusted],
                "requireCertificate": clients == "required",
            }
        return CertificateOptions(**options)

    def _client(self, options: dict[str, Any], trusted: tuple[x509.Certificate, ...]) -> Any:
        if self._verify == "none":
            return CertificateOptions(**options)
        pems = [one.public_bytes(serialization.Encoding.PEM) for one in trusted]
        root = trustRootFromCertificates([Certificate.loadPEM(pem) for pem in pems]) if pems else platformTrust()
        if self._verify == "chain":
            return CertificateOptions(trustRoot=root, **options)
        return optionsForClientTLS(self._name, trustRoot=root, extraCertificateOptions=options)


def _clients(settings: Mapping[str, Any]) -> str:
    return settings["client_certificates"] or ("required" if settings["authorities"] else "none")


def _own(settings: Mapping[str, Any]) -> tuple[PrivateKeyTypes, tuple[x509.Certificate, ...]]:
    """Return this side's key and certificates; raises Unusable."""
    chain = _certificates(settings, "certificate")
    where = "key" if settings["key"] else "certificate"
    path = settings[where]
    content = _read(path, where)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise Unusable(where, f"{path} is encrypted: write it without a passphrase, readable by the broker alone") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unusable(where, f"{path} holds no private key in PEM") from None
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
        raise Unusable(where, f"{path} is not the key of the first certificate in {settings['certificate']}")
    return key, chain


def _trusted(settings: Mapping[str, Any]) -> tuple[x509.Certificate, ...]:
    """Return the authorities; raises Unusable."""
    return _certificates(settings, "authorities")


def _certificates(settings: Mapping[str, Any], option: str) -> tuple[x509.Certificate, ...]:
    content = _read(settings[option], option)
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except ValueError:
        raise Unusable(option, f"{settings[option]} holds no certificate in PEM") from None


def _read(path: str, option: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Unusable(option, f"{path}: {error.strerror or 'cannot be read'}") from error


def _looking_for(name: str, protocol: Any) -> Callable[..., bool]:
    """Return what OpenSSL asks about each certificate of a peer.

    Twisted's own lets a certificate pass that has no alternative names; here its common name decides, as many devices have nothing else.
    """
    peer = weakref.ref(protocol)

    def verify(_: SSL.Connection, certificate: crypto.X509, __: int, depth: int, right: int) -> bool:
        if depth or not right:
            return bool(right)
        try:
            _must_carry(certificate.to_cryptography(), name)
        except VerificationError:
            if (waiting := peer()) is not None:
                waiting.failVerification(Failure())
            return False
        return True

    return verify


def _must_carry(certificate: x509.Certificate, name: str) -> None:
    """Raise VerificationError unless the certificate is for this name or address (RFC 6125 section 6.4)."""
    look = verify_certificate_ip_address if _is_address(name) else verify_certificate_hostname
    try:
        look(certificate, name)
    except CertificateError:
        if name.lower() not in names(certificate):
            raise VerificationError(errors=[]) from None
    except ValueError:
        raise VerificationError(errors=[]) from None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
