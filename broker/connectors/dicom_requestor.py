"""One association that this side opens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from broker.connectors.dicom_exchange import Exchange
from broker.connectors.dicom_peers import Peer
from broker.connectors.dicom_services import Receiver
from broker.connectors.mllp_wire import endpoint, tls_failure
from broker.connectors.tls import secured
from broker.dicom.association import Association
from broker.dicom.dataset import IMPLICIT_LITTLE
from broker.dicom.happenings import Message
from broker.dicom.negotiation import Answer, Context, Identity, Offer, Rejection, Request
from broker.dicom.pdus import Limits
from broker.dicom.states import State
from broker.errors import DeliveryError, Refused, Retry
from broker.obs.log import Log
from broker.security.tls import Credentials

if TYPE_CHECKING:
    from broker.connectors.dicom_serving import Serving

VERIFICATION = "1.2.840.10008.1.1"
_ARTIM = 10.0  # seconds the peer has to close at the end
_RELEASE = 5.0  # seconds the peer has to agree to a release
Serve = Callable[["Requestor", Message], Receiver | None]


class Rejected(Retry):
    """The peer rejected the association; `permanent`: it would do so again, as far as it knows (PS3.8 table 9-21)."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(f"association rejected: {rejection.text}")
        self.permanent = rejection.result == 1


def serve_nothing(requestor: Requestor, message: Message) -> None:
    """A request is none of an SCU's business."""


class Requestor(Exchange):
    """The shell of one association asked for; `opened` and `closed` fire when it is, and when it is no more.

    `serve` says what takes the requests that the peer sends over it (C-STORE of a C-GET, N-EVENT-REPORT), `serving` what those work with.
    """

    def __init__(
        self,
        request: Request,
        clock: Any,
        log: Log,
        *,
        patience: float,
        on_fault: Callable[[str], None] = lambda what: None,
        serve: Serve = serve_nothing,
        serving: Serving | None = None,
    ) -> None:
        core = Association(acceptor=False, limits=Limits(max_pdu=request.max_pdu))
        core.associate(request)
        super().__init__(core, clock, log, artim=_ARTIM, idle=patience, patience=patience)
        self.request, self.peer = request, Peer()
        if serving is not None:
            self.serving = serving
        self.opened: Deferred[Answer] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self.answered: Answer | None = None  # what the peer granted
        self._told_fault, self._serve = on_fault, serve
        self._is_opened = False
        self._timer: Any = clock.callLater(patience, self._too_late)
        self._patience = patience

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent."""
        return self.core.state is State.ESTABLISHED

    @property
    def waiting(self) -> bool:
        """The owner watches over an idle association, `requests` over what is asked."""
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

    def release(self) -> Deferred[None]:
        """Release the association, or abort it where that is not possible; fires when the connection is closed."""
        if self.is_open:
            self.perform(self.core.release())
            cut = self.clock.callLater(_RELEASE, self.abandon)
            self.closed.addBoth(lambda result: cut.cancel() if cut.active() else None)
        else:
            self.abort()
        return self.closed

    # what comes in

    def receiver_for(self, message: Message) -> Receiver | None:
        """Return what takes a request of the peer."""
        return self._serve(self, message)

    def on_accepted(self, answer: Answer) -> None:
        """The association is there."""
        self._unwatch()
        self.answered, self._is_opened = answer, True
        self.opened.callback(answer)

    def on_rejected(self, rejection: Rejection) -> None:
        """There will be no association."""
        self.fail(Rejected(rejection))

    def on_released(self) -> None:
        """The association is over as asked."""
        super().on_released()
        self.fail(Retry("association released"))

    def on_release_requested(self) -> None:
        """The peer wants no more."""
        super().on_release_requested()
        self.fail(Retry("association released by the peer"))

    def on_fault(self, what: str) -> None:
        """Pass on to whom counts."""
        self._told_fault(what)

    def give_up(self, why: str) -> None:
        """Nothing more comes; an association that was not open yet will not be."""
        super().give_up(why)
        self.fail(Retry(why))

    def connectionLost(self, reason: Any = None) -> None:
        """The connection is gone."""
        if reason is not None and (why := tls_failure(reason)):
            self.fail(Retry(f"no TLS: {why}"))
        super().connectionLost(reason)
        self.closed.callback(None)

    def fail(self, error: DeliveryError) -> None:
        """Tell whoever waits for the association or for an answer."""
        self._unwatch()
        if not self._is_opened:
            self._is_opened = True
            self.opened.errback(error)
        self.requests.fail(error)

    # patience until the association is there

    def _unwatch(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _too_late(self) -> None:
        self._timer = None
        self.fail(Retry(f"no answer in {self._patience:g} s"))
        self.abandon()


def offers(wanted: list[tuple[str, str]]) -> tuple[Offer, ...]:
    """Return one presentation context for each SOP class and transfer syntax."""
    return tuple(Offer(2 * at + 1, sop_class, (syntax,)) for at, (sop_class, syntax) in enumerate(wanted))


async def connect(
    reactor: Any, host: str, port: int, requestor: Requestor, timeout: float, *, credentials: Credentials | None = None
) -> Requestor:
    """Open the connection, in TLS where there are credentials, and the association; raises Retry."""
    factory = secured(Factory.forProtocol(lambda: requestor), credentials, client=True)
    try:
        await endpoint(reactor, host, port, timeout).connect(factory)
    except Exception as error:
        requestor.opened.addErrback(lambda failure: None)
        requestor.fail(Retry(""))
        raise Retry(f"cannot connect: {type(error).__name__}") from error
    await requestor.opened
    return requestor


def echo(
    reactor: Any,
    host: str,
    port: int,
    *,
    called: str,
    calling: str = "BROKER",
    timeout: float = 10.0,
    log: Log,
    credentials: Credentials | None = None,
    identity: Identity | None = None,
) -> Deferred[int]:
    """Verify that a peer answers C-ECHO; fires with the status, fails with Retry or Refused."""

    async def run() -> int:
        request = Request(calling, called, offers([(VERIFICATION, IMPLICIT_LITTLE)]), Limits().max_pdu, identity=identity)
        link = Requestor(request, reactor, log, patience=timeout)
        await connect(reactor, host, port, link, timeout, credentials=credentials)
        context = link.context_for(VERIFICATION, IMPLICIT_LITTLE)
        try:
            if context is None:
                raise Refused("the peer does not offer verification")
            return (await link.requests.echo(context)).status
        finally:
            link.release()

    return Deferred.fromCoroutine(run())
