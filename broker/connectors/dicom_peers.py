"""Who may open an association, from where, and what else is known of each calling AE title."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker.dicom.charset import TRANSLITERATE, UNENCODABLE, is_known
from broker.security.addresses import Addresses

EVERYONE_ELSE = "*"
REFUSE = "refuse"
_KEYS = ("from", "charset", "unencodable", "associations", "private")


@dataclass(frozen=True, slots=True)
class Peer:
    """What is granted to one calling AE title."""

    addresses: Addresses | None = None  # None: from anywhere
    charset: tuple[str, ...] = ()  # Specific Character Set of worklist answers when the query names none
    unencodable: str = TRANSLITERATE  # what becomes of a text in a worklist answer that does not fit the character set
    associations: int | None = None  # at the same time; None: no limit of its own
    private: bool = False  # whether SOP classes that the standard does not know may be stored


@dataclass(frozen=True, slots=True)
class Peers:
    """The peers of one listener; None stands for `refuse`."""

    by_title: Mapping[str, Peer | None]

    def find(self, calling: str, host: str) -> Peer | None:
        """Return what is granted to this caller from that address, None when it is not allowed."""
        peer = self.by_title.get(calling, self.by_title.get(EVERYONE_ELSE))
        if peer is None or (peer.addresses is not None and not peer.addresses.allows(host)):
            return None
        return peer


def check_ae_title(title: str) -> str:
    """Return what is wrong with an AE title; "" when nothing is."""
    good = isinstance(title, str) and 0 < len(title.strip()) <= 16 and title.isascii() and title.isprintable() and "\\" not in title
    return "" if good else "an AE title has 1 to 16 characters of ASCII, without a backslash"


def read_peers(settings: Mapping[str, Any]) -> Peers:
    """Return the peers of a listener's `peers` setting; raises ValueError with every mistake in it."""
    mistakes = check_peers(settings)
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return Peers({title: None if value == REFUSE else _peer(value) for title, value in settings.items()})


def _peer(value: Mapping[str, Any]) -> Peer:
    charset = value.get("charset") or ()
    return Peer(
        addresses=Addresses.parse(_texts(value["from"])) if value.get("from") else None,
        charset=tuple(_texts(charset)),
        unencodable=value.get("unencodable", TRANSLITERATE),
        associations=value.get("associations"),
        private=bool(value.get("private", False)),
    )


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def check_peers(settings: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a `peers` setting, one sentence each, and what to write instead."""
    mistakes = []
    for title, value in settings.items():
        if title != EVERYONE_ELSE and check_ae_title(title):
            mistakes.append(f"{title}: {check_ae_title(title)}")
        if value == REFUSE:
            continue
        if not isinstance(value, Mapping):
            mistakes.append(f"{title}: write {REFUSE}, or a mapping of {', '.join(_KEYS)}")
            continue
        mistakes += [f"{title}.{key}: {what}" for key, what in _check_peer(value)]
    return mistakes


def _check_peer(value: Mapping[str, Any]) -> list[tuple[str, str]]:
    mistakes = [(str(key), f"unknown; known are {', '.join(_KEYS)}") for key in value if key not in _KEYS]
    try:
        Addresses.parse(_texts(value.get("from") or ()))
    except (ValueError, TypeError, AttributeError):
        mistakes.append(("from", "write addresses or networks, as 10.1.3.7 or 10.1.3.0/24"))
    try:
        if not is_known(_texts(value.get("charset") or ())):
            mistakes.append(("charset", "write defined terms of Specific Character Set, as ISO_IR 100"))
    except TypeError:
        mistakes.append(("charset", "write a text or a list of texts"))
    if value.get("unencodable", TRANSLITERATE) not in UNENCODABLE:
        mistakes.append(("unencodable", f"write {' or '.join(UNENCODABLE)}"))
    count = value.get("associations", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        mistakes.append(("associations", "write a whole number from 1 on"))
    if not isinstance(value.get("private", False), bool):
        mistakes.append(("private", "write true or false"))
    return mistakes
