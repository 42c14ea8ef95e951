"""What one check of a configuration has read and found so far."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from typing import Protocol as Interface

from broker.config.files import Document, read_text
from broker.config.models import Config
from broker.config.options import Registry
from broker.config.sources import Role, Source
from broker.errors import Problem
from broker.pipeline.compilation import Compilation, Observer
from broker.pipeline.route import Route
from broker.pipeline.shape import Mistakes, Place
from broker.pipeline.tables import Table

Stage = Literal["fields", "topology", "environment"]
Severity = Literal["problem", "warning"]
STAGES: tuple[Stage, ...] = ("fields", "topology", "environment")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a stage of the check found."""

    stage: Stage
    severity: Severity
    problem: Problem


@dataclass(frozen=True, slots=True)
class Checked:
    """The configuration, None when it has problems, and what was found, in the order of stages, files and lines."""

    config: Config | None
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> list[Problem]:
        """What keeps the configuration from being run."""
        return [one.problem for one in self.findings if one.severity == "problem"]

    @property
    def warnings(self) -> list[Problem]:
        """What a person should look at."""
        return [one.problem for one in self.findings if one.severity == "warning"]


class Watch(Interface):
    """Watches a configuration at work, for `broker test --coverage` and `broker try`."""

    def table(self, table: Table, file: str) -> Table:
        """Return what routes use in place of the table that was read from the file."""

    def route(self, channel: str, document: Document) -> Observer:
        """Return who watches the route of a channel."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A route as it was compiled for one channel."""

    channel: str
    source: str  # a listener's name, or ris
    document: Document
    route: Route
    compilation: Compilation


class NotedTables(dict[str, Table]):
    """Code tables that note which of them were asked for."""

    def __init__(self, tables: Mapping[str, Table], used: set[str]) -> None:
        super().__init__(tables)
        self._used = used

    def get(self, name: str, default: Any = None) -> Any:
        """Return the table, and note that it was asked for."""
        self._used.add(name)
        return super().get(name, default)


@dataclass(slots=True)
class Session:
    """What has been read and found so far."""

    folder: Path
    shown: Path  # the folder as the operator named it
    environment: Mapping[str, str]
    registry: Registry
    document: Document
    watch: Watch | None = None
    tables_folder: str = ""
    findings: list[Finding] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    routes: list[Examined] = field(default_factory=list)
    used_tables: set[str] = field(default_factory=set)
    used_destinations: set[str] = field(default_factory=set)  # otherwise than by a route

    def add(self, *problems: Problem, stage: Stage = "fields", severity: Severity = "problem") -> None:
        """Note problems that have their file and line."""
        self.findings += [Finding(stage, severity, problem) for problem in problems]

    def problem(self, place: Place, what: str, instead: str = "", stage: Stage = "fields") -> None:
        """Note a problem at a place of the channels file."""
        self.add(self.document.problem(place, what, instead), stage=stage)

    def warn(self, place: Place, what: str, instead: str = "", stage: Stage = "topology") -> None:
        """Note a warning at a place of the channels file."""
        self.add(self.document.problem(place, what, instead), stage=stage, severity="warning")

    def take(self, document: Document, mistakes: Mistakes, stage: Stage = "fields") -> None:
        """Give mistakes the file and lines of their document."""
        for mistake in mistakes.found:
            found = document.problem(mistake.place, mistake.what, mistake.instead)
            self.add(found, stage=stage, severity="warning" if mistake.warning else "problem")

    def section(self, name: str) -> Mapping[str, object]:
        """Return a section of the channels file, empty when it is missing or no mapping."""
        value = self.document.value.get(name) if isinstance(self.document.value, Mapping) else None
        return value if isinstance(value, Mapping) else {}

    def file(self, name: str) -> str:
        """Return how a file of the configuration is named in a problem."""
        return str(self.shown / name)

    def table_file(self, table: str) -> str:
        """Return how the file of a code table is named in a problem."""
        return self.file(str(Path(self.tables_folder) / f"{table}.csv"))

    def read(self, name: str) -> str | Problem:
        """Return the text of a file of the configuration's folder, and remember it."""
        text = read_text(self.folder / name, self.file(name))
        if isinstance(text, str):
            self.keep(name, text)
        return text

    def keep(self, name: str, text: str, role: Role = "runs") -> None:
        """Remember a file as it was read."""
        self.sources[name] = Source(os.path.normpath(name), text, role)

    def keep_document(self, name: str, document: Document) -> None:
        """Remember a document and the secrets it names."""
        self.keep(name, document.text)
        for path, text in document.secrets.items():
            self.keep(path, text, "secret")

    def sorted(self) -> tuple[Finding, ...]:
        """Return each finding once, in the order of stages, files and lines."""
        return tuple(sorted(dict.fromkeys(self.findings), key=lambda f: (STAGES.index(f.stage), f.problem.file, f.problem.line)))
