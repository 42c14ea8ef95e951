"""Takes a running broker from one configuration to the next: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError

from broker.config.models import Config, Destination, Listener, Web
from broker.config.plan import KEEP
from broker.connectors import base
from broker.engine.clock import SiteClock
from broker.engine.couriers import Couriers
from broker.engine.delivery import Courier
from broker.engine.dicomintake import Dicom
from broker.engine.doors import Doors
from broker.engine.hl7intake import Hl7
from broker.engine.intake import Intake
from broker.engine.rules import Rules, rules_of
from broker.errors import BrokerError, ConfigError, Problem
from broker.obs.log import Log
from broker.store import queues
from broker.store.database import Database, Transaction

Key = tuple[str, str]  # section and name: ("listeners", "hospital"), ("settings", "web")
WEB: Key = ("settings", "web")


class Gate:
    """Stands between a new listener and the intake, and keeps what comes until the listener's configuration runs."""

    def __init__(self, intake: Any) -> None:
        self._intake = intake
        self._waiting: list[Deferred[None]] | None = []

    def __getattr__(self, name: str) -> Callable[..., Deferred[Any]]:
        call: Callable[..., Deferred[Any]] = getattr(self._intake, name)
        if self._waiting is None:
            return call
        waiting = self._waiting

        def later(*args: Any, **kwargs: Any) -> Deferred[Any]:
            opened: Deferred[None] = Deferred()
            waiting.append(opened)
            return opened.addCallback(lambda _: call(*args, **kwargs))

        return later

    def open(self) -> None:
        """Let what has waited through, in its order."""
        waiting, self._waiting = self._waiting or [], None
        for opened in waiting:
            opened.callback(None)


class Build(Protocol):
    """Makes the parts of a configuration; none of them does anything before it is started."""

    def listener(self, listener: Listener, hl7: Any, dicom: Any) -> base.Listener:
        """Return a listener that hands over to these."""

    def courier(self, destination: Destination) -> Courier:
        """Return the courier of a destination."""

    def web(self, web: Web) -> base.Listener:
        """Return what serves the web port."""


@dataclass(slots=True)
class Parts:
    """Everything in a running broker that another configuration may change."""

    intake: Intake
    hl7: Hl7
    dicom: Dicom
    couriers: Couriers
    clock: SiteClock
    listeners: dict[Key, base.Listener]
    addresses: dict[Key, str]  # of those that are bound: "127.0.0.1:2575"
    rules: Rules


class Changeover:
    """Exchanges the parts of a running broker."""

    def __init__(self, parts: Parts, build: Build, db: Database, doors: Doors, in_thread: Callable[..., Deferred[Any]], log: Log) -> None:
        self._parts, self._build, self._db, self._doors = parts, build, db, doors
        self._in_thread, self._log = in_thread, log
        self._leaving: list[Deferred[None]] = []  # listeners that answer what is under way, and close

    async def run(self, old: Config, new: Config) -> None:
        """Run `new` in place of `old`; raises BrokerError, and then everything is as it was."""
        before = self._parts.rules
        rules: Rules = await self._in_thread(rules_of, new)  # the site's own modules are loaded there
        gates = Gate(self._parts.hl7), Gate(self._parts.dicom)
        fresh: dict[Key, base.Listener] = {}
        addresses: dict[Key, str] = {}
        try:
            fresh = self._listeners(old, new, gates)
            touched = changed(old.queues, new.queues)
            couriers = {one.name: self._build.courier(one) for one in new.queues if one.name in touched}
            self._doors.hold()
            for key, listener in fresh.items():
                addresses[key] = ""  # begun
                addresses[key] = (await listener.start()).partition(" ")[2]
            # what is read from now on must do for the new rules as well as for the old ones
            self._parts.dicom.keywords = tuple(dict.fromkeys((*before.keywords, *rules.keywords)))
            kept = {(one.name, one.kind) for one in new.destinations}
            removed = [one.name for one in old.destinations if (one.name, one.kind) not in kept]
            await self._db.run("configuration.swap", self._swap, rules, removed, str(new.file))
        except Exception as error:
            await self._undo(before, rules, [fresh[key] for key in addresses])
            raise _told(error) from error
        self._finish(rules, old, new, fresh, addresses)
        for name in touched:
            self._parts.couriers.replace(name, couriers.get(name))
        for gate in gates:
            gate.open()
        await self._in_thread(before.site.calls.close)

    async def _undo(self, before: Rules, rules: Rules, begun: Sequence[base.Listener]) -> None:
        """Leave everything as it was."""
        self._use(before)
        await gatherResults([listener.stop() for listener in begun])
        self._doors.open()
        await self._in_thread(rules.site.calls.close)

    async def finished(self) -> None:
        """Wait until every listener that was exchanged has closed."""
        await gatherResults(self._leaving)

    def _listeners(self, old: Config, new: Config, gates: tuple[Gate, Gate]) -> dict[Key, base.Listener]:
        """Return the listeners that come, of those that are in use or to be."""
        touched = changed(old.listeners, new.listeners)
        fresh: dict[Key, base.Listener] = {
            ("listeners", one.name): self._build.listener(one, *gates) for one in new.listeners if one.name in touched
        }
        if old.web != new.web:
            fresh[WEB] = self._build.web(new.web)
        return fresh

    def _swap(self, tx: Transaction, rules: Rules, removed: Sequence[str], file: str) -> None:
        """Exchange the rules between two messages: units of the store follow one another."""
        if still := queues.holding(tx, removed):
            raise ConfigError([Problem(file, 0, f"destinations.{name}", "still holds deliveries", KEEP) for name in still])
        self._parts.intake.change(rules.router, rules.site, rules.unmatched)

    def _use(self, rules: Rules) -> None:
        """Read and judge by these rules."""
        parts = self._parts
        parts.intake.change(rules.router, rules.site, rules.unmatched)
        parts.hl7.manners, parts.dicom.keywords, parts.rules = rules.manners, rules.keywords, rules

    def _finish(self, rules: Rules, old: Config, new: Config, fresh: Mapping[Key, base.Listener], addresses: Mapping[Key, str]) -> None:
        """Make the new parts those of the broker; nothing here can fail."""
        parts = self._parts
        self._use(rules)
        parts.clock.move(new.site.timezone)
        self._doors.open()
        named = changed(old.listeners, new.listeners) & {one.name for one in old.listeners}
        for key in [*(("listeners", name) for name in named), *([WEB] if WEB in fresh else [])]:
            parts.addresses.pop(key, None)
            leaving = parts.listeners.pop(key).stop()
            leaving.addErrback(lambda failure: self._log.failure("listener did not close", failure))
            self._leaving = [one for one in self._leaving if not one.called] + [leaving]
        parts.listeners.update(fresh)
        parts.addresses.update(addresses)


def _told(error: Exception) -> Exception:
    """Return what the operator is told of a change that could not be made."""
    if isinstance(error, OSError | CannotListenError):
        return BrokerError(f"cannot listen: {error}; what ran goes on unchanged")
    return BrokerError(f"{error}; what ran goes on unchanged") if isinstance(error, ValueError) else error


def changed(old: Sequence[Any], new: Sequence[Any]) -> set[str]:
    """Return the names of the listeners or destinations that are in one only, or of another kind, or have other settings."""
    before, after = ({one.name: (one.kind, one.settings) for one in side} for side in (old, new))
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}
