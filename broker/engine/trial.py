"""What a route makes of one message, step by step: run like a case, in memory, with everything it goes through kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from broker.config.load import load
from broker.config.models import Channel, Config
from broker.config.options import Registry
from broker.engine.rehearsal import Rehearsal
from broker.pipeline.cases import Case, Given, Happened
from broker.pipeline.trail import Entry, Trail


@dataclass(frozen=True, slots=True)
class Trial:
    """A configuration in which what happens is kept."""

    config: Config
    trail: Trail

    def channel(self, name: str) -> Channel:
        """Return a channel by its name or its route's file; raises LookupError."""
        for channel in self.config.channels:
            if channel.name == name:
                return channel
        raise LookupError(name)

    def run(self, channel: Channel, given: Given, before: tuple[Given, ...] = (), changes: Mapping[str, str] | None = None) -> Happened:
        """Return what became of the message, and leave what it went through in the trail; raises OSError, MessageError."""
        return self.run_case(channel, Case("", before, given, changes or {}, {}))

    def run_case(self, channel: Channel, case: Case) -> Happened:
        """Return what became of a case's message, and leave what it went through in the trail; raises OSError, MessageError."""
        self.trail.entries.clear()
        try:
            return Rehearsal(self.config, self._begin).run(case, channel.source, self.config.file.parent)
        finally:
            self.trail.on = False

    def entries(self, channel: Channel) -> list[Entry]:
        """Return what happened in a channel."""
        return [entry for entry in self.trail.entries if entry.channel == channel.name]

    def _begin(self) -> None:
        self.trail.on = True


def prepare(path: Path, environment: Mapping[str, str], registry: Registry) -> Trial:
    """Return the configuration, ready to be tried; raises ConfigError."""
    trail = Trail()
    return Trial(load(path, environment, registry, trail), trail)
