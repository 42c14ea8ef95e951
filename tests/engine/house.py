"""The shipped configuration over a store in memory: the intake as listeners see it, and what it would send."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from pydicom.uid import generate_uid
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from broker.config.load import load
from broker.config.models import Config
from broker.connectors import registry
from broker.connectors.base import Caller, Early
from broker.dicom.scan import ROUTING
from broker.engine.again import Again
from broker.engine.clock import SiteClock
from broker.engine.dicomintake import Dicom
from broker.engine.hl7intake import Hl7, Manner
from broker.engine.intake import Intake
from broker.engine.outcomes import Outcomes
from broker.engine.passage import Site
from broker.engine.router import Router
from broker.model import Delivery, Spooled
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.ris.context import SlotRules
from broker.store.database import Transaction, open_database
from broker.store.spool import Spool

ROOT = Path(__file__).parents[2]
CT1 = Caller("modalities", "CT1", "BROKER", "127.0.0.1:50000")

T = TypeVar("T")


def now_in_memory(fn: Callable[..., Any], *args: Any) -> Deferred[Any]:
    """Run what belongs into a thread here and now."""
    done: Deferred[Any] = Deferred()
    try:
        done.callback(fn(*args))
    except Exception:
        done.errback(Failure())
    return done


class House:
    """Everything between the listeners and the couriers."""

    def __init__(self, folder: Path, config: Config | None = None, unmatched: str = "reject") -> None:
        self.config = config or load(ROOT / "channels.yaml", {}, registry)
        self.calls: deque[Callable[[], object]] = deque()
        self.sent: list[Delivery] = []
        self.metrics, self.printed, self.at = Metrics(), StringIO(), 1772438400.0
        self.db = open_database(
            ":memory:",
            metrics=self.metrics,
            call_later=lambda _, call: self.calls.append(call),
            call_from_thread=lambda call, *args: call(*args),
        )
        self.spool = Spool(folder / "spool", now_in_memory, lambda: self.at)
        clock = SiteClock(lambda: self.at, "UTC")
        site = Site("GENHOSP", generate_uid, "A{number:08d}", self.config.stations, SlotRules())
        router = Router(self.config.channels)
        log = Log(self.printed, terminal=False)
        self.site = site
        self.intake = intake = Intake(self.db, router, site, clock, self.metrics, log, self.sent.extend, {"hospital": unmatched})
        self.clock = Clock()
        self.outcomes = Outcomes(self.db, self.clock)
        self.hl7 = Hl7(intake, clock, self.metrics, {"hospital": Manner()}, self.outcomes, log)
        self.dicom = Dicom(intake, self.db, clock, self.spool, self.metrics, ROUTING)
        self.again = Again(self.db, self.hl7, self.dicom, log)
        intake.on_resolved = self.again.release

    def wait(self, waiting: Deferred[T]) -> T:
        """Return what a Deferred fires with; raises what it fails with."""
        found: list[Any] = []
        waiting.addBoth(found.append)
        self.run()
        if isinstance(found[0], Failure):
            found[0].raiseException()
        result: T = found[0]
        return result

    def run(self) -> None:
        """Let all happen that is due."""
        while self.calls:
            self.calls.popleft()()

    def say(self, message: str | bytes) -> str:
        """Let the hospital send a message, and return the answer."""
        raw = message.encode() if isinstance(message, str) else message
        return self.wait(self.hl7.receive_hl7("hospital", "127.0.0.1:40000", raw)).decode()

    def store(self, dataset: Any, early: Early = None) -> int:
        """Let CT1 store an object, and return the status."""
        return self.wait(self.dicom.receive_instance(CT1, self.spooled(dataset), early=early))

    def spooled(self, dataset: Any) -> Spooled:
        """Put an object into the spool."""
        from broker.dicom.dataset import encode
        from broker.dicom.files import file_meta

        meta = dataset.file_meta
        file = self.spool.begin(file_meta(dataset.SOPClassUID, dataset.SOPInstanceUID, meta.TransferSyntaxUID))
        file.write([encode(dataset, meta.TransferSyntaxUID)])
        name, size, digest = self.wait(file.finish())
        return Spooled(name, dataset.SOPClassUID, dataset.SOPInstanceUID, meta.TransferSyntaxUID, size, digest)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""

        def read(tx: Transaction) -> list[tuple[Any, ...]]:
            return tx.all(sql)

        return self.wait(self.db.read("test", read))

    def count(self, name: str, **labels: str) -> float:
        """Return the value of a metric, 0 when it has none."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def destinations(self) -> list[str]:
        """Return where deliveries went since the last call, and forget them."""
        found = [f"{one.destination} {one.kind}" for one in self.sent]
        self.sent.clear()
        return found
