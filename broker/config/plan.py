"""What would change if one configuration took the place of another: what a person reads before `broker apply`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import Any, Literal

from broker.config.outline import Outline, shown, written
from broker.errors import Problem

Action = Literal["added", "changed", "removed"]

FIXED = ("data", "store", "node")  # settings that a process takes at its start only
_STEPS = ("steps", "to")  # lists whose items are compared one with the other
_MANY = 20  # details of one table; the rest is counted


@dataclass(frozen=True, slots=True)
class Detail:
    """One place that differs, as a person reads it."""

    path: str  # "retry.most", "steps[2].map.table", "row CTCHEST"
    old: str | None  # None: there was nothing
    new: str | None


@dataclass(frozen=True, slots=True)
class Item:
    """One thing of the configuration that is added, removed, or says something else."""

    section: str  # settings, listeners, destinations, channels, tables
    name: str
    action: Action
    details: tuple[Detail, ...] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """What becomes of a listener or destination that is touched."""

    section: str  # listeners, destinations, settings (the web port)
    name: str
    what: str
    connections: int = 0  # open ones, which are closed once they are answered
    waiting: int = 0  # deliveries
    parked: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """All that differs between what runs and a candidate."""

    running: str = ""  # digest
    candidate: str = ""
    files: Mapping[str, Action] = field(default_factory=dict)
    items: tuple[Item, ...] = ()
    effects: tuple[Effect, ...] = ()
    refusals: tuple[Problem, ...] = ()  # why it may not be applied
    warnings: tuple[Problem, ...] = ()

    @property
    def changes(self) -> bool:
        """Return whether anything differs, be it a comment."""
        return bool(self.files or self.items)


@dataclass(frozen=True, slots=True)
class Held:
    """What a destination's queue holds."""

    waiting: int = 0
    parked: int = 0


def compare(old: Outline, new: Outline) -> tuple[Item, ...]:
    """Return what differs, in the order of the file."""
    items = [*_settings(old.settings, new.settings)]
    for section in ("listeners", "destinations", "channels"):
        items += _section(section, getattr(old, section), getattr(new, section))
    order = [[name for name in one if name in other] for one, other in ((old.channels, new.channels), (new.channels, old.channels))]
    if order[0] != order[1]:
        items.append(Item("settings", "channels", "changed", (Detail("order", ", ".join(order[0]), ", ".join(order[1])),)))
    return (*items, *_tables(old, new))


def changed_files(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, Action]:
    """Return the files that differ, by name."""
    found: dict[str, Action] = {}
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            found[name] = "added" if name not in old else "changed" if name in new else "removed"
    return found


def effects(items: Sequence[Item], connections: Mapping[str, int], held: Mapping[str, Held]) -> tuple[Effect, ...]:
    """Return what becomes of the connectors that are touched; all others keep their sockets and go on."""
    found = []
    for item in items:
        if item.section == "settings" and item.name == "web":
            found.append(Effect("settings", "web", "binds anew"))
        elif item.section == "listeners" and (what := _listener_effect(item)):
            found.append(Effect("listeners", item.name, what, connections.get(item.name, 0) if item.action != "added" else 0))
        elif item.section == "destinations":
            queue = held.get(item.name, Held())
            found.append(Effect("destinations", item.name, _DESTINATION[item.action], 0, queue.waiting, queue.parked))
    return tuple(found)


_DESTINATION: Mapping[Action, str] = {
    "added": "starts",
    "changed": "ends what is under way, then goes on with the new settings",
    "removed": "stops",
}


def _listener_effect(item: Item) -> str:
    if item.action != "changed":
        return {"added": "binds", "removed": "closes"}[item.action]
    return "binds anew; its connections are closed once they are answered" if any(d.path != "unmatched" for d in item.details) else ""


