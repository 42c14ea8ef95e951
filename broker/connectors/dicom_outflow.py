"""The bytes of an object on their way out, at the transport's pace: sent by the kernel where that is possible, in chunks elsewhere."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from broker.connectors.dicom_transport import Flow

if TYPE_CHECKING:
    from broker.connectors.dicom_exchange import Exchange

CHUNK = 1 << 19  # bytes read from a file at a time
_TURN = 1 << 20  # bytes after which other connections have their turn
_LOST = frozenset(  # what a socket says when the peer is gone, or the way to it; all else is of the file
    (
        errno.EPIPE,
        errno.ESHUTDOWN,
        errno.ENOTCONN,
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
    )
)
_MORE = getattr(socket, "MSG_MORE", 0)  # only where the system has it: the head of a PDU leaves with what follows it


class Pace:
    """A limit of bytes a second over all associations of a destination, with a second's worth at once at most."""

    def __init__(self, rate: float, clock: Any) -> None:
        """`rate` in bytes a second."""
        self._rate, self._clock = rate, clock
        self._free_at = clock.seconds() - 1.0  # when all that was sent would have gone through

    @property
    def chunk(self) -> int:
        """Bytes to send at a time, so that the link is busy evenly."""
        return max(1 << 12, min(CHUNK, int(self._rate / 8)))

    def sent(self, size: int) -> float:
        """Count what was sent, and return the seconds to wait before more is."""
        now = self._clock.seconds()
        self._free_at = max(self._free_at, now - 1.0) + size / self._rate
        return float(max(self._free_at - now, 0.0))

    def wait(self, seconds: float) -> Deferred[None]:
        """Fire after so many seconds."""
        done: Deferred[None] = Deferred()
        self._clock.callLater(seconds, done.callback, None)
        return done


async def stream(shell: Exchange, context: int, head: bytes, file: BinaryIO, heard: Callable[[], None], pace: Pace | None = None) -> None:
    """Send `head` and the rest of the file as one dataset; a connection that is lost ends it.

    `heard` is called whenever the peer has taken something. Raises OSError when the file cannot be read.
    """
    left = os.fstat(file.fileno()).st_size - file.tell()
    direct = pace is None and left > CHUNK // 2 and hasattr(os, "sendfile") and isinstance(shell.transport, tcp.Connection)
    if direct:
        await _by_kernel(shell, context, head, file, left, heard)
    else:
        await _in_chunks(shell, context, head, file, heard, pace)


async def _in_chunks(
    shell: Exchange, context: int, head: bytes, file: BinaryIO, heard: Callable[[], None], pace: Pace | None = None
) -> None:
    flow, chunk = Flow(), CHUNK if pace is None else pace.chunk
    shell.transport.registerProducer(flow, True)
    try:
        data = head + file.read(chunk - len(head) % chunk)
        while shell.core.can_send:
            following = file.read(chunk) if data else b""
            _fragments(shell, context, data, last=not following)
            pause = pace.sent(len(data)) if pace is not None else 0.0
            if not following:
                break
            data = following
            await flow.ready()
            if pace is not None and pause:
                await pace.wait(pause)
            heard()
    finally:
        shell.transport.unregisterProducer()


def _fragments(shell: Exchange, context: int, data: bytes, *, last: bool) -> None:
    core = shell.core
    view, most, end = memoryview(data), core.max_data, len(data)
    parts: list[bytes | memoryview] = []
    for at in range(0, end or 1, most):  # a dataset without a byte is one empty fragment
        piece = view[at : at + most]
        parts += [core.data_head(context, len(piece), last and at + most >= end), piece]
    shell.write(b"".join(parts))


async def _by_kernel(shell: Exchange, context: int, head: bytes, file: BinaryIO, left: int, heard: Callable[[], None]) -> None:
    """Send what shares a PDU with the head from here, and all that follows with sendfile(2)."""
    most, begin = shell.core.max_data, file.tell()
    beside = min(most - len(head) % most, left)
    _fragments(shell, context, head + os.pread(file.fileno(), beside, begin), last=beside == left)
    if beside < left:
        await _Direct(shell, context, file.fileno(), begin + beside, begin + left, heard).done


@implementer(IPullProducer)
class _Direct:
    """Writes PDUs of file bytes past the transport's buffer, whenever that is empty."""

    def __init__(self, shell: Exchange, context: int, descriptor: int, begin: int, end: int, heard: Callable[[], None]) -> None:
        self.done: Deferred[None] = Deferred()
        self._shell, self._context, self._heard = shell, context, heard
        self._descriptor, self._at, self._end = descriptor, begin, end
        self._pdu_end, self._head = begin, b""
        self._begun = False
        shell.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """Called by the transport when it has written all it was given; the first time, when it is about to begin."""
        if not self._begun:
            self._begun = True
            return
        if not self._shell.core.can_send:
            self._finish(None)
            return
        self._heard()
        try:
            self._send()
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in _LOST:
                self._finish(error)
                return
            self._shell.transport.abortConnection()
        if self._at < self._end and not self.done.called:
            self._shell.transport.startWriting()
        else:
            self._finish(None)

    def _send(self) -> None:
        peer, stop = self._shell.transport.socket, self._at + _TURN
        while self._at < min(self._end, stop):
            if self._at == self._pdu_end:
                size = min(self._shell.core.max_data, self._end - self._at)
                self._head = self._shell.core.data_head(self._context, size, self._at + size == self._end)
                self._pdu_end += size
            while self._head:
                self._head = self._head[peer.send(self._head, _MORE) :]
            sent = os.sendfile(peer.fileno(), self._descriptor, self._at, self._pdu_end - self._at)
            if not sent:
                raise OSError("the file ended early")
            self._at += sent

    def stopProducing(self) -> None:
        """Called by the transport when it is lost."""
        self._finish(None)

    def _finish(self, error: OSError | None) -> None:
        if self.done.called:
            return
        self._shell.transport.unregisterProducer()
        if error is None:
            self.done.callback(None)
        else:
            self.done.errback(error)
