"""`broker run`: start the broker and stay."""

from __future__ import annotations

import os
from pathlib import Path

import click

from broker import app


@click.command()
@click.option(
    "--log", "log_format", type=click.Choice(["auto", "json", "text"]), default="auto", show_default=True, help="Form of the log lines."
)
@click.pass_obj
def run(config: Path, log_format: str) -> None:
    """Start the broker on the channels file and run until SIGTERM or Ctrl-C."""
    raise SystemExit(app.run(config, os.environ, log_format))
