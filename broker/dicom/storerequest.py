"""The payload of a C-STORE delivery: model.StoreRequest as JSON."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from broker.errors import MessageError
from broker.model import Spooled, StoreRequest

_SPOOLED = tuple(field.name for field in fields(Spooled))
_RARE = ("removals", "source", "reissue")
_NOBODY = ("", 0)


def encode_request(request: StoreRequest) -> bytes:
    """Return the request as JSON in UTF-8."""
    spooled = {name: getattr(request.spooled, name) for name in _SPOOLED}
    said: dict[str, Any] = {"spooled": spooled, "changes": dict(request.changes), "reason": request.reason}
    said |= {name: value for name in _RARE if (value := getattr(request, name))}
    if request.originator != _NOBODY:
        said["originator"] = request.originator
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def decode_request(payload: bytes) -> StoreRequest:
    """Return the request of a payload; raises MessageError when it is none."""
    try:
        said = json.loads(payload)
        spooled, removals = Spooled(**said["spooled"]), tuple(said.get("removals", ()))
        rare = {name: str(said.get(name, "")) for name in _RARE[1:]}
        ae_title, message_id = said.get("originator", _NOBODY)
        originator = (str(ae_title), int(message_id))
        return StoreRequest(spooled, dict(said["changes"]), said["reason"], removals, **rare, originator=originator)
    except (ValueError, TypeError, KeyError) as error:
        raise MessageError("", "the payload is no store request") from error
