"""`require`: fields that must not be empty."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from broker.errors import MessageError
from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.spec import Option, Spec

SPEC = Spec(
    name="require",
    kind="step",
    summary="Refuses the message (AE, required field missing) when one of these fields is empty.",
    options=(
        Option(
            "paths", "texts", "Paths that must have a value; `a or b` asks for one of the two.", example=["PID-3.1", "ORC-2.1 or OBR-2.1"]
        ),
    ),
    example="require: [PID-3.1, ORC-2.1 or OBR-2.1, OBR-4.1]",
    short="paths",
)


def _compile(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    wanted = tuple(tuple(compilation.path(p) for p in re.split(r"\s+or\s+", text.strip())) for text in settings["paths"])

    def require(work: Work) -> None:
        exists = work.subject.exists
        for paths in wanted:
            if not any(map(exists, paths)):
                raise MessageError(paths[0], f"required field is empty{', and so is ' + ' and '.join(paths[1:]) if paths[1:] else ''}", 101)

    return require


REQUIRE = StepType(SPEC, _compile, ("hl7", "dicom", "ris"))