def refusals(items: Sequence[Item], held: Mapping[str, Held], file: str) -> tuple[Problem, ...]:
    """Return why this may not be applied to a running broker: queues without an owner, settings of the start."""
    found = []
    for item in items:
        if item.section == "settings" and item.name in FIXED:
            instead = "stop the broker and start it on the changed files, or change this back"
            found.append(Problem(file, 0, item.name, "takes effect at the start only", instead))
        retyped = item.action == "changed" and any(detail.path == "kind" for detail in item.details)
        queue = held.get(item.name, Held())
        if item.section == "destinations" and (item.action == "removed" or retyped) and (queue.waiting or queue.parked):
            what = f"still holds {queue.waiting} waiting and {queue.parked} parked deliveries"
            found.append(Problem(file, 0, f"destinations.{item.name}", what, KEEP))
    return tuple(found)


KEEP = "keep it in channels.yaml, take it out of the routes, and remove it when `broker plan` shows its queue empty"


def with_secrets(plan: Plan, touched: Collection[tuple[str, str]], names: Sequence[str]) -> Plan:
    """Return the plan with connectors whose settings differ in a secret alone, and the secret files that were written anew."""
    known = {(item.section, item.name) for item in plan.items}
    items = tuple(
        Item(section, name, "changed", (Detail("secret", "(not shown)", "(not shown)"),))
        for section, name in sorted(touched)
        if (section, name) not in known
    )
    return replace(plan, items=plan.items + items, files={**plan.files, **dict.fromkeys(names, "changed")})


def _settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Item]:
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            yield Item("settings", name, "changed", tuple(differences("", old.get(name), new.get(name))))


def _section(section: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Item]:
    for name in {**old, **new}:
        if name not in old:
            yield Item(section, name, "added", tuple(differences("", {}, new[name])))
        elif name not in new:
            yield Item(section, name, "removed")
        elif old[name] != new[name]:
            yield Item(section, name, "changed", tuple(differences("", old[name], new[name])))


def _tables(old: Outline, new: Outline) -> Iterator[Item]:
    for item in _section("tables", old.tables, new.tables):
        if item.action != "changed":
            yield replace(item, details=())
            continue
        before, after = old.tables[item.name], new.tables[item.name]
        details = [detail for key in {**before, **after} for detail in _row(key, before.get(key), after.get(key))]
        more = len(details) - _MANY
        yield replace(item, details=(*details[:_MANY], *([Detail(f"{more} more", None, None)] if more > 0 else [])))


def _row(key: str, old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> Iterator[Detail]:
    """Yield what differs in a row: its cells, or the whole of one that is new or gone."""
    if old is None or new is None:
        yield Detail(f"row {key}", written(old) if old else None, written(new) if new else None)
    else:
        yield from (
            Detail(f"row {key}, {column}", old.get(column), new.get(column))
            for column in {**old, **new}
            if old.get(column) != new.get(column)
        )


def differences(path: str, old: Any, new: Any) -> Iterator[Detail]:
    """Yield the places below a path that differ."""
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**old, **new}:
            inner = f"{path}.{key}" if path else str(key)
            if key in _STEPS and isinstance(old.get(key, []), list) and isinstance(new.get(key, []), list):
                yield from _items(inner, old.get(key, []), new.get(key, []))
            else:
                yield from differences(inner, old.get(key), new.get(key))
    else:
        yield Detail(path or "value", None if old is None else shown(path, old), None if new is None else shown(path, new))


def _items(path: str, old: list[Any], new: list[Any]) -> Iterator[Detail]:
    """Yield what differs between two lists of steps or targets; the number is that of the new list, of what is gone that of the old."""
    matcher = SequenceMatcher(None, [written(one) for one in old], [written(one) for one in new], autojunk=False)
    for tag, low, high, start, end in matcher.get_opcodes():
        if tag == "equal":
            continue
        pairs = min(high - low, end - start)
        for shift in range(pairs):
            before, after = old[low + shift], new[start + shift]
            place = f"{path}[{start + shift + 1}]"
            if isinstance(before, Mapping) and isinstance(after, Mapping) and set(before) & set(after):
                yield from differences(place, before, after)
            else:
                yield Detail(place, shown(place, before), shown(place, after))
        for at in range(low + pairs, high):
            yield Detail(f"{path}[{at + 1}]", shown(path, old[at]), None)
        for at in range(start + pairs, end):
            yield Detail(f"{path}[{at + 1}]", None, shown(path, new[at]))
