"""Does what the broker sends come back to it, to be sent again?"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from broker.config.connections import is_any
from broker.config.models import RIS, Destination, Listener
from broker.config.session import Examined, Session

Values = Mapping[str, frozenset[str]]  # path -> the values it can have; of a path that is not there, any


@dataclass(frozen=True, slots=True)
class _Hop:
    """A way from one channel to another, or to itself."""

    to: str
    through: str  # a destination, or ris
    kinds: Values


def check_loops(session: Session, listeners: tuple[Listener, ...], destinations: tuple[Destination, ...]) -> None:
    """Warn of every circle of channels that runs through one of the broker's own listeners."""
    own = {one.name: found for one in destinations if (found := _own_listener(one, listeners))}
    hops = {examined.channel: list(_hops(examined, session.routes, own)) for examined in session.routes}
    told: set[frozenset[str]] = set()
    for start in hops:
        circle = _circle(start, hops)
        through = [hop.through for hop in circle if hop.through != RIS]
        if through and frozenset(through) not in told:
            told.add(frozenset(through))
            way = " → ".join([start, *(part for hop in circle for part in (hop.through, hop.to))])
            what = f"what is sent here comes back to this broker's own listener {own[through[0]]} and is sent again: {way}"
            session.warn(("destinations", through[0]), what, "send it elsewhere, or let accept: leave such messages out")


def _own_listener(destination: Destination, listeners: tuple[Listener, ...]) -> str:
    """Return the name of the listener that the destination reaches, "" when it is none of these."""
    host, port = destination.settings.get("host"), destination.settings.get("port")
    for listener in listeners:
        if "folder" in listener.settings and _same_folder(listener.settings["folder"], destination.settings.get("folder")):
            return listener.name
        same = listener.kind == destination.kind and listener.settings.get("port") == port
        if same and port and _reaches(str(host), str(listener.settings.get("bind", ""))):
            return listener.name
    return ""


def _same_folder(one: str, other: object) -> bool:
    return isinstance(other, str) and os.path.abspath(one) == os.path.abspath(other)


def _reaches(host: str, bind: str) -> bool:
    return host == bind or (_is_loopback(host) and (is_any(bind) or _is_loopback(bind)))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _hops(examined: Examined, routes: list[Examined], own: Mapping[str, str]) -> Iterator[_Hop]:
    for through, kinds in _sent(examined):
        if through in own:
            yield from (_Hop(other.channel, through, kinds) for other in routes if other.source == own[through] and _accepts(other, kinds))
    if examined.source != RIS and _has_step(examined.document.value, "ris"):
        yield from (_Hop(other.channel, RIS, {}) for other in routes if other.source == RIS)


def _has_step(value: Any, name: str) -> bool:
    if isinstance(value, Mapping):
        return name in value or any(_has_step(inner, name) for inner in value.values())
    return isinstance(value, list) and any(_has_step(inner, name) for inner in value)


def _sent(examined: Examined) -> Iterator[tuple[str, Values]]:
    """Yield each destination a route sends to, with what can be told of the messages."""
    targets = examined.document.value.get("to")
    for target in targets if isinstance(targets, list) else ():
        if isinstance(target, Mapping):
            names = target.get("send")
            for name in [names] if isinstance(names, str) else names if isinstance(names, list) else ():
                if isinstance(name, str):
                    yield name, _kinds(target, examined)


def _kinds(target: Mapping[str, Any], examined: Examined) -> Values:
    built = target.get("build")
    if isinstance(built, str):
        kind, event, *_ = [*built.split("^"), ""]
        return {"MSH-9.1": frozenset((kind,)), "MSH-9.2": frozenset((event,))}
    return {} if examined.route.steps.changes else examined.route.accept.only


def _accepts(examined: Examined, kinds: Values) -> bool:
    return all(values & kinds.get(path, values) for path, values in examined.route.accept.only.items())


def _circle(start: str, hops: Mapping[str, list[_Hop]]) -> list[_Hop]:
    """Return the shortest way from a channel back to itself, empty when there is none."""
    ways: list[list[_Hop]] = [[hop] for hop in hops[start]]
    seen: set[str] = set()
    for way in ways:  # grows while it is walked through
        if way[-1].to == start:
            return way
        if way[-1].to not in seen:
            seen.add(way[-1].to)
            ways += [[*way, hop] for hop in hops[way[-1].to]]
    return []
