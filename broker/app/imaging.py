"""The DICOM side of a node: what answers its requests, and what works in the background."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from broker.config.models import Config, Destination
from broker.connectors.base import Defer, Job
from broker.connectors.dicom import DicomDestination
from broker.engine.clock import SiteClock
from broker.engine.commitment import Commitment, terms_of
from broker.engine.completion import Completion
from broker.engine.couriers import Couriers
from broker.engine.dicomintake import Dicom
from broker.engine.intake import Intake
from broker.engine.pixels import Pixels
from broker.engine.prefetch import Prefetching
from broker.engine.receipts import Receipts
from broker.engine.retrieval import Retrievals
from broker.engine.room import Room
from broker.engine.rounds import Rounds
from broker.engine.rules import Rules
from broker.engine.senders import Senders
from broker.engine.upkeep import Upkeep
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.store.database import Database
from broker.store.spool import Spool

COMMITMENT = 2.0  # seconds between two looks for instances to be asked about
FIGURES = 15.0  # seconds between two counts of what is not committed
COMPLETION = 15.0  # seconds between two looks for exams whose images may be complete
UPKEEP = 10.0  # seconds between two looks at how full the spool is


class Imaging:
    """`intake` is what DICOM listeners hand over to; `jobs` are started after the couriers, and stopped before them."""

    def __init__(
        self,
        config: Config,
        intake: Intake,
        couriers: Couriers,
        db: Database,
        clock: SiteClock,
        spool: Spool,
        in_file_thread: Defer,
        reactor: Any,
        metrics: Metrics,
        log: Log,
        rules: Rules,
        node: str,
        pixels: Pixels,
    ) -> None:
        self.room = Room(config.spool, db, spool.disk, reactor)
        spool.has_room = self.room.has_room
        self.intake = Dicom(intake, db, clock, spool, metrics, rules.keywords, self.room, in_file_thread)
        soon = partial(reactor.callLater, 0)
        self._commitment = Commitment(db, clock, couriers.deliver, couriers.rescan, soon, metrics, terms_of(config))
        receipts = Receipts(db, clock, self._commitment, rules.site.new_uid, metrics, log)
        completion = Completion(intake, db, clock, couriers, metrics, log)
        self.intake.request_commitment = completion.watching(self._commitment.request_commitment)
        self.intake.receive_availability, self.intake.completion = completion.receive_availability, completion
        self.intake.report_commitment = receipts.report_commitment
        self._config = config

        def build(one: Destination) -> DicomDestination:
            return DicomDestination(one.name, one.settings, reactor, spool, metrics, log, transcoder=pixels)

        retrievals = Retrievals(reactor, db, spool, self.intake.expected, lambda: self._config, build, clock, metrics, log)
        completion.ask = Senders(retrievals, lambda: self._config, log).ask
        prefetching = Prefetching(retrievals, reactor, db, clock, lambda: self._config, node, metrics, log)
        self.intake.search, self.intake.move, self.intake.get = retrievals.search, retrievals.move, retrievals.get
        upkeep = Upkeep(db, spool, self.room, lambda: self._commitment.terms.inquiries, clock, in_file_thread, metrics, log)
        self.jobs: Sequence[Job] = (
            Rounds("commitment", receipts.work, COMMITMENT, reactor, log),
            Rounds("commitment figures", receipts.show, FIGURES, reactor, log),
            Rounds("completion", completion.work, COMPLETION, reactor, log),
            Rounds("spool upkeep", upkeep.work, UPKEEP, reactor, log),
            prefetching,
        )

    def configure(self, config: Config) -> None:
        """Work by this configuration from now on."""
        self._config = config
        self.room.policy, self._commitment.terms = config.spool, terms_of(config)
