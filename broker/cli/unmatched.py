"""`broker unmatched` and `broker images`: images that named no known exam, or the wrong one, and what a person does about them."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from broker.cli.access import act, ask
from broker.cli.tables import clock, show
from broker.dicom.rejection import TITLES

_WHY = click.option("--why", required=True, help="Why, for the timeline; without patient data.")
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def unmatched() -> None:
    """Show the reconciliation list, and tell where its entries belong."""


@unmatched.command("list")
@_JSON
@click.pass_obj
def list_(config: Path, as_json: bool) -> None:
    """List what waits for its exam, each with the exam that fits best."""
    entries = ask(config, "/api/unmatched", {})["entries"]
    if as_json:
        click.echo(json.dumps(entries, indent=2))
        return
    if not entries:
        click.echo("everything has found its exam")
        return
    heads = ("entry", "since", "kind", "images", "accession", "key", "reason", "likeliest", "score")
    show(heads, [_line(one) for one in entries])


def _line(one: dict[str, Any]) -> tuple[object, ...]:
    best = one["candidates"][0] if one["candidates"] else {"accession": "", "score": ""}
    images = one["images"] or ""
    return (one["id"], clock(one["at"]), one["kind"], images, one["accession"], one["key"], one["reason"], best["accession"], best["score"])


@unmatched.command("show")
@click.argument("entry", type=int)
@_JSON
@click.pass_obj
def show_(config: Path, entry: int, as_json: bool) -> None:
    """Show the exams that an ENTRY may belong to, and why."""
    found = ask(config, f"/api/unmatched/{entry}", {})
    if not found:
        raise click.ClickException(f"there is no entry {entry} (`broker unmatched list` shows those that are open)")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    images = f", {found['images']} images" if found["images"] else ""
    click.echo(f"entry {entry}: {found['kind']} {found['key']}{images}, {found['state']}: {found['reason']}")
    if not found["candidates"]:
        click.echo("nothing that is planned fits")
        return
    names = ("accession", "score", "modality", "procedure_code", "scheduled_at", "status")
    heads = ("accession", "score", "modality", "procedure", "scheduled", "status", "why")
    show(heads, [(*(one[name] for name in names), "; ".join(one["reasons"])) for one in found["candidates"]])


@unmatched.command()
@click.argument("entry", type=int)
@click.argument("accession")
@_WHY
@click.pass_obj
def link(config: Path, entry: int, accession: str, why: str) -> None:
    """Tie an ENTRY to the exam with this ACCESSION; its images take that exam's attributes and go on."""
    _done(act(config, f"/api/unmatched/link/{entry}", _said(why, accession=accession)))


@unmatched.command()
@click.argument("entry", type=int)
@click.option("--accession", default="", help="The accession number that was meant.")
@click.option("--patient", default="", help="The patient identifier that was meant, as 4711 or 4711^AUTHORITY.")
@_WHY
@click.pass_obj
def correct(config: Path, entry: int, accession: str, patient: str, why: str) -> None:
    """Correct what the images of an ENTRY say; they go to the exam that this names, or wait for its order."""
    if not (accession or patient):
        raise click.UsageError("--accession or --patient is needed")
    _done(act(config, f"/api/unmatched/correct/{entry}", _said(why, accession=accession, patient=patient)))


@unmatched.command()
@click.argument("entry", type=int)
@_WHY
@click.pass_obj
def release(config: Path, entry: int, why: str) -> None:
    """Send the images of an ENTRY on as they are, and those of their study that are still to come."""
    _done(act(config, f"/api/unmatched/release/{entry}", _said(why)))


@unmatched.command()
@click.argument("entry", type=int)
@_WHY
@click.pass_obj
def undo(config: Path, entry: int, why: str) -> None:
    """Take the last command on an ENTRY back; who has its images gets a rejection note."""
    _done(act(config, f"/api/unmatched/undo/{entry}", _said(why)))


@click.group()
def images() -> None:
    """Correct where images belong."""


@images.command()
@click.argument("study")
@click.argument("accession")
@click.option("--series", default="", help="Only the series with this Series Instance UID.")
@click.option("--title", default="worklist", show_default=True, type=click.Choice(list(TITLES)), help="Why the first copies are rejected.")
@_WHY
@click.pass_obj
def move(config: Path, study: str, accession: str, series: str, title: str, why: str) -> None:
    """Move the images of a STUDY to the exam with this ACCESSION.

    Who has them gets a rejection note, then the images under new UIDs.
    """
    _done(act(config, f"/api/images/move/{quote(study, safe='')}", _said(why, accession=accession, series=series, title=title)))


@images.command("undo")
@click.argument("study")
@_WHY
@click.pass_obj
def undo_move(config: Path, study: str, why: str) -> None:
    """Take the last move of a STUDY back, in the same way."""
    _done(act(config, f"/api/images/undo/{quote(study, safe='')}", _said(why)))


def _said(why: str, **query: str) -> dict[str, str]:
    return {"by": _user(), "why": why} | {name: value for name, value in query.items() if value}


def _done(done: dict[str, Any]) -> None:
    where = f" {done['accession']}" if done["accession"] else ""
    sent = f", {done['sent']} message(s) queued besides" if done["sent"] else ""
    click.echo(f"correction {done['id']}: {done['what']}{where}, {done['images']} image(s){sent}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"
