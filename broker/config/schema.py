"""JSON Schema of the files a person writes, for editors: made from the same declarations that check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.config.options import Registry, channels_schema
from broker.pipeline import scenario
from broker.pipeline.blocks import BLOCK
from broker.pipeline.cases import CASE
from broker.pipeline.layout import shipped_layouts
from broker.pipeline.route import ROUTE, TARGET
from broker.pipeline.steps import STEPS
from broker.spec import Option, mapping_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
STEPS_SCHEMA = {"type": "array", "items": {"$ref": "#/$defs/step"}}
_SUBSTITUTED = r"\$\{"  # filled in before the value is checked


def channels_file(registry: Registry) -> dict[str, Any]:
    """Return the JSON Schema of `channels.yaml`."""
    return {"$schema": DIALECT, "title": "channels.yaml", **_substitutable(channels_schema(registry))}


def route_file() -> dict[str, Any]:
    """Return the JSON Schema of a file in `routes/`."""
    schema = _with_steps(mapping_schema(ROUTE), ROUTE)
    target = _with_steps(mapping_schema(TARGET), TARGET)
    target["properties"]["build"]["examples"] = sorted(shipped_layouts())
    schema["properties"]["to"] |= {"type": "array", "items": target}
    return {"$schema": DIALECT, "title": "A route", **_substitutable(schema), "$defs": {"step": _substitutable(step_schema())}}


def _with_steps(schema: dict[str, Any], options: tuple[Option, ...]) -> dict[str, Any]:
    """Let the editor know what stands in the options that are lists of steps."""
    for option in options:
        if option.type == "steps":
            schema["properties"][option.name] |= STEPS_SCHEMA
    return schema


def step_schema() -> dict[str, Any]:
    """Return the JSON Schema of one step: its name with its settings, and perhaps `when`; or a block of steps under `when`."""
    properties = {name: _with_steps(kind.spec.schema(), kind.spec.options) for name, kind in STEPS.items()}
    single = {
        "type": "object",
        "properties": {BLOCK[0].name: BLOCK[0].schema(), **properties},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 2,
    }
    return {
        "if": {"anyOf": [{"required": ["steps"]}, {"required": ["otherwise"]}]},
        "then": _with_steps(mapping_schema(BLOCK), BLOCK),
        "else": single,
    }


def cases_file() -> dict[str, Any]:
    """Return the JSON Schema of a file in `routes/tests/`."""
    return {"$schema": DIALECT, "title": "Cases of a route", "type": "array", "items": mapping_schema(CASE)}


def scenario_file() -> dict[str, Any]:
    """Return the JSON Schema of a file in `routes/tests/scenarios/`."""
    return {"$schema": DIALECT, "title": "A scenario", **scenario.schema()}


def files(registry: Registry) -> dict[str, dict[str, Any]]:
    """Return every schema by the name of its file in `docs/reference/`."""
    return {
        "channels.schema.json": channels_file(registry),
        "route.schema.json": route_file(),
        "cases.schema.json": cases_file(),
        "scenario.schema.json": scenario_file(),
    }


def _substitutable(schema: Any) -> Any:
    """Let every value that is not a text be written as a substitution too."""
    if isinstance(schema, list):
        return [_substitutable(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = {key: value if key in ("default", "examples", "enum") else _substitutable(value) for key, value in schema.items()}
    if "properties" in schema:  # whose keys are names, also where one is called `default`
        inner["properties"] = {name: _substitutable(value) for name, value in schema["properties"].items()}
    kind = inner.get("type")
    if "enum" in inner:
        kept = {key: inner.pop(key) for key in ("description", "default", "examples") if key in inner}
        return {**kept, "anyOf": [inner, {"type": "string", "pattern": _SUBSTITUTED}]}
    if kind in ("integer", "number", "boolean"):
        return {**inner, "type": [kind, "string"], "pattern": _SUBSTITUTED}
    if kind == "string" and "pattern" in inner:
        return {**inner, "pattern": f"{inner['pattern']}|{_SUBSTITUTED}"}
    return inner
