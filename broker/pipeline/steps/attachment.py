"""`extract` and `restore`: documents inside OBX-5 are kept apart from the message, and put back for who wants them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.hl7 import attachment
from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.spec import Option, Spec

_EXTRACT = Spec(
    name="extract",
    kind="step",
    summary="Takes the data of OBX-5 of type ED out of the message (base64 PDF and other encodings) and keeps it once, leaving a reference "
    "pointer of type RP; a destination gets the pointer unless its target has the step `restore`.",
    options=(
        Option("what", "text", "What is taken out.", default="attachments", choices=("attachments",)),
        Option("over", "size", "Only values of more than so many bytes.", default="0 B", example="4 KB"),
    ),
    example="extract: {what: attachments, over: 4 KB}",
    short="what",
)
_RESTORE = Spec(
    name="restore",
    kind="step",
    summary="Puts back what `extract` took out, byte for byte, as the message leaves; until then the store holds it once, not once for "
    "each destination.",
    options=(Option("what", "text", "What is put back.", default="attachments", choices=("attachments",)),),
    example="restore: attachments",
    short="what",
)


def _compile_extract(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    over: int = settings["over"]

    def extract(work: Work) -> None:
        attachment.take_out(work.subject, work.context.keep_attachment, over)

    return extract


def _compile_restore(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    def restore(work: Work) -> None:
        attachment.put_back(work.subject)

    return restore


ALL = (
    StepType(_EXTRACT, _compile_extract, ("hl7",), changes=True),
    StepType(_RESTORE, _compile_restore, ("hl7",), changes=True),
)
