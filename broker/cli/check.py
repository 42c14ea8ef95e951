"""`broker check`: is the configuration right, before it runs?"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from twisted.python.failure import Failure

from broker.config.check import Checked, check_config
from broker.config.environment import Tried, try_environment
from broker.config.models import Config
from broker.config.session import STAGES, Finding, Stage
from broker.connectors import registry
from broker.obs.log import Log

WRONG, UNREADY = 2, 3  # exit codes: the configuration has problems; it is right, and its surroundings have


@click.command()
@click.option("--environment", is_flag=True, help="Also try what surrounds it: peers, ports, folders, PostgreSQL, certificates.")
@click.option("--stage", "stages", type=click.Choice(STAGES), multiple=True, help="Show this stage only; may be given again.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def check(path: Path, environment: bool, stages: tuple[Stage, ...], as_json: bool) -> None:
    """Check the channels file and every route and table it names; all problems at once, with file, line and what to write instead.

    Three stages: `fields` (each file by itself, against HL7 and DICOM), `topology` (how they hang together) and, with
    --environment, `environment` (can this machine run it now: every peer is visited for at most 2 s, nothing is sent).

    Exits 0 when all is right, warnings or not; 2 when the configuration has problems; 3 when only its surroundings have.
    """
    wanted = stages or STAGES[:2]
    wanted = tuple(stage for stage in STAGES if stage in wanted or (environment and stage == "environment"))
    checked = check_config(path, os.environ, registry)
    findings = [finding for finding in checked.findings if finding.stage in wanted]
    if not as_json:
        _show(findings)
    tried: list[Tried] = []
    if "environment" in wanted and checked.config is not None:
        tried = _try(checked.config, (lambda one: None) if as_json else _show_tried)
        findings += [one.finding for one in tried if one.finding]
    if as_json:
        click.echo(json.dumps(_report(path, wanted, checked, findings, tried), indent=2))
    elif checked.config is not None:
        click.echo(f"{path}: in order: {_counts(checked.config)}")
    elif "environment" in wanted:
        click.echo("environment: not tried; mend the configuration first")
    if checked.config is None:
        raise SystemExit(WRONG)
    if any(one.severity == "problem" for one in findings):
        raise SystemExit(UNREADY)


def _show(findings: Iterable[Finding]) -> None:
    ordered = sorted(findings, key=lambda finding: finding.severity == "problem")
    for finding in ordered:
        click.echo(f"{'warning: ' if finding.severity == 'warning' else ''}{finding.problem}")


def _show_tried(one: Tried) -> None:
    if one.right:
        click.echo(f"ok       {one.name}: {one.says}")
    _show([one.finding] if one.finding else [])


def _counts(config: Config) -> str:
    counts = (("listener", config.listeners), ("destination", config.destinations), ("channel", config.channels), ("table", config.tables))
    return ", ".join(f"{len(found)} {what}{'s' * (len(found) != 1)}" for what, found in counts)


def _report(path: Path, stages: tuple[Stage, ...], checked: Checked, findings: list[Finding], tried: list[Tried]) -> dict[str, Any]:
    """Return what programs read: each stage with its verdict, each finding with its place, each probe with what it found."""
    verdicts: dict[str, str] = {}
    for stage in stages:
        found = {finding.severity for finding in findings if finding.stage == stage}
        skipped = stage == "environment" and checked.config is None
        verdicts[stage] = "skipped" if skipped else "problems" if "problem" in found else "warnings" if found else "right"
    return {
        "file": str(path),
        "stages": verdicts,
        "findings": [
            {
                "stage": finding.stage,
                "severity": finding.severity,
                "file": finding.problem.file,
                "line": finding.problem.line,
                "path": finding.problem.where,
                "what": finding.problem.what,
                "instead": finding.problem.instead,
            }
            for finding in findings
        ],
        "tried": [{"name": one.name, "says": one.says, "right": one.right} for one in tried],
    }


def _try(config: Config, tell: Callable[[Tried], None]) -> list[Tried]:
    """Run the probes; blocks until the last of them has ended."""
    from twisted.internet import reactor as installed  # this command is an application of its own
    from twisted.internet.threads import deferToThread

    reactor: Any = installed
    ended: list[Any] = []

    def end(result: object) -> None:
        ended.append(result)
        reactor.stop()

    def begin() -> None:
        log = Log(io.StringIO(), terminal=False)
        try_environment(config, os.environ, registry, reactor, deferToThread, log, tell).addBoth(end)

    reactor.callWhenRunning(begin)
    reactor.run()
    if not ended:
        raise click.Abort
    if isinstance(ended[0], Failure):
        ended[0].raiseException()
    found: list[Tried] = ended[0]
    return found
