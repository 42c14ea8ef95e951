"""An object made from another one: in another transfer syntax, or de-identified; runs in the pixel workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydicom.dataset import FileDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from broker.dicom import transcode
from broker.dicom.coerce import prepared
from broker.dicom.deidentify import Deidentification, deidentify
from broker.dicom.pseudonyms import Pseudonyms
from broker.dicom.regions import Box, Device, hold_shown, to_mask
from broker.dicom.storerequest import decode_request

Made = dict[str, Any]  # what became of a job, as JSON has it


def derive(job: str, **settings: Any) -> Made:
    """Do a job by its name; raises MessageError when it cannot be done."""
    return _JOBS[job](**settings)


def _transcoded(source: str, target: str, syntax: str) -> Made:
    transcode.transcode(source, target, syntax)
    return {}


def _deidentified(source: str, target: str, request: str, system: str, now: str, key: str, rules: Mapping[str, Any]) -> Made:
    """Write the object as its delivery would send it, de-identified; return what it is and the pseudonyms given."""
    dataset = transcode.read(source)
    prepared(dataset, decode_request(request.encode()), system=system, now=now)
    by, devices = rules_of(rules)
    boxes = None
    if "clean_pixel_data" in by.options:
        boxes = to_mask(dataset, devices)
    else:
        hold_shown(dataset)
    if boxes:
        _mask(dataset, boxes)
    pseudonyms = Pseudonyms(key.encode())
    deidentify(dataset, by, pseudonyms, cleaned_pixels=boxes is not None)
    meta = dataset.file_meta
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for keyword in ("SourceApplicationEntityTitle", "SendingApplicationEntityTitle", "ReceivingApplicationEntityTitle"):
        if keyword in meta:
            delattr(meta, keyword)
    dataset.preamble = bytes(128)
    transcode.write(dataset, target)
    given = [(kind, original, pseudonym) for pseudonym, (kind, original) in pseudonyms.given.items()]
    return {"sop_instance": str(dataset.SOPInstanceUID), "syntax": str(meta.TransferSyntaxUID), "given": given}


def rules_of(rules: Mapping[str, Any]) -> tuple[Deidentification, Sequence[Device]]:
    """Return what a destination's settings say, from JSON."""
    private = frozenset((creator, int(element)) for creator, element in rules.get("private", ()))
    by = Deidentification(frozenset(rules.get("options", ())), dict(rules.get("descriptions", {})), private)
    return by, [Device(**{**one, "boxes": tuple(map(tuple, one["boxes"]))}) for one in rules.get("devices", ())]


def _mask(dataset: FileDataset, boxes: Sequence[Box]) -> None:
    """Blacken regions of every frame; what was compressed with a loss stays uncompressed from here on."""
    from broker.dicom import codecs  # most objects need none

    given = dataset.file_meta.TransferSyntaxUID
    syntax = UID(given) if given in (*transcode.COMPRESSED, *transcode.NATIVE) else ExplicitVRLittleEndian
    parts, photometric, allocated = [], "", 0
    for shown, photometric in codecs.frames(dataset):
        frame = shown.copy()
        for left, top, width, height in boxes:
            frame[top : top + height, left : left + width] = codecs.black(photometric, frame, dataset.get("BitsStored", 8))
        allocated = frame.dtype.itemsize * 8
        encoded = syntax in transcode.COMPRESSED
        parts.append(codecs.encode(frame, syntax, photometric, dataset.get("BitsStored", 0)) if encoded else frame.tobytes())
    transcode.put_frames(dataset, parts, syntax, photometric, allocated)
    dataset.file_meta.TransferSyntaxUID = syntax


_JOBS: Mapping[str, Callable[..., Made]] = {"transcode": _transcoded, "deidentify": _deidentified}
