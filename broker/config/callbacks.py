"""The peers that are called back: what they have asked a listener for is delivered to them like anything else, by a queue of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from broker.config.models import Destination, Listener
from broker.config.session import Session
from broker.connectors.dicom_peers import address_of

KIND = "callback"  # of the destinations made here
EVERYONE_ELSE = "*"
_SERVICE = "commitment"


def read_callbacks(listeners: tuple[Listener, ...]) -> tuple[Destination, ...]:
    """Return a queue for each peer with an address, and one for everyone else, of each listener that serves storage commitment."""
    return tuple(queue for listener in listeners if serves(listener) for queue in _queues(listener))


def serves(listener: Listener) -> bool:
    """Tell whether a listener serves storage commitment."""
    return listener.kind == "dicom" and _SERVICE in listener.settings.get("services", ())


def name_of(listener: str, title: str) -> str:
    """Return the name of the queue for a peer of a listener."""
    return f"{listener}.{title}"


def with_address(listener: Listener) -> list[str]:
    """Return the AE titles of a listener that have a queue of their own."""
    return [title for title, peer in listener.settings["peers"].items() if title != EVERYONE_ELSE and _has_address(peer)]


def _has_address(peer: Any) -> bool:
    return isinstance(peer, Mapping) and bool(peer.get("host"))


def _queues(listener: Listener) -> Iterator[Destination]:
    peers = listener.settings["peers"]
    addresses = {title: address_of(peers[title]) for title in with_address(listener)}
    for title, address in addresses.items():
        yield _queue(listener, title, {title: address}, host=address["host"], port=address["port"])
    # what waits there for a peer that had no address may find one later
    yield _queue(listener, EVERYONE_ELSE, addresses, over="the association that asked")


def _queue(listener: Listener, title: str, addresses: Mapping[str, Mapping[str, Any]], **where: Any) -> Destination:
    commitment = listener.settings[_SERVICE]
    settings = {
        **where,
        "addresses": addresses,
        "listener": listener.name,
        "ae_title": listener.settings["ae_title"],
        "answer": commitment["answer"],
        "retry": {"first": 5.0, "most": 600.0, "park_after": commitment["give_up"]},
    }
    return Destination(name_of(listener.name, title), KIND, settings, listener.file, listener.line)


def check_commitment(session: Session, listeners: tuple[Listener, ...], destinations: tuple[Destination, ...]) -> None:
    """Note storage commitment that nobody can give, or whose answer finds nobody."""
    serving = [one for one in listeners if serves(one)]
    archives = [one for one in destinations if one.settings.get(_SERVICE)]
    all_read = len(destinations) == len(session.section("destinations"))  # else the archive may be one that cannot be read
    for listener in serving:
        if listener.settings[_SERVICE]["by"] == "archive" and not archives and all_read:
            what = "storage commitment is given by archives, and no destination is asked for it"
            instead = "add commitment: true to the archive, or commitment: {by: spool} here"
            session.problem(("listeners", listener.name, listener.kind, "services"), what, instead, "topology")
    for archive in archives if not serving else ():
        what = "no DICOM listener takes the reports of storage commitment that come over an association of the archive's own"
        session.warn(("destinations", archive.name, archive.kind, _SERVICE), what, "add commitment to the services of a listener")
