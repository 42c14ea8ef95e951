"""The `broker` command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from broker.cli.check import check
from broker.cli.configs import schema
from broker.cli.explain import explain
from broker.cli.messages import messages, trace
from broker.cli.plan import apply, plan, rollback, versions
from broker.cli.reidentify import reidentify
from broker.cli.replay import replay
from broker.cli.run import run
from broker.cli.send import send
from broker.cli.simulate import simulate
from broker.cli.status import status
from broker.cli.test import test
from broker.cli.try_ import try_
from broker.cli.unmatched import images, unmatched
from broker.errors import BrokerError, ConfigError


class Commands(click.Group):
    """Turns the broker's own errors into a message and an exit code, not a traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except ConfigError as error:
            for problem in error.problems:
                click.echo(str(problem), err=True)
            click.echo(f"{len(error.problems)} problem(s); nothing was started or changed", err=True)
            sys.exit(2)
        except BrokerError as error:
            click.echo(f"broker: {error}", err=True)
            sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    default=lambda: os.environ.get("BROKER_CONFIG", "channels.yaml"),
    show_default="channels.yaml, or BROKER_CONFIG",
    help="The channels file.",
)
@click.version_option(package_name="broker", prog_name="broker")
@click.pass_context
def main(context: click.Context, config: Path) -> None:
    """An interface broker for radiology: HL7 and DICOM in, transformed and routed by channels, with an embedded RIS."""
    context.obj = config


COMMANDS = (
    run,
    check,
    test,
    try_,
    plan,
    replay,
    apply,
    versions,
    rollback,
    explain,
    schema,
    send,
    status,
    messages,
    trace,
    unmatched,
    images,
    reidentify,
    simulate,
)
for command in COMMANDS:
    main.add_command(command)
