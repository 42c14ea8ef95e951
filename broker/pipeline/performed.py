"""MPPS and stored images as requests to the RIS."""

from __future__ import annotations

from broker.errors import MessageError
from broker.model import Spooled
from broker.pipeline.fields import Fields
from broker.pipeline.header import Header
from broker.ris.events import PerformStep, StoreInstance

_TEXTS = ("accession", "study_uid", "station", "started_at", "ended_at", "patient_id", "issuer")


def perform_step(header: Header, fields: Fields) -> PerformStep:
    """Return what an N-CREATE or N-SET says; raises MessageError when the status is missing."""
    status = _first(header, fields["status"])
    if not status and header.kind == "N-CREATE":
        raise MessageError(fields["status"][0], "required attribute is empty", 101)
    series, instances = _counts(header)
    return PerformStep(
        uid=header.get("uid"),
        create=header.kind == "N-CREATE",
        status=status or "IN PROGRESS",
        series=series,
        instances=instances,
        sps_id=_steps(header) or _first(header, fields["sps_id"]),
        **{name: _first(header, fields[name]) for name in _TEXTS},
    )


def store_instance(header: Header, fields: Fields, spooled: Spooled | None) -> StoreInstance:
    """Return what a stored image says of itself; raises MessageError when there is no stored image."""
    if spooled is None:
        raise MessageError("kind", "this is not a stored image", 200)
    texts = {name: _first(header, paths) for name, paths in fields.items()}
    texts["uid"] = texts["uid"] or spooled.sop_instance
    return StoreInstance(sop_class=spooled.sop_class, spool=spooled.name, size=spooled.size, digest=spooled.digest, **texts)


def _first(header: Header, paths: tuple[str, ...]) -> str:
    for path in paths:
        parts = [header.get(part) for part in path.split("+")]
        if parts[0]:
            return parts[0] if len(parts) == 1 else parts[0] + parts[1].partition(".")[0]
    return ""


def _steps(header: Header) -> str:
    """Return the ids of the scheduled steps when one MPPS performs several, else ""."""
    items = (header.dataset.get("ScheduledStepAttributesSequence") if header.dataset is not None else None) or ()
    ids = [str(item.get("ScheduledProcedureStepID") or "") for item in items]
    return "\\".join(filter(None, ids)) if len(ids) > 1 else ""


def _counts(header: Header) -> tuple[int, int]:
    series = (header.dataset.get("PerformedSeriesSequence") if header.dataset is not None else None) or ()
    kinds = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")
    return len(series), sum(len(item.get(kind) or ()) for item in series for kind in kinds)
