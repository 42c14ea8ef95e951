"""Modalities and archives on pynetdicom that ask for storage commitment, give it, or do not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance  # type: ignore[attr-defined]

from tests.peers import IMAGES

Verdict = Callable[[str], int]  # SOP Instance UID -> Failure Reason, 0 for committed


def referenced(uids: Sequence[tuple[str, str]], reasons: Sequence[int] = ()) -> list[Dataset]:
    items = []
    for at, (sop_class, uid) in enumerate(uids):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        if reasons:
            item.FailureReason = reasons[at]
        items.append(item)
    return items


class Modality:
    """Stores images, asks for commitment, and keeps the reports: over the association that asked, or at its own port."""

    def __init__(self, ae_title: str, broker: int, port: int = 0) -> None:
        self.reports: list[tuple[int, Dataset, str]] = []  # event type, what it said, "same" or "new" association
        self._ae, self._broker, self._port = AE(ae_title=ae_title), broker, port
        self._server: Any = None
        self._asking: Any = None

    def listen(self) -> None:
        """Take reports at the port."""
        here = AE(ae_title=self._ae.ae_title)
        here.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers = [(evt.EVT_N_EVENT_REPORT, self._reported, ["new"])]
        self._server = here.start_server(("127.0.0.1", self._port), block=False, evt_handlers=handlers)

    def close(self) -> None:
        """Let go of the association that asked, and of the port."""
        if self._asking is not None:
            self._asking.release()
            self._asking = None
        if self._server is not None:
            self._server.shutdown()

    def _reported(self, event: evt.Event, how: str) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information, how))
        return 0x0000, None

    def store(self, images: Sequence[Dataset]) -> list[int]:
        """Store images, and return the statuses."""
        association = self._ae.associate("127.0.0.1", self._broker, contexts=[_context(one) for one in IMAGES], ae_title="BROKER")
        assert association.is_established
        statuses = [association.send_c_store(image).Status for image in images]
        association.release()
        return statuses

    def ask(self, images: Sequence[Dataset], *, transaction: str = "", stay: bool = True) -> int:
        """Ask for commitment of images, and stay for the report or leave; return the status."""
        handlers = [(evt.EVT_N_EVENT_REPORT, self._reported, ["same"])]
        contexts = [_context(StorageCommitmentPushModel)]
        asking = self._ae.associate("127.0.0.1", self._broker, contexts=contexts, ae_title="BROKER", evt_handlers=handlers)
        assert asking.is_established
        action = Dataset()
        action.TransactionUID = transaction or generate_uid()
        action.ReferencedSOPSequence = referenced([(image.SOPClassUID, image.SOPInstanceUID) for image in images])
        status, _ = asking.send_n_action(action, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        if stay:
            self._asking = asking
        else:
            asking.release()
        return int(status.Status)


class CommittingArchive:
    """Takes images, and reports of each request for commitment as `verdict` says, over the same association or a new one."""

    def __init__(self, port: int, broker: int, verdict: Verdict | None, *, same: bool = False) -> None:
        """Without a verdict it takes requests and never reports."""
        self.received: list[str] = []
        self.requests: list[tuple[str, list[str]]] = []  # transaction, instances
        self.verdict, self._port, self._broker, self._same = verdict, port, broker, same
        self._ae = AE(ae_title="ARCHIVE")
        for sop_class in IMAGES:
            self._ae.add_supported_context(sop_class)
        self._ae.add_supported_context(StorageCommitmentPushModel)
        self._server: Any = None

    def start(self) -> None:
        """Listen."""
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._asked)]
        self._server = self._ae.start_server(("127.0.0.1", self._port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        """Close the port and every association."""
        for association in self._server.active_associations:
            association.abort()
        self._server.shutdown()

    def _store(self, event: evt.Event) -> int:
        self.received.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def _asked(self, event: evt.Event) -> tuple[int, None]:
        action = event.action_information
        named = [(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)) for item in action.ReferencedSOPSequence]
        self.requests.append((str(action.TransactionUID), [uid for _, uid in named]))
        if self.verdict is not None:
            event_type, said = self._report(str(action.TransactionUID), named, self.verdict)
            threading.Timer(0.1, self._tell, [event.assoc, event_type, said]).start()
        return 0x0000, None

    def _report(self, transaction: str, named: Sequence[tuple[str, str]], verdict: Verdict) -> tuple[int, Dataset]:
        said = Dataset()
        said.TransactionUID = transaction
        failed = [one for one in named if verdict(one[1])]
        said.ReferencedSOPSequence = referenced([one for one in named if one not in failed])
        if failed:
            said.FailedSOPSequence = referenced(failed, [verdict(uid) for _, uid in failed])
        return (2 if failed else 1), said

    def _tell(self, asked: Any, event_type: int, said: Dataset) -> None:
        association = asked if self._same else self._call()
        association.send_n_event_report(said, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        if not self._same:
            association.release()

    def _call(self) -> Any:
        roles = [build_role(StorageCommitmentPushModel, scp_role=True)]
        contexts = [_context(StorageCommitmentPushModel)]
        association = self._ae.associate("127.0.0.1", self._broker, contexts=contexts, ae_title="BROKER", ext_neg=roles)
        assert association.is_established
        return association


def _context(sop_class: str) -> Any:
    from pynetdicom.presentation import build_context

    return build_context(sop_class, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
