"""Instance Availability Notification on the wire: N-CREATE from an archive."""

from __future__ import annotations

from typing import Any

from pydicom.uid import generate_uid
from twisted.internet.defer import Deferred

from broker.connectors.dicom_services import Gathering


class Notifying(Gathering):
    """One notification."""

    def work(self, dataset: Any) -> Deferred[None]:
        """Hand over, then answer with the UID of what was created."""
        uid = self.command.sop_instance or str(generate_uid())
        taking = self.acceptor.serving.intake.receive_availability(self.acceptor.caller, uid, dataset)
        return taking.addCallback(lambda status: self.answer(status, instance=uid, counted=True))
