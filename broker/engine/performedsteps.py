"""MPPS at the intake: how a request is read, what it is answered, and what N-GET gives of the step."""

from __future__ import annotations

from collections.abc import Iterable

from broker.connectors.base import PerformedAnswer
from broker.dicom import performedstep
from broker.dicom.dataset import EXPLICIT_LITTLE, decode, encode
from broker.dicom.dimse import Status
from broker.engine.intake import Verdict
from broker.errors import MessageError
from broker.model import Received
from broker.pipeline.header import Header
from broker.ris import performed
from broker.store.database import Transaction
from broker.store.records import RecordStore

# what is wrong with an MPPS, as DIMSE status (PS3.7 annex C); all else is a processing failure
_STATUS = {
    205: Status.DUPLICATE_INSTANCE,
    204: Status.NO_SUCH_OBJECT,
    performedstep.MISSING: Status.MISSING_ATTRIBUTE,
    performedstep.EMPTY: Status.MISSING_ATTRIBUTE_VALUE,
    performedstep.CHANGED: Status.INVALID_ATTRIBUTE_VALUE,
    103: Status.INVALID_ATTRIBUTE_VALUE,
}
_NAMED = frozenset((Status.MISSING_ATTRIBUTE, Status.MISSING_ATTRIBUTE_VALUE, Status.INVALID_ATTRIBUTE_VALUE))


def header_of(received: Received) -> Header:
    """Return an N-CREATE or N-SET as routes see it; raises MessageError when its attributes cannot be read."""
    header = Header({}, decode(received.raw, EXPLICIT_LITTLE), kind=received.kind, sender=received.sender, uid=received.control_id)
    header.raw = received.raw
    return header


def status_of(verdict: Verdict) -> int:
    """Return the status of what the RIS and the routes have made of the request."""
    if verdict.error is None:
        return Status.SUCCESS
    return _STATUS.get(verdict.error.code, Status.PROCESSING_FAILURE)


def answer_of(status: int, verdict: Verdict | None) -> PerformedAnswer:
    """Return the whole answer: what is wrong in words, and the attribute that is to blame where the status is about one."""
    error = verdict.error if verdict is not None else None
    if error is None:
        return PerformedAnswer(status)
    tag = performedstep.tag_of(error.path) if status in _NAMED else 0
    return PerformedAnswer(
        status,
        error_id=performedstep.MAY_NO_LONGER_BE_UPDATED if error.code == performed.FINAL else 0,
        attributes=(tag,) if tag else (),
        comment=error.why.encode("ascii", "replace").decode(),
    )


def get(tx: Transaction, uid: str, tags: Iterable[int], syntax: str) -> PerformedAnswer:
    """Return the answer to an N-GET: the attributes asked for as they are now, all without any (PS3.4 F.8.2.1)."""
    found = performed.kept(RecordStore(tx), uid)
    if found is None or not found[1]:
        return PerformedAnswer(Status.NO_SUCH_OBJECT)
    try:
        attributes, missing = performedstep.selected(decode(found[1], EXPLICIT_LITTLE), tags)
        dataset = encode(attributes, syntax)
    except MessageError:
        return PerformedAnswer(Status.PROCESSING_FAILURE)
    return PerformedAnswer(Status.ATTRIBUTES_NOT_SUPPORTED if missing else Status.SUCCESS, attributes=missing, dataset=dataset)
