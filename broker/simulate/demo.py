"""The demo: peers start, a morning is played, and both sides' figures are laid side by side."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from twisted.internet.defer import Deferred

from broker.simulate.compare import Check, compare
from broker.simulate.figures import Figures
from broker.simulate.morning import Player, Report
from broker.simulate.peers import Peers, Places
from broker.simulate.plan import Morning, plan

PATIENCE = 20.0  # seconds without a delivery after which the demo stops waiting


@dataclass(frozen=True, slots=True)
class Result:
    """How a morning went. `before`, `after` and `trace` are the broker's JSON."""

    morning: Morning
    seconds: float
    sent: int  # HL7 messages
    images: int
    problems: tuple[str, ...]
    checks: tuple[Check, ...]
    before: dict[str, Any]
    after: dict[str, Any]
    trace: dict[str, Any]

    @property
    def good(self) -> bool:
        """Return whether all went as planned and both sides counted the same."""
        return not self.problems and all(check.equal for check in self.checks)


def run_morning(
    reactor: Any,
    places: Places,
    *,
    seed: int = 1,
    exams: int = 40,
    start: datetime | None = None,
    pace: float = 0.0,
    report_progress: Report = lambda progress: None,
    peers: Peers | None = None,
) -> Deferred[Result]:
    """Play a simulated morning against the broker at `places` and fire with what came of it.

    The peers are started and stopped unless they are given (then they must be running and not have been used). `start` is the simulated
    time of the first registration, by default now; `pace` as in `Player.play`. Fails with OSError when a peer's port is taken.
    """
    began = start or datetime.now().replace(microsecond=0)
    morning = plan(seed, exams, began)
    return Deferred.fromCoroutine(_run(reactor, places, morning, pace, report_progress, peers))


async def _run(reactor: Any, places: Places, morning: Morning, pace: float, report_progress: Report, given: Peers | None) -> Result:
    peers = given or Peers(reactor, places)
    figures = Figures(reactor, places.host, places.web_port)
    try:
        if given is None:
            await peers.start()
        before = await figures.status()
        player = Player(reactor, morning, peers, report_progress, pace=pace)
        began = reactor.seconds()
        await player.play()
        after = await figures.quiet(PATIENCE)
        seconds = reactor.seconds() - began
        trace = await figures.trace(_telling(morning, player))
        return Result(
            morning=morning,
            seconds=float(seconds),
            sent=(peers.ehr.codes + peers.author.codes).total(),
            images=sum(len(modality.stored) for modality in peers.modalities.values()),
            problems=tuple(player.problems),
            checks=tuple(compare(morning, player, peers, places, before, after)),
            before=before,
            after=after,
            trace=trace,
        )
    finally:
        await figures.close()
        if given is None:
            await peers.stop()


def _telling(morning: Morning, player: Player) -> str:
    """Return the accession whose timeline has the most to tell."""
    weight = {"corrected": 3, "final": 2, "preliminary": 1}
    known = [visit for visit in morning.visits if player.accessions.get(visit.number)]
    if not known:
        return "none"
    return player.accessions[max(known, key=lambda visit: (weight.get(visit.ending, 0), bool(visit.temporary), -visit.number)).number]
