"""The payload of a delivery to a DICOM peer that is no C-STORE: one line of JSON, then the dataset as it goes out."""

from __future__ import annotations

import json
from dataclasses import dataclass

from broker.dicom.dataset import EXPLICIT_LITTLE, decode, texts_of
from broker.errors import MessageError


@dataclass(frozen=True, slots=True)
class DimseRequest:
    """A request of the delivery's kind ("N-CREATE", "N-SET", "N-ACTION", "C-MOVE")."""

    kind: str
    sop_class: str
    sop_instance: str = ""
    dataset: bytes = b""  # explicit VR little endian, without file meta information
    type_id: int = 0  # of an N-ACTION or N-EVENT-REPORT
    destination: str = ""  # of a C-MOVE: the AE title that receives


def encode_request(request: DimseRequest) -> bytes:
    """Return the payload of a request."""
    fields = [request.kind, request.sop_class, request.sop_instance, request.type_id, request.destination]
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n" + request.dataset


def attributes_of(payload: bytes) -> dict[str, str]:
    """Return the attributes that a payload sends, by keyword (`broker.dicom.dataset.texts_of`); raises MessageError."""
    return texts_of(decode(decode_request(payload).dataset, EXPLICIT_LITTLE))


def decode_request(payload: bytes) -> DimseRequest:
    """Return the request of a payload; raises MessageError when it is none."""
    head, separator, dataset = payload.partition(b"\n")
    try:
        kind, sop_class, sop_instance, type_id, destination = json.loads(head)
    except (ValueError, TypeError) as error:
        raise MessageError("", "the payload is no DIMSE request") from error
    if not separator or not isinstance(kind, str):
        raise MessageError("", "the payload is no DIMSE request")
    return DimseRequest(kind, sop_class, sop_instance, dataset, type_id, destination)
