"""`link`: which exam an image belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Drop, Hold, Step, Work
from broker.ris.entities import Instance
from broker.spec import Option, Spec

_KEYS = {"StudyInstanceUID": "study_uid", "AccessionNumber": "accession"}

SPEC = Spec(
    name="link",
    kind="step",
    summary="Finds the exam an image belongs to, behind `ris: image` the one where that has placed it; later steps may refer to it.",
    options=(
        Option(
            "by",
            "texts",
            "Without `ris: image`: the attributes to find it by, in this order.",
            default=tuple(_KEYS),
            choices=tuple(_KEYS),
            example=list(_KEYS),
        ),
        Option(
            "otherwise",
            "text",
            "What happens to an image of no known exam: `hold` keeps it until its order comes or a person has placed it, `forward` sends "
            "it on as it is, `drop` ends the route.",
            default="hold",
            choices=("hold", "forward", "drop"),
        ),
    ),
    example="link: {by: [StudyInstanceUID, AccessionNumber], otherwise: hold}",
)
_STEP = "RequestAttributesSequence.ScheduledProcedureStepID"
_REASON = "no exam is known for this study"


def _compile(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    keys = tuple((path, _KEYS[path]) for path in settings["by"])
    compilation.paths.extend((*(path for path, _ in keys), _STEP))
    otherwise = settings["otherwise"]

    def link(work: Work) -> Hold | Drop | None:
        instance = work.context.instance
        if instance is not None and instance.released:
            return None
        view = _placed(work, instance) if instance is not None else _found(work, keys)
        if view is not None:
            work.exam = view
            work.accession = view["exam"].accession
            return None
        return None if otherwise == "forward" else Hold(_REASON) if otherwise == "hold" else Drop(_REASON)

    return link


def _placed(work: Work, instance: Instance) -> Mapping[str, Any] | None:
    """Return the exam where the RIS has placed the image; one that is known from the modality alone has no patient to tell."""
    if instance.exam_id is None:
        return None
    view = work.context.exam(instance.exam_id, work.subject.get(_STEP))
    return view if view["exam"].patient_id is not None else None


def _found(work: Work, keys: tuple[tuple[str, str], ...]) -> Mapping[str, Any] | None:
    for path, name in keys:
        value = work.subject.get(path)
        view = work.context.find_exam(**{name: value}) if value else None
        if view is not None:
            return view
    return None


LINK = StepType(SPEC, _compile, ("dicom",))
