"""A broker without sockets, for cases, scenarios and `broker try`: all between listeners and destinations, over a store in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from io import StringIO
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from pydicom.uid import generate_uid
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from broker.config.models import Config
from broker.connectors.base import Destination
from broker.engine.again import Again
from broker.engine.clock import SiteClock
from broker.engine.commitment import Commitment, terms_of
from broker.engine.corrections import Corrections
from broker.engine.couriers import Couriers
from broker.engine.delivery import SETTLE_SECONDS, Courier
from broker.engine.dicomintake import Dicom
from broker.engine.hl7intake import Hl7
from broker.engine.intake import Intake
from broker.engine.outcomes import Outcomes
from broker.engine.renewal import Renewal
from broker.engine.rules import rules_of
from broker.engine.troubles import RetryPolicy
from broker.model import Delivery
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.store.database import Database, open_database
from broker.store.spool import Spool

NOW = 1772438400.0  # 2026-03-02 08:00 UTC: what is rehearsed sees the same morning every time

PATIENCE = 60.0  # seconds of the stage's clock

T = TypeVar("T")


class Stage:
    """One broker on a clock that stands until it is turned; UIDs are the same every time.

    `deliver` gets what was committed for the destinations; without it, it is only kept in `sent`.
    """

    def __init__(self, config: Config, *, now: float = NOW, folder: Path | None = None) -> None:
        """`folder` takes the spool; without it no object can be stored."""
        self.config, self.clock = config, Clock()
        self.clock.rightNow = now
        self.sent: list[Delivery] = []
        self.deliver: Callable[[tuple[Delivery, ...]], None] = self.sent.extend
        self.metrics, self.log = Metrics(), Log(StringIO(), terminal=False)
        self.db: Database = open_database(
            ":memory:", metrics=self.metrics, call_later=self.clock.callLater, call_from_thread=lambda call, *args: call(*args)
        )
        made = count(1)
        rules = rules_of(config, lambda: str(generate_uid(entropy_srcs=["stage", str(next(made))])), load=False)
        self.site, self.router, self.manners = rules.site, rules.router, rules.manners
        self.time = SiteClock(self.clock.seconds, config.site.timezone)
        self.intake = Intake(
            self.db, self.router, self.site, self.time, self.metrics, self.log, lambda deliveries: self.deliver(deliveries), rules.unmatched
        )
        self.outcomes = Outcomes(self.db, self.clock)
        self.hl7 = Hl7(self.intake, self.time, self.metrics, self.manners, self.outcomes, self.log)
        self.spool: Spool | None = None
        if folder is not None:
            self.spool = Spool(folder / "spool", maybeDeferred, self.clock.seconds)
            self.dicom = Dicom(self.intake, self.db, self.time, self.spool, self.metrics, rules.keywords)
            self.again = Again(self.db, self.hl7, self.dicom, self.log)
            self.intake.on_resolved = lambda exam_id: self.again.release(exam_id)
            self.dicom.request_commitment = self._commitment().request_commitment

    def _commitment(self) -> Commitment:
        return Commitment(
            self.db,
            self.time,
            lambda deliveries: self.deliver(deliveries),
            lambda queue: self.couriers.rescan(queue),
            partial(self.clock.callLater, 0),
            self.metrics,
            terms_of(self.config),
        )

    def connect(self, peers: Iterable[Destination]) -> None:
        """Deliver to these destinations from now on, each by a courier of its own with the policy that is configured for it."""
        policies = {one.name: RetryPolicy(**one.settings["retry"]) for one in self.config.queues}
        couriers = Couriers(
            Courier(peer, self.db, self.clock, self.time, policies[peer.name], "stage", self.metrics, self.log) for peer in peers
        )
        self.couriers, self.deliver = couriers, couriers.deliver
        couriers.on_ended = self.outcomes.ended
        if self.spool is not None:
            self.intake.on_patient = Renewal(self.db, self.time, self.intake, self.dicom, couriers, self.log).patient
        couriers.start()
        self.settle()

    def corrections(self) -> Corrections:
        """Return the desk of a person who looks after the reconciliation list."""
        if self.spool is None:
            raise ValueError("a stage without a spool has no images")
        return Corrections(self.db, self.time, self.spool, self.intake, self.couriers, self.again, maybeDeferred)

    def settle(self) -> None:
        """Let what is under way end."""
        for _ in range(3):
            self.clock.advance(SETTLE_SECONDS)

    def wait(self, waiting: Deferred[T]) -> T:
        """Return what it fires with, turning the clock as far as it must; raises what it fails with, TimeoutError after a minute."""
        found: list[Any] = []
        waiting.addBoth(found.append)
        self.pass_until(lambda: bool(found), PATIENCE)
        if not found:
            raise TimeoutError(f"nothing came of it within {PATIENCE:g} s")
        if isinstance(found[0], Failure):
            found[0].raiseException()
        result: T = found[0]
        return result

    def pass_until(self, over: Callable[[], bool], most: float) -> bool:
        """Turn the clock from one due call to the next until it is over, by at most so many seconds; return whether it is."""
        self.clock.advance(0)
        end = self.clock.seconds() + most
        while not over() and self.clock.calls and self.clock.calls[0].getTime() <= end:
            self.clock.advance(max(0.0, self.clock.calls[0].getTime() - self.clock.seconds()))
        return over()

    def close(self) -> None:
        """Let everything go."""
        self.site.calls.close()
        self.wait(self.db.close())


@contextmanager
def staged(config: Config, now: float = NOW) -> Iterator[Stage]:
    """Give a stage that can store objects, in a folder that is removed in the end."""
    with TemporaryDirectory(prefix="broker-") as folder:
        stage = Stage(config, now=now, folder=Path(folder))
        try:
            yield stage
        finally:
            stage.close()
