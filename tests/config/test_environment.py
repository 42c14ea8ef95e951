"""Can this machine run it now? Over reactors in memory; peers over real sockets are in tests/interop."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock

from broker.config.check import check_config
from broker.config.environment import AT_ONCE, PATIENCE, Tried, try_environment
from broker.config.models import Config
from broker.connectors import registry
from broker.connectors.probe import Seen
from broker.errors import Retry
from broker.obs.log import Log

Visit = Callable[..., Deferred[Seen]]
TOP = """\
version: 1
site: {authority: HOSP}
data: %s
web: {port: 8080}
listeners:
  hospital: {mllp: {port: 2575}}
destinations:
%s
channels:
  all: {from: hospital, route: all.yaml}
"""


@dataclass(frozen=True)
class Peers:
    """Probes of which each answers as it is told."""

    PROBES: Mapping[str, Visit]


def configured(folder: Path, destinations: list[str], data: str = "data") -> Config:
    lines = "\n".join(f"  {name}: {{mllp: {{host: {name}.example.org, port: 1}}}}" for name in destinations)
    (folder / "channels.yaml").write_text(TOP % (folder / data, lines))
    (folder / "all.yaml").write_text(f"description: All.\nto:\n  - send: [{', '.join(destinations)}]\n")
    config = check_config(folder / "channels.yaml", {}, registry).config
    assert config is not None
    return config


class Trial:
    """One run of the stage."""

    def __init__(self, config: Config, visit: Visit, reactor: Any = None) -> None:
        self.clock = reactor or MemoryReactorClock()
        self.told: list[Tried] = []
        self.ended: list[list[Tried]] = []
        log = Log(io.StringIO(), terminal=False)
        done = try_environment(config, {}, Peers({"mllp": visit}), self.clock, maybeDeferred, log, self.told.append)
        done.addCallback(self.ended.append)


def silent(*given: Any) -> Deferred[Seen]:
    return Deferred()


def test_what_is_well_is_said_of_each(tmp_path: Path) -> None:
    trial = Trial(
        configured(tmp_path, ["ehr", "archive"]), lambda reactor, settings, timeout, log: succeed(Seen(f"{settings['host']} is there"))
    )
    (tried,) = trial.ended
    assert [(one.name, one.says, one.right, one.finding) for one in tried] == [
        ("data folder", f"{tmp_path / 'data'} will be made", True, None),
        ("listener hospital", "127.0.0.1:2575 is free", True, None),
        ("web", "127.0.0.1:8080 is free", True, None),
        ("destination ehr", "ehr.example.org is there", True, None),
        ("destination archive", "archive.example.org is there", True, None),
    ]
    assert sorted(trial.told, key=tried.index) == tried


def test_a_peer_that_is_not_there_is_a_problem_at_its_line(tmp_path: Path) -> None:
    config = configured(tmp_path, ["ehr", "archive"])
    trial = Trial(
        config, lambda reactor, settings, *rest: fail(Retry("no way")) if "archive" in settings["host"] else succeed(Seen("here"))
    )
    (finding,) = [one.finding for one in trial.ended[0] if one.finding]
    assert (finding.stage, finding.severity, finding.problem.line, finding.problem.what) == ("environment", "problem", 9, "no way")
    assert "start the peer" in finding.problem.instead


def test_a_peer_that_is_there_and_may_not_do_is_a_warning(tmp_path: Path) -> None:
    trial = Trial(configured(tmp_path, ["ehr"]), lambda *given: succeed(Seen("here", "it takes no images")))
    (finding,) = [one.finding for one in trial.ended[0] if one.finding]
    assert (finding.severity, finding.problem.what) == ("warning", "it takes no images")
    assert (trial.ended[0][-1].right, trial.ended[0][-1].says) == (True, "here")


def test_a_peer_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    trial = Trial(configured(tmp_path, ["ehr"]), silent)
    trial.clock.advance(PATIENCE - 0.1)
    assert trial.ended == []
    trial.clock.advance(0.2)
    assert [one.says for one in trial.ended[0] if one.finding] == ["no answer within 2 s"]


def test_only_so_many_are_visited_at_once(tmp_path: Path) -> None:
    started: list[str] = []

    def visit(reactor: Any, settings: Mapping[str, Any], timeout: float, log: Log) -> Deferred[Seen]:
        started.append(settings["host"])
        return Deferred()

    trial = Trial(configured(tmp_path, [f"peer{number}" for number in range(20)]), visit)
    assert len(started) == AT_ONCE
    for _ in range(3):
        trial.clock.advance(PATIENCE + 0.1)
    assert len(started) == 20
    assert len([one for one in trial.ended[0] if one.finding]) == 20


def test_an_error_of_a_probe_stops_no_other(tmp_path: Path) -> None:
    trial = Trial(configured(tmp_path, ["ehr", "archive"]), lambda *given: fail(ZeroDivisionError()))
    assert [one.says for one in trial.ended[0] if one.finding] == ["ZeroDivisionError", "ZeroDivisionError"]


def test_a_port_that_is_taken_is_a_warning(tmp_path: Path) -> None:
    class Taken(MemoryReactorClock):
        def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))

    trial = Trial(configured(tmp_path, ["ehr"]), lambda *given: succeed(Seen("here")), Taken())
    found = [one.finding for one in trial.ended[0] if one.finding]
    assert [(one.severity, one.problem.line, one.problem.what) for one in found] == [
        ("warning", 6, "cannot listen: Address already in use"),
        ("warning", 4, "cannot listen: Address already in use"),
    ]


def test_a_data_folder_that_cannot_be_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for data, says in (("file/data", f"{tmp_path / 'file'}: cannot be made"), ("file", "Not a directory")):
        trial = Trial(configured(tmp_path, ["ehr"], data), lambda *given: succeed(Seen("here")))
        (finding,) = [one.finding for one in trial.ended[0] if one.finding]
        assert finding.problem.line == 3
        assert says in finding.problem.what
    (tmp_path / "data").mkdir()
    trial = Trial(configured(tmp_path, ["ehr"]), lambda *given: succeed(Seen("here")))
    assert trial.ended[0][0].says.endswith("can be written to")
    assert list((tmp_path / "data").iterdir()) == []
