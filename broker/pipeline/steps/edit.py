"""`set`, `copy` and `remove`: the fields of an HL7 message or the attributes of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from broker.errors import MessageError
from broker.hl7.message import Message
from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.pipeline.references import Template
from broker.spec import Option, Spec

_SET = Spec(
    name="set",
    kind="step",
    summary="Writes text into fields, or records in braces: a reference that is empty is an error unless it ends in `?`.",
    options=(
        Option("fields", "mapping", "Path and the text that is written there.", example={"MSH-5": "PACS", "OBR-18": "{exam.accession}"}),
    ),
    example='set: {MSH-5: PACS, OBR-18: "{exam.accession}"}',
    short="fields",
)
_COPY = Spec(
    name="copy",
    kind="step",
    summary="Writes what stands at one path to others, as it stands there.",
    options=(
        Option("from", "path", "Where it stands.", example="OBR-3"),
        Option("to", "texts", "Where it is written.", example=["OBR-18"]),
    ),
    example="copy: {from: OBR-3, to: OBR-18}",
)
_REMOVE = Spec(
    name="remove",
    kind="step",
    summary="Empties fields; whole segments with a path such as `ZPI[*]`.",
    options=(Option("paths", "texts", "What is emptied.", example=["PID-19", "ZPI[*]"]),),
    example='remove: [PID-19, "ZPI[*]"]',
    short="paths",
)


def _compile_set(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    setters = []
    for path, value in settings["fields"].items():
        compilation.target(path, path)
        setters.append((path, _setter(path, compilation.template(value, path), compilation.protocol == "hl7")))

    def set_(work: Work) -> None:
        for path, setter in setters:
            try:
                setter(work)
            except MessageError as error:
                raise MessageError(path, error.why, error.code) from None

    return set_


def _setter(path: str, template: Template, hl7: bool) -> Callable[[Work], None]:
    constant = template.constant
    if constant is not None:
        return lambda work: work.subject.set(path, constant)
    if hl7:
        return lambda work: work.subject.set_raw(path, template.hl7(work.scope()))
    return lambda work: work.subject.set(path, template.plain(work.scope()))


def _compile_copy(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    source = compilation.path(settings["from"], "from")
    targets = tuple(compilation.target(path, "to") for path in settings["to"])

    def copy(work: Work) -> None:
        for target in targets:
            try:
                work.subject.copy(source, target)
            except ValueError as error:  # it names paths, no values
                raise MessageError(source, str(error), 102) from error

    return copy


def _compile_remove(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    paths = tuple(compilation.path(path) for path in settings["paths"])

    def remove(work: Work) -> None:
        for path in paths:
            if isinstance(work.subject, Message) or work.subject.exists(path):
                work.subject.remove(path)

    return remove


SET = StepType(_SET, _compile_set, ("hl7", "dicom"), changes=True)
COPY = StepType(_COPY, _compile_copy, ("hl7", "dicom"), changes=True)
REMOVE = StepType(_REMOVE, _compile_remove, ("hl7", "dicom"), changes=True)
