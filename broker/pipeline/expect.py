"""What is expected against what was there, in sentences: for cases and scenarios.

An expected value is a text, `present`, `absent`, or `{matches: a regular expression}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from broker.dicom.dimserequest import attributes_of
from broker.dicom.performedstep import RELAYED
from broker.dicom.storerequest import decode_request
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.model import Outgoing
from broker.pipeline.shape import Mistakes

_MATCHES = "matches"


def text_of(value: Any) -> str:
    """Return a value of YAML as text; "" for nothing."""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def check_value(value: Any, mistakes: Mistakes, *key: str | int) -> None:
    """Add what is wrong with an expected value."""
    if isinstance(value, Mapping):
        if set(value) != {_MATCHES}:
            mistakes.add("neither a text nor a pattern", "write a text, present, absent, or {matches: a regular expression}", key=key)
            return
        try:
            re.compile(text_of(value[_MATCHES]))
        except re.error as error:
            mistakes.add(f"not a regular expression: {error}", key=(*key, _MATCHES))
    elif isinstance(value, list):
        mistakes.add("one value is needed here, not a list", key=key)


def differs(what: str, wanted: Any, actual: str) -> list[str]:
    """Return how a value differs from what was expected of it, in one sentence; empty when it does not."""
    if isinstance(wanted, Mapping):
        pattern = text_of(wanted.get(_MATCHES))
        return [] if re.search(pattern, actual) else [f"{what}: expected to match {pattern}, was {actual or 'absent'}"]
    if wanted == "present":
        return [] if actual else [f"{what}: expected to be present, was absent"]
    if wanted == "absent":
        return [f"{what}: expected to be absent, was {actual}"] if actual else []
    return [] if text_of(wanted) == actual else [f"{what}: expected {text_of(wanted) or 'nothing'}, was {actual or 'absent'}"]


def sent_differs(expected: Any, sent: Sequence[Outgoing]) -> list[str]:
    """Return how what was sent differs from the expected messages by destination, or from `none`."""
    wanted: Mapping[str, list[Mapping[str, Any]]] = {} if expected == "none" else expected
    by_destination: dict[str, list[Outgoing]] = {}
    for one in sent:
        by_destination.setdefault(one.destination, []).append(one)
    found = []
    for destination in dict.fromkeys((*wanted, *by_destination)):
        messages, own = wanted.get(destination, []), by_destination.get(destination, [])
        if len(messages) != len(own):
            kinds = ", ".join(one.kind for one in own) or "nothing"
            found.append(f"sent to {destination}: expected {len(messages) or 'nothing'}, was {kinds}")
            continue
        for number, (fields, one) in enumerate(zip(messages, own, strict=True), 1):
            for path, value in fields.items():
                found += differs(f"sent to {destination}, message {number} ({one.kind}), {path}", value, read_outgoing(one, path))
    return found


def read_outgoing(outgoing: Outgoing, path: str) -> str:
    """Return the text at a path of what is sent: of a message its field, of an image what was set on the way, of an MPPS its attributes."""
    if outgoing.kind == "C-STORE":
        return decode_request(outgoing.payload).changes.get(path, "")
    if outgoing.kind in RELAYED:
        return attributes_of(outgoing.payload).get(path, "")
    try:
        return Message.parse(outgoing.payload).get(path)
    except (MessageError, ValueError) as error:
        return f"unreadable: {error}"
