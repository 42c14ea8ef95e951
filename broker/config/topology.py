"""How the parts of a configuration hang together: what is never reached, never used, or goes round in a circle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from broker.config.loops import check_loops
from broker.config.models import Channel, Destination, Listener
from broker.config.session import Examined, Session
from broker.errors import Problem
from broker.pipeline.shape import Place, did_you_mean
from broker.pipeline.tables import Table
from broker.pipeline.when import Condition

_SERVICES: Mapping[str, str] = {"C-STORE": "store", "N-CREATE": "mpps", "N-SET": "mpps"}
_FIXED = ("MSH-9", "kind", "event")  # paths that no step changes in what a route has accepted, unless it is said in so many words


def check_topology(
    session: Session,
    tables: Mapping[str, Table],
    listeners: tuple[Listener, ...],
    destinations: tuple[Destination, ...],
    channels: tuple[Channel, ...],
) -> None:
    """Note what is never reached, never used, or goes round in a circle."""
    _check_lines(session, listeners, destinations)
    _check_acknowledgments(session, listeners, destinations)
    if len(channels) == len(session.section("channels")):  # else what is missing may use them
        _warn_unused(session, listeners, destinations, channels)
        _warn_unused_tables(session, tables)
    by_name = {listener.name: listener for listener in listeners}
    for examined in session.routes:
        _warn_unoffered(session, examined, by_name.get(examined.source))
        for place, what in _contradictions(examined):
            problem = examined.document.problem(place, what, "widen accept:, or remove it")
            session.add(problem, stage="topology", severity="warning")
    check_loops(session, listeners, destinations)


def _check_lines(session: Session, listeners: tuple[Listener, ...], destinations: tuple[Destination, ...]) -> None:
    """Note destinations that would send over the connections of a listener there is not, or has none for MLLP."""
    kinds = {listener.name: listener.kind for listener in listeners}
    known = [name for name, kind in kinds.items() if kind == "mllp"]
    for destination in destinations:
        over = destination.settings.get("over")
        place = ("destinations", destination.name, destination.kind, "over")
        if isinstance(over, str) and over not in session.section("listeners"):
            session.problem(place, f"there is no listener {over}", did_you_mean(over, known), "topology")
        elif over in kinds and kinds[over] != "mllp":
            what = f"{over} is a {kinds[over]} listener and has no MLLP connections"
            session.problem(place, what, did_you_mean(over, known), "topology")


def _check_acknowledgments(session: Session, listeners: tuple[Listener, ...], destinations: tuple[Destination, ...]) -> None:
    """Note listeners whose application acknowledgments would go to a destination there is not."""
    known = [one.name for one in destinations if session.registry.PROTOCOLS[one.kind] == "hl7"]
    for listener in listeners:
        to = listener.settings.get("acknowledge_to")
        if isinstance(to, str) and to not in known:
            place = ("listeners", listener.name, listener.kind, "acknowledge_to")
            session.problem(place, f"there is no destination {to} that takes HL7", did_you_mean(to, known), "topology")


def _warn_unused(
    session: Session, listeners: tuple[Listener, ...], destinations: tuple[Destination, ...], channels: tuple[Channel, ...]
) -> None:
    used = {name for examined in session.routes for name in examined.route.destinations}
    used |= {to for listener in listeners if (to := listener.settings.get("acknowledge_to"))} | session.used_destinations
    for destination in destinations:
        if destination.name not in used:
            session.warn(("destinations", destination.name), "no route sends to this destination", "remove it, or name it in a route")
    fed = {channel.source for channel in channels} | {destination.settings.get("over") for destination in destinations}
    for listener in listeners:
        if listener.name not in fed and (listener.kind != "dicom" or "store" in listener.settings.get("services", ())):
            session.warn(("listeners", listener.name), "no channel hears this listener", f"add a channel with from: {listener.name}")


def _warn_unused_tables(session: Session, tables: Mapping[str, Table]) -> None:
    for name in tables:
        if name not in session.used_tables:
            problem = Problem(
                session.table_file(name), 1, "", "no route uses this table", f"remove it, or name {Path(name).stem} in a step"
            )
            session.add(problem, stage="topology", severity="warning")


def _warn_unoffered(session: Session, examined: Examined, listener: Listener | None) -> None:
    """Note a channel whose listener does not offer what it waits for."""
    offered = listener.settings.get("services") if listener and listener.kind == "dicom" else None
    if offered is None:
        return
    kinds = examined.route.accept.only.get("kind", frozenset(_SERVICES))
    if not any(_SERVICES.get(kind) in offered for kind in kinds):
        wanted = " or ".join(sorted({_SERVICES[kind] for kind in kinds if kind in _SERVICES}))
        what = f"no message ever comes: {examined.source} does not offer {wanted}"
        session.warn(("channels", examined.channel), what, f"add {wanted} to its services:")


def _contradictions(examined: Examined) -> Iterator[tuple[Place, str]]:
    """Yield conditions that cannot hold together with those around them, each with what it asks for in vain."""
    conditions = examined.compilation.conditions
    for place, condition in conditions:
        if place == ("accept",) or condition.never:
            continue
        around = [examined.route.accept, *(outer for at, outer in conditions if _encloses(at, place))]
        for path, wanted in condition.only.items():
            let = _let(path, around)
            if path.startswith(_FIXED) and let is not None and not wanted & let:
                yield place, f"this never holds: {path} is {' or '.join(sorted(let))} here"


def _encloses(outer: Place, inner: Place) -> bool:
    """Whether the condition at one place decides about the steps among which the other stands."""
    above = outer[:-1]
    return bool(above) and len(inner) > len(outer) and inner[: len(above)] == above and inner[len(above)] == "steps"


def _let(path: str, conditions: list[Condition]) -> frozenset[str] | None:
    """Return the values that all of these conditions let a path have, None when they let it have any."""
    let: frozenset[str] | None = None
    for condition in conditions:
        if path in condition.only:
            let = condition.only[path] if let is None else let & condition.only[path]
    return let
