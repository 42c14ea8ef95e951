"""What the kernel says while it sends a file: it decides whether the object or the connection is given up."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from twisted.python.failure import Failure

from broker.connectors.dicom_outflow import _Direct


class Line:
    """A transport whose socket fails as told, and the shell above it."""

    def __init__(self, error: OSError) -> None:
        self._error, self.aborted = error, False
        self.transport = self.socket = self.core = self
        self.can_send, self.max_data = True, 1 << 14

    def data_head(self, *args: Any) -> bytes:
        return b"head"

    def send(self, data: bytes, flags: int = 0) -> int:
        raise self._error

    def registerProducer(self, producer: _Direct, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        """Nothing more is to be sent."""

    def startWriting(self) -> None:
        """Ask again."""

    def abortConnection(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(
    ("number", "lost"),
    [(errno.EPIPE, True), (errno.ECONNRESET, True), (errno.ETIMEDOUT, True), (errno.EHOSTUNREACH, True), (errno.EIO, False)],
)
def test_a_network_that_fails_is_no_fault_of_the_file(number: int, lost: bool) -> None:
    line, failed = Line(OSError(number, "")), list[Failure]()
    shell: Any = line
    sending = _Direct(shell, 1, -1, 0, 1 << 20, lambda: None)
    sending.done.addErrback(failed.append)
    sending.resumeProducing()
    sending.resumeProducing()
    assert (line.aborted, len(failed)) == (lost, not lost)
