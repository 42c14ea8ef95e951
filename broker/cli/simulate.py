"""`broker simulate`: a simulated morning over real sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from twisted.python.failure import Failure

from broker.errors import BrokerError
from broker.simulate.demo import Result, run_morning
from broker.simulate.peers import Places
from broker.simulate.render import Display, render

# the ports of the shipped configuration, by their variable and the field of Places
PORTS = {
    "HL7_PORT": "hl7_port",
    "DICOM_PORT": "dicom_port",
    "WEB_PORT": "web_port",
    "ARCHIVE_DICOM_PORT": "archive_dicom_port",
    "ARCHIVE_HL7_PORT": "archive_hl7_port",
    "EHR_HL7_PORT": "ehr_hl7_port",
    "BILLING_HL7_PORT": "billing_hl7_port",
}


@click.command()
@click.option("--exams", default=40, show_default=True, help="How many exams the morning has.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same morning.")
@click.option("--pace", default=0.0, help="Seconds between two visits; 0 goes as fast as the broker answers.")
@click.option("--start", is_flag=True, help="Start a broker of its own for it, on free ports and in a folder that is removed afterwards.")
@click.pass_obj
def simulate(config: Path, exams: int, seed: int, pace: float, start: bool) -> None:
    """Play a morning: an EHR, modalities, an archive and a billing system against the broker, over real sockets.

    Without --start, a broker must be running on this configuration, and nothing else on its peers' ports.
    """
    console = Console(width=None if sys.stdout.isatty() else 160)
    with contextlib.ExitStack() as stack:
        places = Places.from_environment(os.environ)
        if start:
            places = stack.enter_context(_own_broker(config, places, console))
        result = _play(places, exams, seed, pace, stack.enter_context(Display(console)))
    for table in render(result):
        console.print(table)
    if not result.good:
        raise SystemExit(1)


def _play(places: Places, exams: int, seed: int, pace: float, display: Display) -> Result:
    from twisted.internet import reactor as installed  # this command is an application of its own

    reactor: Any = installed
    outcome: list[Any] = []

    def end(result: object) -> None:
        outcome.append(result)
        reactor.stop()

    def begin() -> None:
        run_morning(reactor, places, seed=seed, exams=exams, pace=pace, report_progress=display.report).addBoth(end)

    reactor.callWhenRunning(begin)
    reactor.run()
    if not outcome:
        raise BrokerError("the morning was interrupted")
    if isinstance(outcome[0], Failure):
        error = outcome[0].value
        if isinstance(error, OSError):
            raise BrokerError(f"the simulation could not go on: {error} (is the broker running, and are its peers' ports free?)") from error
        outcome[0].raiseException()
    result: Result = outcome[0]
    return result


@contextlib.contextmanager
def _own_broker(config: Path, places: Places, console: Console) -> Iterator[Places]:
    """Run a broker on free ports and in a temporary folder, until the block ends."""
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    chosen: dict[str, Any] = {PORTS[name]: port for name, port in ports.items()}
    own = replace(places, **chosen)
    with tempfile.TemporaryDirectory(prefix="broker-") as folder:
        environment = {**os.environ, **{name: str(port) for name, port in ports.items()}, "BROKER_DATA": folder}
        command = [sys.executable, "-m", "broker", "--config", str(config), "run", "--log", "json"]
        with Path(folder, "broker.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _await_ready(process, own, Path(folder, "broker.log"))
            console.print(
                f"A broker listens on {own.host}: HL7 {own.hl7_port}, DICOM {own.dicom_port}, console http://{own.host}:{own.web_port}/"
            )
            yield own
        finally:
            process.terminate()
            process.wait(30)


def _await_ready(process: subprocess.Popen[bytes], places: Places, log: Path, patience: float = 30.0) -> None:
    until = time.monotonic() + patience
    while time.monotonic() < until and process.poll() is None:
        with (
            contextlib.suppress(OSError, urllib.error.URLError),
            urllib.request.urlopen(f"http://{places.host}:{places.web_port}/readyz", timeout=5),
        ):
            return
        time.sleep(0.05)
    raise BrokerError(f"the broker did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
