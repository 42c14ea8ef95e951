"""`broker try`: what a route makes of one message, step by step, without touching anything."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from broker.cli.shown import change_line
from broker.config.models import Channel
from broker.connectors import registry
from broker.dicom.dimserequest import attributes_of
from broker.dicom.performedstep import RELAYED
from broker.dicom.storerequest import decode_request
from broker.engine import suite
from broker.engine.rehearsal import normal_ends, write
from broker.engine.trial import Trial, prepare
from broker.errors import MessageError
from broker.hl7.difference import difference
from broker.hl7.message import Message
from broker.hl7.tables import CONDITIONS
from broker.model import Outgoing
from broker.pipeline.cases import Case, Given, Happened
from broker.pipeline.shape import did_you_mean
from broker.pipeline.trail import Entry

_DICOM = (b"DICM", 128)  # what marks a DICOM file, and where


@click.command("try")
@click.argument("channel")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True))
@click.option("--after", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A message that came before.")
@click.option("--case", "case_name", help="The message of this case, with what came before it, instead of a file.")
@click.option("--set", "changes", multiple=True, metavar="PATH=TEXT", help="A field that is different.")
@click.option("--from", "sender", default="", metavar="AE", help="The calling AE title of a DICOM file.")
@click.option("--all", "everything", is_flag=True, help="Also every step of the other channels that the message comes to.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per message.")
@click.pass_obj
def try_(
    path: Path,
    channel: str,
    files: tuple[Path, ...],
    after: tuple[Path, ...],
    case_name: str | None,
    changes: tuple[str, ...],
    sender: str,
    everything: bool,
    as_json: bool,
) -> None:
    """Show what the route of CHANNEL makes of each of the FILES (HL7 messages or DICOM files; without any, of standard input).

    Every condition, every step with the fields it changes, every look-up in a table, what is sent to whom and what the sender is
    answered. A channel that hears of the RIS is shown what the message sets off. It all happens in memory; nothing is sent or kept.

    Exits 0 when the message is accepted, 1 when it is refused or no channel takes it, 2 when something is not in order.
    """
    trial = prepare(path, os.environ, registry)
    try:
        tried = trial.channel(channel)
    except LookupError:
        known = [one.name for one in trial.config.channels]
        raise click.BadParameter(f"there is no channel {channel}; {did_you_mean(channel, known)}", param_hint="CHANNEL") from None
    accepted = True
    for name, owner, case in _cases(trial, tried, files, after, case_name, _settings(changes), sender):
        try:
            happened = trial.run_case(owner, case)
        except OSError as error:
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error
        except MessageError as error:
            raise click.ClickException(f"{name}: it cannot be read: {error}") from error
        accepted = accepted and not happened.error_says
        if as_json:
            click.echo(json.dumps(_json(name, trial, tried, happened, everything)))
        else:
            _show(trial, tried, happened, _message(trial, case), everything, name if len(files) > 1 else "")
    if not accepted:
        raise SystemExit(1)


def _settings(changes: Sequence[str]) -> dict[str, str]:
    found = {}
    for change in changes:
        place, equals, text = change.partition("=")
        if not equals:
            raise click.BadParameter(f"{change}: write it like PID-3.1=4711", param_hint="--set")
        found[place] = text
    return found


def _cases(
    trial: Trial,
    channel: Channel,
    files: Sequence[Path],
    after: Sequence[Path],
    case_name: str | None,
    changes: Mapping[str, str],
    sender: str,
) -> list[tuple[str, Channel, Case]]:
    """Return what is to be tried: its name, the channel whose listener it comes by, and the message as a case."""
    if case_name is not None:
        known = [(owner, case) for owner, case in suite.cases(trial.config, os.environ)]
        found = [(owner, case) for owner, case in known if case.name == case_name]
        if not found:
            raise click.BadParameter(f"there is no case {case_name}; {did_you_mean(case_name, [case.name for _, case in known])}")
        return [(case_name, owner, case) for owner, case in found[:1]]
    before = tuple(_given(file, sender) for file in after)
    if not files and sys.stdin.isatty():
        click.echo("reading a message from the terminal; Ctrl-D ends it", err=True)
    return [(str(file), channel, Case("", before, _given(file, sender), changes, {})) for file in files or (Path("-"),)]


def _given(file: Path, sender: str) -> Given:
    raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    mark, at = _DICOM
    if raw[at : at + len(mark)] == mark or file.suffix == ".dcm":
        return Given("image", file=str(file.absolute()), sender=sender)
    if not raw.strip():
        raise click.ClickException(f"{file}: there is nothing in it")
    return Given("hl7", raw=raw)


def _message(trial: Trial, case: Case) -> Message | None:
    """Return the message as it is given, None for what is no HL7."""
    given = case.given
    if given.kind != "hl7":
        return None
    message = Message.parse(normal_ends(given.raw or (trial.config.file.parent / given.file).read_bytes()))
    for place, text in case.changes.items():
        write(message, place, text)
    return message


# -- shown to a person


def _show(trial: Trial, channel: Channel, happened: Happened, message: Message | None, everything: bool, name: str) -> None:
    if name:
        click.secho(name, bold=True)
    version = message.version if message else ""
    others = [one for one in dict.fromkeys(happened.channels) if one != channel.name]
    for one in [channel, *(trial.channel(other) for other in others if everything)]:
        click.secho(f"{one.name}: {one.route.description}", bold=True)
        for event, entries in groupby(trial.entries(one), key=lambda entry: entry.event):
            _show_entries(event, list(entries), version)
        if not trial.entries(one):
            click.echo("  nothing came here" + (": no event of the RIS was raised" if one.protocol == "ris" else ""))
    if others and not everything:
        click.echo(f"what it set off also ran through {', '.join(others)} (--all shows them)")
    _show_answer(happened)
    click.secho("sent:", bold=True)
    for sent in happened.sent:
        _show_sent(sent, message)
    if not happened.sent:
        click.echo("  nothing")


def _show_entries(event: str, entries: Sequence[Entry], version: str) -> None:
    """Show what happened to the message, or for one event; of an event that nothing was done for, only that."""
    if event and all(entry.held is False for entry in entries):
        click.echo(f"  {click.style(event, fg='cyan')}: none of its {len(entries)} conditions holds")
        return
    if event:
        click.secho(f"  {event}", fg="cyan")
    for entry in entries:
        _show_entry(entry, version)


def _show_entry(entry: Entry, version: str) -> None:
    indent = "  " * (entry.depth + 1)
    if entry.kind == "pass":
        click.secho(f"{indent}{entry.name}", fg="cyan")
        return
    where = click.style(f"{entry.file}:{entry.line}", dim=True)
    held = "" if entry.held is None else click.style("  holds", fg="green") if entry.held else click.style("  does not hold", fg="yellow")
    click.echo(f"{indent}{entry.name}{held}  {where}")
    for found in entry.lookups:
        row = "not there" if found.row is None else ", ".join(f"{column} {text or 'empty'}" for column, text in list(found.row.items())[1:])
        click.echo(f"{indent}    table {found.table}: {found.key} → {row}")
    for change in entry.changes:
        click.echo(f"{indent}    {change_line(change, version)}")
    if entry.events:
        click.echo(f"{indent}    events: {', '.join(event.name for event in entry.events)}")
    for sent in entry.sent:
        click.echo(f"{indent}    → {sent.destination}: {sent.kind}")
    if entry.ended:
        click.echo(f"{indent}    {click.style(entry.ended, fg='yellow')}")
    if entry.error:
        click.echo(f"{indent}    {click.style(str(entry.error), fg='red')}")


def _show_answer(happened: Happened) -> None:
    why = f"  {happened.error_at}: {happened.error_says}".rstrip() if happened.error_says else ""
    why += "".join(f"  {what}: {reason}" for what, reason in (("dropped", happened.dropped), ("held", happened.held)) if reason)
    colour = "red" if happened.error_says else "green"
    if happened.answer:
        click.echo(click.style("answer: ", bold=True) + click.style(happened.answer, fg=colour) + why)
    elif why:
        click.secho(why.strip(), fg=colour)


def _show_sent(sent: Outgoing, message: Message | None) -> None:
    lane = f", lane {sent.lane}" if sent.lane else ""
    click.echo(f"  {click.style(sent.destination, bold=True)}: {sent.kind}  (by {sent.channel}{lane})")
    if sent.kind == "C-STORE":
        for keyword, text in decode_request(sent.payload).changes.items():
            click.echo(f"      {keyword} = {text!r}")
        return
    if sent.kind in RELAYED:
        for keyword, text in attributes_of(sent.payload).items():
            click.echo(f"      {keyword} = {text!r}")
        return
    out = Message.parse(sent.payload)
    if message is not None and out.type == message.type:
        changes = difference(message, out)
        for change in changes:
            click.echo(f"      {change_line(change, out.version)}")
        if not changes:
            click.echo("      as it came")
        return
    counts: dict[str, int] = {}
    for name in out.segment_names():
        counts[name] = counts.get(name, 0) + 1
        click.echo(f"      {out.raw(f'{name}[{counts[name]}]')}")


# -- shown to a program


def _json(name: str, trial: Trial, channel: Channel, happened: Happened, everything: bool) -> dict[str, Any]:
    entries = trial.trail.entries if everything else trial.entries(channel)
    return {
        "file": name,
        "channel": channel.name,
        "answer": happened.answer,
        "error": {"at": happened.error_at, "says": happened.error_says} if happened.error_says else None,
        "dropped": happened.dropped,
        "held": happened.held,
        "channels": list(dict.fromkeys(happened.channels)),
        "steps": [_json_entry(entry) for entry in entries],
        "sent": [_json_sent(sent) for sent in happened.sent],
    }


def _json_entry(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "channel": entry.channel,
        "file": entry.file,
        "line": entry.line,
        "name": entry.name,
        "depth": entry.depth,
        "event": entry.event,
        "held": entry.held,
        "changes": [asdict(change) for change in entry.changes],
        "lookups": [{"table": one.table, "key": one.key, "row": None if one.row is None else dict(one.row)} for one in entry.lookups],
        "events": [event.name for event in entry.events],
        "sent": [sent.destination for sent in entry.sent],
        "ended": entry.ended,
        "error": None
        if entry.error is None
        else {"at": entry.error.path, "says": entry.error.why, "meaning": CONDITIONS.get(entry.error.code)},
    }


def _json_sent(sent: Outgoing) -> dict[str, Any]:
    shown: dict[str, Any] = {"destination": sent.destination, "kind": sent.kind, "lane": sent.lane}
    if sent.kind == "C-STORE":
        return {**shown, "changes": dict(decode_request(sent.payload).changes)}
    if sent.kind in RELAYED:
        return {**shown, "attributes": attributes_of(sent.payload)}
    message = Message.parse(sent.payload)
    return {**shown, "message": sent.payload.decode(message.charset, "replace")}
