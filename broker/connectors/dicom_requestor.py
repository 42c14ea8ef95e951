"""One association that this side opens: requests go out, each waits for its answer."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, BinaryIO

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.protocol import Factory

from broker.connectors.dicom_transport import Flow, UpperLayer
from broker.dicom import dimse
from broker.dicom.association import Association
from broker.dicom.dimse import Command, Field
from broker.dicom.happenings import Aborted, Message
from broker.dicom.negotiation import Answer, Context, Offer, Rejection, Request
from broker.dicom.pdus import Limits
from broker.dicom.states import State
from broker.errors import DeliveryError, Refused, Retry
from broker.obs.log import Log

CHUNK = 1 << 19  # bytes read from a file at a time
_VERIFICATION = "1.2.840.10008.1.1"
_IMPLICIT = "1.2.840.10008.1.2"
_ARTIM = 10.0  # seconds the peer has to close at the end
Fault = Callable[[str], None]
_RELEASE = 5.0  # seconds the peer has to agree to a release


class Requestor(UpperLayer):
    """The shell of one association asked for; `opened` and `closed` fire when it is, and when it is no more.

    What goes wrong becomes `Retry`. One request at a time.
    """

    def __init__(
        self, request: Request, clock: Any, log: Log, *, patience: float, on_fault: Callable[[str], None] = lambda what: None
    ) -> None:
        core = Association(acceptor=False, limits=Limits(max_pdu=request.max_pdu))
        core.associate(request)
        super().__init__(core, clock, log, artim=_ARTIM, idle=patience)
        self.request = request
        self.opened: Deferred[Answer] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self.answer: Answer | None = None
        self._patience, self._told_fault = patience, on_fault
        self._timer: Any = None
        self._pending: Deferred[Command] | None = None
        self._message_id = 0
        self._is_opened = False
        self._watch()

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent."""
        return self.core.state is State.ESTABLISHED

    @property
    def waiting(self) -> bool:
        """The owner watches over an idle association, this object over its own requests."""
        return True

    def context_for(self, sop_class: str, syntax: str) -> Context | None:
        """Return the accepted context of that SOP class and transfer syntax."""
        for context in self.core.contexts.values():
            if context.abstract == sop_class and context.syntax == syntax:
                return context
        return None

    def proposed(self, sop_class: str, syntax: str) -> bool:
        """Whether such a context was asked for."""
        return any(offer.abstract == sop_class and syntax in offer.syntaxes for offer in self.request.offers)

    # requests

    def echo(self, context: Context) -> Deferred[Command]:
        """Send C-ECHO; fires with the response."""
        answered, message_id = self._expect()
        self.write(self.core.message(context.id, dimse.request(Field.C_ECHO, message_id, context.abstract)))
        return answered

    async def store(self, context: Context, instance: str, head: bytes, file: BinaryIO) -> Command:
        """Send C-STORE of `head` and then of the open file from where it stands; return the response."""
        answered, message_id = self._expect()
        self.write(self.core.message(context.id, dimse.request(Field.C_STORE, message_id, context.abstract, instance)))
        try:
            await self._stream(context.id, head, file)
        except OSError as error:  # half a dataset is on its way: the association is of no more use
            answered.addErrback(lambda failure: None)
            self.abandon()
            raise Refused(f"the object cannot be read from the spool: {type(error).__name__}") from error
        return await answered

    async def _stream(self, context: int, head: bytes, file: BinaryIO) -> None:
        """Send at the transport's pace; an answer that comes early does not end it, a lost connection does."""
        flow = Flow()
        self.transport.registerProducer(flow, True)
        try:
            data = head + file.read(CHUNK - len(head) % CHUNK)
            while data and self.core.can_send:
                following = file.read(CHUNK)
                self._fragments(context, data, last=not following)
                data = following
                await flow.ready()
                if self._pending is not None:
                    self._watch()
        finally:
            self.transport.unregisterProducer()

    def _fragments(self, context: int, data: bytes, *, last: bool) -> None:
        view, most, end = memoryview(data), self.core.max_data, len(data)
        parts: list[bytes | memoryview] = []
        for at in range(0, end, most):
            piece = view[at : at + most]
            parts += [self.core.data_head(context, len(piece), last and at + most >= end), piece]
        self.write(b"".join(parts))

    def _expect(self) -> tuple[Deferred[Command], int]:
        self._message_id = self._message_id % 0xFFFF + 1
        pending: Deferred[Command] = Deferred()
        self._pending = pending
        self._watch()
        return pending, self._message_id

    def release(self) -> Deferred[None]:
        """Release the association, or abort it where that is not possible; fires when the connection is closed."""
        if self.is_open:
            self.perform(self.core.release())
            cut = self.clock.callLater(_RELEASE, self.abandon)
            self.closed.addBoth(lambda result: cut.cancel() if cut.active() else None)
        else:
            self.abort()
        return self.closed

    def abandon(self) -> None:
        """Abort, and do not wait for the peer."""
        self.abort()
        self._close()

    # what comes back

    def on_accepted(self, answer: Answer) -> None:
        """The association is there."""
        self._unwatch()
        self.answer, self._is_opened = answer, True
        self.opened.callback(answer)

    def on_rejected(self, rejection: Rejection) -> None:
        """There will be no association."""
        self._fail(Retry(f"association rejected: {rejection.text}"))

    def on_aborted(self, aborted: Aborted) -> None:
        """Whatever was waited for will not come."""
        why = {"peer": "association aborted by the peer", "transport": "connection lost", "local": "the peer broke the protocol"}
        self._fail(Retry(why[aborted.by]))

    def on_released(self) -> None:
        """The association is over as asked."""
        super().on_released()
        self._fail(Retry("association released"))

    def on_release_requested(self) -> None:
        """The peer wants no more."""
        super().on_release_requested()
        self._fail(Retry("association released by the peer"))

    def on_fault(self, what: str) -> None:
        """Pass on to whom counts."""
        self._told_fault(what)

    def on_message(self, message: Message) -> None:
        """A response ends the request it belongs to; a request is none of an SCU's business."""
        command, pending = message.command, self._pending
        if not command.is_response:
            self.on_fault("request to an SCU")
            self.abort()
        elif pending is not None and command.message_id == self._message_id:
            self._pending = None
            self._unwatch()
            pending.callback(command)

    def connectionLost(self, reason: Any = None) -> None:
        """The connection is gone."""
        super().connectionLost(reason)
        self._fail(Retry("connection lost"))
        self.closed.callback(None)

    def _fail(self, error: DeliveryError) -> None:
        self._unwatch()
        pending, self._pending = self._pending, None
        if not self._is_opened:
            self._is_opened = True
            self.opened.errback(error)
        if pending is not None:
            pending.errback(error)

    # patience

    def _watch(self) -> None:
        self._unwatch()
        self._timer = self.clock.callLater(self._patience, self._too_late)

    def _unwatch(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _too_late(self) -> None:
        self._timer = None
        self._fail(Retry(f"no answer in {self._patience:g} s"))
        self.abandon()


def offers(wanted: list[tuple[str, str]]) -> tuple[Offer, ...]:
    """Return one presentation context for each SOP class and transfer syntax."""
    return tuple(Offer(2 * at + 1, sop_class, (syntax,)) for at, (sop_class, syntax) in enumerate(wanted))


async def connect(reactor: Any, host: str, port: int, requestor: Requestor, timeout: float) -> Requestor:
    """Open the connection and the association; raises Retry."""
    try:
        await _endpoint(reactor, host, port, timeout).connect(Factory.forProtocol(lambda: requestor))
    except Exception as error:
        requestor.opened.addErrback(lambda failure: None)
        requestor._fail(Retry(""))
        raise Retry(f"cannot connect: {type(error).__name__}") from error
    await requestor.opened
    return requestor


def _endpoint(reactor: Any, host: str, port: int, timeout: float) -> Any:
    try:
        version = ip_address(host).version
    except ValueError:
        return HostnameEndpoint(reactor, host, port, timeout=timeout)
    return (TCP4ClientEndpoint if version == 4 else TCP6ClientEndpoint)(reactor, host, port, timeout=timeout)


def echo(reactor: Any, host: str, port: int, *, called: str, calling: str = "BROKER", timeout: float = 10.0, log: Log) -> Deferred[int]:
    """Verify that a peer answers C-ECHO; fires with the status, fails with Retry or Refused."""

    async def run() -> int:
        request = Request(calling, called, offers([(_VERIFICATION, _IMPLICIT)]), Limits().max_pdu)
        link = await connect(reactor, host, port, Requestor(request, reactor, log, patience=timeout), timeout)
        context = link.context_for(_VERIFICATION, _IMPLICIT)
        try:
            if context is None:
                raise Refused("the peer does not offer verification")
            return (await link.echo(context)).status
        finally:
            link.release()

    return Deferred.fromCoroutine(run())
