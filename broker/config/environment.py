"""Can this machine run the configuration now? Peers are visited, ports and folders tried, nothing is sent or left behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, TimeoutError, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError

from broker.config.files import read_document
from broker.config.models import Config, Destination, Listener
from broker.config.session import Finding, Severity
from broker.connectors.base import Defer
from broker.connectors.probe import Seen, probe_port
from broker.errors import BrokerError
from broker.obs.log import Log
from broker.pipeline.shape import Place
from broker.store.database import reach

PATIENCE = 2.0  # seconds for each probe
AT_ONCE = 8

Probing = Callable[[], Any]  # returns Seen, or a Deferred of it


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing to be tried."""

    name: str  # "destination ehr"
    place: Place  # in the channels file
    instead: str  # what to do when it fails
    run: Probing
    severity: Severity = "problem"


@dataclass(frozen=True, slots=True)
class Tried:
    """How a probe ended."""

    name: str
    says: str
    right: bool
    finding: Finding | None = None  # what a person should look at


def try_environment(
    config: Config,
    environment: Mapping[str, str],
    registry: Any,
    reactor: Any,
    defer: Defer,
    log: Log,
    tell: Callable[[Tried], None] = lambda one: None,
) -> Deferred[list[Tried]]:
    """Fire with how each probe ended, in the order of the configuration; `tell` hears of each as it ends.

    `defer` calls what blocks on another thread.
    """
    document = read_document(config.file, str(config.file), environment)
    turns = DeferredSemaphore(AT_ONCE)

    async def attempt(probe: Probe) -> Tried:
        try:
            seen: Seen = await maybeDeferred(probe.run).addTimeout(PATIENCE, reactor)
        except Exception as error:  # whatever it is, a person hears of it and the other probes go on
            problem = document.problem(probe.place, _why(error), probe.instead)
            tried = Tried(probe.name, problem.what, False, Finding("environment", probe.severity, problem))
        else:
            doubt = document.problem(probe.place, seen.doubt, "let the peer take them, or send it other images")
            tried = Tried(probe.name, seen.says, True, Finding("environment", "warning", doubt) if seen.doubt else None)
        tell(tried)
        return tried

    return gatherResults([turns.run(attempt, probe) for probe in probes(config, registry, reactor, defer, log)])


def probes(config: Config, registry: Any, reactor: Any, defer: Defer, log: Log) -> list[Probe]:
    """Return everything there is to be tried."""
    found = [Probe("data folder", ("data",), "make it, and let the broker's user write there", lambda: defer(_try_folder, config.data))]
    if config.store != "sqlite":
        instead = "start PostgreSQL, or mend its address, user and password"
        found.append(Probe("store", ("store",), instead, lambda: defer(_try_store, config.store)))
    for listener in config.listeners:
        found += _component(listener, "listeners", registry, reactor, defer, log)
    web = {"port": config.web.port, "bind": config.web.bind}
    found += _port("web", ("web", "port"), web, reactor)
    for destination in config.destinations:
        found += _component(destination, "destinations", registry, reactor, defer, log)
    return found


def _component(one: Listener | Destination, section: str, registry: Any, reactor: Any, defer: Defer, log: Log) -> list[Probe]:
    """Return what can be tried of a listener or destination: its port, its folder, or its peer."""
    name, place, settings = f"{section[:-1]} {one.name}", (section, one.name), one.settings
    if "folder" in settings:
        instead = "make it, and let the broker's user write there"
        return [Probe(name, (*place, one.kind, "folder"), instead, lambda: defer(_try_folder, Path(settings["folder"]), False))]
    if section == "listeners" and settings.get("port") is not None:
        return _port(name, (*place, one.kind, "port"), settings, reactor)
    visit = registry.PROBES.get(one.kind)
    if visit is None or not (settings.get("host") or settings.get("connect")):
        return []
    instead = "start the peer, or mend host: and port:; until then messages for it wait"
    return [Probe(name, (*place, one.kind), instead, lambda: visit(reactor, settings, PATIENCE, log))]


def _port(name: str, place: Place, settings: Mapping[str, Any], reactor: Any) -> list[Probe]:
    if not settings["port"]:
        return []  # any port will do
    instead = "right if it is this broker that runs; else end what listens there, or choose another port"
    return [Probe(name, place, instead, lambda: probe_port(reactor, settings), "warning")]


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE:g} s"
    if isinstance(error, CannotListenError):
        return f"cannot listen: {getattr(error.socketError, 'strerror', None) or error.socketError}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or type(error).__name__
    return str(error) if isinstance(error, BrokerError | ValueError) else type(error).__name__


def _try_folder(folder: Path, made: bool = True) -> Seen:
    """Return what is well about a folder; `made`: the broker makes it when it is missing. Raises OSError."""
    if folder.exists() or not made:
        with tempfile.TemporaryFile(dir=folder):
            return Seen(f"{folder} can be written to")
    above = next(one for one in folder.absolute().parents if one.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise OSError(0, "cannot be made: no right to write there", str(above))
    return Seen(f"{folder} will be made")


def _try_store(address: str) -> Seen:
    reach(address, PATIENCE)
    return Seen("PostgreSQL answers")
