"""MPPS on the wire: N-CREATE and N-SET of the performed procedure step, N-GET of what it has become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydicom.uid import generate_uid
from twisted.internet.defer import Deferred

from broker.connectors.base import PerformedAnswer
from broker.connectors.dicom_services import Gathering, Receiver
from broker.dicom import dimse
from broker.dicom.dataset import EXPLICIT_LITTLE
from broker.dicom.dimse import Field, Status
from broker.dicom.happenings import Message
from broker.dicom.performedstep import RETRIEVE

if TYPE_CHECKING:
    from broker.connectors.dicom_exchange import Exchange


def performing(acceptor: Exchange, message: Message) -> Receiver:
    """Return what takes a request: each of the two SOP classes (PS3.4 F.7, F.8) has operations of its own."""
    if (message.context.abstract == RETRIEVE) != (message.command.field == Field.N_GET):
        return Receiver(acceptor, message, Status.UNRECOGNISED_OPERATION)
    return _Retrieving(acceptor, message) if message.command.field == Field.N_GET else _Performing(acceptor, message)


class _Performing(Gathering):
    """N-CREATE and N-SET."""

    def work(self, dataset: Any) -> Deferred[None]:
        """Hand over, then answer with the status and, for a creation, the UID of what was created."""
        create = self.command.field == Field.N_CREATE
        uid = self.command.sop_instance or (str(generate_uid()) if create else "")
        raw = bytes(self._gathered) if self.context.syntax == EXPLICIT_LITTLE else b""
        done = self.acceptor.serving.intake.receive_performed(self.acceptor.caller, create, uid, dataset, raw)
        return done.addCallback(lambda answer: _send(self, answer, uid, counted=True))


class _Retrieving(Receiver):
    """N-GET."""

    def end(self) -> None:
        """Answer with the attributes asked for."""
        intake, command = self.acceptor.serving.intake, self.command
        getting = intake.get_performed(self.acceptor.caller, command.sop_instance, command.attributes, self.context.syntax)
        getting.addCallback(lambda answer: _send(self, answer, command.sop_instance, counted=False)).addErrback(self.failed)


def _send(receiver: Receiver, answer: PerformedAnswer, uid: str, *, counted: bool) -> None:
    response = dimse.response(
        receiver.command,
        answer.status,
        instance=uid,
        comment=answer.comment,
        with_dataset=bool(answer.dataset),
        error_id=answer.error_id,
        attributes=answer.attributes,
    )
    receiver.acceptor.answer(receiver, response, None if counted else answer.status, answer.dataset)
