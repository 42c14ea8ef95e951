"""A frame that holds a batch: its messages are taken in one by one, and answered with one batch."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredLock

from broker.connectors.base import Hl7Intake, Later
from broker.connectors.batches import Taken, take
from broker.engine.clock import SiteClock
from broker.hl7.batch import is_batch
from broker.obs.log import Log
from broker.obs.metrics import Metrics


class Batches:
    """Stands before the intake of single messages (`connectors.base.Hl7Intake`)."""

    def __init__(self, single: Hl7Intake, clock: SiteClock, metrics: Metrics, log: Log) -> None:
        self._single, self._clock, self._log = single, clock, log
        self._faults = metrics.rejected_bytes
        self._open: dict[tuple[str, str], DeferredLock] = {}  # connections that have sent a batch which is being taken in

    def receive_hl7(self, listener: str, peer: str, raw: bytes, later: Later = None) -> Deferred[bytes]:
        """Fire with the answer once the message, or every message of the batch, is durable; `later` as for a single message."""
        if raw[:3] == b"MSH" and not self._open:
            return self._single.receive_hl7(listener, peer, raw, later)
        return self._in_order(listener, peer, raw, later)

    def _in_order(self, listener: str, peer: str, raw: bytes, later: Later) -> Deferred[bytes]:
        """Take in what a connection sends only after the batch that it sent before."""
        key, several = (listener, peer), is_batch(raw)
        if not several and key not in self._open:
            return self._single.receive_hl7(listener, peer, raw, later)
        lock = self._open.setdefault(key, DeferredLock())
        receive = self._receive_batch if several else self._single.receive_hl7
        return lock.run(receive, listener, peer, raw, later).addBoth(self._closed, key)

    def _closed(self, result: Any, key: tuple[str, str]) -> Any:
        lock = self._open.get(key)
        if lock is not None and not lock.locked:
            del self._open[key]
        return result

    def _receive_batch(self, listener: str, peer: str, raw: bytes, _: Later) -> Deferred[bytes]:
        """Take in each message; one answer to each has its place in the batch's answer, and no other could follow it there."""
        taking = take(raw, lambda message: self._single.receive_hl7(listener, peer, message))
        return taking.addCallback(self._answer, listener, peer)

    def _answer(self, taken: Taken, listener: str, peer: str) -> bytes:
        if taken.faults:
            self._faults.labels(listener, "batch").inc()
            self._log.warning("batch fault", listener=listener, peer=peer, reason="; ".join(taken.faults)[:300])
        return taken.tally.answer(self._clock.text(), f"B{int(self._clock() * 1000)}")
