"""`broker plan`, `apply`, `versions` and `rollback`: another configuration for a running broker."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from broker.cli.access import SILENT, act, answered, find
from broker.cli.tables import clock, show
from broker.config.load import load
from broker.config.outline import outline
from broker.config.plan import Held, Plan, changed_files, compare, effects, refusals
from broker.config.versions import Version, Versions
from broker.connectors import registry
from broker.errors import ConfigError, Problem
from broker.store import queues
from broker.store.database import look

NOTHING, FAILED, CHANGES = 0, 1, 2  # exit codes of `plan`

_SIGNS = {"added": "+", "changed": "~", "removed": "-"}
_ONE = {"settings": "setting", "listeners": "listener", "destinations": "destination", "channels": "channel", "tables": "table"}


@click.command()
@click.option("--config", "candidate", type=click.Path(path_type=Path), help="Another channels file (or folder) to compare with what runs.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def plan(config: Path, candidate: Path | None, as_json: bool) -> None:
    """Show what `broker apply` would change in the running broker, or in what ran last when none runs.

    Exit code 0: nothing would change. 2: something would. 1: it cannot be applied, or not be compared.
    """
    with problems_fail(as_json):
        planned = _planned(config, channels_file(candidate) if candidate else None)
    click.echo(json.dumps(planned, indent=2)) if as_json else _show(planned)
    sys.exit(FAILED if planned["refusals"] else CHANGES if _changes(planned) else NOTHING)


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--comment", default="", help="Why, for `broker versions`.")
@click.option("--json", "as_json", is_flag=True, help="As JSON; needs --yes.")
@click.pass_obj
def apply(config: Path, yes: bool, comment: str, as_json: bool) -> None:
    """Let the running broker take the files on disk: all of them or, when anything is wrong, none.

    Connections stay open but those of listeners whose own settings changed. Exit code 2 when there are problems.
    """
    planned = answered(config, "/api/configuration/plan")
    if planned is SILENT:
        raise click.ClickException("no broker runs that could take it: `broker run` starts on what is on disk")
    if not as_json:
        _show(planned)
    if planned["refusals"]:
        raise ConfigError([Problem(**refusal) for refusal in planned["refusals"]])
    if not _changes(planned):
        if as_json:
            click.echo(json.dumps({"plan": planned, "version": None}, indent=2))
        return
    if not yes:
        _ask("Apply this?")
    _done(act(config, "/api/configuration/apply", {"by": _user(), "comment": comment, "expect": planned["candidate"]}), as_json)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def versions(config: Path, as_json: bool) -> None:
    """List the configurations that were applied, the last one last: by whom, when and why."""
    answer = answered(config, "/api/configuration/versions")
    kept = [asdict(one) for one in _versions(config).all()] if answer is SILENT else answer["versions"]
    if as_json:
        click.echo(json.dumps(kept, indent=2))
        return
    show(("version", "applied", "by", "digest", "", "comment"), [_line(one) for one in kept])


@click.command()
@click.argument("version", type=int, required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--comment", default="", help="Why, for `broker versions`.")
@click.option("--json", "as_json", is_flag=True, help="As JSON; needs --yes.")
@click.pass_obj
def rollback(config: Path, version: int | None, yes: bool, comment: str, as_json: bool) -> None:
    """Let the running broker take up an earlier VERSION again, by default the one that ran before.

    The files on disk stay as they are. The broker also starts on that version again, until they change or are applied.
    """
    if not yes:
        _ask(f"Take up {f'version {version}' if version else 'the version before'} again?")
    done = act(config, f"/api/configuration/rollback/{version or 'previous'}", {"by": _user(), "comment": comment})
    _done(done, as_json)
    if not as_json and (other := answered(config, "/api/configuration")["differing"]):
        click.echo(f"On disk are other files: {', '.join(other)}. They stay as they are; `broker apply` would take them.")


@contextmanager
def problems_fail(as_json: bool) -> Iterator[None]:
    """Tell the problems of a configuration and end with `FAILED`, where 2 means something else."""
    try:
        yield
    except ConfigError as error:
        if as_json:
            click.echo(json.dumps({"problems": [asdict(problem) for problem in error.problems]}, indent=2))
        else:
            for problem in error.problems:
                click.echo(str(problem), err=True)
            click.echo(f"{len(error.problems)} problem(s); nothing was changed", err=True)
        sys.exit(FAILED)


def channels_file(path: Path) -> Path:
    """Return the channels file that a path means: itself, or the one in its folder."""
    return path / "channels.yaml" if path.is_dir() else path


def _planned(config: Path, candidate: Path | None) -> dict[str, Any]:
    """Return the plan as JSON: that of the running broker, or one made here."""
    running = answered(config, "/api/configuration")
    if running is not SILENT and candidate is None:
        return dict(answered(config, "/api/configuration/plan"))
    kept = _versions(config)
    base = kept.latest() if running is SILENT else kept.get(running["version"])
    if base is None:
        raise click.ClickException("no broker runs, and none has run on this data folder yet: there is nothing to compare with")
    made = _made(config, candidate or config, base, kept)
    return json.loads(json.dumps(asdict(made)))  # type: ignore[no-any-return]


def _made(config: Path, candidate: Path, base: Version, kept: Versions) -> Plan:
    """Return the plan between a version that is kept and files on disk, both read in this environment."""
    place, new = find(config), load(candidate, os.environ, registry)
    old = outline(kept.sources(base), os.environ, registry)
    after = outline(new.sources, os.environ, registry)
    where = place.file or place.store
    counts = look(where, queues.held) if not isinstance(where, Path) or where.exists() else {}
    held = {name: Held(*one) for name, one in counts.items()}
    items = compare(old, after)
    files = changed_files(old.files, after.files)
    return Plan(base.digest, new.digest, files, items, effects(items, {}, held), refusals(items, held, str(candidate)), new.warnings)


def _versions(config: Path) -> Versions:
    return Versions(find(config).data)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid())


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here: say --yes")
    click.confirm(question, abort=True)


def _done(done: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        version = done["version"]
        origin = f", which is version {version['of']} again" if version["of"] else ""
        click.echo(f"Version {version['number']} runs{origin}.")


def _changes(planned: dict[str, Any]) -> bool:
    return bool(planned["files"] or planned["items"])


def _show(planned: dict[str, Any]) -> None:
    """Print a plan for a person."""
    for item in planned["items"]:
        click.echo(f"{_SIGNS[item['action']]} {_ONE[item['section']]} {item['name']}")
        for detail in item["details"]:
            click.echo(f"    {_detail(detail)}")
    if planned["files"] and not planned["items"]:
        click.echo("Nothing that runs would change; the files differ in their text only.")
    if planned["files"]:
        click.echo("files: " + ", ".join(f"{_SIGNS[action]}{name}" for name, action in planned["files"].items()))
    for effect in planned["effects"]:
        click.echo(_effect(effect))
    if not _changes(planned):
        click.echo("Nothing would change.")
    elif not any(effect["connections"] for effect in planned["effects"]):
        click.echo("No open connection of a listener is touched.")
    for warning in planned["warnings"]:
        click.echo(f"warning: {Problem(**warning)}")
    for refusal in planned["refusals"]:
        click.echo(f"cannot be applied: {Problem(**refusal)}")


def _detail(detail: dict[str, Any]) -> str:
    path, old, new = detail["path"], detail["old"], detail["new"]
    if old is None:
        return path if new is None else f"{path}: {new}"
    return f"{path}: {old} -> {'nothing' if new is None else new}"


def _effect(effect: dict[str, Any]) -> str:
    what = f"{_ONE[effect['section']]} {effect['name']}: {effect['what']}"
    open_ones = f" ({effect['connections']} open)" if effect["connections"] else ""
    queue = f"; {effect['waiting']} deliveries wait, {effect['parked']} are parked" if effect["waiting"] or effect["parked"] else ""
    return what + open_ones + queue


def _line(one: dict[str, Any]) -> tuple[object, ...]:
    return one["number"], clock(one["at"]), one["by"], one["digest"], f"is {one['of']} again" if one["of"] else "", one["comment"]
