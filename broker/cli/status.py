"""`broker status`: the running broker on one screen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from broker.cli.access import ask
from broker.cli.tables import clock, show


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def status(config: Path, as_json: bool) -> None:
    """Show the running broker: listeners, channels, queues, exams by state, and what waits for a person."""
    seen: dict[str, Any] = ask(config, "/api/status", {})
    if as_json:
        click.echo(json.dumps(seen, indent=2))
        return
    click.echo(_configuration(seen["configuration"]))
    click.echo(_spool(seen["spool"]))
    listeners = [
        (one["name"], one["address"], "" if one["bound"] else "not bound", _counts(one["acknowledged"])) for one in seen["listeners"]
    ]
    show(("listener", "address", "", "answers"), listeners)
    show(
        ("channel", "from", "routed", "dropped"), [(one["name"], one["source"], one["routed"], one["dropped"]) for one in seen["channels"]]
    )
    show(("destination", "address", "", "waiting", "oldest", "delivered", "parked"), map(_destination, seen["destinations"]))
    show(("exams", "count"), seen["exams"].items())
    parked = [
        (clock(one["at"]), one["what"], one["id"], one["where"], one["kind"], one["accession"], one["reason"]) for one in seen["parked"]
    ]
    _waiting(parked, "nothing is parked", ("parked", "what", "id", "where", "kind", "accession", "reason"))
    unmatched = [(clock(one["at"]), one["id"], one["kind"], one["accession"], one["key"], one["reason"]) for one in seen["unmatched"]]
    _waiting(unmatched, "everything has found its exam", ("unmatched", "entry", "what", "accession", "key", "reason"))


def _configuration(one: dict[str, Any]) -> str:
    """Return which configuration runs, and whether its files are still the same."""
    origin = f" (version {one['of']} again)" if one["of"] else ""
    runs = f"configuration {one['version']}{origin}, applied {clock(one['applied_at'])} by {one['by']}"
    return runs + (f"; other on disk: {', '.join(one['differing'])} (see `broker plan`)" if one["differing"] else "")


_LEVELS = {
    "open": "",
    "low": "; what nobody needs goes",
    "high": "; only objects of urgent exams are taken",
    "full": "; no object is taken",
}


def _spool(one: dict[str, Any]) -> str:
    """Return how full the spool is, and what follows."""
    used = f"{one['size'] / 1e9:.1f} of {one['room'] / 1e9:.1f} GB"
    return f"spool {used}, {one['objects']} object{'' if one['objects'] == 1 else 's'}{_LEVELS[one['level']]}"


def _waiting(rows: Sequence[Sequence[object]], none: str, columns: tuple[str, ...]) -> None:
    """Show what waits for a person, or say that nothing does."""
    if rows:
        show(columns, rows)
    else:
        click.echo(none)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _destination(one: dict[str, Any]) -> tuple[object, ...]:
    state = {True: "up", False: "down", None: "not tried"}[one["up"]]
    oldest = f"{one['oldest_seconds']:.0f} s" if one["waiting"] else ""
    return one["name"], one["address"], state, one["waiting"], oldest, one["delivered"], one["parked"]
