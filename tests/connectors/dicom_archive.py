"""A DICOM destination with an archive at the other end of its connections, in memory and on a clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from broker.connectors.base import Transcoder
from broker.connectors.dicom import DicomDestination
from broker.dicom import dimse
from broker.dicom.association import Association
from broker.dicom.happenings import Data, Happening, Message, ReleaseRequested, Requested
from broker.dicom.negotiation import Offer, Request, Window
from broker.dicom.pdus import Limits
from broker.model import Delivery, Spooled
from broker.obs.metrics import Metrics
from broker.store.spool import Spool
from tests.connectors.dicom_shell import delivery, destination_settings, keep, quiet, spool
from tests.dicom.cores import feed, written
from tests.dicom.objects import part10

EXPLICIT = "1.2.840.10008.1.2.1"


class Archive:
    """An acceptor core at the other end of one connection."""

    def __init__(self, number: int, factory: Any, *, max_pdu: int = 1 << 17) -> None:
        self.number = number
        self.transport = StringTransport()
        self.core = Association(acceptor=True, limits=Limits(max_pdu=max_pdu))
        self.core.connected()
        self.request: Request | None = None
        self.messages: list[Message] = []
        self.data = b""
        self.released = False
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def hear(self) -> list[Happening]:
        """Take what was sent."""
        data = self.transport.value()
        self.transport.clear()
        happenings = feed(self.core, data)
        for h in happenings:
            if isinstance(h, Message):
                self.messages.append(h)
                self.data = b""
            elif isinstance(h, Data):
                self.data += bytes(h.view)
            elif isinstance(h, Requested):
                self.request = h.request
            elif isinstance(h, ReleaseRequested):
                self.released = True
        return happenings

    def say(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def accept(self, decide: Callable[[Offer], str | int] = lambda offer: offer.syntaxes[0], operations: int = 1) -> Archive:
        """Accept the association, with so many operations outstanding at most."""
        self.hear()
        self.say(written(self.core.accept(decide, window=Window(operations, 1))))
        self.hear()
        return self

    def answer(self, status: int = 0, at: int = -1, error_id: int = 0) -> Message:
        """Answer the last request, or another one."""
        self.hear()
        message = self.messages[at]
        self.say(self.core.message(message.context.id, dimse.response(message.command, status, error_id=error_id)))
        self.hear()
        return message

    def close(self) -> None:
        """End the connection, releasing first if that was asked for."""
        if self.released:
            self.say(written(self.core.release_answer()))
        self.lose()

    def lose(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


class Site:
    """A destination and all that is around it."""

    def __init__(self, folder: Path, transcoder: Transcoder | None = None, **settings: Any) -> None:
        self.reactor, self.metrics = MemoryReactorClock(), Metrics()
        self.spool: Spool = spool(folder)
        self.log, self.logged = quiet()
        settings = destination_settings(**settings)
        shared = (self.reactor, self.spool, self.metrics, self.log)
        self.destination = DicomDestination("archive", settings, *shared, transcoder=transcoder)

    def keep(self, ds: Dataset, syntax: str = EXPLICIT) -> Spooled:
        return keep(self.spool, part10(ds, syntax), ds, syntax)

    def send(self, spooled: Spooled, **changes: str) -> list[Any]:
        """Send; returns a list that gets the answer or the error."""
        results: list[Any] = []
        self.destination.send(delivery(spooled, changes)).addCallbacks(results.append, lambda f: results.append(f.value))
        return results

    def give(self, delivery: Delivery) -> list[Any]:
        """Send any delivery; returns a list that gets the answer or the error."""
        results: list[Any] = []
        self.destination.send(delivery).addCallbacks(results.append, lambda f: results.append(f.value))
        return results

    def outcome(self, outcome: str) -> float:
        """Return how many attempts ended so."""
        labels = {"destination": "archive", "outcome": outcome}
        return self.metrics.registry.get_sample_value("broker_dicom_outcomes_total", labels) or 0.0

    @property
    def connections(self) -> int:
        return len(self.reactor.tcpClients)

    def archive(self, at: int = -1, **settings: Any) -> Archive:
        """Return the other end of the connection just asked for, or of another one."""
        return Archive(self.connections, self.reactor.tcpClients[at][2], **settings)
