"""MPPS and stored objects as requests to the RIS."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from typing import Any, cast, get_args

from pydicom.dataset import Dataset

from broker.dicom import dosereport
from broker.dicom import performedstep as law
from broker.dicom.coerce import coerce
from broker.dicom.dataset import EXPLICIT_LITTLE, decode, encode
from broker.errors import MessageError
from broker.model import Spooled
from broker.pipeline.fields import Fields
from broker.pipeline.header import Header
from broker.pipeline.tables import Table
from broker.ris.entities import Performed
from broker.ris.events import DoseReading, Outcome, PerformStep, ScheduledItem, SeriesMade, StoreInstance

OUTCOMES = frozenset(outcome for outcome in get_args(Outcome) if outcome)

_TEXTS = ("accession", "study_uid", "station", "started_at", "ended_at", "patient_id", "issuer")
_REASONS = "PerformedProcedureStepDiscontinuationReasonCodeSequence"
_KINDS = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")
_ITEM = {
    "accession": "AccessionNumber",
    "study_uid": "StudyInstanceUID",
    "sps_id": "ScheduledProcedureStepID",
    "requested_procedure_id": "RequestedProcedureID",
}

Kept = Callable[[str], tuple[Performed, bytes] | None]


def perform_step(header: Header, fields: Fields, kept: Kept, reasons: Table | None, *, complete: bool = True) -> PerformStep:
    """Return what an N-CREATE or N-SET makes of its MPPS, whose attributes `kept` gives by its uid.

    reasons: the table of discontinuation reasons. complete: raise MessageError when the request lacks what PS3.4 table F.7.2-1 requires,
    or changes what may not be changed; otherwise take it as it is, without such changes.
    """
    create, uid = header.kind == "N-CREATE", header.get("uid")
    whole = _whole(attributes_of(header), create, kept(uid), complete)
    read = Header({}, whole, kind=header.kind, sender=header.get("sender"), uid=uid)
    texts = {name: _first(read, fields[name]) for name in _TEXTS}
    status = _first(read, fields["status"])
    if not status and create:
        raise MessageError(fields["status"][0], "required attribute is empty", law.EMPTY)
    made = tuple(_series(whole))
    code, scheme, meaning, outcome = _reason(whole, reasons) if status == "DISCONTINUED" else ("", "", "", "")
    dose, fault = _dose(whole) if status in law.FINAL_STATES else (None, "")
    return PerformStep(
        uid=uid,
        create=create,
        status=status or "IN PROGRESS",
        series=len(made),
        instances=sum(one.instances for one in made),
        sps_id=_first(read, fields["sps_id"]),
        modality=str(whole.get("Modality") or ""),
        items=_items(whole, texts["accession"], texts["study_uid"], _first(read, fields["sps_id"])),
        made=tuple(one for one in made if one.uid),
        reason_code=code,
        reason_scheme=scheme,
        reason=meaning,
        outcome=cast(Outcome, outcome),
        dose=dose,
        dose_fault=fault,
        attributes=encode(whole, EXPLICIT_LITTLE),
        **texts,
    )


def attributes_of(header: Header) -> Dataset:
    """Return the attributes of a request with the changes that the route has made; raises MessageError when they cannot be made."""
    attributes = header.dataset if header.dataset is not None else Dataset()
    if not header.changes:
        return attributes
    before = attributes.get("OriginalAttributesSequence")
    changed = coerce(deepcopy(attributes), header.changes, reason="COERCE", system="", now="", removals=header.removals)
    if before is None:
        del changed.OriginalAttributesSequence  # of stored objects only
    else:
        changed.OriginalAttributesSequence = before
    return changed


def _whole(sent: Dataset, create: bool, known: tuple[Performed, bytes] | None, complete: bool) -> Dataset:
    """Return the attributes that the MPPS has after the request; what is wrong with its uid or its state is the RIS's to say."""
    if create:
        if complete and known is None:
            law.check_created(sent)
        return sent
    if known is None or known[0].status != "IN PROGRESS" or not known[1]:  # b"": begun under an earlier broker, which kept none
        return sent
    before = decode(known[1], EXPLICIT_LITTLE)
    if complete:
        law.check_changed(before, sent)
    whole = law.merged(before, sent)
    if complete:
        law.check_final(whole)
    return whole


def store_instance(header: Header, fields: Fields, spooled: Spooled | None) -> StoreInstance:
    """Return what a stored image says of itself; raises MessageError when there is no stored image."""
    if spooled is None:
        raise MessageError("kind", "this is not a stored image", 200)
    texts: dict[str, Any] = {name: _first(header, paths) for name, paths in fields.items()}
    texts["uid"] = texts["uid"] or spooled.sop_instance
    return StoreInstance(
        sop_class=spooled.sop_class,
        spool=spooled.name,
        size=spooled.size,
        digest=spooled.digest,
        doses=tuple(DoseReading(**asdict(one)) for one in header.doses),
        dose_fault=header.dose_fault,
        **texts,
    )


def _first(header: Header, paths: tuple[str, ...]) -> str:
    for path in paths:
        parts = [header.get(part) for part in path.split("+")]
        if parts[0]:
            return parts[0] if len(parts) == 1 else parts[0] + parts[1].partition(".")[0]
    return ""


def _items(whole: Dataset, accession: str, study_uid: str, sps_id: str) -> tuple[ScheduledItem, ...]:
    """Return what is performed, the first as the route's fields have it."""
    items = [{name: _text(item, keyword) for name, keyword in _ITEM.items()} for item in whole.get(law.STEPS) or ()]
    first = {**(items[0] if items else {}), "accession": accession, "study_uid": study_uid, "sps_id": sps_id}
    return tuple(ScheduledItem(**item) for item in (first, *items[1:]))


def _series(whole: Dataset) -> list[SeriesMade]:
    return [
        SeriesMade(_text(item, "SeriesInstanceUID"), sum(len(item.get(kind) or ()) for kind in _KINDS))
        for item in whole.get(law.SERIES) or ()
    ]


def _reason(whole: Dataset, reasons: Table | None) -> tuple[str, str, str, str]:
    """Return code, coding scheme, meaning and outcome of a discontinuation; what is in no table has no meaning here, and is given up."""
    items = whole.get(_REASONS) or ()
    if not items:
        return "", "", "", "discontinue"
    code, scheme = _text(items[0], "CodeValue") or _text(items[0], "LongCodeValue"), _text(items[0], "CodingSchemeDesignator")
    row = reasons.row(code) if reasons is not None and code else None
    if row is None or row["scheme"] not in ("", scheme):
        return code, scheme, "", "discontinue"
    return code, scheme, row["meaning"], row["action"]


def _dose(whole: Dataset) -> tuple[DoseReading | None, str]:
    """Return what the MPPS says of its dose, or why that is not taken."""
    try:
        found = dosereport.of_performed(whole)
    except MessageError as error:
        return None, str(error)
    return (DoseReading(**asdict(found)) if found else None), ""


def _text(item: Dataset, keyword: str) -> str:
    return str(item.get(keyword) or "")
