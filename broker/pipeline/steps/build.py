"""`build`: a new message, by its layout, from what the RIS knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.hl7.message import Message
from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.pipeline.layout import Builder, compile_layout
from broker.pipeline.shape import did_you_mean
from broker.spec import Option, Spec

SPEC = Spec(
    name="build",
    kind="step",
    summary="Makes a new message by its layout, from the records around the event or around what `ris` has applied; the steps behind it "
    "work on that message, and it is what the target sends.",
    options=(
        Option("message", "text", "The layout.", example="ORM^O01^ORM_O01"),
        Option(
            "set",
            "mapping",
            "Fields that are filled differently; text, with records and paths of the message that came in braces.",
            default=None,
            example={"ORC-1": "SC", "OBR-13": "{NTE-3?}"},
        ),
    ),
    example="build: {message: ORM^O01^ORM_O01, set: {ORC-1: SC}}",
    short="message",
)


def compile_builder(message: str, overrides: Mapping[str, Any], compilation: Compilation, *key: str) -> Builder | None:
    """Return what builds the message; None, and a mistake, when there is no such layout."""
    layout = compilation.layouts.get(message)
    if layout is None:
        compilation.mistakes.add(f"there is no layout {message}", did_you_mean(message, compilation.layouts), key=key)
        return None
    texts = {path: compilation.text(value, "set", path) for path, value in overrides.items()}
    return compile_layout(layout, texts, compilation.tables, compilation.mistakes.at("set"), compilation.field)


def _compile(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    builder = compile_builder(settings["message"], settings["set"] or {}, compilation)
    if compilation.within is not None:
        compilation.mistakes.add("a whole message cannot be built inside for_each", "build it behind, or in a target")
    if builder is None:
        return lambda work: None

    def build(work: Work) -> None:
        raw = builder.build({**work.scope(), "control_id": work.context.control_id()})
        work.subject = Message.parse(raw)

    return build


BUILD = StepType(SPEC, _compile, ("hl7", "dicom", "ris"), makes="hl7")
