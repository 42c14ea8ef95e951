"""What compiling a route needs and collects: tables, layouts, destinations, and every mistake."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from broker.dicom.path import canonical, is_scanned, is_value
from broker.errors import Problem
from broker.model import Protocol as ProtocolName
from broker.pipeline.context import Step
from broker.pipeline.functions import Function
from broker.pipeline.header import PSEUDO
from broker.pipeline.references import Field, Template, compile_template
from broker.pipeline.shape import Mistakes, Place, did_you_mean
from broker.pipeline.subject import VALUES, check_path, check_removal, check_target
from broker.pipeline.tables import Table
from broker.pipeline.when import ALWAYS, Condition, ConditionError, compile_condition
from broker.spec import Spec

if TYPE_CHECKING:
    from broker.pipeline.layout import Layout

HEADERS = ("MSH", "SFT", "EVN", "PID", "PD1", "NK1", "PV1", "PV2")  # in every message they stand before its groups, in this order

SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}", re.ASCII)

EXAMPLES: Mapping[ProtocolName, str] = {
    "hl7": "MSH-9.1 in [ORM, OMG] and PID-3.1 exists",
    "dicom": "kind = C-STORE and Modality in [CT, MR]",
    "ris": "event = exam.scheduled and exam.modality = CT",
}


@dataclass(frozen=True, slots=True)
class Receiver:
    """What a route needs to know of a destination."""

    kind: str  # as channels.yaml names it: "mllp", "dicom"
    takes: ProtocolName  # HL7 messages or DICOM objects
    charset: str = ""  # HL7 table 0211; "" leaves each message in its own
    unencodable: str = "refuse"  # what happens to a character that `charset` does not have: refuse, transliterate, escape


class Observer(Protocol):
    """Watches one route at work, for coverage and `broker try`: it may wrap what was compiled at a place of the route's file."""

    def step(self, place: Place, name: str, step: Step) -> Step:
        """Return what runs in place of the step (without its `when`)."""

    def condition(self, place: Place, condition: Condition) -> Condition:
        """Return what decides in place of the condition of an `accept` or `when`."""

    def target(self, place: Place, send: Any) -> Any:
        """Return what runs in place of a target's `Send` (without its `when`)."""

    def begins(self, place: Place, part: str) -> None:
        """Hear that the `for_each` at a place goes on to a segment or group, such as OBX[2]."""


@dataclass(frozen=True, slots=True)
class Within:
    """One segment, or one group of segments, that steps inside `for_each` see and may change."""

    name: str
    group: bool

    def outside(self, path: str) -> str:
        """Return what is wrong with changing this path, "" when nothing is known to be."""
        segment = path[:3]
        if segment == self.name or (self.group and segment not in self._before()):
            return ""
        what = f"one group {self.name}" if self.group else f"one {self.name}"
        return f"{path} stands outside: inside for_each only {what} can be changed"

    def unseen(self, path: str) -> str:
        """Return what is wrong with reading this path, "" when nothing is."""
        one = re.fullmatch(rf"{self.name}\[(\d+)\].*", path)
        return f"{path}: inside for_each there is one {self.name}" if one and one[1] != "1" else ""

    def _before(self) -> tuple[str, ...]:
        return HEADERS[: HEADERS.index(self.name)] if self.name in HEADERS else HEADERS


