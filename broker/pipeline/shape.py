"""Does a value have the shape its spec declares? Every mistake at once, each with its place and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from broker.spec import Option, Spec, mapping_schema

Place = tuple[str | int, ...]  # keys and list indexes from the top of a document

_NAMES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
}
_PATTERNS = {"ms|s|m": "such as 30s, 5m or 24h", "KB|MB": "such as 512 KB or 16 MB"}


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something wrong at a place of a document; a warning does not keep it from being used."""

    place: Place
    what: str
    instead: str = ""
    warning: bool = False


@dataclass(slots=True)
class Mistakes:
    """Collects mistakes below one place."""

    found: list[Mistake] = field(default_factory=list)
    place: Place = ()

    def add(self, what: str, instead: str = "", *, key: Place = ()) -> None:
        self.found.append(Mistake((*self.place, *key), what, instead))

    def warn(self, what: str, instead: str = "", *, key: Place = ()) -> None:
        self.found.append(Mistake((*self.place, *key), what, instead, warning=True))

    def at(self, *key: str | int) -> Mistakes:
        """Return a collector for a place further down; both collect into the same list."""
        return Mistakes(self.found, (*self.place, *key))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean X?`, or what is known when nothing is near."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(names)}" if names else "none are known"


def check(schema: Mapping[str, Any], value: Any, mistakes: Mistakes) -> bool:
    """Add what in `value` does not satisfy `schema` (the part of JSON Schema that specs use); return whether all is well."""
    before = len(mistakes.found)
    if "anyOf" in schema:
        _check_any(schema["anyOf"], value, mistakes)
    elif "enum" in schema:
        if value not in schema["enum"]:
            known = [str(v) for v in schema["enum"]]
            mistakes.add(f"{_show(value)} is not one of {', '.join(known)}", did_you_mean(str(value), known))
    elif _check_type(schema, value, mistakes):
        if isinstance(value, Mapping):
            _check_mapping(schema, value, mistakes)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                check(schema.get("items", {}), item, mistakes.at(index))
        elif isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
            mistakes.add(f"{_show(value)} is not as it must be", f"write it {_pattern(schema['pattern'])}")
    return len(mistakes.found) == before


def check_component(spec: Spec, value: Any, mistakes: Mistakes) -> bool:
    """Add what in the settings of a component does not satisfy its spec; return whether all is well."""
    return check(spec.schema(), value, mistakes)


def check_options(options: tuple[Option, ...], value: Any, mistakes: Mistakes) -> bool:
    """Add what in a mapping does not satisfy its options; return whether all is well."""
    return check(mapping_schema(options), value, mistakes)


def _check_type(schema: Mapping[str, Any], value: Any, mistakes: Mistakes) -> bool:
    wanted = schema.get("type")
    if wanted is None or wanted == _type(value) or (wanted == "number" and _type(value) == "integer"):
        return True
    hint = ""
    if wanted in ("integer", "number", "boolean") and isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?|true|false", value):
        hint = "write it without quotes"
    elif wanted == "string" and _type(value) in ("integer", "number", "boolean"):
        hint = f'write "{str(value).lower() if isinstance(value, bool) else value}" in quotes'
    mistakes.add(f"{_NAMES[wanted]} is needed here, not {_NAMES.get(_type(value), 'nothing')}", hint)
    return False


def _check_mapping(schema: Mapping[str, Any], value: Mapping[Any, Any], mistakes: Mistakes) -> None:
    known: Mapping[str, Any] = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for key, item in value.items():
        if key in known:
            check(known[key], item, mistakes.at(key))
        elif others is False:
            mistakes.add(f"unknown key {key}", did_you_mean(str(key), known), key=(key,))
        elif isinstance(others, Mapping):
            check(others, item, mistakes.at(key))
    for key in schema.get("required", ()):
        if key not in value:
            text = str(known[key].get("description", "")) if key in known else ""
            mistakes.add(f"{key} is missing", f"add {key}: {text[:1].lower()}{text[1:]}".rstrip(": "))


def _check_any(schemas: list[Mapping[str, Any]], value: Any, mistakes: Mistakes) -> None:
    attempts = []
    for schema in schemas:
        attempt = Mistakes(place=mistakes.place)
        if check(schema, value, attempt):
            return
        attempts.append((schema.get("type") == _type(value), attempt.found))
    fitting = [found for fits, found in attempts if fits]
    if fitting or all("enum" in schema for schema in schemas):
        mistakes.found.extend((fitting or [attempts[0][1]])[-1])
        return
    scalar = next(
        (found for schema, (_, found) in zip(schemas, attempts, strict=True) if "enum" in schema and isinstance(value, str)), None
    )
    if scalar is not None:
        mistakes.found.extend(scalar)
        return
    wanted = " or ".join(dict.fromkeys(_NAMES.get(str(s.get("type")), "one of the known values") for s in schemas))
    mistakes.add(f"{wanted} is needed here, not {_NAMES.get(_type(value), 'nothing')}")


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    for kind, name in ((int, "integer"), (float, "number"), (str, "string"), (Mapping, "object"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "null"


def _pattern(pattern: str) -> str:
    return next((text for part, text in _PATTERNS.items() if part in pattern), f"like {pattern}")


def _show(value: Any) -> str:
    return "nothing" if value is None else str(value) if isinstance(value, str | int | float) else _NAMES[_type(value)]
