"""What an update means, field by field: empty says nothing, the HL7 null clears, anything else replaces."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from broker.ris.entities import Composite

NULL = '""'  # HL7 null: delete what is there

E = TypeVar("E")


def updated(entity: E, **sent: str | tuple[str, ...]) -> E:
    """Return the entity with the fields that `sent` changes; the very same object when it changes none."""
    changes = {}
    for name, value in sent.items():
        before = getattr(entity, name)
        after = _after(before, value)
        if after != before:
            changes[name] = after
    return replace(entity, **changes) if changes else entity  # type: ignore[type-var]


def _after(before: object, value: str | tuple[str, ...]) -> object:
    if not value:
        return before
    if isinstance(value, tuple):
        return tuple(text for text in value if text != NULL)
    if value == NULL:
        return Composite() if isinstance(before, Composite) else ""
    return value


def text(value: str) -> str:
    """Return the value, "" for the HL7 null."""
    return "" if value == NULL else value