@dataclass(frozen=True, slots=True)
class Compilation:
    """The surroundings of one place in a route while it is compiled.

    Each method adds what is wrong to `mistakes` and returns something harmless, so that one run finds every mistake.
    """

    protocol: ProtocolName
    tables: Mapping[str, Table]
    layouts: Mapping[str, Layout]
    destinations: Mapping[str, Receiver]
    site: Mapping[str, str]
    mistakes: Mistakes
    paths: list[str] = field(default_factory=list)  # every path the route reads or writes
    marks: list[tuple[Place, str]] = field(default_factory=list)  # the same with the place that names each
    conditions: list[tuple[Place, Condition]] = field(default_factory=list)  # every condition with its place
    uses: list[tuple[str, str]] = field(default_factory=list)  # (what the RIS takes it for, name of the table)
    each: str = ""  # what the steps are repeated for: order, patient, report
    functions: list[Function] = field(default_factory=list)  # of the site that the route calls
    within: Within | None = None  # the part of the message that steps inside `for_each` may change
    kinds: Mapping[str, StepType] = field(default_factory=dict)  # the steps there are
    files: Callable[[str], str | Problem] | None = None  # reads a file of the configuration's folder
    observer: Observer | None = None

    def at(self, *key: str | int) -> Compilation:
        """Return the surroundings of a place further down."""
        return replace(self, mistakes=self.mistakes.at(*key))

    def path(self, text: str, *key: str | int) -> str:
        """Return the path, checked for the route's protocol."""
        text = self._spelled(text)
        if wrong := check_path(self.protocol, text) or self._unseen(text):
            self.mistakes.add(wrong, key=key)
        else:
            self._note(text, key, read=True)
        return text

    def target(self, text: str, *key: str | int) -> str:
        """Return the path, checked as a place to write to."""
        text = self._spelled(text)
        if wrong := check_target(self.protocol, text) or self._unseen(text) or self._outside(text):
            self.mistakes.add(wrong, key=key)
        else:
            self._note(text, key)
        return text

    def removable(self, text: str, *key: str | int) -> str:
        """Return the path, checked as something that may be removed: a place to write to, or segments."""
        text = self._spelled(text)
        if wrong := check_removal(self.protocol, text) or self._unseen(text) or self._outside(text):
            self.mistakes.add(wrong, key=key)
        else:
            self._note(text, key)
        return text

    def _spelled(self, path: str) -> str:
        return canonical(path) if self.protocol == "dicom" else path

    def _note(self, path: str, key: Place, *, read: bool = False) -> None:
        if self.protocol != "dicom" or path in PSEUDO or is_scanned(path) or (read and is_value(path)):
            self.paths.append(path)
        self.marks.append(((*self.mistakes.place, *key), path))

    def _unseen(self, path: str) -> str:
        return self.within.unseen(path) if self.within else ""

    def _outside(self, path: str) -> str:
        return self.within.outside(path) if self.within else ""

    def table(self, name: str, *key: str | int) -> Table | None:
        """Return the table of that name."""
        if name not in self.tables:
            self.mistakes.add(f"there is no table {name}", did_you_mean(name, self.tables), key=key)
        return self.tables.get(name)

    def column(self, table: Table | None, name: str, *key: str | int) -> str:
        """Return the name of a column of the table."""
        if table is not None and name and name not in table.columns:
            self.mistakes.add(f"table {table.name} has no column {name}", did_you_mean(name, table.columns), key=key)
        return name

    def condition(self, text: Any, *key: str | int) -> Condition:
        """Return the condition, one that always holds when there is none."""
        if text is None:
            return ALWAYS
        if not isinstance(text, str):
            self.mistakes.add("a condition is text", f"write it like {EXAMPLES[self.protocol]}", key=key)
            return ALWAYS
        try:
            condition = compile_condition(text, self.protocol)
        except ConditionError as error:
            self.mistakes.add(f"not a condition: {error}", f"write it like {EXAMPLES[self.protocol]}", key=key)
            return ALWAYS
        for path in condition.paths:
            if wrong := self._unseen(path):
                self.mistakes.add(wrong, key=key)
            self._note(path, key, read=True)
        self.conditions.append(((*self.mistakes.place, *key), condition))
        self._check_values(condition, key)
        return self.observer.condition((*self.mistakes.place, *key), condition) if self.observer else condition

    def _check_values(self, condition: Condition, key: tuple[str | int, ...]) -> None:
        if condition.never:
            path = next(path for path, values in condition.only.items() if not values)
            self.mistakes.add(f"it can never hold: {path} would have to have two values at once", "use `or`, or `in [..]`", key=key)
        for path, known in VALUES[self.protocol].items():
            for value in sorted(condition.only.get(path, frozenset()) - known):
                self.mistakes.add(f"there is no {path} {value}", did_you_mean(value, known), key=key)

    def template(self, value: object, *key: str | int) -> Template:
        """Return a text with references, compiled."""
        return compile_template(self.text(value, *key), self.tables, self.mistakes.at(*key), partial(self._field, key))

    def text(self, value: object, *key: str | int) -> str:
        """Return what YAML has read as a text, "" for nothing."""
        if isinstance(value, Mapping | list):
            self.mistakes.add(f"a text is needed here, not {'a list' if isinstance(value, list) else 'a mapping'}", _quoted(value), key=key)
            return ""
        return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)

    def field(self, path: str) -> Field | str | None:
        """Return how a path in braces is read, what is wrong with it, or None when it is the name of a record."""
        return self._field((), path)

    def _field(self, key: Place, path: str) -> Field | str | None:
        """Return how a path in braces is read, what is wrong with it, or None when it is none but the name of a record."""
        if self.protocol == "ris" or not (path[:1].isupper() or (self.protocol == "dicom" and (path in PSEUDO or path[:1] == "("))):
            return None
        path = self._spelled(path)
        if wrong := check_path(self.protocol, path):
            return wrong
        if "*" in path:
            return f"{path} names several places; use the step join"
        self._note(path, key, read=True)
        return Field(path, self.protocol == "hl7")


def _quoted(value: Mapping[str, object] | list[object]) -> str:
    """Return how what was meant as a text is written: YAML takes a reference without quotes for a mapping."""
    if isinstance(value, Mapping) and list(value.values()) == [None]:
        return f'write it in quotes, "{{{next(iter(value))}}}"'
    return "put a text that has brackets or braces in quotes"


@dataclass(frozen=True, slots=True)
class StepType:
    """A kind of step: its declaration, and the function that compiles its settings."""

    spec: Spec
    compile: Callable[[Mapping[str, object], Compilation], Step]
    protocols: tuple[ProtocolName, ...]
    changes: bool = False  # whether it changes the subject
    ends: bool = False  # whether nothing behind it in its list is reached
    makes: ProtocolName | None = None  # what the steps behind it work on, when it makes a new subject
