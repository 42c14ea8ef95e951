"""Objects that come back over an association of our own and are not taken in, but passed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from broker.connectors.dicom_services import Filing, Receiver, Spool, SpoolFile, refuse_reason
from broker.dicom.dimse import Field
from broker.model import Spooled

if TYPE_CHECKING:
    from broker.connectors.dicom_exchange import Exchange
    from broker.connectors.dicom_requestor import Requestor, Serve
    from broker.dicom.happenings import Message

PassOn = Callable[[Spooled], Deferred[int]]  # fires with the status that the sender gets


class Passing(Filing):
    """C-STORE of an object that lies in the spool until it is passed on; then nothing of it is left here."""

    def __init__(self, exchange: Exchange, message: Message, spool: Spool, pass_on: PassOn) -> None:
        super().__init__(exchange, message, spool)
        self._pass_on = pass_on

    def flush(self) -> None:
        """Write the pieces; the peer is at work."""
        self.acceptor.requests.heard()
        super().flush()

    def finish(self, file: SpoolFile) -> None:
        """Pass the object on, and answer with what became of it there."""
        file.finish(durable=False).addCallback(self.spooled).addCallback(self._pass_on).addCallbacks(self.answer, self.failed)


def passing(spool: Spool, pass_on: PassOn) -> Serve:
    """Return what takes the requests of a peer that sends objects back: C-STORE, and nothing else."""

    def serve(requestor: Requestor, message: Message) -> Receiver | None:
        if message.command.field != Field.C_STORE:
            return None
        wrong = refuse_reason(message)
        return Passing(requestor, message, spool, pass_on) if wrong is None else Receiver(requestor, message, wrong)

    return serve
