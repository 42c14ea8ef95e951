"""`broker reidentify`: the way back from a de-identified object."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from broker.cli.access import read
from broker.cli.tables import clock, show
from broker.store import pseudonyms


@click.command()
@click.argument("text")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def reidentify(config: Path, text: str, as_json: bool) -> None:
    """Show what a pseudonym stands for, or what stands for an original: TEXT is an identifier of a patient or a UID.

    This names patients. It reads the store itself, so that who may do it is who may read that.
    """
    found = read(config, lambda tx: pseudonyms.find(tx, text))
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    heads = ("destination", "kind", "original", "pseudonym", "since")
    show(heads, [(one.destination, one.kind, one.original, one.pseudonym, clock(one.first_at)) for one in found])
