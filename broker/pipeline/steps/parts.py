"""`split`, `join` and `add`: one text becomes several places, several become one, and segments come into being."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from broker.errors import MessageError
from broker.hl7.message import Message
from broker.hl7.path import parse
from broker.pipeline.compilation import SEGMENT, Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.pipeline.places import EVERY, places
from broker.pipeline.steps.edit import compile_setter
from broker.spec import Option, Spec

_SPLIT = Spec(
    name="split",
    kind="step",
    summary="Cuts a text at a separator and writes its pieces to several places.",
    options=(
        Option("path", "path", "Where the text stands.", example="ZPI-2"),
        Option("at", "text", 'What separates the pieces; a line break is written "\\n".', example=","),
        Option(
            "into",
            "texts",
            "Where the pieces are written, one after the other; what gets none is emptied. `PID-13[*].1` makes as many repetitions as "
            "there are pieces, `NTE[*]-3` as many segments, below the one that holds the text, numbered in their first field.",
            example=["PID-5.1", "PID-5.2"],
        ),
        Option("trim", "boolean", "Whether blanks around a piece go away.", default=True),
        Option(
            "otherwise",
            "text",
            "What happens to a text with more pieces than places: `keep` leaves everything as it is, `last` writes the rest to the last.",
            default="error",
            choices=("error", "keep", "last"),
        ),
    ),
    example='split: {path: ZPI-2, at: ",", into: [PID-5.1, PID-5.2]}',
)
_JOIN = Spec(
    name="join",
    kind="step",
    summary="Writes the texts of several places into one, with a separator between them.",
    options=(
        Option("from", "texts", "Where they stand, in this order; `[*]` takes all there are.", example=["NTE[*]-3"]),
        Option("with", "text", 'What stands between them; a line break is written "\\n".', example=", "),
        Option("to", "path", "Where the text is written.", example="OBX-5"),
        Option("empty", "text", "What becomes of empty ones.", default="leave out", choices=("leave out", "keep")),
    ),
    example='join: {from: "NTE[*]-3", with: "\\n", to: ZPI-2}',
)
_ADD = Spec(
    name="add",
    kind="step",
    summary="Adds a segment to the message.",
    options=(
        Option("segment", "text", "Its name.", example="ZPI"),
        Option("after", "path", "The segment it stands behind; of several of a name, the last.", default="", example="PID"),
        Option(
            "before", "path", "The segment it stands in front of; without `after` and `before` it is the last.", default="", example="OBR"
        ),
        Option(
            "fields",
            "mapping",
            "Its fields, as in `set`.",
            default={},
            example={"ZPI-1": "1", "ZPI-2": "{PID-5.1}"},
        ),
    ),
    example='add: {segment: ZPI, after: PID, fields: {ZPI-1: "1", ZPI-2: "{PID-5.1}, {PID-5.2}"}}',
)


def _compile_split(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    path, separator, into = compilation.path(settings["path"], "path"), settings["at"], settings["into"]
    first, several = into[0] if into else "", sum(EVERY in target for target in into)
    segments = EVERY in first.partition("-")[0]
    surroundings = replace(compilation, within=None) if segments else compilation  # new segments stand outside of nothing
    for target in into:
        surroundings.target(target, "into")
    if not separator:
        compilation.mistakes.add("nothing to cut at", 'such as ","', key=("at",))
    if EVERY in path:
        compilation.mistakes.add(f"{path} names several texts", "use for_each", key=("path",))
    if not into or (several and len(into) > 1) or first.count(EVERY) > 1:
        compilation.mistakes.add("several paths are needed, or one with one [*]", "such as NTE[*]-3", key=("into",))
    write = _fill_segments if segments else _fill_repetitions if several else None
    trim, otherwise = settings["trim"], settings["otherwise"]

    def split(work: Work) -> None:
        text = work.subject.get(path)
        if not text:
            return
        pieces = text.split(separator)
        if trim:
            pieces = [piece.strip() for piece in pieces]
        if write:
            write(work.subject, path, first, pieces)
            return
        if len(pieces) > len(into):
            if otherwise == "error":
                raise MessageError(path, f"more than {len(into)} pieces", 102)
            if otherwise == "keep":
                return
            pieces = [*pieces[: len(into) - 1], separator.join(pieces[len(into) - 1 :])]
        for target, piece in zip(into, pieces + [""] * len(into), strict=False):
            work.subject.set(target, piece)

    return split


def _fill_repetitions(message: Message, path: str, target: str, pieces: list[str]) -> None:
    """Write each piece into a repetition, and empty those that are left."""
    for place in places(message, target)[len(pieces) :]:
        message.set(place, "")
    for number, piece in enumerate(pieces, 1):
        message.set(target.replace(EVERY, f"[{number}]"), piece)


def _fill_segments(message: Message, path: str, target: str, pieces: list[str]) -> None:
    """Write each piece into a new segment, one below the other and all below the segment of the path."""
    name = parse(target).segment
    above = message.absolute(path).partition("-")[0]
    for number, piece in enumerate(pieces, 1):
        at = message.add(name, after=above)
        above = f"{name}[{at}]"
        message.set(f"{above}-1", str(number))
        message.set(target.replace(f"{name}{EVERY}", above), piece)


def _compile_join(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    sources = tuple(compilation.path(path, "from") for path in settings["from"])
    target = compilation.target(settings["to"], "to")
    if EVERY in target:
        compilation.mistakes.add(f"{target} names several places", "use for_each", key=("to",))
    separator, keep = settings["with"], settings["empty"] == "keep"

    def join(work: Work) -> None:
        subject = work.subject
        texts = [text for source in sources for text in (subject.all(source) if EVERY in source else [subject.get(source)])]
        subject.set(target, separator.join(text for text in texts if text or keep))

    return join


def _compile_add(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    name = settings["segment"]
    before, after = (_anchor(settings[key], compilation, key) for key in ("before", "after"))
    if before and after:
        compilation.mistakes.add("either before: or after:", "remove one of them", key=("before",))
    if not SEGMENT.fullmatch(name) or name == "MSH":
        compilation.mistakes.add(f"{name} is no segment that can be added", "write its name, such as ZPI", key=("segment",))
    else:
        replace(compilation, within=None).path(name, "segment")
    surroundings = replace(compilation, within=None)
    setters = []
    for path, value in settings["fields"].items():
        surroundings.target(path, "fields", path)
        segment, _, field = path.partition("-")
        if segment != name:
            compilation.mistakes.add(f"{path} is no field of the new {name}", f"write it like {name}-1", key=("fields", path))
        setters.append((path, field, compile_setter(path, compilation.template(value, "fields", path), hl7=True)))

    def add(work: Work) -> None:
        message = work.subject
        number = message.add(name, before=before, after=_last(message, after) if after else "")
        for path, field, setter in setters:
            try:
                setter(work, f"{name}[{number}]-{field}")
            except MessageError as error:
                raise MessageError(path, error.why, error.code) from None

    return add


def _anchor(path: str, compilation: Compilation, key: str) -> str:
    """Return the path of a segment that another one is put beside."""
    if not path:
        return ""
    compilation.path(path, key)
    if "-" in path or EVERY in path:
        compilation.mistakes.add(f"{path} is not one segment", f"write {path[:3]}", key=(key,))
    elif compilation.within and (wrong := compilation.within.outside(path)):
        compilation.mistakes.add(wrong, key=(key,))
    return path


def _last(message: Message, path: str) -> str:
    """Return the path of the last segment of a name; of one that is numbered, the path as it is."""
    count = 0 if path.endswith("]") else len(message.segments(path))
    return f"{path}[{count}]" if count else path


ALL = (
    StepType(_SPLIT, _compile_split, ("hl7",), changes=True),
    StepType(_JOIN, _compile_join, ("hl7",), changes=True),
    StepType(_ADD, _compile_add, ("hl7",), changes=True),
)
