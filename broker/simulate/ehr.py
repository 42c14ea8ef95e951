"""The EHR and the report author: they send over MLLP, and the EHR listens for what it is told."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed

from broker.simulate import answers
from broker.simulate.mllp import MllpSender, MllpSink


class Sender:
    """A system that sends HL7 and counts the answers by code."""

    def __init__(self, reactor: Any, host: str, port: int, *, timeout: float = 60.0) -> None:
        self.codes: Counter[str] = Counter()
        self._sender = MllpSender(reactor, host, port, timeout=timeout)

    def send(self, message: bytes) -> Deferred[bytes]:
        """Fire with the unframed answer; fails as `MllpSender.send` does."""
        return self._sender.send(message).addCallback(self._count)

    def start(self) -> Deferred[Any]:
        """Do nothing: the connection is made with the first message."""
        return succeed(None)

    def stop(self) -> Deferred[Any]:
        """Close the connection."""
        return self._sender.close()

    def _count(self, answer: bytes) -> bytes:
        self.codes[answers.code(answer)] += 1
        return answer


class Author(Sender):
    """Where the radiologists' reports come from."""


class Ehr(Sender):
    """Sends registrations and orders; with an `inbox_port` (0: any) it also listens, in `inbox`."""

    def __init__(
        self, reactor: Any, host: str, port: int, *, inbox_port: int | None = None, bind: str = "127.0.0.1", timeout: float = 60.0
    ) -> None:
        super().__init__(reactor, host, port, timeout=timeout)
        self.inbox = MllpSink(reactor, inbox_port or 0, host=bind)
        self._listens = inbox_port is not None

    def start(self) -> Deferred[Any]:
        """Bind the inbox, and fire with its port."""
        return self.inbox.start() if self._listens else succeed(None)

    def stop(self) -> Deferred[Any]:
        """Close the connection and the inbox."""
        return gatherResults([super().stop(), self.inbox.stop()], consumeErrors=True)
