"""`for_each`, `drop` and `reject`: what is repeated, and what ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from broker.errors import MessageError
from broker.hl7.message import Message
from broker.hl7.parts import Parts
from broker.hl7.tables import CONDITIONS
from broker.pipeline.blocks import NOTHING, Block, nested
from broker.pipeline.compilation import SEGMENT, Compilation, StepType, Within
from broker.pipeline.context import Drop, Hold, Step, Work
from broker.spec import Option, Spec

_FOR_EACH = Spec(
    name="for_each",
    kind="step",
    summary="Runs steps once for each segment of a name, or each group that begins with one. Inside, a path such as OBX-5 means that one, "
    "and only that one may be changed; the segments it belongs to can be read: of an OBX its own OBR and ORC. A `drop` inside takes that "
    "one out of the message.",
    options=(
        Option("segment", "text", "Name of the segment.", default="", example="OBX"),
        Option("group", "text", "Name of the segment that begins each group, which ends before the next one.", default="", example="ORC"),
        Option("steps", "steps", "What is done to each, in this order."),
    ),
    example="for_each:\n  segment: OBX\n  steps:\n    - when: OBX-11 = X\n      drop: withdrawn result\n    - set: {OBX-8: N}",
)
_DROP = Spec(
    name="drop",
    kind="step",
    summary="Ends what it stands in, on purpose. In a route the message is answered AA, counted, and sent nowhere; in a target, that "
    "target sends nothing; in `for_each`, that segment or group goes out of the message.",
    options=(Option("reason", "text", "Why, as it is shown to a person.", example="test patient"),),
    example="drop: test patient",
    short="reason",
)
_REJECT = Spec(
    name="reject",
    kind="step",
    summary="Answers the sender that the message cannot be taken, with the place and the reason, and undoes all that was done for it.",
    options=(
        Option("text", "text", "The reason, as the sender and a person read it; it is constant, so that it holds no patient's data."),
        Option("at", "path", "The field that is to blame.", default="", example="PID-3"),
        Option("code", "integer", "What kind of error it is, of HL7 table 0357.", default=207, example=204),
        Option(
            "answer",
            "text",
            "`AE`: the message is parked for a person, who may route it again. `AR`: it is refused for good.",
            default="AE",
            choices=("AE", "AR"),
        ),
    ),
    example="reject: {at: PID-3, text: not a patient of this hospital, code: 204, answer: AR}",
    short="text",
)


def _compile_for_each(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    kinds = [kind for kind in ("segment", "group") if settings[kind]]
    if len(kinds) != 1:
        compilation.mistakes.add("either segment: or group: is needed", "such as segment: OBX")
        return NOTHING
    (kind,) = kinds
    name, group = settings[kind], kind == "group"
    if not SEGMENT.fullmatch(name):
        instead = f"write {name[:3]}" if SEGMENT.match(name) else "write it like OBX"
        compilation.mistakes.add(f"{name} is no name of a segment", instead, key=(kind,))
        return NOTHING
    if name == "MSH" or (wrong := compilation.within and compilation.within.outside(name)):
        compilation.mistakes.add("there is one MSH" if name == "MSH" else str(wrong), key=(kind,))
    compilation.path(name, kind)
    inner = replace(compilation, within=Within(name, group))
    block = nested(settings["steps"], inner.at("steps"))
    observer, place = compilation.observer, compilation.mistakes.place

    def for_each(work: Work) -> Hold | None:
        message = work.subject
        parts = Parts(message, name, group=group)
        if not len(parts):
            return None
        kept: list[Message | None] = []
        try:
            for number, part in enumerate(parts):
                work.subject = part
                if observer:
                    observer.begins(place, f"{name}[{number + 1}]")
                result = _run(block, work, parts, number)
                if isinstance(result, Hold):
                    return result
                kept.append(None if isinstance(result, Drop) else work.subject)
        finally:
            work.subject = message
        if block.changes:
            parts.put(kept)
        return None

    return Block((for_each,), block.changes)


def _run(block: Block, work: Work, parts: Parts, number: int) -> Drop | Hold | None:
    try:
        return block(work)
    except MessageError as error:
        raise MessageError(parts.whole(error.path, number), error.why, error.code, reject=error.reject) from error


def _compile_drop(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    drop = Drop(settings["reason"])
    return Block((lambda work: drop,), changes=compilation.within is not None)


def _compile_reject(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    at = compilation.path(settings["at"], "at") if settings["at"] else ""
    text, code, reject = settings["text"], settings["code"], settings["answer"] == "AR"
    if code not in CONDITIONS or code == 0:
        known = ", ".join(f"{number} {meaning}" for number, meaning in CONDITIONS.items() if number)
        compilation.mistakes.add(f"{code} is not in HL7 table 0357", f"one of {known}", key=("code",))
    if not text.strip() or "{" in text:
        compilation.mistakes.add("the reason is a constant text", "write it without braces", key=("text",))

    def reject_(work: Work) -> None:
        raise MessageError(at, text, code, reject=reject)

    return reject_


FOR_EACH = StepType(_FOR_EACH, _compile_for_each, ("hl7",))
DROP = StepType(_DROP, _compile_drop, ("hl7", "dicom", "ris"), ends=True)
REJECT = StepType(_REJECT, _compile_reject, ("hl7", "dicom"), ends=True)
