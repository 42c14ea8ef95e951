"""`coerce`: an image takes the patient and order attributes of its exam."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.errors import MessageError
from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.pipeline.references import Template
from broker.pipeline.shape import did_you_mean
from broker.pipeline.tables import Table
from broker.spec import Option, Spec

SPEC = Spec(
    name="coerce",
    kind="step",
    summary="Sets the attributes a table names to what the linked exam says; the originals are kept in Original Attributes Sequence.",
    options=(
        Option("from", "text", "Which record says it: the exam that `link` found.", default="exam", choices=("exam",)),
        Option(
            "table",
            "text",
            "Table of attribute and value. An attribute is a keyword or tag, also into items of sequences; a value may hold references in "
            "braces. A column `when`, if there is one, says when it is set: `always` (also where that empties it), `known` (only when "
            "the value is not empty) or `missing` (only when the image has none).",
            example="image_attributes",
        ),
    ),
    example="coerce: {from: exam, table: image_attributes}",
)


WHEN = ("always", "known", "missing")


def _compile(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    table = compilation.table(settings["table"], "table")
    attributes = [_attribute(table, keyword, compilation) for keyword in table.rows] if table else []

    def coerce(work: Work) -> None:
        if work.exam is None:
            return  # not linked, and the route forwards such images as they are
        scope, subject = work.scope(), work.subject
        for path, template, when in attributes:
            try:
                value = template.plain(scope)
                if when == "always" or (value and (when == "known" or not subject.exists(path))):
                    subject.set(path, value)
            except MessageError as error:
                raise MessageError(path, error.why, error.code) from None

    return coerce


def _attribute(table: Table, keyword: str, compilation: Compilation) -> tuple[str, Template, str]:
    row = table.rows[keyword]
    when = row.get("when", "") or WHEN[0]
    if when not in WHEN:
        compilation.mistakes.add(f"table {table.name}, {keyword}: there is no when {when}", did_you_mean(when, WHEN), key=("table",))
    path = compilation.target(keyword, "table")
    if when == "missing":
        compilation.path(path, "table")
    return path, compilation.template(row[table.value_column], "table"), when


COERCE = StepType(SPEC, _compile, ("dicom",), changes=True)
