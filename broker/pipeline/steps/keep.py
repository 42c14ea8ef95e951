"""`keep`: attributes of an image that earlier steps have changed stay what they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.spec import Option, Spec

SPEC = Spec(
    name="keep",
    kind="step",
    summary="Takes back what earlier steps, such as `coerce`, have changed in these attributes and in the items below them: they leave as "
    "they came.",
    options=(Option("paths", "texts", "Keywords or tags.", example=["StudyDescription", "(0008,1030)", "RequestAttributesSequence"]),),
    example="keep: [PatientName, RequestAttributesSequence]",
    short="paths",
)


def _compile(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    paths = tuple(compilation.removable(path) for path in settings["paths"])

    def keep(work: Work) -> None:
        for path in paths:
            work.subject.keep(path)

    return keep


KEEP = StepType(SPEC, _compile, ("dicom",), changes=True)
