"""`call`: a function of the site's own Python module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from broker.errors import Problem
from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.pipeline.functions import Function, faults
from broker.spec import Option, Spec

SPEC = Spec(
    name="call",
    kind="step",
    summary="Calls a function of the site's own Python module, `def name(message, **settings)`, which changes the message or returns the "
    "texts to write by path. It runs in a process of its own; when it raises or takes too long, the message is parked and answered AE.",
    options=(
        Option("module", "path", "The Python file, from the folder of channels.yaml.", example="site/orders.py"),
        Option("function", "text", "The name of the function in it.", example="normalise"),
        Option("with", "mapping", "Its settings, as keyword arguments.", default={}, example={"prefix": "H1"}),
        Option("limit", "duration", "How long it may take for one message, up to 10s.", default="1s", example="200ms"),
    ),
    example="call: {module: site/orders.py, function: normalise, with: {prefix: H1}}",
)
_MOST = 10.0  # seconds


def _compile(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    source = _source(settings["module"], compilation)
    for line, what, instead in faults(source, settings["function"], settings["with"]) if source is not None else ():
        compilation.mistakes.add(f"{settings['module']}, line {line}: {what}", instead, key=("function",))
    if not 0 < settings["limit"] <= _MOST:
        compilation.mistakes.add("not a limit", f"write a time of at most {_MOST:.0f}s", key=("limit",))
    function = Function(settings["module"], source or "", settings["function"], settings["with"], settings["limit"])

    compilation.functions.append(function)

    def call(work: Work) -> None:
        work.subject = work.context.call(function, work.subject)

    return call


def _source(name: str, compilation: Compilation) -> str | None:
    """Return the text of the module, None when it cannot be read."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.suffix != ".py":
        compilation.mistakes.add(f"{name} is no Python file of this configuration", "write it like site/orders.py", key=("module",))
        return None
    found = compilation.files(name) if compilation.files else Problem(name, 0, "", "cannot be read")
    if isinstance(found, Problem):
        compilation.mistakes.add(f"{name} {found.what}", "write it, or name another file", key=("module",))
        return None
    return found


CALL = StepType(SPEC, _compile, ("hl7",), changes=True)
