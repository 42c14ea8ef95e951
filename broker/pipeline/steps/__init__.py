"""The steps a route may have: one visible dict."""

from broker.pipeline.compilation import StepType
from broker.pipeline.steps import coerce, drop, edit, link, require, ris, translate

STEPS: dict[str, StepType] = {
    step.spec.name: step
    for step in (require.REQUIRE, edit.SET, edit.COPY, edit.REMOVE, translate.MAP, drop.DROP, ris.RIS, link.LINK, coerce.COERCE)
}
