"""The cases of a configuration: gathered, run, and what became of each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from broker.config.files import read_document
from broker.config.models import Channel, Config
from broker.engine.rehearsal import Rehearsal
from broker.errors import BrokerError, ConfigError, Problem
from broker.pipeline.cases import Case, failures, read_cases
from broker.pipeline.shape import Mistakes


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one case or scenario."""

    failures: tuple[str, ...] = ()  # one sentence each; empty when it holds
    line: int = 0  # where it failed, when that is not where it stands
    channels: frozenset[str] = frozenset()  # that its messages ran through
    files: frozenset[Path] = frozenset()  # that it read
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Item:
    """One case or scenario that can be run."""

    suite: str  # the channel, or "scenario"
    name: str
    file: str
    line: int
    run: Callable[[], Result]  # raises ConfigError when a sample cannot be read

    @property
    def key(self) -> tuple[str, str, str]:
        """What is the same when the file was edited elsewhere."""
        return self.file, self.suite, self.name


def cases(config: Config, environment: Mapping[str, str]) -> Iterator[tuple[Channel, Case]]:
    """Yield every case with the channel it belongs to; raises ConfigError with all that is wrong with their files."""
    found: list[tuple[Channel, Case]] = []
    problems: list[Problem] = []
    for channel in config.channels:
        if channel.cases is None:
            continue
        document = read_document(channel.cases, os.path.relpath(channel.cases), environment)
        mistakes = Mistakes()
        own = read_cases(document.value, mistakes, file=document.file, line=document.line)
        problems += [*document.problems, *(document.problem(m.place, m.what, m.instead) for m in mistakes.found)]
        found += [(channel, case) for case in own]
    if problems:
        raise ConfigError(problems)
    yield from found


def items(config: Config, environment: Mapping[str, str]) -> list[Item]:
    """Return every case as something that can be run; raises ConfigError."""

    def item(channel: Channel, case: Case) -> Item:
        return Item(channel.name, case.name, case.file, case.line, lambda: run_case(config, channel, case))

    return [item(channel, case) for channel, case in cases(config, environment)]


def run_case(config: Config, channel: Channel, case: Case) -> Result:
    """Run one case; raises ConfigError when a sample cannot be read."""
    began, folder = time.perf_counter(), config.file.parent
    through: tuple[str, ...] = ()
    try:
        happened = Rehearsal(config).run(case, channel.source, folder)
        wrong, through = failures(case, happened), happened.channels
    except OSError as error:
        raise sample_missing(error, case.file, case.line) from error
    except BrokerError as error:
        wrong = [f"it cannot be run: {error}"]
    read = frozenset(folder / one.file for one in (*case.before, case.given) if one.file) | {Path(case.file)}
    return Result(tuple(wrong), case.line, frozenset((channel.name, *through)), read, time.perf_counter() - began)


def sample_missing(error: OSError, file: str, line: int) -> ConfigError:
    """Return what a person is told of a sample that cannot be read."""
    what = f"{error.filename}: {error.strerror}"
    return ConfigError([Problem(file, line, "", what, "name a file from the folder of channels.yaml")])
