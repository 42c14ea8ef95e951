"""Does a value have the shape its spec declares? Every mistake at once, each with its place and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from jsonschema import Draft202012Validator

from broker.spec import Option, Spec, mapping_schema

Place = tuple[str | int, ...]  # keys and list indexes from the top of a document
Violation = Any  # jsonschema's ValidationError, whose fields are declared as perhaps unset

_NAMES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}
_PATTERNS = {
    "ms|s|m": "such as 30s, 5m or 24h",
    "TB)$|": "such as 200 GB or 80%",
    "KB|MB": "such as 512 KB or 16 MB",
    "%": "such as 90%",
}


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
    if near := _nearest(name, names):
        return f"did you mean {near}?"
    return f"known: {', '.join(names)}" if names else "none are known"


def _nearest(name: str, names: list[str]) -> str:
    """Return the name that is most like another: of equally near ones that with its letters, then one that holds it; "" for none."""
    near = get_close_matches(name, names, n=5, cutoff=0.6)
    near.sort(key=lambda one: sorted(one) != sorted(name))
    holding = [one for one in names if len(name) > 2 and name.casefold() in one.casefold()]
    return next(iter(near or holding), "")


def check(schema: Mapping[str, Any], value: Any, mistakes: Mistakes) -> bool:
    """Add what in `value` does not satisfy a JSON Schema, in words that say what to write; return whether all is well."""
    found = [mistake for error in Draft202012Validator(schema).iter_errors(value) for mistake in _told(error)]
    mistakes.found += [replace(mistake, place=(*mistakes.place, *mistake.place)) for mistake in dict.fromkeys(found)]
    return not found


def check_component(spec: Spec, value: Any, mistakes: Mistakes) -> bool:
    """Add what in the settings of a component does not satisfy its spec; return whether all is well."""
    return check(spec.schema(), value, mistakes)


def check_options(options: tuple[Option, ...], value: Any, mistakes: Mistakes) -> bool:
    """Add what in a mapping does not satisfy its options; return whether all is well."""
    return check(mapping_schema(options), value, mistakes)


def _told(error: Violation) -> list[Mistake]:
    """Return what a person is told of one violation; `required` and `additionalProperties` name every key at once."""
    place: Place = tuple(error.absolute_path)
    return _TOLD.get(str(error.validator), _otherwise)(error, place)


def _wrong_type(error: Violation, place: Place) -> list[Mistake]:
    value = error.instance
    wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    hint = ""
    if wanted[0] in ("integer", "number", "boolean") and isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?|true|false", value):
        hint = "write it without quotes"
    elif "string" in wanted and "pattern" in error.schema:
        hint = f"write it {_pattern(error.schema['pattern'])}"
    elif wanted == ["object"] and error.schema.get("properties"):
        hint = _as_mapping(error.schema, value)
    elif "string" in wanted and _type(value) in ("integer", "number", "boolean"):
        hint = f'write "{str(value).lower() if isinstance(value, bool) else value}" in quotes'
    named = " or ".join(_NAMES[one] for one in wanted)
    return [Mistake(place, f"{named} is needed here, not {_NAMES.get(_type(value), 'nothing')}", hint)]


def _as_mapping(schema: Mapping[str, Any], value: Any) -> str:
    """Return how a bare value is written as the mapping that is needed: under its one required key, else with keys of its choice."""
    required = schema.get("required", ())
    if len(required) == 1 and _type(value) in ("integer", "number", "string", "boolean"):
        return f"write {{{required[0]}: {str(value).lower() if isinstance(value, bool) else value}}}"
    return f"its keys are {', '.join(schema['properties'])}"


def _not_listed(error: Violation, place: Place) -> list[Mistake]:
    known = [str(one) for one in error.validator_value]
    near = _nearest(str(error.instance), known)
    instead = f"did you mean {near}?" if near else "write one of these"
    return [Mistake(place, f"{_show(error.instance)} is not one of {', '.join(known)}", instead)]


def _wrong_form(error: Violation, place: Place) -> list[Mistake]:
    return [Mistake(place, f"{_show(error.instance)} is not as it must be", f"write it {_pattern(error.validator_value)}")]


def _unknown_keys(error: Violation, place: Place) -> list[Mistake]:
    known = error.schema.get("properties", {})
    return [Mistake((*place, key), f"unknown key {key}", did_you_mean(str(key), known)) for key in error.instance if key not in known]


def _missing_keys(error: Violation, place: Place) -> list[Mistake]:
    known, told = error.schema.get("properties", {}), []
    for key in error.validator_value:
        if key not in error.instance:
            text = str(known[key].get("description", "")) if key in known else ""
            begin = text[:1].lower() if text[1:2].islower() else text[:1]  # not of an abbreviation
            told.append(Mistake(place, f"{key} is missing", f"add {key}: {begin}{text[1:]}".rstrip(": ")))
    return told


def _none_fits(error: Violation, place: Place) -> list[Mistake]:
    """Tell what is wrong with the alternative that was meant: the one of the value's type, else the one with a list of choices."""
    schemas, value = error.validator_value, error.instance
    attempts: list[list[Mistake]] = [[] for _ in schemas]
    for inner in error.context or ():
        attempts[int(inner.schema_path[0])] += _told(inner)
    fitting = [found for schema, found in zip(schemas, attempts, strict=True) if schema.get("type") == _type(value)]
    chosen = [found for schema, found in zip(schemas, attempts, strict=True) if "enum" in schema and isinstance(value, str)]
    if fitting:
        return fitting[-1]
    if chosen:
        return chosen[0]
    wanted = " or ".join(dict.fromkeys(_NAMES.get(str(schema.get("type")), "one of the known values") for schema in schemas))
    return [Mistake(place, f"{wanted} is needed here, not {_NAMES.get(_type(value), 'nothing')}")]


def _otherwise(error: Violation, place: Place) -> list[Mistake]:
    return [Mistake(place, error.message)]


_TOLD: Mapping[str, Callable[[Violation, Place], list[Mistake]]] = {
    "type": _wrong_type,
    "enum": _not_listed,
    "pattern": _wrong_form,
    "additionalProperties": _unknown_keys,
    "required": _missing_keys,
    "anyOf": _none_fits,
}


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
