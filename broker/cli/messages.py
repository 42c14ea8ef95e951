"""`broker messages` and `broker trace`: what arrived, and what became of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from broker.cli.access import act, ask
from broker.cli.tables import clock, show
from broker.engine import status
from broker.obs.status import MessageFilter
from broker.spec import seconds


@click.group(invoke_without_command=True)
@click.option("--listener", default="", help="Only of this listener.")
@click.option("--kind", default="", help="Only of this kind, such as ORM^O01 or C-STORE.")
@click.option("--state", default="", type=click.Choice(["", "routed", "dropped", "parked", "refused"]), help="Only in this state.")
@click.option("--accession", default="", help="Only of this accession.")
@click.option("--since", default="", help="Only of the last while, such as 15m or 24h.")
@click.option("--limit", default=50, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def messages(context: click.Context, listener: str, kind: str, state: str, accession: str, since: str, limit: int, as_json: bool) -> None:
    """List the messages of the journal, newest first, without any patient data; or take one up again."""
    if context.invoked_subcommand:
        return
    config: Path = context.obj
    try:
        after = time.time() - seconds(since) if since else None
    except ValueError as error:
        raise click.BadParameter(f"{error}; write it like 15m or 24h", param_hint="--since") from error
    filters = MessageFilter(listener, kind, state, accession, after, limit)
    query = {name: str(getattr(filters, name)) for name in filters.__slots__ if getattr(filters, name)}
    rows = ask(config, "/api/messages", query, lambda tx: status.messages(tx, filters))
    rows = rows["messages"] if isinstance(rows, dict) else rows
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    names = ("listener", "kind", "sender", "control_id", "state", "code", "accession", "reason")
    heads = ("id", "at", "listener", "kind", "sender", "control id", "state", "answer", "accession", "reason")
    show(heads, [(row["id"], clock(row["received_at"]), *(row[name] for name in names)) for row in rows])


@messages.command()
@click.argument("message", type=int)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def deliveries(config: Path, message: int, as_json: bool) -> None:
    """List what a MESSAGE sent: to whom, in which state, with which answer; the ids are those that `resend` takes."""
    found = ask(config, f"/api/deliveries/{message}", {}, lambda tx: status.deliveries(tx, message))
    rows = found["deliveries"] if isinstance(found, dict) else found
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    names = ("destination", "channel", "kind", "control_id", "state", "attempts", "answer", "reason")
    heads = ("id", "queued", *(name.replace("_", " ") for name in names))
    show(heads, [(row["id"], clock(row["queued_at"]), *(row[name] for name in names)) for row in rows])


@messages.command()
@click.argument("message", type=int)
@click.pass_obj
def again(config: Path, message: int) -> None:
    """Route a parked MESSAGE once more, after what it failed on has been mended."""
    click.echo(f"message {message}: {act(config, f'/api/messages/again/{message}')['state']}")


@messages.command()
@click.argument("delivery", type=int)
@click.pass_obj
def resend(config: Path, delivery: int) -> None:
    """Send a DELIVERY once more that is parked or was delivered; it keeps its place and its MSH-10."""
    click.echo(f"delivery {delivery}: waits for {act(config, f'/api/deliveries/resend/{delivery}')['destination']}")


@click.command()
@click.argument("accession")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def trace(config: Path, accession: str, as_json: bool) -> None:
    """Show the timeline of an accession: every message, query, object, state change and answer, over both protocols."""
    found: dict[str, Any] | None = ask(config, f"/api/trace/{quote(accession, safe='')}", {}, lambda tx: status.trace(tx, accession))
    if as_json:
        click.echo(json.dumps(found or {"accession": accession, "entries": []}, indent=2))
        return
    if not found or not found["entries"]:
        raise click.ClickException(f"nothing is known of accession {accession} (`broker messages` lists what arrived)")
    names = ("what", "kind", "source", "target", "message_id", "detail")
    heads = ("at", "what", "kind", "from", "to", "message", "detail")
    show(heads, [(clock(entry["at"]), *(entry[name] for name in names)) for entry in found["entries"]])
