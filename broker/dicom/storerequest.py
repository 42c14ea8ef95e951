"""The payload of a C-STORE delivery: model.StoreRequest as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from broker.errors import MessageError
from broker.model import Spooled, StoreRequest


def encode_request(request: StoreRequest) -> bytes:
    """Return the request as JSON in UTF-8."""
    fields = {"spooled": asdict(request.spooled), "changes": dict(request.changes), "reason": request.reason}
    if request.removals:
        fields["removals"] = request.removals
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def decode_request(payload: bytes) -> StoreRequest:
    """Return the request of a payload; raises MessageError when it is none."""
    try:
        fields = json.loads(payload)
        return StoreRequest(Spooled(**fields["spooled"]), dict(fields["changes"]), fields["reason"], tuple(fields.get("removals", ())))
    except (ValueError, TypeError, KeyError) as error:
        raise MessageError("", "the payload is no store request") from error
