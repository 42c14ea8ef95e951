"""`broker replay`: what a candidate configuration would have made of the messages of a while."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from broker.cli.access import SILENT, answered, find
from broker.cli.plan import CHANGES, channels_file, problems_fail
from broker.config.load import load
from broker.config.models import Config
from broker.config.versions import Versions
from broker.connectors import registry
from broker.engine.replay import Progress, Replay
from broker.engine.tally import Difference, Example, Tally, masked
from broker.spec import seconds
from broker.store.database import look
from broker.store.history import Wanted

NAMED = 3  # messages named of each difference

_TITLES = {
    "outcome": "What became of messages",
    "delivery": "Deliveries gained and lost",
    "field": "Fields of deliveries",
    "record": "Records of the RIS in the end",
}


@click.command()
@click.option("--since", required=True, help="From when on: a while such as 2h, or a time such as 2026-03-02T08:00.")
@click.option("--until", default="", help="Until when, in the same way; until now when absent.")
@click.option("--config", "candidate", type=click.Path(path_type=Path), help="The candidate (file or folder), if not what is on disk.")
@click.option("--listener", default="", help="Only messages of this listener.")
@click.option("--kind", default="", help="Only messages of this kind, such as ORM^O01 or C-STORE.")
@click.option("--limit", type=click.IntRange(1), help="Only the latest so many.")
@click.option("--show", type=click.IntRange(0), default=0, help="Show so many examples of each difference, by their shape.")
@click.option("--values", is_flag=True, help="Show examples as they are: patient data.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def replay(
    config: Path,
    since: str,
    until: str,
    candidate: Path | None,
    listener: str,
    kind: str,
    limit: int | None,
    show: int,
    values: bool,
    as_json: bool,
) -> None:
    """Run stored messages through what runs and through a candidate, in memory, and show what comes out differently.

    Nothing is sent or stored, and nobody is asked. Exit code 0: no difference. 2: differences. 1: it cannot be told.
    """  # fmt: skip
    wanted = Wanted(_moment(since, "--since"), _moment(until, "--until") if until else None, listener, kind, limit)
    place = find(config)
    if place.file is not None and not place.file.exists():
        raise click.ClickException(f"there is no store in {place.data}: nothing has been received yet (see `broker run`)")
    show = show or (NAMED if values else 0)
    with problems_fail(as_json):
        new = load(channels_file(candidate) if candidate else config, os.environ, registry)
        run = Replay(_running(config), new, place.data / "spool", partial(look, place.file or place.store), max(show, NAMED))
    began = time.monotonic()
    try:
        with _progress() as progress:
            tally = run.run(wanted, progress)
    finally:
        run.close()
    if not values:
        _mask(tally)
    took = time.monotonic() - began
    if as_json:
        click.echo(json.dumps(_summary(tally, took), indent=2))
    else:
        _show(tally, took, show)
    if tally.found:
        sys.exit(CHANGES)


def _running(config: Path) -> Config:
    """Return the configuration that runs, or ran last."""
    kept = Versions(find(config).data)
    running = answered(config, "/api/configuration")
    version = kept.latest() if running is SILENT else kept.get(running["version"])
    if version is None:
        raise click.ClickException("no configuration has run on this data folder yet: there is nothing to compare with")
    return load(kept.channels(version), os.environ, registry)


def _moment(text: str, option: str) -> float:
    try:
        return time.time() - seconds(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()  # without a zone: of this machine
    except ValueError:
        raise click.BadParameter(f"{text} is no time; write it like 2h or 2026-03-02T08:00", param_hint=option) from None


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show on a terminal how far it is."""
    last = 0.0

    def progress(done: int, of: int) -> None:
        nonlocal last
        now = time.monotonic()
        if sys.stderr.isatty() and (now - last > 0.2 or done == of):
            last = now
            click.echo(f"\r{done} of {of} messages", nl=done == of, err=True)

    yield progress


def _mask(tally: Tally) -> None:
    """Take the patients' data away, and leave its shape."""
    for one in tally.found.values():
        if one.what in ("field", "record"):
            one.examples = [Example(each.message_id, masked(each.before), masked(each.after)) for each in one.examples]


def _summary(tally: Tally, took: float) -> dict[str, Any]:
    return {
        "compared": tally.compared,
        "differing": tally.differing,
        "context": tally.context,
        "gone": tally.gone,
        "otherwise": tally.otherwise,
        "otherwise_examples": tally.otherwise_examples,
        "seconds": round(took, 3),
        "differences": [_told(one) for one in tally.differences()],
    }


def _told(one: Difference) -> dict[str, Any]:
    examples = [asdict(example) for example in one.examples]
    return {"what": one.what, "where": one.where, "path": one.path, "change": one.change, "count": one.messages, "examples": examples}


def _show(tally: Tally, took: float, examples: int) -> None:
    differences = tally.differences()
    for what, title in _TITLES.items():
        of_kind = [one for one in differences if one.what == what]
        if of_kind:
            click.echo(f"{title}:")
        for one in of_kind:
            click.echo(f"  {_line(one)}")
            for example in one.examples[:examples] if what in ("field", "record") else ():
                click.echo(f"    {f'message {example.message_id}: ' if example.message_id else ''}{example.before!r} -> {example.after!r}")
    done = tally.compared + tally.context
    click.echo(
        f"{tally.compared} messages compared, {tally.differing} came out differently"
        f" ({tally.context} earlier ones of the same patients run before; {done / took:.0f} messages a second)."
    )
    if tally.otherwise:
        named = ", ".join(map(str, tally.otherwise_examples))
        click.echo(
            f"{tally.otherwise} came out otherwise than on their day, with what runs as well (messages {named}): what they need is"
            " no longer in the journal, or another configuration ran."
        )
    if tally.gone:
        click.echo(f"{tally.gone} objects are no longer in the spool, and were left out.")


def _line(one: Difference) -> str:
    """Return a difference in one line."""
    named = ", ".join(str(example.message_id) for example in one.examples[:NAMED] if example.message_id)
    messages = f"{one.messages} {'record' if one.what == 'record' else 'message'}{'s' * (one.messages != 1)}"
    what = {
        "field": f"{one.where}: {one.path or 'the whole of it'} {one.change}",
        "record": f"{one.where}: {one.path}",
        "delivery": f"{one.where}: {one.path}",
        "outcome": f"{one.where}: {one.path}" + (f" ({one.change})" if one.change else ""),
    }[one.what]
    return f"{what}: {messages}" + (f", such as {named}" if named else "")
