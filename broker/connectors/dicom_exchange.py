"""The messages of one association in both directions: requests that come in, and answers to those that went out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker.connectors.base import Caller
from broker.connectors.dicom_requests import Requests
from broker.connectors.dicom_services import Receiver
from broker.connectors.dicom_transport import UpperLayer
from broker.dicom.association import Association
from broker.dicom.dimse import Field
from broker.dicom.happenings import Aborted, Message
from broker.errors import Retry
from broker.obs.log import Log

if TYPE_CHECKING:
    from broker.connectors.dicom_peers import Peer
    from broker.connectors.dicom_serving import Serving

NOBODY = Caller("", "", "", "")
_WHY_GONE = {"peer": "association aborted by the peer", "transport": "connection lost", "local": "the peer broke the protocol"}


class Exchange(UpperLayer):
    """The shell of one association: one incoming request is worked on at a time, `requests` are what this side asks."""

    serving: Serving  # what incoming requests work with
    peer: Peer  # what the other side is granted

    def __init__(self, core: Association, clock: Any, log: Log, *, artim: float, idle: float, patience: float, buffer: Any = None) -> None:
        super().__init__(core, clock, log, artim=artim, idle=idle, buffer=buffer)
        self.caller = NOBODY
        self.requests = Requests(self, clock, patience)
        self._receiver: Receiver | None = None  # whose dataset is being read
        self._working: Receiver | None = None  # whose answer is due

    def receiver_for(self, message: Message) -> Receiver | None:
        """Return what takes an incoming request; None: it is a fault of the peer."""
        raise NotImplementedError

    def on_answered(self, receiver: Receiver, status: int | None) -> None:
        """An incoming request has its answer; `status` is to be counted if there is one."""

    # what the transport layer asks

    @property
    def busy(self) -> bool:
        """Whether reading stops: an answer is due, and nothing that it needs can come meanwhile."""
        return self._working is not None and not self._working.reads_on and not self.requests.open

    @property
    def waiting(self) -> bool:
        """Whether an answer is due, of this side or of the peer."""
        return self._working is not None or self.requests.open

    @property
    def idle(self) -> bool:
        """Whether no request is being read or worked on, in either direction."""
        return self._receiver is None and not self.waiting

    # its messages

    def on_message(self, message: Message) -> None:
        """Begin a request, cancel one, or take a response."""
        command = message.command
        if command.is_response:
            if not self.requests.on_response(message):
                self.on_unexpected(message)
        elif command.field == Field.C_CANCEL:
            if self._working is not None and self._working.command.message_id == command.message_id:
                self._working.cancel()
        elif self._working is not None or self._receiver is not None:
            self._break_off("request before the answer to the last one")
        else:
            self._begin(message)

    def on_unexpected(self, message: Message) -> None:
        """A response that nothing was asked for: a late one is passed over."""

    def _begin(self, message: Message) -> None:
        receiver = self.receiver_for(message)
        if receiver is None:
            self._break_off("request to an SCU")
            return
        self._receiver = receiver
        if not message.command.has_dataset:
            self._complete()

    def _break_off(self, fault: str) -> None:
        self.on_fault(fault)
        self.abort()

    def on_data(self, view: memoryview, last: bool) -> None:
        """Pass a piece to what it belongs to."""
        if self.requests.is_reading:
            self.requests.on_data(view, last)
        elif self._receiver is not None:
            self._receiver.data(view)
            if last:
                self._complete()

    def on_read(self) -> None:
        """The views handed over are about to be overwritten."""
        if self._receiver is not None:
            self._receiver.flush()

    def _complete(self) -> None:
        receiver, self._receiver = self._receiver, None
        assert receiver is not None
        self._working = receiver
        self.on_working()
        receiver.end()

    def on_working(self) -> None:
        """An incoming request has been read."""

    def answer(self, receiver: Receiver, response: bytes, status: int | None, dataset: bytes = b"") -> None:
        """Send the last response of a request, and go on to the next."""
        if self._working is not receiver:
            return
        self._working = None
        self.on_answered(receiver, status)
        self.requests.say(receiver.context, response, dataset)
        self.go_on()

    def go_on(self) -> None:
        """Read what came meanwhile."""
        self.resume()

    # its end

    def on_aborted(self, aborted: Aborted) -> None:
        """Leave nothing of an unfinished object behind, and tell who waits."""
        self.give_up(_WHY_GONE[aborted.by])

    def connectionLost(self, reason: Any = None) -> None:
        """Leave nothing behind."""
        super().connectionLost(reason)
        self.give_up("connection lost")

    def give_up(self, why: str) -> None:
        """Nothing more comes: end what is being read or worked on, and what is waited for."""
        receiver, self._receiver = self._receiver, None
        for at_work in (receiver, self._working):
            if at_work is not None:
                at_work.abandon()
        self.requests.fail(Retry(why))

    def abandon(self) -> None:
        """Abort, and do not wait for the peer."""
        self.abort()
        self._close()
