"""Message layouts: which segments and fields a message has that the broker builds, and what stands in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any

import yaml

from broker.errors import MessageError
from broker.hl7 import charset
from broker.pipeline import references
from broker.pipeline.references import Field, Scope, Template, compile_template
from broker.pipeline.shape import Mistakes, did_you_mean
from broker.pipeline.tables import Table

FieldKey = tuple[int, int, int]  # field, component, subcomponent; 0 is the whole
_KEY = re.compile(r"([A-Z][A-Z0-9]{2})-(\d{1,3})(?:\.(\d{1,2}))?(?:\.(\d{1,2}))?")
_SEGMENT_KEYS = ("each", "once", "if")
_REPEATS = {"step": "steps"}


@dataclass(frozen=True, slots=True)
class SegmentLayout:
    """One segment: what stands in its fields, for which records it repeats, and without which record it is left out."""

    name: str
    fields: Mapping[FieldKey, str]
    each: str = ""
    once: bool = False  # stands once even when there is nothing to repeat for
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """A named message layout."""

    message: str  # MSH-9, such as OMI^O23^OMI_O23
    summary: str
    segments: tuple[SegmentLayout, ...]

    @property
    def kind(self) -> str:
        """Type and trigger event: OMI^O23."""
        return "^".join(self.message.split("^")[:2])


Assemble = Callable[[Scope], str]
Source = Callable[[str], Field | str | None]


@dataclass(frozen=True, slots=True)
class Builder:
    """A layout compiled with what a route sets differently."""

    kind: str
    segments: tuple[Callable[[Scope], list[str]], ...]

    def build(self, scope: Scope) -> bytes:
        """Return the message; raises MessageError, naming the field, when a reference that must not be empty is."""
        lines = [line for segment in self.segments for line in segment(scope)]
        declared = "".join(lines[0].split("|", 18)[17:18])
        known = charset.find(declared) if declared else charset.CHARSETS[0]
        if known is None:
            raise MessageError("MSH-18", "names no known character set", 103)
        try:
            return ("\r".join(lines) + "\r").encode(known.codec)
        except UnicodeEncodeError:
            raise MessageError("MSH-18", f"{known.hl7} cannot hold a character of the message", 102) from None


def read_layouts(documents: Mapping[str, str]) -> dict[str, Layout]:
    """Return the layouts of YAML documents, by message; segments that are written as a bare name are those of `common`."""
    parsed = {name: yaml.safe_load(text) for name, text in documents.items()}
    common = {name: _segment(name, value) for name, value in parsed.pop("common", {}).items()}
    layouts = {}
    for document in parsed.values():
        segments = tuple(common[item] if isinstance(item, str) else _segment(*next(iter(item.items()))) for item in document["segments"])
        for message, summary in document["messages"].items():
            layouts[message] = Layout(message, summary, segments)
    return layouts


def shipped_layouts() -> dict[str, Layout]:
    """Return the layouts that come with the broker."""
    folder = resources.files("broker.pipeline") / "layouts"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return read_layouts({f.name.removesuffix(".yaml"): f.read_text("utf-8") for f in files})


def _segment(name: str, value: Mapping[str, Any]) -> SegmentLayout:
    fields = {}
    for key, text in value.items():
        if key not in _SEGMENT_KEYS:
            segment, field = field_key(key)
            if segment != name:
                raise ValueError(f"{key} does not belong in segment {name}")
            fields[field] = str(text)
    return SegmentLayout(name, fields, value.get("each", ""), value.get("once", False), value.get("if", ""))


def field_key(path: str) -> tuple[str, FieldKey]:
    """Return segment and field of a path such as ORC-5 or PID-3.4.2; raises ValueError."""
    match = _KEY.fullmatch(path)
    if not match:
        raise ValueError(f"{path} is not a field of a layout; write it like ORC-5 or PID-3.4")
    segment, *numbers = match.groups()
    return segment, (int(numbers[0]), int(numbers[1] or 0), int(numbers[2] or 0))


def compile_layout(
    layout: Layout,
    overrides: Mapping[str, str],
    tables: Mapping[str, Table],
    mistakes: Mistakes,
    source: Source = lambda name: None,
) -> Builder:
    """Return a builder; what is wrong with the overrides (field path -> text with references) is added to `mistakes`.

    `source` tells the paths of the message that came from the names of records, as for `compile_template`.
    """
    changed: dict[str, dict[FieldKey, str]] = {}
    present = {segment.name for segment in layout.segments}
    for path, text in overrides.items():
        try:
            name, key = field_key(path)
        except ValueError as error:
            mistakes.add(str(error), key=(path,))
            continue
        if name not in present:
            mistakes.add(f"{layout.message} has no segment {name}", did_you_mean(name, present), key=(path,))
        changed.setdefault(name, {})[key] = text
    compiled = tuple(_compile_segment(s, changed.get(s.name, {}), layout.message, tables, mistakes, source) for s in layout.segments)
    return Builder(layout.kind, compiled)


def _compile_segment(
    segment: SegmentLayout,
    changed: Mapping[FieldKey, str],
    message: str,
    tables: Mapping[str, Table],
    mistakes: Mistakes,
    source: Source,
) -> Callable[[Scope], list[str]]:
    fields = {key: text for key, text in segment.fields.items() if not any(_covers(k, key) for k in changed)}
    templates = []
    for key, text in sorted({**fields, **changed}.items()):
        path = _path(segment.name, key)
        found = mistakes.at(path) if key in changed else Mistakes(place=(message, path))
        templates.append((key, compile_template(text, tables, found, source)))
        if found.found and key not in changed:
            mistakes.add(f"layout {message}, {path}: {found.found[0].what}")
    line = _header(message, templates) if segment.name == "MSH" else _line(segment.name, _plan(segment.name, templates))
    if segment.each:
        return partial(_repeated, _REPEATS[segment.each], segment.each, segment.once, line)
    needs = segment.needs
    return lambda scope: [line(scope)] if not needs or scope.get(needs) is not None else []


def _covers(changed: FieldKey, key: FieldKey) -> bool:
    """Whether a changed field replaces this one: the same, the whole of it, or a part of it that stands there as a whole."""
    if changed[0] != key[0]:
        return False
    return changed == key or (changed[1] == 0) or (key[1] == 0) or (changed[1] == key[1] and 0 in (changed[2], key[2]))


def _path(name: str, key: FieldKey) -> str:
    return f"{name}-{key[0]}" + "".join(f".{n}" for n in key[1:] if n)


Cell = str | Assemble  # what never changes, or what is assembled for each message
Plan = Sequence[tuple[int, Cell]]


def _plan(name: str, templates: Sequence[tuple[FieldKey, Template]]) -> Plan:
    """Return each field with its number."""
    by_field: dict[int, list[tuple[FieldKey, Template]]] = {}
    for key, template in templates:
        by_field.setdefault(key[0], []).append((key, template))
    return [(number, _field(name, parts)) for number, parts in sorted(by_field.items())]


def _field(name: str, parts: Sequence[tuple[FieldKey, Template]]) -> Cell:
    if len(parts) == 1 and parts[0][0][1] == 0:
        return _leaf(name, *parts[0])
    components: dict[int, list[tuple[int, Cell]]] = {}
    for key, template in parts:
        components.setdefault(key[1], []).append((key[2] or 1, _leaf(name, key, template)))
    return _joined("^", [(number, _joined("&", subs)) for number, subs in sorted(components.items())])


def _leaf(name: str, key: FieldKey, template: Template) -> Cell:
    constant = template.constant
    return references.escape(constant) if constant is not None else template.writer(_path(name, key))


def _joined(separator: str, parts: Plan, first: int = 1) -> Cell:
    """Return the parts, each in the place of its number, with what is empty at the end left away."""
    if len(parts) == 1 and parts[0][0] == first:
        return parts[0][1]
    cells = [""] * (parts[-1][0] - first + 1)
    changing: list[tuple[int, Assemble]] = []
    for number, cell in parts:
        if isinstance(cell, str):
            cells[number - first] = cell
        else:
            changing.append((number - first, cell))
    if not changing:
        return separator.join(cells).rstrip(separator)
    return partial(_assembled, separator, cells, changing)


def _assembled(separator: str, cells: Sequence[str], changing: Sequence[tuple[int, Assemble]], scope: Scope) -> str:
    filled = [*cells]
    for at, assemble in changing:
        filled[at] = assemble(scope)
    return separator.join(filled).rstrip(separator)


def _line(name: str, plan: Plan) -> Assemble:
    line = _joined("|", [(0, name), *plan], first=0)
    return line if not isinstance(line, str) else lambda scope: line


def _header(message: str, templates: Sequence[tuple[FieldKey, Template]]) -> Assemble:
    plan = [(number - 1, cell) for number, cell in _plan("MSH", [t for t in templates if t[0][0] not in (1, 2, 9)])]
    fixed: Plan = [(1, "^~\\&"), (8, message)]
    return _line("MSH", sorted([*plan, *fixed], key=lambda part: part[0]))


def _repeated(records: str, name: str, once: bool, line: Assemble, scope: Scope) -> list[str]:
    found = scope.get(records) or ([None] if once else [])
    return [line({**scope, name: record, "number": number}) for number, record in enumerate(found, 1)]
