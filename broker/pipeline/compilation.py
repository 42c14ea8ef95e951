"""What compiling a route needs and collects: tables, layouts, destinations, and every mistake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from broker.model import Protocol as ProtocolName
from broker.pipeline.context import Step
from broker.pipeline.references import Template, compile_template
from broker.pipeline.shape import Mistakes, did_you_mean
from broker.pipeline.subject import VALUES, check_path, check_target
from broker.pipeline.tables import Table
from broker.pipeline.when import ALWAYS, Condition, ConditionError, compile_condition
from broker.spec import Spec

if TYPE_CHECKING:
    from broker.pipeline.layout import Layout

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
    uses: list[tuple[str, str]] = field(default_factory=list)  # (what the RIS takes it for, name of the table)
    each: str = ""  # what the steps are repeated for: order, patient, report

    def at(self, *key: str | int) -> Compilation:
        """Return the surroundings of a place further down."""
        return replace(self, mistakes=self.mistakes.at(*key))

    def path(self, text: str, *key: str | int) -> str:
        """Return the path, checked for the route's protocol."""
        if wrong := check_path(self.protocol, text):
            self.mistakes.add(wrong, key=key)
        else:
            self.paths.append(text)
        return text

    def target(self, text: str, *key: str | int) -> str:
        """Return the path, checked as a place to write to."""
        if wrong := check_target(self.protocol, text):
            self.mistakes.add(wrong, key=key)
        else:
            self.paths.append(text)
        return text

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

    def condition(self, text: str | None, *key: str | int) -> Condition:
        """Return the condition, one that always holds when there is none."""
        if text is None:
            return ALWAYS
        try:
            condition = compile_condition(text, self.protocol)
        except ConditionError as error:
            self.mistakes.add(f"not a condition: {error}", f"write it like {EXAMPLES[self.protocol]}", key=key)
            return ALWAYS
        self.paths.extend(condition.paths)
        self._check_values(condition, key)
        return condition

    def _check_values(self, condition: Condition, key: tuple[str | int, ...]) -> None:
        if condition.never:
            path = next(path for path, values in condition.only.items() if not values)
            self.mistakes.add(f"it can never hold: {path} would have to have two values at once", "use `or`, or `in [..]`", key=key)
        for path, known in VALUES[self.protocol].items():
            for value in sorted(condition.only.get(path, frozenset()) - known):
                self.mistakes.add(f"there is no {path} {value}", did_you_mean(value, known), key=key)

    def template(self, value: object, *key: str | int) -> Template:
        """Return a text with references, compiled."""
        return compile_template(_text(value), self.tables, self.mistakes.at(*key))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class StepType:
    """A kind of step: its declaration, and the function that compiles its settings."""

    spec: Spec
    compile: Callable[[Mapping[str, object], Compilation], Step]
    protocols: tuple[ProtocolName, ...]
    changes: bool = False  # whether it changes the subject
