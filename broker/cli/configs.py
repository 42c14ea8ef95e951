"""`broker schema`: what editors need while a person writes channels and routes."""

from __future__ import annotations

import json
from pathlib import Path

import click

from broker.config import explain as explaining
from broker.config import schema as schemas
from broker.connectors import registry


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
