"""Certificates for tests: an authority, and what it signs."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.now(UTC).replace(microsecond=0)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    """Return a private key in PEM."""
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: str
    key: str


class Authority:
    """Signs certificates and writes them into a folder."""

    def __init__(self, folder: Path, name: str = "hospital-ca") -> None:
        self.folder, self.key, self.subject = folder, ec.generate_private_key(ec.SECP256R1()), _name(name)
        self.certificate = self._sign(self.key, self.subject, (), NOW + timedelta(days=3650), authority=True)
        self.file = str(folder / f"{name}.pem")
        Path(self.file).write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, common: str, *names: str, days: float = 365, since: float = -1, file: str = "", key: ec.EllipticCurvePrivateKey | None = None
    ) -> Pair:
        """Write a certificate with these alternative names, valid so many days from now, and its key."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        expires, begins = NOW + timedelta(days=days), NOW + timedelta(days=min(since, days - 1))
        signed = self._sign(key, _name(common), names, expires, begins)
        pair = Pair(str(self.folder / f"{file or common}.pem"), str(self.folder / f"{file or common}.key"))
        Path(pair.certificate).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        Path(pair.key).write_bytes(pem(key))
        return pair

    def _sign(
        self,
        key: ec.EllipticCurvePrivateKey,
        subject: x509.Name,
        names: tuple[str, ...],
        expires: datetime,
        begins: datetime = NOW - timedelta(days=1),
        *,
        authority: bool = False,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(expires)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        return builder.sign(self.key, hashes.SHA256())
