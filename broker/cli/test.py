"""`broker test`: the cases beside the routes, and scenarios."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from broker.cli.junit import junit
from broker.cli.watch import Watched
from broker.config.load import load
from broker.config.models import Config
from broker.connectors import registry
from broker.engine import suite
from broker.engine.suite import Item, Result
from broker.errors import ConfigError
from broker.pipeline.coverage import Coverage, Share, total
from broker.simulate import scenarios

Results = list[tuple[Item, Result]]
pause = time.sleep  # between two looks at the files


@dataclass(frozen=True, slots=True)
class Gathered:
    """What is to be run, and who counts what it reaches."""

    config: Config
    coverage: Coverage
    items: list[Item]
    whole: bool = False  # of every channel, also of those that have no cases

    def shares(self) -> list[Share]:
        """Return what was reached of the routes of what is run."""
        if self.whole:
            return self.coverage.shares()
        suites = {item.suite for item in self.items}
        return [one for one in self.coverage.shares() if one.name in suites or scenarios.SUITE in suites]


@click.command()
@click.argument("what", nargs=-1, metavar="[CHANNEL | FILE | FOLDER]...")
@click.option("--coverage", is_flag=True, help="Say which steps, branches, targets and table rows no case has reached.")
@click.option("--fail-under", type=click.FloatRange(0, 100), metavar="PERCENT", help="Exit 1 when the routes are covered less than this.")
@click.option("--watch", is_flag=True, help="Stay, and run what a change of a file concerns. Ctrl-C ends it.")
@click.option("--junit", "xml", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write the results as JUnit XML too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per case.")
@click.pass_obj
def test(path: Path, what: tuple[str, ...], coverage: bool, fail_under: float | None, watch: bool, xml: Path | None, as_json: bool) -> None:
    """Run cases and scenarios over a store in memory; nothing is sent.

    Without an argument: the cases beside every route, and the scenarios in the folder scenarios/ beside them. A CHANNEL names its
    cases, a FILE or FOLDER the cases or scenarios in it.

    Exits 0 when all hold, 1 when one does not or too little is covered, 2 when the configuration or a file is not in order.
    """
    if watch and (xml or as_json or fail_under is not None):
        raise click.UsageError("--watch is for a person: leave out --junit, --json and --fail-under")
    if watch:
        _watch(path, what, coverage)
        return
    gathered = gather(path, what)
    results = _run(gathered.items, as_json)
    if xml:
        try:
            xml.write_bytes(junit(results))
        except OSError as error:
            raise click.ClickException(f"{xml}: {error.strerror}") from error
    covered = total(gathered.shares())
    if coverage or fail_under is not None:
        _show_coverage(gathered, as_json)
    short = fail_under is not None and covered < fail_under
    if short:
        click.echo(f"the routes are covered to {covered:.1f} %, which is less than {fail_under:g} %", err=True)
    if short or any(result.failures for _, result in results):
        raise SystemExit(1)


def gather(path: Path, what: Sequence[str]) -> Gathered:
    """Return what is to be run; raises ConfigError, BadParameter."""
    coverage = Coverage()
    config = load(path, os.environ, registry, coverage)
    cases = suite.items(config, os.environ)
    if not what:
        return Gathered(config, coverage, [*cases, *scenarios.items(config, scenarios.usual(config), os.environ)], whole=True)
    names = {channel.name for channel in config.channels}
    unknown = [one for one in what if one not in names and not Path(one).exists()]
    if unknown:
        raise click.BadParameter(f"there is no channel {', '.join(unknown)}, nor a file or folder of that name")
    files = [file for one in what if one not in names for file in _yaml(Path(one))]
    of_cases = {channel.cases.resolve() for channel in config.channels if channel.cases}
    played = [file for file in files if file.resolve() not in of_cases]
    for file in played:
        if not scenarios.is_scenario(file, os.environ):
            raise click.BadParameter(f"{file} is no scenario, and no route names it under cases:")
    chosen = {file.resolve() for file in files}
    items = [item for item in cases if item.suite in what or Path(item.file).resolve() in chosen]
    return Gathered(config, coverage, [*items, *scenarios.items(config, played, os.environ)])


def _yaml(place: Path) -> list[Path]:
    return sorted(place.rglob("*.yaml")) if place.is_dir() else [place]


def _run(items: Iterable[Item], as_json: bool = False) -> Results:
    """Run them, saying of each what became of it, and in the end how many held."""
    began, results = time.perf_counter(), []
    for item in items:
        result = item.run()
        results.append((item, result))
        if as_json:
            kind = {"scenario": item.name} if item.suite == scenarios.SUITE else {"channel": item.suite, "case": item.name}
            click.echo(json.dumps({**kind, "file": item.file, "line": result.line or item.line, "failures": result.failures}))
        else:
            wrong = result.failures
            mark = click.style("FAIL", fg="red") + " " if wrong else click.style("ok", fg="green") + "   "
            click.echo(f"{mark}{item.suite}: {item.name}" + (f"  ({item.file}:{result.line or item.line})" if wrong else ""))
            for line in wrong:
                click.echo(f"       {line}")
    failed = sum(bool(result.failures) for _, result in results)
    if not as_json:
        click.echo(f"{len(results) - failed} passed, {failed} failed in {time.perf_counter() - began:.1f} s")
    return results


def _show_coverage(gathered: Gathered, as_json: bool = False) -> None:
    shares, rows = gathered.shares(), gathered.coverage.rows()
    if as_json:
        shown = {"percent": total(shares), "routes": list(map(asdict, shares)), "tables": list(map(asdict, rows))}
        click.echo(json.dumps({"coverage": shown}))
        return
    click.echo("\nreached of the routes: steps, both outcomes of conditions, targets")
    for share in shares:
        click.echo(f"  {share.name:<16}{share.percent:5.0f} %  {share.reached} of {share.total}")
        for missed in share.missed:
            click.echo(f"       {missed}")
    click.echo(f"  {'together':<16}{total(shares):5.1f} %\nused of the tables: rows")
    for share in rows:
        unused = ", ".join(missed.what.split()[1] for missed in share.missed)
        click.echo(
            f"  {share.name:<16}{share.percent:5.0f} %  {share.reached} of {share.total}" + (f"  unused: {unused}" if unused else "")
        )


# -- watching


def _watch(path: Path, what: Sequence[str], coverage: bool) -> None:
    """Run all, then again and again what a change concerns, until somebody interrupts."""
    watched = Watched()
    gathered: Gathered | None = None
    last: dict[tuple[str, str, str], Result] = {}
    changed: set[Path] | None = None  # since it ran last; None: run all
    try:
        while True:
            try:
                gathered = gather(path, what)
                items = gathered.items if changed is None or coverage else affected(gathered, last, changed)
                last |= {item.key: result for item, result in _run(items)}
                changed = set()
                if coverage:
                    _show_coverage(gathered)
            except ConfigError as error:
                for problem in error.problems:
                    click.echo(str(problem))
            files = _files(path, gathered, last.values())
            watched.look(files)
            click.echo(f"waiting for a change of {len(files)} files; Ctrl-C ends it")
            found = watched.wait(files, pause)
            changed = None if changed is None else changed | found
            click.echo("\nchanged: " + ", ".join(sorted(os.path.relpath(file) for file in found)))
    except KeyboardInterrupt:
        click.echo()


def _files(path: Path, gathered: Gathered | None, results: Iterable[Result]) -> set[Path]:
    """Return the files that a case depends on, and the folders in which new ones may appear."""
    folder = path.absolute().parent
    files = {path.absolute()} | {file.absolute() for result in results for file in result.files}
    if gathered:
        files |= {folder / source.name for source in gathered.config.sources if source.role != "secret" and "/" in source.name}
        files |= {channel.cases.absolute() for channel in gathered.config.channels if channel.cases}
    return files | {file.parent for file in files if file.parent != folder}


def affected(gathered: Gathered, last: dict[tuple[str, str, str], Result], changed: set[Path]) -> list[Item]:
    """Return what a change concerns: what reads a changed file, ran through a route that changed, or is new; else all."""
    changed = {file.resolve() for file in changed if not file.is_dir()}
    routes = {Path(route.source.file).resolve(): route.channel for route in gathered.coverage.routes}
    through = {routes[file] for file in changed if file in routes}
    known = {file.resolve() for result in last.values() for file in result.files}
    if changed - known - routes.keys():
        return gathered.items  # channels.yaml, a table
    found = []
    for item in gathered.items:
        before = last.get(item.key)
        if before is None or before.failures or before.channels & through or {file.resolve() for file in before.files} & changed:
            found.append(item)
    return found
