"""`set`, `copy`, `move` and `remove`: the fields of an HL7 message or the attributes of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from broker.errors import MessageError
from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.pipeline.places import compile_pairs
from broker.pipeline.references import Template
from broker.spec import Option, Spec

_SET = Spec(
    name="set",
    kind="step",
    summary="Writes text into fields, with paths of the message and records of the RIS in braces: one that is empty is an error unless it "
    "ends in `?`.",
    options=(
        Option(
            "fields",
            "mapping",
            "Path and the text that is written there; a path with `[*]` writes all there are.",
            example={"MSH-5": "PACS", "OBR-18": "{exam.accession}", "ZPI-2": "{PID-5.1}, {PID-5.2?}"},
        ),
    ),
    example='set: {MSH-5: PACS, OBR-18: "{OBR-3.1 or OBR-2.1}", ZPI-2: "{PID-5.1}, {PID-5.2?}"}',
    short="fields",
)
_COPY = Spec(
    name="copy",
    kind="step",
    summary="Writes what stands at one path to others, as it stands there; an empty one empties them.",
    options=(
        Option("from", "path", "Where it stands; `[*]` copies each to the same number in `to`.", example="OBR-3"),
        Option("to", "texts", "Where it is written.", example=["OBR-18"]),
    ),
    example="copy: {from: OBR-3, to: OBR-18}",
)
_MOVE = Spec(
    name="move",
    kind="step",
    summary="Writes what stands at one path to another, and empties the first; where nothing stands, nothing is moved.",
    options=(
        Option("from", "path", "Where it stands; `[*]` moves each to the same number in `to`.", example="PID-2"),
        Option("to", "path", "Where it is written.", example="PID-4"),
    ),
    example="move: {from: PID-2, to: PID-4}",
)
_REMOVE = Spec(
    name="remove",
    kind="step",
    summary="Empties fields; takes away whole segments where the path names no field: `ZPI` the first, `ZPI[*]` all. Of an image, "
    "attributes and items of sequences go away altogether; to empty one, `set` it to nothing.",
    options=(Option("paths", "texts", "What is emptied or taken away.", example=["PID-19", "ZPI[*]"]),),
    example='remove: [PID-19, "ZPI[*]"]',
    short="paths",
)

Setter = Callable[[Work, str], None]


def compile_setter(path: str, template: Template, *, hl7: bool) -> Setter:
    """Return what writes a text with references to a place, given the work and that place; `path` is the one errors name."""
    constant = template.constant
    if constant is not None:
        return lambda work, place: work.subject.set(place, constant)
    if not hl7:
        return lambda work, place: work.subject.set(place, template.plain(work.scope()))
    write = template.writer(path)
    return lambda work, place: work.subject.set_raw(place, write(work.scope()))


def _compile_set(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    hl7 = compilation.protocol == "hl7"
    setters = []
    for path, value in settings["fields"].items():
        place = compilation.target(path, path)
        setters.append((place, compile_setter(place, compilation.template(value, path), hl7=hl7)))

    def set_(work: Work) -> None:
        for path, setter in setters:
            try:
                setter(work, path)
            except MessageError as error:
                raise MessageError(path, error.why, error.code) from None

    return set_


def _compile_copy(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    source = compilation.path(settings["from"], "from")
    targets = [compilation.target(path, "to") for path in settings["to"]]
    pairs = [compile_pairs(source, target, compilation, "to") for target in targets]

    def copy(work: Work) -> None:
        for each in pairs:
            _transfer(work.subject.copy, each(work.subject))

    return copy


def _compile_move(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    source = compilation.path(compilation.target(settings["from"], "from"), "from")
    target = compilation.target(settings["to"], "to")
    pairs = compile_pairs(source, target, compilation, "to")
    if source == target:
        compilation.mistakes.add("it stands there already", "name another place", key=("to",))

    def move(work: Work) -> None:
        subject = work.subject
        # from the last: a repetition that has gone changes the numbers of those behind it
        _transfer(subject.move, [(place, to) for place, to in reversed(pairs(subject)) if subject.exists(place)])

    return move


def _transfer(method: Callable[[str, str], None], pairs: Sequence[tuple[str, str]]) -> None:
    for source, target in pairs:
        try:
            method(source, target)
        except ValueError as error:  # it names paths, no values
            raise MessageError(source, str(error), 102) from error


def _compile_remove(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    paths = tuple(compilation.removable(path) for path in settings["paths"])

    def remove(work: Work) -> None:
        for path in paths:
            work.subject.remove(path)

    return remove


ALL = (
    StepType(_SET, _compile_set, ("hl7", "dicom"), changes=True),
    StepType(_COPY, _compile_copy, ("hl7", "dicom"), changes=True),
    StepType(_MOVE, _compile_move, ("hl7", "dicom"), changes=True),
    StepType(_REMOVE, _compile_remove, ("hl7", "dicom"), changes=True),
)
