"""JSON Schema of the files a person writes, for editors: made from the same declarations that check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.config.options import Registry, channels_schema
from broker.pipeline.cases import CASE
from broker.pipeline.layout import shipped_layouts
from broker.pipeline.route import ROUTE, TARGET
from broker.pipeline.steps import STEPS
from broker.spec import mapping_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SUBSTITUTED = {"type": "string", "pattern": r"\$\{"}  # filled in before the value is checked


def channels_file(registry: Registry) -> dict[str, Any]:
    """Return the JSON Schema of `channels.yaml`."""
    return {"$schema": DIALECT, "title": "channels.yaml", **_substitutable(channels_schema(registry))}


def route_file() -> dict[str, Any]:
    """Return the JSON Schema of a file in `routes/`."""
    schema = mapping_schema(ROUTE)
    target = mapping_schema(TARGET)
    target["properties"]["steps"] |= {"type": "array", "items": {"$ref": "#/$defs/step"}}
    target["properties"]["build"]["examples"] = sorted(shipped_layouts())
    schema["properties"]["steps"] |= {"type": "array", "items": {"$ref": "#/$defs/step"}}
    schema["properties"]["to"] |= {"type": "array", "items": target}
    return {"$schema": DIALECT, "title": "A route", **_substitutable(schema), "$defs": {"step": _substitutable(step_schema())}}


def step_schema() -> dict[str, Any]:
    """Return the JSON Schema of one step: its name with its settings, and perhaps `when`."""
    properties = {name: kind.spec.schema() for name, kind in STEPS.items()}
    when = {"type": "string", "description": "Only when this holds."}
    return {
        "type": "object",
        "properties": {"when": when, **properties},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 2,
    }


def cases_file() -> dict[str, Any]:
    """Return the JSON Schema of a file in `routes/tests/`."""
    return {"$schema": DIALECT, "title": "Cases of a route", "type": "array", "items": mapping_schema(CASE)}


def files(registry: Registry) -> dict[str, dict[str, Any]]:
    """Return every schema by the name of its file in `docs/reference/`."""
    return {"channels.schema.json": channels_file(registry), "route.schema.json": route_file(), "cases.schema.json": cases_file()}


def _substitutable(schema: Any) -> Any:
    """Let every value that is not a text be written as a substitution too."""
    if isinstance(schema, list):
        return [_substitutable(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = {key: value if key in ("default", "examples") else _substitutable(value) for key, value in schema.items()}
    kind = inner.get("type")
    if kind in ("integer", "number", "boolean") or "enum" in inner or (kind == "string" and "pattern" in inner):
        kept = {key: inner.pop(key) for key in ("description", "default") if key in inner}
        return {**kept, "anyOf": [inner, _SUBSTITUTED]}
    return inner
