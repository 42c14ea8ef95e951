"""One declaration per component; the JSON Schema, the defaults, the reference page and `broker explain` come from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

OptionType = Literal[
    "text", "integer", "number", "boolean", "duration", "size", "percent", "capacity", "path", "texts", "mapping", "switch", "condition",
    "steps", "any",
]  # fmt: skip

REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "required"})()

_DURATION = r"^\d+(\.\d+)? ?(ms|s|m|min|h|d)$"
_SIZE = r"^\d+(\.\d+)? ?(B|KB|MB|GB|TB)$"
_PERCENT = r"^(100|\d{1,2})(\.\d+)? ?%$"
_CAPACITY = rf"({_SIZE}|{_PERCENT})"
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_BYTES = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}

_TYPES: dict[OptionType, dict[str, Any]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "duration": {"type": "string", "pattern": _DURATION},  # "30s", "5m", "24h"
    "size": {"type": "string", "pattern": _SIZE},  # "16 MB"
    "percent": {"type": "string", "pattern": _PERCENT},  # "90%"
    "capacity": {"type": "string", "pattern": _CAPACITY},  # "200 GB", "80%": of what there is
    "path": {"type": "string"},
    "texts": {"type": ["string", "array"], "items": {"type": "string"}},
    "mapping": {"type": "object"},
    "switch": {"type": ["boolean", "object"]},  # `true` for a mapping with its defaults, `false` or nothing for none
    "condition": {"type": "string"},
    "steps": {},  # each is checked by its own spec as it is compiled; editors get the whole by config/schema.py
    "any": {},
}


def seconds(text: str) -> float:
    """Return the seconds of a duration such as `30s`, `5m`, `24h`; raises ValueError."""
    return _scaled(text, _DURATION, _SECONDS)


def size(text: str) -> int:
    """Return the bytes of a size such as `16 MB`; raises ValueError."""
    return int(_scaled(text, _SIZE, _BYTES))


@dataclass(frozen=True, slots=True)
class Capacity:
    """A part of a disk, in bytes or as a share of the whole."""

    size: int = 0  # bytes
    share: float = 0.0  # of the whole, used where `size` is 0

    def of(self, whole: int) -> int:
        """Return the bytes that it is of a disk of so many bytes."""
        return self.size or int(whole * self.share)


def percent(text: str) -> float:
    """Return the share that a percentage such as `90%` is, from 0 to 1; raises ValueError."""
    if not re.match(_PERCENT, text):
        raise ValueError("not a percentage")
    return float(text.removesuffix("%")) / 100


def capacity(text: str) -> Capacity:
    """Return what a size such as `200 GB` or a percentage such as `80%` stands for; raises ValueError."""
    return Capacity(share=percent(text)) if text.endswith("%") else Capacity(size=size(text))


_READ: dict[str, Callable[[str], Any]] = {"duration": seconds, "size": size, "percent": percent, "capacity": capacity}


def _scaled(text: str, pattern: str, units: Mapping[str, float]) -> float:
    if not re.match(pattern, text):
        raise ValueError(f"not a quantity with a unit of {', '.join(units)}")
    number, unit = re.split(r" ?(?=[A-Za-z])", text, maxsplit=1)
    return float(number) * units[unit]


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: its type, default, unit, description and example stand here and nowhere else."""

    name: str
    type: OptionType
    description: str
    default: Any = REQUIRED
    example: Any = None
    choices: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()  # of a mapping whose keys are known

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the value."""
        schema = {**mapping_schema(self.options), **_TYPES[self.type]} if self.options else dict(_TYPES[self.type])
        if self.choices:
            schema = {"type": "array", "items": {"enum": list(self.choices)}} if self.type == "texts" else {"enum": list(self.choices)}
        schema["description"] = self.description
        if self.default is not REQUIRED and self.default is not None:
            schema["default"] = self.default
        if self.example is not None:
            schema["examples"] = [self.example]
        return schema

    def read(self, value: Any) -> Any:
        """Return the value as the code wants it: seconds, bytes, a tuple of texts, a mapping with its defaults."""
        if value is None or (self.type == "switch" and value is False):
            return None
        if self.options:
            return read(self.options, {} if value is True else value)
        if self.type in _READ:
            return _READ[self.type](value)
        if self.type == "texts":
            return (value,) if isinstance(value, str) else tuple(value)
        return value


@dataclass(frozen=True, slots=True)
class Spec:
    """The declaration of one component: a step, a listener or a destination."""

    name: str
    kind: Literal["step", "listener", "destination"]
    summary: str  # one honest sentence
    options: tuple[Option, ...]
    example: str  # YAML that a test reads
    short: str = field(default="")  # the option that a bare value stands for, as in `drop: reason`

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the component's settings."""
        schema = mapping_schema(self.options)
        schema["description"] = self.summary
        if self.short:
            bare = next(o for o in self.options if o.name == self.short).schema()
            return {**_either(bare, schema, self.short), "description": self.summary}
        return schema

    def read(self, value: Any) -> dict[str, Any]:
        """Return the settings, complete with defaults and converted, of a value that satisfies the schema."""
        if self.short and not (isinstance(value, Mapping) and set(value) <= {o.name for o in self.options}):
            value = {self.short: value}
        return read(self.options, value)


def _either(bare: dict[str, Any], full: dict[str, Any], short: str) -> dict[str, Any]:
    """Return one schema for a bare value or a mapping, without `anyOf` where it would hide which of the two is meant."""
    kinds = bare.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "object" in kinds:  # a mapping with this one key is the long form
        return {**bare, "if": {"required": [short], "maxProperties": 1}, "then": full}
    if not kinds:
        return {"if": {"type": "object"}, "then": full, "else": bare}
    return {**bare, **full, "type": [*kinds, "object"]}


def mapping_schema(options: tuple[Option, ...]) -> dict[str, Any]:
    """Return the JSON Schema of a mapping with exactly these options."""
    return {
        "type": "object",
        "properties": {o.name: o.schema() for o in options},
        "required": [o.name for o in options if o.default is REQUIRED],
        "additionalProperties": False,
    }


def read(options: tuple[Option, ...], value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every option, converted; a missing one takes its default."""
    return {o.name: o.read(value.get(o.name, o.default)) for o in options}
