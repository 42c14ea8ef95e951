"""The scenarios of a configuration: found, read and played."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from broker.config.files import read_document
from broker.config.models import Config
from broker.engine.stage import NOW, staged
from broker.engine.suite import Item, Result, sample_missing
from broker.errors import ConfigError, MessageError, Problem
from broker.pipeline.scenario import Names, Scenario, read_scenario
from broker.pipeline.shape import Mistakes
from broker.simulate.play import Failed, Play
from broker.simulate.station import Refused
from broker.simulate.verbs import VERBS, kind_of

FOLDER = "scenarios"  # beside the cases of a route
SUITE = "scenario"


def names(config: Config) -> Names:
    """Return what a scenario may name."""
    return Names(
        frozenset(one.name for one in config.listeners if one.kind != "dicom"),
        frozenset(one.name for one in config.destinations if one.kind != "dicom"),
        frozenset(one.name for one in config.destinations if one.kind == "dicom"),
    )


@dataclass(slots=True)
class Played:
    """How a scenario went."""

    line: int = 0  # of the step that failed
    failures: list[str] = field(default_factory=list)
    channels: frozenset[str] = frozenset()  # that its messages ran through
    files: frozenset[Path] = frozenset()  # samples that were sent


def play(config: Config, scenario: Scenario) -> Played:
    """Play it; raises OSError for a sample that cannot be read."""
    began = NOW
    if scenario.clock:
        began = datetime.fromisoformat(scenario.clock).replace(tzinfo=ZoneInfo(config.site.timezone)).timestamp()
    with staged(config, began) as stage:
        playing = Play(stage, config, scenario)
        line, failures = _run(playing)
        through = frozenset(one.name for one in config.channels if playing.count("broker_messages_routed_total", {"channel": one.name}))
        return Played(line, failures, through, frozenset(playing.files))


def _run(play: Play) -> tuple[int, list[str]]:
    """Play all steps; return the line of the one that failed and what was wrong, or 0 and nothing."""
    for step in play.scenario.steps:
        try:
            VERBS[step.sentence.name](play, step)
            play.stage.settle()
        except Failed as failed:
            return step.line, [f"{step.key}: {line}" for line in failed.args]
        except (Refused, MessageError, TimeoutError) as error:
            return step.line, [f"{step.key}: {error}"]
    extra = {name: play.sinks[name].received[taken:] for name, taken in play.taken.items()}
    wrong = [f"{name} got more: {', '.join(map(kind_of, more))}" for name, more in extra.items() if more]
    return (play.scenario.steps[-1].line if wrong else 0), wrong


def usual(config: Config) -> list[Path]:
    """Return the scenarios in the folders beside the cases."""
    folders = dict.fromkeys(channel.cases.parent / FOLDER for channel in config.channels if channel.cases)
    return [file for folder in folders for file in sorted(folder.glob("*.yaml"))]


def is_scenario(file: Path, environment: Mapping[str, str]) -> bool:
    """Whether a YAML file is a scenario, or might have become one, rather than the cases of a route."""
    document = read_document(file, str(file), environment)
    return bool(document.problems) or isinstance(document.value, Mapping)


def items(config: Config, files: Iterable[Path], environment: Mapping[str, str]) -> list[Item]:
    """Return the scenarios as something that can be run; raises ConfigError with all that is wrong with their files."""
    found: list[Item] = []
    problems: list[Problem] = []
    for file in files:
        document = read_document(file, os.path.relpath(file), environment)
        mistakes = Mistakes()
        scenario = read_scenario(document.value, mistakes, names(config), file=document.file, line=document.line)
        problems += [*document.problems, *(document.problem(m.place, m.what, m.instead) for m in mistakes.found)]
        if scenario:
            found.append(_item(config, scenario))
    if problems:
        raise ConfigError(problems)
    return found


def _item(config: Config, scenario: Scenario) -> Item:
    return Item(SUITE, scenario.name, scenario.file, scenario.line, lambda: run(config, scenario))


def run(config: Config, scenario: Scenario) -> Result:
    """Play one scenario; raises ConfigError when a sample cannot be read."""
    began = time.perf_counter()
    try:
        played = play(config, scenario)
    except OSError as error:
        raise sample_missing(error, scenario.file, scenario.line) from error
    files = frozenset({Path(scenario.file), *played.files})
    return Result(tuple(played.failures), played.line or scenario.line, played.channels, files, time.perf_counter() - began)
