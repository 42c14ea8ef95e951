"""`broker check`, `test`, `explain` and `schema`: what a person needs while writing channels and routes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from broker.config import explain as explaining
from broker.config import schema as schemas
from broker.config.check import check_config
from broker.config.files import read_document
from broker.config.load import load
from broker.config.models import Channel, Config
from broker.connectors import registry
from broker.engine.rehearsal import Rehearsal
from broker.errors import ConfigError, MessageError, Problem
from broker.pipeline.cases import Case, failures, read_cases
from broker.pipeline.shape import Mistakes


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def check(path: Path, as_json: bool) -> None:
    """Check the channels file and every route and table it names; all problems at once, with file, line and what to write instead."""
    checked = check_config(path, os.environ, registry)
    if as_json:
        click.echo(
            json.dumps({"problems": [asdict(p) for p in checked.problems], "warnings": [asdict(w) for w in checked.warnings]}, indent=2)
        )
    else:
        for warning in checked.warnings:
            click.echo(f"warning: {warning}")
        for problem in checked.problems:
            click.echo(str(problem))
        if config := checked.config:
            counts = (
                ("listener", config.listeners),
                ("destination", config.destinations),
                ("channel", config.channels),
                ("table", config.tables),
            )
            click.echo(f"{path}: in order: " + ", ".join(f"{len(found)} {what}{'s' * (len(found) != 1)}" for what, found in counts))
    if checked.config is None:
        raise SystemExit(2)


@click.command()
@click.argument("channels", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per case.")
@click.pass_obj
def test(path: Path, channels: tuple[str, ...], as_json: bool) -> None:
    """Run the cases beside the routes (of the named channels, or of all) over a store in memory; nothing is sent."""
    config = load(path, os.environ, registry)
    unknown = sorted(set(channels) - {channel.name for channel in config.channels})
    if unknown:
        raise click.BadParameter(f"there is no channel {', '.join(unknown)}")
    began, passed, failed = time.perf_counter(), 0, 0
    for channel, case in _cases(config):
        if channels and channel.name not in channels:
            continue
        wrong = _run(config, channel, case)
        passed, failed = passed + (not wrong), failed + bool(wrong)
        if as_json:
            click.echo(json.dumps({"channel": channel.name, "case": case.name, "file": case.file, "line": case.line, "failures": wrong}))
        else:
            click.echo(f"{'FAIL' if wrong else 'ok':<5}{channel.name}: {case.name}" + ("" if not wrong else f"  ({case.file}:{case.line})"))
            for line in wrong:
                click.echo(f"       {line}")
    if not as_json:
        click.echo(f"{passed} passed, {failed} failed in {time.perf_counter() - began:.1f} s")
    if failed:
        raise SystemExit(1)


def _cases(config: Config) -> Iterator[tuple[Channel, Case]]:
    for channel in config.channels:
        if channel.cases is None:
            continue
        shown = os.path.relpath(channel.cases)
        document = read_document(channel.cases, shown, os.environ)
        mistakes = Mistakes()
        cases = read_cases(document.value, mistakes, file=shown, line=document.line)
        problems = [*document.problems, *(document.problem(m.place, m.what, m.instead) for m in mistakes.found)]
        if problems:
            raise ConfigError(problems)
        for case in cases:
            yield channel, case


def _run(config: Config, channel: Channel, case: Case) -> list[str]:
    try:
        return failures(case, Rehearsal(config).run(case, channel.source, config.file.parent))
    except OSError as error:
        raise ConfigError(
            [Problem(case.file, case.line, "given", f"{error.filename}: {error.strerror}", "name a file from the folder of channels.yaml")]
        ) from error
    except MessageError as error:
        return [f"the sample is no HL7 message: {error}"]


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def explain(name: str | None, as_json: bool) -> None:
    """Explain a step, listener, destination, option, layout or reference; without a name, list them all."""
    if name is None:
        names = sorted(explaining.topics(registry))
        click.echo(json.dumps(names, indent=2) if as_json else "\n".join(names))
        return
    try:
        text = explaining.explain(name, registry)
    except LookupError as error:
        raise click.ClickException(str(error.args[0])) from error
    click.echo(json.dumps({"name": name, "text": text}) if as_json else text)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("docs/reference"))
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit 1 when a file is not what it would be.")
def schema(folder: Path, only_check: bool) -> None:
    """Write the JSON Schemas (for editors) and the reference pages to a folder."""
    files = {name: json.dumps(content, indent=2) + "\n" for name, content in schemas.files(registry).items()}
    files |= explaining.pages(registry)
    stale = []
    for name, content in files.items():
        file = folder / name
        if only_check:
            if not file.is_file() or file.read_text() != content:
                stale.append(name)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
    if stale:
        raise click.ClickException(f"not current in {folder}: {', '.join(stale)} (run `broker schema`)")
    click.echo(f"{len(files)} files {'are current' if only_check else 'written'} in {folder}")
