"""`map`: codes through a code table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.errors import MessageError
from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.pipeline.places import compile_pairs
from broker.spec import Option, Spec

SPEC = Spec(
    name="map",
    kind="step",
    summary="Replaces a code by what a code table says; a code that the table does not know is an error unless `missing` says otherwise. "
    'HL7\'s null `""` stays.',
    options=(
        Option("path", "path", "Where the code stands; with `[*]` each is replaced by itself.", example="PID-8"),
        Option("table", "text", "Which code table.", example="sex"),
        Option("column", "text", "Which column is written; without it, the second.", default="", example="code"),
        Option("to", "path", "Where it is written; without it, where the code stood.", default="", example="PID-8"),
        Option("missing", "text", "What happens to an unknown code.", default="error", choices=("error", "keep", "default")),
        Option("default", "text", "What is written for an unknown code when `missing` is `default`.", default="", example="U"),
    ),
    example="map: {path: PID-8, table: sex, missing: default, default: U}",
)


def _compile(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    path = compilation.path(settings["path"], "path")
    target = compilation.target(settings["to"] or settings["path"], "to" if settings["to"] else "path")
    pairs = compile_pairs(path, target, compilation, "to")
    table = compilation.table(settings["table"], "table")
    column = compilation.column(table, settings["column"], "column")
    missing, default = settings["missing"], settings["default"]
    if missing == "default" and not default:
        compilation.mistakes.add("missing is default, but there is none", "add default: and the text to write")
    if default and missing != "default":
        compilation.mistakes.add("default is never written", "add missing: default", key=("default",))
    null = '""' if compilation.protocol == "hl7" else None  # tells the receiver to delete what it has (2.5.1 chapter 2.7)
    if table is None:
        return lambda work: None

    def map_(work: Work) -> None:
        subject = work.subject
        for source, to in pairs(subject):
            code = subject.get(source)
            if not code:
                continue
            value = table.lookup(code, column)
            if value is None and code == null:
                value = code
            if value is not None:
                subject.set(to, value)
            elif missing == "default":
                subject.set(to, default)
            elif missing == "error":
                raise MessageError(source, f"not in table {table.name}", 103)

    return map_


MAP = StepType(SPEC, _compile, ("hl7", "dicom"), changes=True)
