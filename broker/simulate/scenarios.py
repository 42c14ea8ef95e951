"""The scenarios of a configuration: found, read and played."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from broker.config.files import read_document
from broker.config.models import Config
from broker.engine.suite import Item, Result, sample_missing
from broker.errors import ConfigError, Problem
from broker.pipeline.scenario import Scenario, read_scenario
from broker.pipeline.shape import Mistakes
from broker.simulate.play import names, play

FOLDER = "scenarios"  # beside the cases of a route
SUITE = "scenario"


def usual(config: Config) -> list[Path]:
    """Return the scenarios in the folders beside the cases."""
    folders = dict.fromkeys(channel.cases.parent / FOLDER for channel in config.channels if channel.cases)
    return [file for folder in folders for file in sorted(folder.glob("*.yaml"))]


def is_scenario(file: Path, environment: Mapping[str, str]) -> bool:
    """Whether a YAML file is a scenario rather than the cases of a route."""
    return isinstance(read_document(file, str(file), environment).value, Mapping)


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
