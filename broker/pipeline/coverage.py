"""What the cases of a route have reached: its steps, both outcomes of its conditions, its targets, and the rows of the code tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from broker.pipeline.compilation import Observer
from broker.pipeline.context import Drop, Hold, Step, Work
from broker.pipeline.shape import Place
from broker.pipeline.tables import Table
from broker.pipeline.when import Condition

Row = Mapping[str, str]
V = TypeVar("V")


class Source(Protocol):
    """The file of a route; `broker.config.files.Document` is one."""

    file: str

    def line(self, place: Place) -> int:
        """Return the line of a place."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Something that no case has reached."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


@dataclass(frozen=True, slots=True)
class Share:
    """How much of one route or table was reached."""

    name: str
    reached: int
    total: int
    missed: tuple[Missed, ...]

    @property
    def percent(self) -> float:
        """Reached, of hundred; of nothing, all."""
        return 100.0 * self.reached / self.total if self.total else 100.0


@dataclass(slots=True)
class RouteCoverage:
    """Counts what one route did (`broker.pipeline.compilation.Observer`)."""

    channel: str
    source: Source
    reached: dict[tuple[Place, str], int] = field(default_factory=dict)  # (place, what was to be seen there) -> how often

    def step(self, place: Place, name: str, step: Step) -> Step:
        """Count how often a step runs."""
        self.reached[place, f"step {name} never ran"] = 0

        def counted(work: Work) -> Drop | Hold | None:
            self.reached[place, f"step {name} never ran"] += 1
            return step(work)

        return counted

    def condition(self, place: Place, condition: Condition) -> Condition:
        """Count how often a condition held, and how often not; of `accept`, which other messages fail, how often it held."""
        held, failed = f"{place[-1]} never held", f"{place[-1]} always held"
        for outcome in (held,) if place == ("accept",) else (held, failed):
            self.reached[place, outcome] = 0
        holds = condition.holds

        def counted(subject: Any) -> bool:
            found = holds(subject)
            outcome = (place, held if found else failed)
            if outcome in self.reached:
                self.reached[outcome] += 1
            return found

        return replace(condition, holds=counted)

    def target(self, place: Place, send: Any) -> Any:
        """Count how often a target sent something."""
        unsent = (place, "target never sent to")
        self.reached[unsent] = 0

        def counted(work: Work, lane: str) -> Any:
            sent = send(work, lane)
            self.reached[unsent] += bool(sent)
            return sent

        return counted

    def begins(self, place: Place, part: str) -> None:
        """Count nothing: what is repeated is reached once."""

    def share(self) -> Share:
        """Return what was reached."""
        missed = [Missed(self.source.file, self.source.line(place), what) for (place, what), times in self.reached.items() if not times]
        missed.sort(key=lambda one: one.line)
        return Share(self.channel, len(self.reached) - len(missed), len(self.reached), tuple(missed))


class Recording(Mapping[str, V]):
    """Rows that tell which of them were looked up, and what was looked up in vain."""

    def __init__(self, rows: Mapping[str, V], seen: Callable[[str, bool], None]) -> None:
        self._rows, self._seen = rows, seen

    def __getitem__(self, key: str) -> V:
        found = key in self._rows
        self._seen(key, found)
        return self._rows[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def items(self) -> Any:
        """Return all rows; whoever asks for all looks none up."""
        return self._rows.items()

    def values(self) -> Any:
        """Return all rows; whoever asks for all looks none up."""
        return self._rows.values()


@dataclass(slots=True)
class Coverage:
    """Watches a whole configuration (`broker.config.session.Watch`)."""

    routes: list[RouteCoverage] = field(default_factory=list)
    tables: dict[str, tuple[Table, str, set[str]]] = field(default_factory=dict)  # name -> table, its file, keys looked up

    def table(self, table: Table, file: str) -> Table:
        """Note which rows of a table are looked up."""
        used: set[str] = set()
        self.tables[table.name] = (table, file, used)
        return replace(table, rows=Recording(table.rows, lambda key, found: used.add(key)))

    def route(self, channel: str, document: Source) -> Observer:
        """Return what counts for the route of a channel."""
        watched = RouteCoverage(channel, document)
        self.routes.append(watched)
        return watched

    def shares(self) -> list[Share]:
        """Return what was reached of each route."""
        return [route.share() for route in self.routes]

    def rows(self) -> list[Share]:
        """Return which rows were looked up, of each table that was used at all."""
        found = []
        for name, (table, file, used) in self.tables.items():
            unused = [key for key in table.rows if key not in used]
            missed = tuple(Missed(file, table.lines[key], f"row {key} never used") for key in unused)
            if used:
                found.append(Share(name, len(table.rows) - len(missed), len(table.rows), missed))
        return found


def total(shares: list[Share]) -> float:
    """Return the percentage of everything together."""
    return Share("", sum(one.reached for one in shares), sum(one.total for one in shares), ()).percent
