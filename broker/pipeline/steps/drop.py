"""`drop`: the message goes no further."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Drop, Step
from broker.spec import Option, Spec

SPEC = Spec(
    name="drop",
    kind="step",
    summary="Ends the route for this message on purpose: it is answered AA, counted, and sent nowhere.",
    options=(Option("reason", "text", "Why, as it is shown to a person.", example="test patient"),),
    example="drop: test patient",
    short="reason",
)


def _compile(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    drop = Drop(settings["reason"])
    return lambda work: drop


DROP = StepType(SPEC, _compile, ("hl7", "dicom", "ris"))
