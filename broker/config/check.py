"""Everything that can be wrong with a configuration, found in one go."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from broker.config.files import Document, read_document, read_text
from broker.config.models import RIS, Channel, Config, Destination, Listener, Site, Web
from broker.config.options import CHANNEL, SITE, TOP, VERSION, WEB, Registry, channels_schema
from broker.errors import Problem
from broker.model import Protocol
from broker.pipeline.compilation import Compilation, Receiver
from broker.pipeline.layout import shipped_layouts
from broker.pipeline.requests import ACTIONS, COLUMNS
from broker.pipeline.route import compile_route
from broker.pipeline.shape import Mistakes, Place, check, did_you_mean
from broker.pipeline.tables import Table, read_table
from broker.ris.context import Station
from broker.ris.states import REPORT
from broker.spec import Option, read

PROTOCOLS: Mapping[str, Protocol] = {"mllp": "hl7", "file": "hl7", "dicom": "dicom"}
_STATION_COLUMNS = ("modality", "room", "opens", "closes")


@dataclass(slots=True)
class Checked:
    """The configuration, None when it has problems, and what was found."""

    config: Config | None
    problems: list[Problem]
    warnings: list[Problem]


@dataclass(slots=True)
class _Session:
    """What one check has gathered so far."""

    folder: Path
    shown: Path  # the folder as the operator named it
    environment: Mapping[str, str]
    registry: Registry
    document: Document
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    used: set[str] = field(default_factory=set)  # destinations
    uses: set[tuple[str, str]] = field(default_factory=set)  # (what the RIS takes it for, name of the table)

    def problem(self, place: Place, what: str, instead: str = "") -> None:
        self.problems.append(self.document.problem(place, what, instead))

    def file(self, name: str) -> str:
        """Return how a file of the configuration is named in a problem."""
        return str(self.shown / name)

    def take(self, document: Document, mistakes: Mistakes) -> None:
        """Give mistakes the file and lines of their document."""
        for mistake in mistakes.found:
            found = document.problem(mistake.place, mistake.what, mistake.instead)
            (self.warnings if mistake.warning else self.problems).append(found)


def check_config(path: str | Path, environment: Mapping[str, str], registry: Registry) -> Checked:
    """Read `channels.yaml` and every file it names; raises nothing."""
    path = Path(path)
    document = read_document(path, str(path), environment)
    session = _Session(path.parent.absolute(), path.parent, environment, registry, document, problems=list(document.problems))
    if not isinstance(document.value, Mapping):
        if not document.problems:
            session.problem((), "a mapping is needed here", "begin with version: 1")
        return Checked(None, session.problems, [])
    top = _top(session, document.value)
    tables = _tables(session, top["tables"], asked="tables" in document.value)
    stations = _stations(session, tables, top["stations"], asked="stations" in document.value)
    listeners = _listeners(session, top["listeners"])
    destinations = _destinations(session, top["destinations"])
    site = Site(**read(SITE, _filled(SITE, top["site"])))
    web = Web(**read(WEB, _filled(WEB, top["web"])))
    _check_ports(session, listeners, web)
    channels = _channels(session, top["channels"], tables, listeners, destinations, site)
    _check_vocabulary(session, tables, top["tables"])
    _warn_unused(session, listeners, destinations, channels)
    problems = sorted(set(session.problems), key=lambda p: (p.file, p.line))
    if problems:
        return Checked(None, problems, session.warnings)
    config = Config(
        file=path,
        version=VERSION,
        site=site,
        data=Path(top["data"]),
        store=top["store"],
        node=top["node"],
        web=web,
        tables=tables,
        stations=stations,
        listeners=listeners,
        destinations=destinations,
        channels=channels,
        warnings=tuple(session.warnings),
    )
    return Checked(config, [], session.warnings)


def _top(session: _Session, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the top-level settings with their defaults; a value of the wrong shape is replaced by its default."""
    mistakes = Mistakes()
    check(channels_schema(session.registry), value, mistakes)
    session.take(session.document, mistakes)
    if isinstance(value.get("version"), int) and value["version"] != VERSION:
        session.problem(("version",), f"version {value['version']} is not known to this broker", f"write version: {VERSION}")
    top = _filled(TOP, value)
    _check_site(session, top["site"])
    if top["store"] != "sqlite" and not top["store"].startswith("postgresql://"):
        session.problem(("store",), "neither sqlite nor the URL of a PostgreSQL", "write sqlite or postgresql://user@host/database")
    return top


_EMPTY: Mapping[str, Any] = {"text": "", "path": "", "integer": 0, "mapping": {}}
_PYTHON: Mapping[str, type] = {"text": str, "path": str, "integer": int, "mapping": dict}


