"""The payload of a C-STORE delivery: model.StoreRequest as JSON."""

from __future__ import annotations

import json
from dataclasses import fields

from broker.errors import MessageError
from broker.model import Spooled, StoreRequest

_SPOOLED = tuple(field.name for field in fields(Spooled))
_RARE = ("removals", "source", "reissue")


def encode_request(request: StoreRequest) -> bytes:
    """Return the request as JSON in UTF-8."""
    spooled = {name: getattr(request.spooled, name) for name in _SPOOLED}
    said = {"spooled": spooled, "changes": dict(request.changes), "reason": request.reason}
    said |= {name: value for name in _RARE if (value := getattr(request, name))}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def decode_request(payload: bytes) -> StoreRequest:
    """Return the request of a payload; raises MessageError when it is none."""
    try:
        said = json.loads(payload)
        spooled, removals = Spooled(**said["spooled"]), tuple(said.get("removals", ()))
        rare = {name: str(said.get(name, "")) for name in _RARE[1:]}
        return StoreRequest(spooled, dict(said["changes"]), said["reason"], removals, **rare)
    except (ValueError, TypeError, KeyError) as error:
        raise MessageError("", "the payload is no store request") from error
