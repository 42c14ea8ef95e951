"""What a word of the configuration means: for `broker explain`, and as reference pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from broker.config.options import CHANNEL, PREFETCH_RULE, TOP, UNMATCHED, Registry
from broker.pipeline import references
from broker.pipeline.blocks import BLOCK
from broker.pipeline.cases import CASE
from broker.pipeline.fields import DICOM_FIELDS, HL7_FIELDS
from broker.pipeline.layout import Layout, shipped_layouts
from broker.pipeline.route import ROUTE, TARGET
from broker.pipeline.scenario import SENTENCES
from broker.pipeline.shape import did_you_mean
from broker.pipeline.steps import STEPS
from broker.spec import REQUIRED, Option, Spec

GROUPS: Mapping[str, tuple[str, tuple[Option, ...]]] = {
    "channels": ("The file channels.yaml", TOP),
    "channel": ("One entry of channels:", CHANNEL),
    "prefetch": ("One entry of prefetch.rules:", PREFETCH_RULE),
    "listener": ("What every listener has beside its protocol", (UNMATCHED,)),
    "route": ("A file in routes/", ROUTE),
    "block": ("Several steps under one condition", BLOCK),
    "target": ("One entry of a route's to:", TARGET),
    "case": ("One entry of a file in routes/tests/", CASE),
}


def topics(registry: Registry) -> dict[str, str]:
    """Return everything that can be explained: name -> text."""
    found: dict[str, str] = {}
    for spec in (*(kind.spec for kind in STEPS.values()), *registry.LISTENERS.values(), *registry.DESTINATIONS.values()):
        text = component_text(spec)
        found[spec.name] = f"{found[spec.name]}\n\n{text}" if spec.name in found else text
        for name, option in _nested(spec.name, spec.options):
            found[name] = f"{found[name]}\n\n{option_text(option)}" if name in found else option_text(option)
    for group, (title, options) in GROUPS.items():
        found.setdefault(group, "\n".join([title, "", *(option_text(option) for option in options)]))
        for name, option in _nested(group, options):
            found[name] = option_text(option)
    found["scenario"] = scenario_text()
    for layout in shipped_layouts().values():
        found[layout.message] = layout_text(layout)
    for name in references.names():
        found[f"{{{name}}}"] = reference_text(name)
    return found


def _nested(prefix: str, options: tuple[Option, ...]) -> Iterator[tuple[str, Option]]:
    for option in options:
        yield f"{prefix}.{option.name}", option
        yield from _nested(f"{prefix}.{option.name}", option.options)


def known(name: str, registry: Registry) -> bool:
    """Whether a step, listener, destination, layout or group is called so."""
    return name in topics(registry)


def texts(name: str, registry: Registry) -> list[str]:
    """Return the texts for a step, listener, destination, option, layout or reference; none when nothing is called so."""
    found = topics(registry)
    if name in found:
        return [found[name]]
    if f"{{{name}}}" in found:
        return [found[f"{{{name}}}"]]
    return [f"{topic}\n{text}" for topic, text in found.items() if topic.endswith(f".{name}")]


def explain(name: str, registry: Registry) -> str:
    """Return the text for a step, listener, destination, option, layout or reference; raises LookupError that says what is near."""
    found = texts(name, registry)
    if not found:
        raise LookupError(f"nothing is called {name}; {did_you_mean(name, topics(registry))}")
    return "\n".join(found)


def component_text(spec: Spec) -> str:
    """Return a step, listener or destination in plain text."""
    lines = [f"{spec.name} ({spec.kind})", "", spec.summary, ""]
    lines += [option_text(option) + (" (a bare value means this one)" if option.name == spec.short else "") for option in spec.options]
    return "\n".join([*lines, "", "Example:", "", *(f"  {line}" for line in spec.example.strip().splitlines())])


def option_text(option: Option) -> str:
    """Return an option in one line of plain text."""
    return f"  {option.name}: {_kind(option)}. {option.description}" + (
        f" For example {_shown(option.example)}." if option.example is not None else ""
    )


def scenario_text() -> str:
    """Return the sentences of a scenario in plain text."""
    lines = [
        "scenario (a file in routes/tests/scenarios/)",
        "",
        "  scenario: its name; clock: when it begins; renamed: words of the samples.",
    ]
    return "\n".join([*lines, "  steps: a list of these sentences:", "", *(f"  {one.example}\n      {one.meaning}" for one in SENTENCES)])


def layout_text(layout: Layout) -> str:
    """Return a message layout in plain text: segment by segment, field by field."""
    lines = [f"{layout.message} (layout)", "", layout.summary, ""]
    for segment in layout.segments:
        lines.append(f"  {segment.name}" + (f", once for each {segment.each}" if segment.each else ""))
        for (field, *parts), text in sorted(segment.fields.items()):
            lines.append(f"    {segment.name}-{field}{''.join(f'.{part}' for part in parts if part)}: {text}")
    return "\n".join(lines)


def reference_text(name: str) -> str:
    """Return what a reference stands for."""
    if name in references.DERIVED:
        return f"{{{name}}}: {references.DERIVED[name][0]}"
    root, _, field = name.partition(".")
    if not field:
        return f"{{{name}}}: {references.PLAIN[name]}"
    return f"{{{name}}}: {references.SITE[field]}" if root == "site" else f"{{{name}}}: {field.replace('_', ' ')} of the {root}"


_KINDS = {
    "texts": "text or list of texts",
    "steps": "list of steps",
    "any": "see below",
    "percent": "percentage",
    "capacity": "size or percentage",
    "switch": "true, or a mapping",
}


def _kind(option: Option) -> str:
    kind = _KINDS.get(option.type, option.type)
    if option.choices:
        kind = f"{'any of' if option.type == 'texts' else 'one of'} {', '.join(option.choices)}"
    if option.default is REQUIRED:
        return f"{kind}, required"
    return f"{kind}, default {_shown(option.default)}" if option.default not in (None, "", {}) else kind


def _shown(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True).strip().removesuffix("\n...").strip()


# -- reference pages


def pages(registry: Registry) -> dict[str, str]:
    """Return the reference pages in Markdown by the name of their file in `docs/reference/`."""
    connectors = [*registry.LISTENERS.values(), *registry.DESTINATIONS.values()]
    return {
        "configuration.md": _page("Configuration", "What may stand in the files a person writes.", _groups()),
        "steps.md": _page("Steps", "What a route may do, in the order it is written.", [_component(kind.spec) for kind in STEPS.values()]),
        "connectors.md": _page("Listeners and destinations", "The protocols the broker speaks.", [_component(spec) for spec in connectors]),
        "layouts.md": _page("Message layouts", "The messages that `build:` makes.", [_layout(one) for one in shipped_layouts().values()]),
        "references.md": _page(
            "References", "What may stand in braces; in a step also a path of the message, such as `{PID-5.1}`.", [_references()]
        ),
        "scenarios.md": _page("Scenarios", "The sentences a scenario may have as its steps.", [_sentences()]),
        "fields.md": _page("Fields", "Where the `ris` step looks in a message, in this order; `fields:` overrides one.", list(_fields())),
    }


def _page(title: str, summary: str, sections: list[str]) -> str:
    return "\n\n".join([f"# {title}", "<!-- made by `broker schema`; do not edit -->", summary, *sections]) + "\n"


def _groups() -> list[str]:
    sections = []
    for group, (title, options) in GROUPS.items():
        nested = [(name, option) for name, option in _nested(group, options) if option.options]
        sections.append(f"## {title}\n\n{_table(options)}")
        sections += [f"### {name.partition('.')[2]}\n\n{_table(option.options)}" for name, option in nested]
    return sections


def _component(spec: Spec) -> str:
    short = f"\n\nA bare value stands for `{spec.short}`." if spec.short else ""
    heading = spec.name if spec.kind == "step" else f"{spec.name} ({spec.kind})"
    nested = "".join(f"\n\n`{option.name}`:\n\n{_table(option.options)}" for option in spec.options if option.options)
    return f"## {heading}\n\n{spec.summary}{short}\n\n{_table(spec.options)}{nested}\n\n```yaml\n{spec.example.strip()}\n```"


def _table(options: tuple[Option, ...]) -> str:
    rows = [f"| `{option.name}` | {_cell(_kind(option))} | {_cell(option.description)} | {_example(option)} |" for option in options]
    return "\n".join(["| option | type | what it does | example |", "|---|---|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _example(option: Option) -> str:
    return f"`{_cell(_shown(option.example))}`" if option.example is not None else ""


def _layout(layout: Layout) -> str:
    body = layout_text(layout).split("\n", 4)[4]
    return f"## {layout.message}\n\n{layout.summary}\n\n```\n{body}\n```"


def _sentences() -> str:
    rows = [f"| `{_cell(one.example)}` | {_cell(one.meaning)} |" for one in SENTENCES]
    return "\n".join(["| step | what it does, or looks at |", "|---|---|", *rows])


def _references() -> str:
    rows = []
    for name in references.names():
        text, _, meaning = reference_text(name).partition(": ")
        rows.append(f"| `{text}` | {_cell(meaning)} |")
    return "\n".join(["| reference | what it stands for |", "|---|---|", *rows])


def _fields() -> Iterator[str]:
    for kinds in (HL7_FIELDS, DICOM_FIELDS):
        for kind, fields in kinds.items():
            rows = [f"| `{name}` | {', '.join(f'`{path}`' for path in paths)} |" for name, paths in fields.items()]
            yield "\n".join([f"## {kind}", "", "| field | paths |", "|---|---|", *rows])
