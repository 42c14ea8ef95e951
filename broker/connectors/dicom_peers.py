"""Who may open an association, from where, and what else is known of each calling AE title."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.connectors.dicom_identity import User, check_user, read_user
from broker.connectors.dicom_terms import check_worklist, read_worklist
from broker.dicom.charset import TRANSLITERATE, UNENCODABLE, is_known
from broker.pipeline.shape import Mistakes, check_options
from broker.security import tls
from broker.security.addresses import Addresses
from broker.security.tls import identifier

EVERYONE_ELSE = "*"
REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Peer:
    """What is granted to one calling AE title."""

    addresses: Addresses | None = None  # None: from anywhere
    charset: tuple[str, ...] = ()  # Specific Character Set of worklist answers when the query names none
    unencodable: str = TRANSLITERATE  # what becomes of a text in a worklist answer that does not fit the character set
    associations: int | None = None  # at the same time; None: no limit of its own
    private: bool = False  # whether SOP classes that the standard does not know may be stored
    certificate: frozenset[str] = frozenset()  # names or fingerprints, of which its TLS certificate must have one; empty: any will do
    user: User | None = None  # who it must say it is
    worklist: Mapping[str, Any] = field(default_factory=dict)  # what its worklist has other than the listener's


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


_PDU = 4096, 16 << 20  # smaller ones some peers do not take, and larger ones gain nothing


def check_ae_title(title: str) -> str:
    """Return what is wrong with an AE title; "" when nothing is."""
    good = isinstance(title, str) and 0 < len(title.strip()) <= 16 and title.isascii() and title.isprintable() and "\\" not in title
    return "" if good else "an AE title has 1 to 16 characters of ASCII, without a backslash"


def check_max_pdu(size: int) -> str:
    """Return what is wrong with a largest PDU, in bytes; "" when nothing is."""
    return "" if _PDU[0] <= size <= _PDU[1] else "write 4 KB to 16 MB"


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
        certificate=frozenset(map(identifier, _texts(value.get("certificate") or ()))),
        user=read_user(value["identity"]) if value.get("identity") else None,
        worklist=read_worklist(value.get("worklist") or {}),
    )


def address_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return `host`, `port`, `tls` and `identity` of a peer that is called back, as a destination has them."""
    return {
        "host": value["host"],
        "port": value.get("port", 0),
        "tls": tls.DESTINATION.read(value.get("tls")),
        "identity": value.get("identify_as"),
    }


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
            mistakes.append(f"{title}: write {REFUSE}, or a mapping of {', '.join(_CHECKS)}")
            continue
        mistakes += [f"{title}.{key}: {what}" for key, what in _check_peer(value)]
    return mistakes


def _check_peer(value: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, one in value.items():
        if key not in _CHECKS:
            yield str(key), f"unknown; known are {', '.join(_CHECKS)}"
            continue
        try:
            wrong = _CHECKS[key](one)
        except (ValueError, TypeError, AttributeError):
            wrong = "write a text or a list of texts"
        if wrong:
            yield key, wrong


def _check_from(value: Any) -> str:
    try:
        Addresses.parse(_texts(value or ()))
    except (ValueError, TypeError, AttributeError):
        return "write addresses or networks, as 10.1.3.7 or 10.1.3.0/24"
    return ""


def _check_certificate(value: Any) -> str:
    try:
        return "" if [identifier(text) for text in _texts(value)] else "name at least one"
    except ValueError as error:
        return f"write names of its certificate, or sha256: and its fingerprint: {error}"


def _check_tls(value: Any) -> str:
    mistakes = Mistakes()
    check_options(tls.DESTINATION.options, value, mistakes)
    if not mistakes.found:
        for option, what in tls.problems(tls.DESTINATION.read(value), accepts=False):
            mistakes.add(what, key=(option,))
    return "; ".join(f"{'.'.join(map(str, one.place))}: {one.what} {one.instead}".lstrip(": ").rstrip() for one in mistakes.found)


def _check_count(value: Any) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return "" if good else "write a whole number from 1 on"


# What may be said of a peer, and what is wrong with a value; "" when nothing is.
_CHECKS: Mapping[str, Callable[[Any], str]] = {
    "from": _check_from,
    "charset": lambda value: "" if is_known(_texts(value or ())) else "write defined terms of Specific Character Set, as ISO_IR 100",
    "unencodable": lambda value: "" if value in UNENCODABLE else f"write {' or '.join(UNENCODABLE)}",
    "associations": _check_count,
    "private": lambda value: "" if isinstance(value, bool) else "write true or false",
    "host": lambda value: "" if isinstance(value, str) and value.strip() else "write a host name or an address",
    "port": lambda value: "" if type(value) is int and 0 < value < 1 << 16 else "write a number from 1 to 65535",
    "tls": _check_tls,
    "identify_as": check_user,
    "certificate": _check_certificate,
    "identity": check_user,
    "worklist": check_worklist,
}
