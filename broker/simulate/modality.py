"""A modality: asks its worklist, says what it performs, and stores its images."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import build_context, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)
from twisted.internet.defer import Deferred

from broker.dicom.commitment import REQUEST, Reference, Report, read_report, request
from broker.simulate.dicom import NO_ANSWER, AssociationRefused, Threads, association, heard, status_of
from broker.simulate.images import performed_created, performed_ended, pixel_digest, scheduled_step, uid

SUCCESS = 0x0000
PENDING = (0xFF00, 0xFF01)

RETURN_KEYS = (
    "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "StudyInstanceUID", "RequestedProcedureDescription", "RequestedProcedureID", "RequestedProcedurePriority",
)  # fmt: skip
STEP_KEYS = (
    "Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime",
    "ScheduledProcedureStepDescription", "ScheduledProcedureStepID", "ScheduledPerformingPhysicianName", "ScheduledProcedureStepLocation",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Performed:
    """A performed procedure step: its SOP Instance UID, what it was begun for, and the status that N-CREATE was answered with."""

    uid: str
    entry: Dataset
    status: int


class Modality:
    """One station. Every request opens an association of its own; statuses are DIMSE statuses, or NO_ANSWER.

    `stored` holds the pixel digests of the images that were answered with success or a warning, by SOP Instance UID.
    """

    def __init__(self, reactor: Any, ae_title: str, host: str, port: int, *, called: str = "BROKER", timeout: float = 60.0) -> None:
        self.ae_title = ae_title
        self.stored: dict[str, str] = {}
        self.performed: dict[str, str] = {}  # MPPS UID -> the last status the broker took
        self.acknowledged = 0  # MPPS requests answered with success
        self.asked = 0  # requests for storage commitment answered with success
        self.reports: list[Report] = []  # that came of them
        self._address, self._called, self._timeout = (host, port), called, timeout
        self._threads = Threads(reactor, 1, f"modality {ae_title}")

    def echo(self) -> Deferred[int]:
        """C-ECHO: fire with the status."""
        return self._threads.run(self._echo)

    def worklist(self, keys: Mapping[str, str] | None = None, *, charset: str = "ISO_IR 192") -> Deferred[list[Dataset]]:
        """C-FIND: fire with the matching entries.

        Keys are DICOM keywords; those of the scheduled procedure step go into its sequence by themselves.
        """
        return self._threads.run(lambda: self._find(worklist_identifier(keys or {}, charset)))

    def start(self, entry: Dataset, at: str = "20260302080000") -> Deferred[Performed]:
        """MPPS N-CREATE for a worklist entry; `at` is YYYYMMDDHHMMSS."""
        step = scheduled_step(entry).get("ScheduledProcedureStepID", "")
        made = uid(self.ae_title, entry.get("StudyInstanceUID", ""), entry.get("AccessionNumber", ""), step, at, "mpps")
        attributes = performed_created(entry, station=self.ae_title, at=at, step_id=f"P{at[2:14]}")
        return self._threads.run(lambda: Performed(made, entry, self._perform(made, attributes, create=True)))

    def store(self, images: Sequence[Dataset]) -> Deferred[list[int]]:
        """C-STORE over one association: fire with a status for each image."""
        return self._threads.run(lambda: self._store(images))

    def complete(self, performed: Performed, images: Sequence[Dataset], at: str = "20260302083000") -> Deferred[int]:
        """MPPS N-SET COMPLETED, naming the images made: fire with the status."""
        return self._end(performed, images, "COMPLETED", at)

    def discontinue(self, performed: Performed, images: Sequence[Dataset] = (), at: str = "20260302083000") -> Deferred[int]:
        """MPPS N-SET DISCONTINUED: fire with the status."""
        return self._end(performed, images, "DISCONTINUED", at)

    def commit(self, images: Sequence[Dataset]) -> Deferred[int]:
        """Ask for storage commitment, and stay for the report: fire with how many the broker has committed."""
        named = [Reference(image.SOPClassUID, image.SOPInstanceUID) for image in images]
        made = uid(self.ae_title, *(one.uid for one in named), "transaction")
        return self._threads.run(lambda: self._commit(request(made, named)))

    def stop(self) -> None:
        """End the modality's thread."""
        self._threads.stop()

    def _end(self, performed: Performed, images: Sequence[Dataset], status: str, at: str) -> Deferred[int]:
        attributes = performed_ended(images, status=status, at=at)
        return self._threads.run(lambda: self._perform(performed.uid, attributes, create=False))

    def _associate(self, *sop_classes: Any, handlers: Sequence[Any] = ()) -> Any:
        contexts = [build_context(*each) if isinstance(each, tuple) else build_context(each) for each in sop_classes]
        return association(self.ae_title, self._address, self._called, contexts, self._timeout, handlers)

    def _echo(self) -> int:
        with self._associate(Verification) as peer:
            return status_of(peer.send_c_echo())

    def _find(self, identifier: Dataset) -> list[Dataset]:
        found = []
        status = NO_ANSWER
        with self._associate(ModalityWorklistInformationFind) as peer:
            for answer, entry in peer.send_c_find(identifier, ModalityWorklistInformationFind):
                status = status_of(answer)
                if status in PENDING and entry is not None:
                    found.append(entry)
        if status != SUCCESS:
            raise AssociationRefused(f"the worklist query ended with status {status:#06x}")
        return found

    def _perform(self, made: str, attributes: Dataset, *, create: bool) -> int:
        with self._associate(ModalityPerformedProcedureStep) as peer:
            send = peer.send_n_create if create else peer.send_n_set
            status = status_of(send(attributes, ModalityPerformedProcedureStep, made)[0])
        if status == SUCCESS:
            self.acknowledged += 1
            self.performed[made] = str(attributes.PerformedProcedureStepStatus)
        return status

    def _commit(self, action: Dataset) -> int:
        told = threading.Event()

        def report(event: evt.Event) -> tuple[int, None]:
            self.reports.append(read_report(event.event_information))
            told.set()
            return SUCCESS, None

        with self._associate(StorageCommitmentPushModel, handlers=[(evt.EVT_N_EVENT_REPORT, report)]) as peer:
            answer, _ = peer.send_n_action(action, REQUEST, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
            if status_of(answer) != SUCCESS:
                return 0
            self.asked += 1
            heard(peer)
            return len(self.reports[-1].committed) if told.wait(self._timeout) else 0

    def _store(self, images: Sequence[Dataset]) -> list[int]:
        statuses = []
        kinds = sorted({(str(image.SOPClassUID), str(image.file_meta.TransferSyntaxUID)) for image in images})
        with self._associate(*kinds) as peer:
            for image in images:
                # pynetdicom raises when the association has gone, and answers nothing when it goes
                status = status_of(peer.send_c_store(image)) if peer.is_established else NO_ANSWER
                statuses.append(status)
                if status == SUCCESS or status >> 12 == 0xB:
                    self.stored[str(image.SOPInstanceUID)] = pixel_digest(image)
        return statuses


def worklist_identifier(keys: Mapping[str, str], charset: str = "ISO_IR 192") -> Dataset:
    """Return the identifier of a worklist query: the keys to match, and the usual ones to return."""
    step, identifier = Dataset(), Dataset()
    identifier.SpecificCharacterSet = charset
    for keyword in (*RETURN_KEYS, *(key for key in keys if key not in STEP_KEYS)):
        setattr(identifier, keyword, keys.get(keyword, ""))
    for keyword in STEP_KEYS:
        setattr(step, keyword, keys.get(keyword, ""))
    step.ScheduledProtocolCodeSequence = Items([])
    identifier.ScheduledProcedureStepSequence = Items([step])
    return identifier
