"""`coerce`: an image takes the patient and order attributes of its exam."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.errors import MessageError
from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.spec import Option, Spec

SPEC = Spec(
    name="coerce",
    kind="step",
    summary="Sets the attributes a table names to what the linked exam says; the originals are kept in Original Attributes Sequence.",
    options=(
        Option("from", "text", "Which record says it: the exam that `link` found.", default="exam", choices=("exam",)),
        Option("table", "text", "Table of attribute keyword and value; values may hold references in braces.", example="image_attributes"),
    ),
    example="coerce: {from: exam, table: image_attributes}",
)


def _compile(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    table = compilation.table(settings["table"], "table")
    attributes = []
    for keyword in table.rows if table else ():
        path = compilation.target(keyword, "table")
        attributes.append((path, compilation.template(table.lookup(keyword), "table") if table else None))

    def coerce(work: Work) -> None:
        if work.exam is None:
            return  # not linked, and the route forwards such images as they are
        scope = work.scope()
        for keyword, template in attributes:
            try:
                work.subject.set(keyword, template.plain(scope) if template else "")
            except MessageError as error:
                raise MessageError(keyword, error.why, error.code) from None

    return coerce


COERCE = StepType(SPEC, _compile, ("dicom",), changes=True)
