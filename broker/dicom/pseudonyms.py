"""Pseudonyms made with a secret key: the same for the same original each time, and not to be turned back without a record of them."""

from __future__ import annotations

import hmac
from base64 import b32encode
from hashlib import sha256

LEAST_KEY = 16  # bytes
_LEAST_DAYS, _MOST_DAYS = 366, 1826


class Pseudonyms:
    """The pseudonyms of one key; what it has given is kept in `given`: pseudonym -> (kind, original)."""

    def __init__(self, key: bytes) -> None:
        """Raises ValueError when the key is shorter than LEAST_KEY bytes."""
        if len(key) < LEAST_KEY:
            raise ValueError(f"a key has at least {LEAST_KEY} bytes")
        self._key = key
        self.given: dict[str, tuple[str, str]] = {}

    def _digest(self, kind: str, original: str) -> bytes:
        return hmac.digest(self._key, f"{kind}\0{original}".encode(), sha256)

    def uid(self, original: str) -> str:
        """Return the UID that stands for another one, of the form of PS3.5 B.2."""
        made = f"2.25.{int.from_bytes(self._digest('uid', original)[:16], 'big') | 1 << 127}"
        self.given[made] = ("uid", original)
        return made

    def patient(self, original: str, issuer: str = "") -> str:
        """Return the identifier that stands for a patient's."""
        made = b32encode(self._digest("patient", f"{issuer}\0{original}")[:10]).decode()
        self.given[made] = ("patient", original)
        return made

    def days(self, patient: str, issuer: str = "") -> int:
        """Return by how many days the dates of a patient move: back, by at least one and at most five years."""
        drawn = int.from_bytes(self._digest("days", f"{issuer}\0{patient}")[:8], "big")
        return -_LEAST_DAYS - drawn % (_MOST_DAYS - _LEAST_DAYS + 1)
