"""Storage Commitment Push Model (PS3.4 annex J): what its requests and reports say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from broker.dicom.negotiation import is_uid
from broker.errors import MessageError

PUSH_MODEL = "1.2.840.10008.1.20.1"  # SOP class
PUSH_INSTANCE = "1.2.840.10008.1.20.1.1"  # its well-known instance
REQUEST = 1  # Action Type ID
SUCCESSFUL, FAILURES_EXIST = 1, 2  # Event Type IDs


class FailureReason(IntEnum):
    """Failure Reason (0008,1197), PS3.3 C.14.1.1."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_CONFLICT = 0x0119
    CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION = 0x0131
    RESOURCE_LIMITATION = 0x0213


MEANINGS = {
    FailureReason.PROCESSING_FAILURE: "processing failure",
    FailureReason.NO_SUCH_INSTANCE: "no such object instance",
    FailureReason.CLASS_CONFLICT: "class and instance conflict",
    FailureReason.CLASS_NOT_SUPPORTED: "referenced SOP class not supported",
    FailureReason.DUPLICATE_TRANSACTION: "duplicate transaction UID",
    FailureReason.RESOURCE_LIMITATION: "resource limitation",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """One SOP instance; `reason` is its Failure Reason, 0 where there is none."""

    sop_class: str
    uid: str
    reason: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What an N-EVENT-REPORT tells of the instances of one transaction."""

    transaction: str
    committed: tuple[Reference, ...]
    failed: tuple[Reference, ...] = ()

    @property
    def event_type(self) -> int:
        """Event Type ID."""
        return FAILURES_EXIST if self.failed else SUCCESSFUL


def meaning(reason: int) -> str:
    """Return a Failure Reason in words, with its code."""
    words = MEANINGS.get(reason, "unknown reason")  # type: ignore[call-overload]
    return f"{words} (0x{reason:04X})"


def read_request(dataset: Dataset) -> tuple[str, tuple[Reference, ...]]:
    """Return the Transaction UID of an N-ACTION and the instances it names, each once; raises MessageError."""
    references = _references(dataset, "ReferencedSOPSequence")
    if not references:
        raise MessageError("ReferencedSOPSequence", "missing or empty", 101)
    return _transaction(dataset), references


def request(transaction: str, references: Iterable[Reference]) -> Dataset:
    """Return the Action Information of an N-ACTION (table J.3-1)."""
    dataset = Dataset()
    dataset.TransactionUID = transaction
    dataset.ReferencedSOPSequence = [_item(one) for one in references]
    return dataset


def read_report(dataset: Dataset) -> Report:
    """Return what an N-EVENT-REPORT says; raises MessageError."""
    committed = _references(dataset, "ReferencedSOPSequence")
    return Report(_transaction(dataset), committed, _references(dataset, "FailedSOPSequence"))


def report(said: Report) -> Dataset:
    """Return the Event Information of an N-EVENT-REPORT (table J.3-2); a sequence without items is left out."""
    dataset = Dataset()
    dataset.TransactionUID = said.transaction
    if said.committed:
        dataset.ReferencedSOPSequence = [_item(one) for one in said.committed]
    if said.failed:
        dataset.FailedSOPSequence = [_item(one) for one in said.failed]
    return dataset


def _transaction(dataset: Dataset) -> str:
    uid = str(dataset.get("TransactionUID") or "")
    if not is_uid(uid):
        raise MessageError("TransactionUID", "missing, empty or no UID", 101)
    return uid


def _references(dataset: Dataset, keyword: str) -> tuple[Reference, ...]:
    items = dataset.get(keyword) or ()
    if items and not isinstance(items, Sequence):
        raise MessageError(keyword, "not a sequence", 102)
    found: dict[str, Reference] = {}
    for item in items:
        sop_class, uid = str(item.get("ReferencedSOPClassUID") or ""), str(item.get("ReferencedSOPInstanceUID") or "")
        if not is_uid(sop_class) or not is_uid(uid):
            raise MessageError(keyword, "an item without SOP class or instance UID", 101)
        found.setdefault(uid, Reference(sop_class, uid, _reason(item, keyword)))
    return tuple(found.values())


def _reason(item: Dataset, keyword: str) -> int:
    value = item.get("FailureReason") or 0
    if not isinstance(value, int):
        raise MessageError(f"{keyword}.FailureReason", "not a number", 102)
    return value


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference.sop_class, reference.uid
    if reference.reason:
        item.FailureReason = reference.reason
    return item
