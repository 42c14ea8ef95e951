"""What a message goes through, step by step: each condition, each step's changes, each look-up in a table, each target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from broker.dicom.difference import changes as header_changes
from broker.errors import MessageError
from broker.hl7.difference import difference
from broker.hl7.message import Message
from broker.model import Change, Outgoing
from broker.pipeline.compilation import Observer
from broker.pipeline.context import Drop, Hold, Step, Work
from broker.pipeline.coverage import Recording, Source
from broker.pipeline.header import Header
from broker.pipeline.shape import Place
from broker.pipeline.subject import EventSubject
from broker.pipeline.tables import Table
from broker.pipeline.when import Condition


@dataclass(frozen=True, slots=True)
class Lookup:
    """One key looked up in a code table."""

    table: str
    key: str
    row: Mapping[str, str] | None  # None: it is not there


@dataclass(slots=True)
class Entry:
    """One thing that happened in a route, in the order in which it began."""

    kind: Literal["condition", "step", "target", "pass"]
    channel: str
    file: str
    line: int
    name: str  # of a step its name, of a condition its text, of a pass of for_each its segment or group: OBX[2]
    depth: int = 0  # how deep inside other steps
    event: str = ""  # of the RIS, that a channel from: ris hears of
    held: bool | None = None  # of a condition
    changes: tuple[Change, ...] = ()  # that a step made
    lookups: list[Lookup] = field(default_factory=list)
    events: tuple[Any, ...] = ()  # of the RIS, that a step raised
    sent: tuple[Outgoing, ...] = ()  # by a target
    ended: str = ""  # why nothing follows: "drop: test patient"
    error: MessageError | None = None


@dataclass(slots=True)
class Trail:
    """Watches a whole configuration (`broker.config.session.Watch`), and keeps what happened in `entries`."""

    entries: list[Entry] = field(default_factory=list)
    on: bool = False  # whether anything is kept
    _open: list[Entry] = field(default_factory=list)

    def table(self, table: Table, file: str) -> Table:
        """Keep what is looked up in a table, with the step that does."""

        def seen(key: str, found: bool) -> None:
            if self.on and self._open:
                self._open[-1].lookups.append(Lookup(table.name, key, table.rows[key] if found else None))

        return replace(table, rows=Recording(table.rows, seen))

    def route(self, channel: str, document: Source) -> Observer:
        """Return what keeps the trail in the route of a channel."""
        return _RouteTrail(self, channel, document)

    def begin(self, entry: Entry) -> Entry:
        """Add an entry, inside those that are not ended."""
        entry.depth = len(self._open)
        self.entries.append(entry)
        self._open.append(entry)
        return entry

    def end(self) -> None:
        """End the entry that was begun last."""
        self._open.pop()


@dataclass(slots=True)
class _RouteTrail:
    trail: Trail
    channel: str
    source: Any  # a Source with its `value`

    def step(self, place: Place, name: str, step: Step) -> Step:
        def kept(work: Work) -> Drop | Hold | None:
            if not self.trail.on:
                return step(work)
            entry = self.trail.begin(self._entry("step", place, name, work.subject))
            before, told = _snapshot(work.subject), len(getattr(work.context, "events", ()))
            try:
                result = step(work)
            except MessageError as error:
                entry.error = error
                raise
            finally:
                self.trail.end()
                entry.changes = tuple(_changes(before, work.subject))
                entry.events = tuple(getattr(work.context, "events", ()))[told:]
            if result is not None:
                entry.ended = f"{'held' if isinstance(result, Hold) else 'dropped'}: {result.reason}"
            return result

        return kept

    def condition(self, place: Place, condition: Condition) -> Condition:
        holds, text = condition.holds, str(_value(self.source.value, place) or "")

        def kept(subject: Any) -> bool:
            found = holds(subject)
            if self.trail.on:
                self.trail.begin(self._entry("condition", place, f"{place[-1]}: {text}", subject)).held = found
                self.trail.end()
            return found

        return replace(condition, holds=kept)

    def target(self, place: Place, send: Any) -> Any:
        def kept(work: Work, lane: str) -> Any:
            if not self.trail.on:
                return send(work, lane)
            entry = self.trail.begin(self._entry("target", place, "send", work.subject))
            try:
                entry.sent = tuple(send(work, lane))
            except MessageError as error:
                entry.error = error
                raise
            finally:
                self.trail.end()
            return list(entry.sent)

        return kept

    def begins(self, place: Place, part: str) -> None:
        if self.trail.on:
            self.trail.begin(Entry("pass", self.channel, self.source.file, self.source.line(place), part))
            self.trail.end()

    def _entry(self, kind: Literal["condition", "step", "target"], place: Place, name: str, subject: Any) -> Entry:
        event = subject.get("event") if isinstance(subject, EventSubject) else ""
        return Entry(kind, self.channel, self.source.file, self.source.line(place), name, event=event)


def _value(value: Any, place: Place) -> Any:
    """Return what stands at a place of a document."""
    for part in place:
        if not isinstance(value, Mapping | list):
            return None
        value = value.get(part) if isinstance(value, Mapping) else value[part] if isinstance(part, int) else None
    return value


def _snapshot(subject: Any) -> Any:
    return subject.clone() if isinstance(subject, Message | Header) else subject


def _changes(before: Any, after: Any) -> list[Change]:
    if isinstance(before, Message) and isinstance(after, Message):
        return difference(before, after)
    if isinstance(before, Header) and isinstance(after, Header):
        new = {path: text for path, text in after.changes.items() if before.changes.get(path) != text}
        return header_changes({path: "\\".join(before.all(path)) for path in new}, new)
    return []
