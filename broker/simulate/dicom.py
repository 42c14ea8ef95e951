"""pynetdicom in worker threads of its own: an independent DICOM peer that cannot hold up the broker's threads."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")

NO_ANSWER = -1  # in place of a DIMSE status
MAXIMUM_PDU = 131072  # bytes


class AssociationRefused(ConnectionError):
    """The peer could not be reached, or rejected or aborted the association."""


class Threads:
    """A small thread pool that starts when it is first needed and ends with the reactor."""

    def __init__(self, reactor: Any, most: int, name: str) -> None:
        self._reactor, self._most, self._name = reactor, most, name
        self._pool: ThreadPool | None = None
        self._trigger: Any = None

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Fire with what `work` returns in a thread."""
        if self._pool is None:
            self._pool = ThreadPool(0, self._most, self._name)
            self._pool.start()
            self._trigger = self._reactor.addSystemEventTrigger("during", "shutdown", self._pool.stop)
        done: Deferred[T] = deferToThreadPool(self._reactor, self._pool, work)
        return done

    def stop(self) -> None:
        """End the threads; nothing may be running in them."""
        if self._pool is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            self._pool.stop()
            self._pool = None


@contextmanager
def association(
    calling: str,
    address: tuple[str, int],
    called: str,
    contexts: Sequence[PresentationContext],
    timeout: float,
    handlers: Sequence[Any] = (),
) -> Iterator[Association]:
    """Open an association and release it in the end; raises AssociationRefused. `handlers`: of requests, once they are `heard`."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = timeout
    bound: list[Any] = [(evt.EVT_CONN_OPEN, no_delay), *handlers]
    opened = ae.associate(*address, contexts=list(contexts), ae_title=called, max_pdu=MAXIMUM_PDU, evt_handlers=bound)
    if not opened.is_established:
        raise AssociationRefused("rejected" if opened.is_rejected else "not reached or aborted")
    _leave_answers_alone(opened)
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()


def _leave_answers_alone(opened: Association) -> None:
    """Keep pynetdicom's own loop from taking a response before the caller who waits for it.

    Between finding itself unpaused and saying so, the loop may be overtaken by a request and then take its response off the queue, when
    that comes within a millisecond; the caller then waits in vain. Nobody sends requests to a requestor here before they are `heard`.
    """
    dimse: Any = opened.dimse
    look = dimse.get_msg
    dimse.get_msg = lambda block=False: look(block) if block else (None, None)


def heard(opened: Association) -> None:
    """Let the association take requests of the peer, such as reports, now that no response is waited for."""
    del opened.dimse.get_msg  # of the instance; the class has its own


def no_delay(event: evt.Event) -> None:
    """Send small PDUs at once: with Nagle's algorithm an object costs 40 ms."""
    wire = getattr(event.assoc.dul.socket, "socket", None)
    if wire is not None:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def status_of(answer: Any) -> int:
    """Return the status of a DIMSE response, NO_ANSWER when none came."""
    return int(answer.Status) if answer is not None and "Status" in answer else NO_ANSWER