def _filled(options: tuple[Option, ...], value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every option; one that is missing or of the wrong type becomes its default, or empty."""
    filled = {}
    for option in options:
        default = option.default if isinstance(option.default, _PYTHON[option.type]) else _EMPTY[option.type]
        given = value.get(option.name, default)
        filled[option.name] = given if isinstance(given, _PYTHON[option.type]) else default
    return filled


def _check_site(session: _Session, site: Mapping[str, Any]) -> None:
    site = _filled(SITE, site)
    if not _is_timezone(site["timezone"]):
        session.problem(("site", "timezone"), f"{site['timezone']} is no time zone", "write an IANA name such as Europe/Paris")
    try:
        made = site["accession"].format(number=1), site["accession"].format(number=2)
    except (LookupError, ValueError, AttributeError):
        made = ("", "")
    if made[0] == made[1]:
        session.problem(("site", "accession"), "not a format that counts", 'write it like "A{number:08d}"')
    elif len(made[0]) > 16:
        session.problem(("site", "accession"), "an accession number has at most 16 characters", 'write it like "A{number:08d}"')
    root = site["uid_root"]
    if root and not (len(root) <= 40 and all(part.isdigit() and (part == "0" or part[0] != "0") for part in root.split("."))):
        session.problem(("site", "uid_root"), f"{root} is no UID root of at most 40 characters", "write it like 1.2.840.99999")


def _is_timezone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        return False
    return True


def _tables(session: _Session, folder: str, *, asked: bool) -> dict[str, Table]:
    path = session.folder / folder
    if not path.is_dir() and not asked:
        return {}  # a broker that only passes messages on needs none
    if not path.is_dir():
        session.problem(("tables",), f"there is no folder {folder}", "create it, or name the folder with the CSV tables")
        return {}
    tables = {}
    for file in sorted(path.glob("*.csv")):
        name = session.file(str(Path(folder) / file.name))
        text = read_text(file, name)
        if isinstance(text, Problem):
            session.problems.append(text)
            continue
        table, faults = read_table(file.stem, text)
        session.problems += [Problem(name, fault.line, "", fault.what, fault.instead) for fault in faults]
        tables[file.stem] = table
    return tables


def _stations(session: _Session, tables: Mapping[str, Table], name: str, *, asked: bool) -> tuple[Station, ...]:
    table = tables.get(name)
    if table is None and not asked:
        return ()
    if table is None:
        session.problem(("stations",), f"there is no table {name}", did_you_mean(name, tables))
        return ()
    missing = [column for column in _STATION_COLUMNS if column not in table.columns]
    if missing:
        session.problem(("stations",), f"table {name} has no column {', '.join(missing)}", f"its columns are {', '.join(table.columns)}")
        return ()
    stations = []
    for title, row in table.rows.items():
        try:
            stations.append(Station(title, *(row[column] for column in _STATION_COLUMNS)))
        except ValueError as error:
            session.problem(("stations",), f"table {name}, line {table.lines[title]}: {error}")
    return tuple(stations)


def _check_vocabulary(session: _Session, tables: Mapping[str, Table], folder: str) -> None:
    """Check the cells of the tables that requests to the RIS read; other tables may hold anything."""
    known: Mapping[str, tuple[str, frozenset[str]]] = {
        "order_control": ("action", frozenset(ACTIONS)),
        "report_status": ("status", frozenset(event for _, event in REPORT)),
    }
    for use, name in sorted(session.uses):
        table = tables.get(name)
        if table is None:
            continue
        file = session.file(str(Path(folder) / f"{name}.csv"))
        if use in known and known[use][0] in table.columns:
            column, values = known[use]
            for key, row in table.rows.items():
                if row[column] not in values:
                    what = f"{row[column] or 'nothing'} is no {column}"
                    session.problems.append(Problem(file, table.lines[key], column, what, did_you_mean(row[column], values)))
        if use == "procedures" and set(COLUMNS[use]) <= set(table.columns):
            wrong = [key for key, row in table.rows.items() if not (row["duration"].isdigit() and int(row["duration"]))]
            session.problems += [Problem(file, table.lines[key], "duration", "not a number of minutes", "such as 15") for key in wrong]


def _component(session: _Session, section: str, name: str, value: Any, kinds: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
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
    checks = getattr(session.registry, "CHECKS", {})
    for key, what in checks[kind](settings) if kind in checks else ():
        session.problem((section, name, kind, key), what)
    return kind, settings


def _listeners(session: _Session, section: Mapping[str, Any]) -> tuple[Listener, ...]:
    found = []
    for name, value in section.items():
        if name == RIS:
            session.problem(("listeners", name), "ris is the broker's own source of events", "give the listener another name")
        component = _component(session, "listeners", name, value, session.registry.LISTENERS)
        if component:
            unmatched = value.get("unmatched", "reject")
            found.append(Listener(name, *component, unmatched, session.document.file, session.document.line(("listeners", name))))
    return tuple(found)


def _destinations(session: _Session, section: Mapping[str, Any]) -> tuple[Destination, ...]:
    found = []
    for name, value in section.items():
        component = _component(session, "destinations", name, value, session.registry.DESTINATIONS)
        if component:
            found.append(Destination(name, *component, session.document.file, session.document.line(("destinations", name))))
    return tuple(found)


def _check_ports(session: _Session, listeners: tuple[Listener, ...], web: Web) -> None:
    users: list[tuple[str, Place, str, Any]] = [
        (f"listener {one.name}", ("listeners", one.name, one.kind, "port"), one.settings.get("bind", ""), one.settings.get("port"))
        for one in listeners
    ]
    users.append(("web", ("web", "port"), web.bind, web.port))
    for index, (name, place, bind, port) in enumerate(users):
        for other, _, other_bind, other_port in users[:index]:
            if port and port == other_port and _overlap(bind, other_bind):
                session.problem(place, f"{name} and {other} share port {port}", "give one of them another port")


def _overlap(one: str, other: str) -> bool:
    return one == other or _is_any(one) or _is_any(other)


def _is_any(bind: str) -> bool:
    try:
        return not bind or ipaddress.ip_address(bind).is_unspecified
    except ValueError:
        return False


def _channels(
    session: _Session,
    section: Mapping[str, Any],
    tables: Mapping[str, Table],
    listeners: tuple[Listener, ...],
    destinations: tuple[Destination, ...],
    site: Site,
) -> tuple[Channel, ...]:
    if not section:
        session.problem(("channels",), "no channel is configured", "add one, such as orders: {from: hospital, route: routes/orders.yaml}")
    sources: dict[str, Protocol] = {RIS: "ris", **{one.name: PROTOCOLS[one.kind] for one in listeners}}
    declared = set(session.document.value.get("listeners") or {})
    base = Compilation(
        protocol="hl7",
        tables=tables,
        layouts=shipped_layouts(),
        destinations=_receivers(session, destinations),
        site={
            "name": site.name,
            "authority": site.authority,
            "application": site.application,
            "timezone": site.timezone if _is_timezone(site.timezone) else "UTC",  # a wrong one is a problem already
        },
        mistakes=Mistakes(),
    )
    found = []
    for name, value in section.items():
        setting = _filled(CHANNEL, value) if isinstance(value, Mapping) else {"from": "", "route": ""}
        source = setting["from"]
        if source and source not in sources and source not in declared:
            session.problem(("channels", name, "from"), f"there is no listener {source}", did_you_mean(source, sources))
        if setting["route"] and source in sources:
            channel = _channel(session, name, source, setting["route"], sources[source], base)
            found += [channel] if channel else []
    return tuple(found)


def _receivers(session: _Session, destinations: tuple[Destination, ...]) -> dict[str, Receiver]:
    """Return what routes may send to, also of those whose settings are wrong: a route that names one is right."""
    declared = session.document.value.get("destinations")
    receivers = {
        one.name: Receiver(one.kind, PROTOCOLS[one.kind], one.settings.get("charset") or "", one.settings.get("unencodable") or "refuse")
        for one in destinations
    }
    for name, value in declared.items() if isinstance(declared, Mapping) else ():
        named = [key for key in value if key in session.registry.DESTINATIONS] if isinstance(value, Mapping) else []
        kind = named[0] if named else "mllp"
        receivers.setdefault(name, Receiver(kind, PROTOCOLS[kind]))
    return receivers


def _channel(session: _Session, name: str, source: str, route_file: str, protocol: Protocol, base: Compilation) -> Channel | None:
    path = session.folder / route_file
    place = ("channels", name, "route")
    if not path.is_file():
        known = sorted(str(p.relative_to(session.folder)) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        session.problem(place, f"there is no file {route_file}", did_you_mean(route_file, known))
        return None
    document = read_document(path, session.file(route_file), session.environment)
    session.problems += document.problems
    if not isinstance(document.value, Mapping):
        if not document.problems:
            session.problem(place, f"{route_file} holds no route", "begin it with description:")
        return None
    compilation = Compilation(
        protocol=protocol, tables=base.tables, layouts=base.layouts, destinations=base.destinations, site=base.site, mistakes=Mistakes()
    )
    route = compile_route(document.value, name, compilation)
    cases = path.parent / route.cases if route.cases else None
    if cases and not cases.is_file():
        compilation.mistakes.add(f"there is no file {route.cases}", "write it, or remove cases:", key=("cases",))
    session.take(document, compilation.mistakes)
    session.used |= route.destinations
    session.uses |= set(compilation.uses)
    return Channel(name, source, protocol, route, cases, session.document.file, session.document.line(("channels", name)))


def _warn_unused(
    session: _Session, listeners: tuple[Listener, ...], destinations: tuple[Destination, ...], channels: tuple[Channel, ...]
) -> None:
    fed = {channel.source for channel in channels}
    for destination in destinations:
        if destination.name not in session.used:
            what = "no route sends to this destination"
            session.warnings.append(session.document.problem(("destinations", destination.name), what, "remove it, or name it in a route"))
    for listener in listeners:
        if listener.name not in fed and (listener.kind == "mllp" or "store" in listener.settings.get("services", ())):
            what = "no channel hears this listener"
            session.warnings.append(
                session.document.problem(("listeners", listener.name), what, f"add a channel with from: {listener.name}")
            )
