"""Channels: each reads its route and compiles it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from broker.config.connections import receivers
from broker.config.files import read_document, read_text
from broker.config.models import RIS, Channel, Destination, Listener, Site
from broker.config.options import CHANNEL
from broker.config.session import Examined, NotedTables, Session
from broker.config.settings import filled, is_timezone
from broker.model import Protocol
from broker.pipeline.compilation import Compilation
from broker.pipeline.layout import shipped_layouts
from broker.pipeline.route import compile_route
from broker.pipeline.shape import Mistakes, did_you_mean
from broker.pipeline.tables import Table


def read_channels(
    session: Session, tables: Mapping[str, Table], listeners: tuple[Listener, ...], destinations: tuple[Destination, ...], site: Site
) -> tuple[Channel, ...]:
    """Return the channels whose routes can be read, with everything wrong with these noted."""
    section = session.section("channels")
    if not section:
        session.problem(("channels",), "no channel is configured", "add one, such as orders: {from: hospital, route: routes/orders.yaml}")
    sources: dict[str, Protocol] = {RIS: "ris", **{one.name: session.registry.PROTOCOLS[one.kind] for one in listeners}}
    base = _surroundings(session, tables, destinations, site)
    found = []
    for name, value in section.items():
        setting = filled(CHANNEL, value) if isinstance(value, Mapping) else {"from": "", "route": ""}
        source = setting["from"]
        if source and source not in sources and source not in session.section("listeners"):
            what = f"there is no listener {source}"
            session.problem(("channels", name, "from"), what, did_you_mean(source, sources), "topology")
        if setting["route"] and source in sources:
            channel = _channel(session, name, source, setting["route"], replace(base, protocol=sources[source]))
            found += [channel] if channel else []
    return tuple(found)


def _surroundings(session: Session, tables: Mapping[str, Table], destinations: tuple[Destination, ...], site: Site) -> Compilation:
    return Compilation(
        protocol="hl7",
        tables=NotedTables(tables, session.used_tables),
        layouts=shipped_layouts(),
        destinations=receivers(session, destinations),
        site={
            "name": site.name,
            "authority": site.authority,
            "application": site.application,
            "timezone": site.timezone if is_timezone(site.timezone) else "UTC",  # a wrong one is a problem already
        },
        mistakes=Mistakes(),
        files=session.read,
    )


def _channel(session: Session, name: str, source: str, route_file: str, base: Compilation) -> Channel | None:
    path = session.folder / route_file
    place = ("channels", name, "route")
    if path.is_dir():
        known = sorted(str(p.relative_to(session.folder)) for p in path.glob("*.yaml"))
        session.problem(place, f"{route_file} is a folder", f"name a file in it, such as {known[0] if known else 'orders.yaml'}")
        return None
    if not path.is_file():
        known = sorted(str(p.relative_to(session.folder)) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        session.problem(place, f"there is no file {route_file}", did_you_mean(route_file, known))
        return None
    document = read_document(path, session.file(route_file), session.environment)
    session.add(*document.problems)
    if not isinstance(document.value, Mapping):
        if not document.problems:
            session.problem(place, f"{route_file} holds no route", "begin it with description:")
        return None
    session.keep_document(route_file, document)
    observer = session.watch.route(name, document) if session.watch else None
    compilation = replace(base, mistakes=Mistakes(), paths=[], marks=[], conditions=[], uses=[], observer=observer)
    route = compile_route(document.value, name, compilation)
    cases = path.parent / route.cases if route.cases else None
    if cases and not cases.is_file():
        compilation.mistakes.add(f"there is no file {route.cases}", "write it, or remove cases:", key=("cases",))
    elif cases and isinstance(text := read_text(cases, route.cases), str):
        session.keep(str(Path(route_file).parent / route.cases), text, "cases")
    session.take(document, compilation.mistakes)
    session.routes.append(Examined(name, source, document, route, compilation))
    return Channel(name, source, base.protocol, route, cases, session.document.file, session.document.line(("channels", name)))
