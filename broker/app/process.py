"""The broker as a process: it says where it listens, and ends in order."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from twisted.internet.defer import ensureDeferred
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from broker.app.node import Broker
from broker.config.load import load
from broker.config.versions import Versions
from broker.connectors import registry
from broker.engine.reload import chosen
from broker.errors import BrokerError, StoreError
from broker.obs.capture import TwistedObserver, capture
from broker.obs.log import Log

COLLECT = 10_000, 20, 50  # objects before the youngest are collected, and rounds before older ones are
DRAIN_SECONDS = 20.0  # for what is under way when the process is told to end

SAMPLES = "samples/adt_a04.hl7", "samples/orm_ct.hl7"
SEND = f"""broker send {" ".join(SAMPLES)}
                                    registers a patient and orders a CT
      """
WELCOME = """The broker listens on
{listening}

Next: {send}broker status                 queues, exams by state, what waits for a person
      broker messages               what arrived, and what became of it
      broker trace ACCESSION        one exam, from the order to the charge
      http://{web}/        the console; /metrics for Prometheus
      Ctrl-C                        ends it; nothing acknowledged is lost
"""


def welcome(listening: Sequence[str]) -> str:
    """Return what a person reads who starts the broker: where it listens, the web port last, and what can be done next, here."""
    send = SEND if all(map(os.path.isfile, SAMPLES)) else ""
    return WELCOME.format(listening="\n".join(f"  {line}" for line in listening), send=send, web=listening[-1].split()[-1])


def run(path: Path, environment: Mapping[str, str], log_format: str = "auto") -> int:
    """Run the broker until SIGTERM, SIGINT or a failure of its store; return the exit code. Raises BrokerError."""
    from twisted.internet import reactor  # the reactor is chosen here and nowhere else

    runs = chosen(path, Versions.of(path, environment, registry))
    config = load(runs, environment, registry)
    log = Log(terminal={"json": False, "text": True}.get(log_format))
    capture(log)
    for warning in config.warnings:
        log.warning("configuration", file=warning.file, line=warning.line, what=warning.what)
    if runs != path:
        log.warning("earlier version", file=str(runs), what="it was taken up again, and the files it was taken for have not changed since")
    return _Process(Broker(config, reactor, log, path=path, environment=environment)).run()


class _Process:
    """A broker as a process: it says where it listens, and ends in order."""

    def __init__(self, broker: Broker) -> None:
        self._broker, self._reactor, self._log = broker, broker.reactor, broker.log
        self._ending = False
        self._error: BrokerError | None = None
        globalLogPublisher.addObserver(TwistedObserver(broker.log))  # type: ignore[arg-type]
        broker.on_failure = self._store_failed

    def run(self) -> int:
        """Return the exit code; raises BrokerError when the broker could not start or its store failed."""
        self._reactor.callWhenRunning(self._start)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda got, frame: self._reactor.callFromThread(self._end))
        signal.signal(signal.SIGHUP, lambda got, frame: self._reactor.callFromThread(self._apply))
        self._reactor.run(installSignalHandlers=False)
        if self._error:
            raise self._error
        return 0

    def _start(self) -> None:
        ensureDeferred(self._broker.start()).addCallbacks(self._say, self._failed)

    def _say(self, listening: list[str]) -> None:
        # what was built so far stays: the collector need not look at it again, nor at each message's few hundred objects at once
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT)
        self._log.info("started", node=self._broker.node, count=len(listening))
        print(welcome(listening), flush=True)

    def _apply(self) -> None:
        ensureDeferred(self._broker.reload.apply_for("SIGHUP"))

    def _failed(self, failure: Failure) -> None:
        if not failure.check(BrokerError):
            self._log.failure("start failed", failure)
        error = failure.value
        self._error = error if isinstance(error, BrokerError) else BrokerError(f"could not start: {type(error).__name__}")
        self._end()

    def _store_failed(self, error: StoreError) -> None:
        self._log.error("store failed", reason=str(error))
        self._error = error
        self._end()

    def _end(self) -> None:
        if self._ending:
            return
        self._ending = True
        self._log.info("stopping", node=self._broker.node)
        # a peer that never lets go must not keep the process: what is unsettled goes on at the next start
        self._reactor.callLater(DRAIN_SECONDS, self._halt)
        ensureDeferred(self._broker.stop()).addErrback(lambda failure: self._log.failure("stop failed", failure)).addBoth(self._halt)

    def _halt(self, _: object = None) -> None:
        if self._reactor.running:
            self._reactor.stop()
