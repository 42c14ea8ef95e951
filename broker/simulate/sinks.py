"""Destinations in process (`connectors.base.Destination`): they keep what comes, answer as they are told, and can be out of reach."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred, fail, succeed

from broker.dicom.coerce import prepared
from broker.dicom.dataset import read_header
from broker.dicom.dimse import is_refusal_for_now
from broker.dicom.storerequest import decode_request
from broker.engine.stage import Stage
from broker.errors import Refused, Retry
from broker.hl7.tables import ACCEPTED
from broker.model import Delivery

_STORED = "0x0000"


class Sink:
    """One receiver of HL7 messages or images."""

    width = 1

    def __init__(self, name: str, protocol: str, stage: Stage) -> None:
        self.name, self._stage = name, stage
        self.up = True
        self.answer = "AA" if protocol == "hl7" else _STORED
        self.received: list[bytes] = []
        self.images: list[Dataset] = []  # the headers, as they arrived

    def send(self, delivery: Delivery) -> Deferred[str]:
        """Fire with the answer; fail with `Retry` when it is down, with `Refused` when it is told to refuse."""
        if not self.up:
            return fail(Retry("cannot connect"))
        if delivery.kind == "C-STORE":
            self.images.append(self._stored(delivery))
        else:
            self.received.append(delivery.payload)
        if self.answer not in ACCEPTED and self.answer != _STORED:
            for_now = self.answer.startswith("0x") and is_refusal_for_now(int(self.answer, 16))
            return fail(Retry(self.answer) if for_now else Refused(self.answer))
        answered: Deferred[str] = Deferred()
        self._stage.clock.callLater(0, answered.callback, self.answer)
        return answered

    def close(self) -> Deferred[None]:
        """Nothing is open."""
        return succeed(None)

    def _stored(self, delivery: Delivery) -> Dataset:
        """Return the header as it leaves the broker."""
        spool: Any = self._stage.spool
        request = decode_request(delivery.payload)
        header, _ = read_header(spool.path(request.spooled.name))
        return prepared(header, request, system="BROKER", now=self._stage.time.text())
