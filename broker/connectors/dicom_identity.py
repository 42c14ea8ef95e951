"""User identity negotiation (PS3.7 D.3.3.7): who a caller must say it is, and who this side says it is."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.dicom.negotiation import Identity, IdentityKind, Rejection
from broker.spec import Option

IDENTITY = Option(
    "identity",
    "mapping",
    "The user that this side says it is (user identity negotiation).",
    default=None,
    example={"user": "broker", "passcode": "${file:/run/credentials/archive}"},
    options=(
        Option("user", "text", "User name.", example="broker"),
        Option(
            "passcode",
            "text",
            "Passcode of the user, best from a file only the broker may read; it goes over the network as it is, so `tls` belongs to it.",
            default=None,
            example="${file:/run/credentials/archive}",
        ),
    ),
)
NOT_IDENTIFIED = Rejection(1, 1, 1, "user identity missing")
NOT_ACCEPTED = Rejection(1, 1, 1, "user identity not accepted")
KIND_NOT_ACCEPTED = Rejection(1, 1, 1, "user identity of a kind that is not supported")
_MOST = 0xFFFF  # bytes of either


@dataclass(frozen=True, slots=True)
class User:
    """A user name, and the passcode that goes with it; None: the name will do."""

    name: bytes = field(repr=False)
    passcode: bytes | None = field(default=None, repr=False)

    def refuses(self, identity: Identity | None) -> Rejection | None:
        """Return why a caller that says it is `identity` is not this user."""
        if identity is None:
            return NOT_IDENTIFIED
        if identity.kind not in (IdentityKind.USER, IdentityKind.PASSCODE):
            return KIND_NOT_ACCEPTED
        named = hmac.compare_digest(identity.primary, self.name)
        passed = self.passcode is None or hmac.compare_digest(identity.secondary, self.passcode)
        return None if named and passed else NOT_ACCEPTED


def read_user(value: Mapping[str, Any]) -> User:
    """Return the user of an `identity` setting."""
    passcode = value.get("passcode")
    return User(value["user"].encode(), None if passcode is None else passcode.encode())


def identity_of(settings: Mapping[str, Any]) -> Identity | None:
    """Return who a destination's settings say that this side is."""
    if not settings["identity"]:
        return None
    user = read_user(settings["identity"])
    return Identity(IdentityKind.USER, user.name) if user.passcode is None else Identity(IdentityKind.PASSCODE, user.name, user.passcode)


def check_user(value: Any) -> str:
    """Return what is wrong with an `identity` setting; "" when nothing is."""
    known = {option.name for option in IDENTITY.options}
    if not isinstance(value, Mapping) or not value.get("user") or set(value) - known:
        return "write user:, and passcode: where the user has one"
    if not all(one is None or (isinstance(one, str) and 0 < len(one.encode()) <= _MOST) for one in value.values()):
        return "user: and passcode: are texts; write digits in quotes"
    return ""


def concerns(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (option, what) of passcodes in the settings of a listener or destination that go without TLS."""
    if _tells(settings, "identity") and not settings["tls"]:
        yield "identity", "without TLS the passcode goes over the network for all to read: add tls:"
    for title, peer in settings.get("peers", {}).items():
        if _tells(peer, "identity") and not settings["tls"]:
            yield "peers", f"{title}.identity: without TLS the passcode comes over the network for all to read: add tls:"
        if _tells(peer, "identify_as") and not peer.get("tls"):
            yield "peers", f"{title}.identify_as: without TLS the passcode goes over the network for all to read: add tls: to the peer"


def _tells(settings: Any, key: str) -> bool:
    return isinstance(settings, Mapping) and bool((settings.get(key) or {}).get("passcode"))
