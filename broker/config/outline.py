"""What the files of a configuration say, as plain values with their defaults: what two configurations are compared by.

Read from the texts and not from the folder, so that a version that ran long ago has an outline too. A secret stands as the
`${file:…}` that names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.config.files import Document, parse_document
from broker.config.options import CHANNEL, TOP, UNMATCHED, Registry
from broker.config.sources import CHANNELS, Source
from broker.pipeline.tables import read_table
from broker.spec import REQUIRED, Option, Spec, seconds, size

SECTIONS = ("listeners", "destinations", "channels")  # of named things; what is left of the file are the settings of the broker

_DURATIONS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1), ("ms", 0.001))
_SIZES = (("GB", 1024**3), ("MB", 1024**2), ("KB", 1024), ("B", 1))


@dataclass(frozen=True, slots=True)
class Outline:
    """One configuration as plain values."""

    settings: Mapping[str, Any] = field(default_factory=dict)  # of the broker as a whole: site, data, store, web …
    listeners: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name -> kind, unmatched, its options
    destinations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    channels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name -> from, route, and all that its route says
    tables: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)  # name -> key -> row
    files: Mapping[str, str] = field(default_factory=dict)  # name -> digest of all files that run


def outline(sources: Sequence[Source], environment: Mapping[str, str], registry: Registry) -> Outline:
    """Return what the files say; of files that are not in order, whatever can be read."""
    texts = {source.name: source.text for source in sources if source.role != "secret"}
    top = _document(texts.get(CHANNELS, ""), environment)
    sections = {name: _mapping(top.get(name)) for name in SECTIONS}
    return Outline(
        settings={o.name: _filled(o, top.get(o.name, o.default)) for o in TOP if o.name not in SECTIONS},
        listeners={
            name: {**_component(one, registry.LISTENERS), UNMATCHED.name: _mapping(one).get(UNMATCHED.name, UNMATCHED.default)}
            for name, one in sections["listeners"].items()
        },
        destinations={name: _component(one, registry.DESTINATIONS) for name, one in sections["destinations"].items()},
        channels={name: _channel(_mapping(one), texts, environment) for name, one in sections["channels"].items()},
        tables={Path(name).stem: _rows(name, text) for name, text in texts.items() if name.endswith(".csv")},
        files={source.name: source.digest for source in sources if source.role == "runs"},
    )


def _document(text: str, environment: Mapping[str, str]) -> Mapping[str, Any]:
    """Return a document; of one that is no YAML, those of its keys that are."""
    document = _parsed(text, environment)
    if isinstance(document.value, Mapping) or not document.problems:
        return _mapping(document.value)
    return {key: value for part in _KEYS.split(text) for key, value in _mapping(_parsed(part, environment).value).items()}


def _parsed(text: str, environment: Mapping[str, str]) -> Document:
    return parse_document(text, "", environment, lambda path: f"${{file:{path}}}")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _component(value: Any, kinds: Mapping[str, Spec]) -> dict[str, Any]:
    """Return the kind and the options of a listener or destination."""
    value = _mapping(value)
    kind = next((key for key in value if key in kinds), "")
    settings = _mapping(value.get(kind))
    return {"kind": kind, **({o.name: _filled(o, settings.get(o.name, o.default)) for o in kinds[kind].options} if kind else {})}


def _channel(value: Mapping[str, Any], texts: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, Any]:
    settings = {o.name: value.get(o.name, "") for o in CHANNEL}
    route = _document(texts.get(str(Path(str(settings["route"]))), ""), environment)
    return {**settings, **{key: one for key, one in route.items() if key != "cases"}}


def _rows(name: str, text: str) -> dict[str, Mapping[str, str]]:
    return {key: dict(row) for key, row in read_table(Path(name).stem, text)[0].rows.items()}


def _filled(option: Option, value: Any) -> Any:
    """Return the value in the one way it can be written: with its defaults, `1m` for `60s`."""
    if value is REQUIRED:
        return None
    if option.options:
        inner = _mapping(value)
        return None if value is None or value is False else {o.name: _filled(o, inner.get(o.name, o.default)) for o in option.options}
    if isinstance(value, str) and option.type in ("duration", "size"):
        return _spelled(option, value)
    return [value] if option.type == "texts" and isinstance(value, str) else value


def _spelled(option: Option, text: str) -> str:
    try:
        amount = seconds(text) if option.type == "duration" else float(size(text))
    except ValueError:
        return text
    units = _DURATIONS if option.type == "duration" else _SIZES
    name, unit = next(((name, unit) for name, unit in units if amount >= unit and amount % unit == 0), units[-1])
    return f"{amount / unit:g}{'' if option.type == 'duration' else ' '}{name}"


_KEYS = re.compile(r"^(?=\w)", re.MULTILINE)  # before each key at the top
_HIDDEN = re.compile(r"pass|secret|token|credential", re.IGNORECASE)  # names of options whose value is nobody's business
_USERINFO = re.compile(r"(://[^/:@\s]*):[^/@\s]*@")  # of a URL


def shown(path: str, value: Any) -> str:
    """Return a value for a person to read, without what only the broker should know."""
    return _USERINFO.sub(r"\1:…@", written(_veiled(path.rpartition(".")[2], value)))


def _veiled(name: str, value: Any) -> Any:
    """Return the value of an option with "(not shown)" for each that is nobody's business."""
    if value is not None and _HIDDEN.search(name):
        return "(not shown)"
    return {key: _veiled(str(key), one) for key, one in value.items()} if isinstance(value, Mapping) else value


def written(value: Any) -> str:
    """Return a value in one line, much as YAML writes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return {True: "true", False: "false", None: "nothing"}.get(value, str(value)) if isinstance(value, bool | None) else str(value)
