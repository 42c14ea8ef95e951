"""Listeners and destinations: their kinds, settings and ports."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from broker.config.models import RIS, Destination, Listener, Web
from broker.config.session import Session
from broker.pipeline.compilation import Receiver
from broker.pipeline.shape import Mistakes, Place, check


def read_listeners(session: Session) -> tuple[Listener, ...]:
    """Return the listeners whose settings can be read."""
    found = []
    for name, value in session.section("listeners").items():
        if name == RIS:
            session.problem(("listeners", name), "ris is the broker's own source of events", "give the listener another name")
        component = _component(session, "listeners", name, value, session.registry.LISTENERS)
        if component and isinstance(value, Mapping):
            unmatched = value.get("unmatched", "reject")
            found.append(Listener(name, *component, unmatched, session.document.file, session.document.line(("listeners", name))))
    return tuple(found)


def read_destinations(session: Session) -> tuple[Destination, ...]:
    """Return the destinations whose settings can be read."""
    found = []
    for name, value in session.section("destinations").items():
        component = _component(session, "destinations", name, value, session.registry.DESTINATIONS)
        if component:
            found.append(Destination(name, *component, session.document.file, session.document.line(("destinations", name))))
    return tuple(found)


def receivers(session: Session, destinations: tuple[Destination, ...]) -> dict[str, Receiver]:
    """Return what routes may send to, also of those whose settings are wrong: a route that names one is right."""
    protocols = session.registry.PROTOCOLS
    found = {
        one.name: Receiver(one.kind, protocols[one.kind], one.settings.get("charset") or "", one.settings.get("unencodable") or "refuse")
        for one in destinations
    }
    for name, value in session.section("destinations").items():
        named = [key for key in value if key in session.registry.DESTINATIONS] if isinstance(value, Mapping) else []
        kind = named[0] if named else "mllp"
        found.setdefault(name, Receiver(kind, protocols[kind]))
    return found


def check_ports(session: Session, listeners: tuple[Listener, ...], web: Web) -> None:
    """Note every pair that would listen on the same port of the same address."""
    users: list[tuple[str, Place, str, Any]] = [
        (f"listener {one.name}", ("listeners", one.name, one.kind, "port"), one.settings.get("bind", ""), one.settings.get("port"))
        for one in listeners
    ]
    users.append(("web", ("web", "port"), web.bind, web.port))
    for index, (name, place, bind, port) in enumerate(users):
        for other, _, other_bind, other_port in users[:index]:
            if port and port == other_port and _overlap(bind, other_bind):
                session.problem(place, f"{name} and {other} share port {port}", "give one of them another port", "topology")


def _component(session: Session, section: str, name: str, value: Any, kinds: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return kind and settings of a listener or destination, None when they cannot be read."""
    named = [key for key in value if key in kinds] if isinstance(value, Mapping) else []
    if len(named) != 1:
        if isinstance(value, Mapping):
            what = "names no protocol" if not named else f"names {len(named)} protocols"
            session.problem((section, name), what, f"write one of {', '.join(sorted(kinds))}: with its settings")
        return None
    kind = named[0]
    if not check(kinds[kind].schema(), value[kind], Mistakes()):
        return None  # the mistakes were collected with the whole file
    settings = kinds[kind].read(value[kind])
    port = settings.get("port")
    if isinstance(port, int) and not 0 <= port <= 65535:
        session.problem((section, name, kind, "port"), f"{port} is no TCP port", "write a number from 1 to 65535")
    check_settings = session.registry.CHECKS.get((section, kind))
    for key, what in check_settings(settings) if check_settings else ():
        place, what = _nearer((section, name, kind, key), value[kind].get(key), what)
        session.problem(place, what)
    warn_of = session.registry.WARNINGS.get(kind)
    for key, what in warn_of(settings) if warn_of else ():
        place, what = _nearer((section, name, kind, key), value[kind].get(key), what)
        session.warn(place, what, "")
    return kind, settings


def _nearer(place: Place, value: Any, what: str) -> tuple[Place, str]:
    """Return the place that words such as "CT1.charset: write …" begin with, as far as it was written, and the words behind it."""
    for key in value if isinstance(value, Mapping) else ():
        for begin in (f"{key}.", f"{key}: "):
            if what.startswith(begin):
                return _nearer((*place, key), value[key], what.removeprefix(begin))
    return place, what


def _overlap(one: str, other: str) -> bool:
    return one == other or is_any(one) or is_any(other)


def is_any(bind: str) -> bool:
    """Return whether an address stands for every address of this machine."""
    try:
        return not bind or ipaddress.ip_address(bind).is_unspecified
    except ValueError:
        return False
