"""The steps a route may have: one visible dict."""

from broker.pipeline.compilation import StepType
from broker.pipeline.steps import attachment, build, call, coerce, convert, edit, flow, format, keep, link, parts, require, ris, translate

STEPS: dict[str, StepType] = {
    step.spec.name: step
    for step in (
        require.REQUIRE,
        *edit.ALL,
        translate.MAP,
        format.FORMAT,
        *parts.ALL,
        flow.FOR_EACH,
        flow.DROP,
        flow.REJECT,
        call.CALL,
        ris.RIS,
        link.LINK,
        coerce.COERCE,
        keep.KEEP,
        *attachment.ALL,
        convert.CONVERT,
        build.BUILD,
    )
}
