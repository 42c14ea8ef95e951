"""Functions of the site's own Python modules: what the step `call` needs to know of one before anything runs it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.pipeline.shape import did_you_mean


@dataclass(frozen=True, slots=True)
class Function:
    """A function as the configuration names it, with the very text of its module that was checked."""

    file: str  # from the configuration's folder
    source: str
    name: str
    settings: Mapping[str, Any]  # its keyword arguments
    limit: float  # seconds that it may take


def faults(source: str, name: str, settings: Iterable[str]) -> list[tuple[int, str, str]]:
    """Return everything wrong with a function that is called as `name(message, **settings)`: line, what, what to write instead.

    The module is only read: nothing of it runs.
    """
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        return [(getattr(error, "lineno", None) or 1, f"not Python: {getattr(error, 'msg', None) or error}", "")]
    known = {node.name: node for node in module.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    function = known.get(name)
    if function is None:
        return [(1, f"there is no function {name}", did_you_mean(name, [one for one in known if not one.startswith("_")]))]
    if isinstance(function, ast.AsyncFunctionDef):
        return [(function.lineno, f"{name} is asynchronous", f"write def {name}(message)")]
    return [(function.lineno, what, instead) for what, instead in _signature(function, list(settings))]


def _signature(function: ast.FunctionDef, settings: list[str]) -> Iterable[tuple[str, str]]:
    arguments = function.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    if not positional and not arguments.vararg:
        yield f"{function.name} takes no message", f"write def {function.name}(message)"
    named = [*positional[max(1, len(arguments.posonlyargs)) :], *(argument.arg for argument in arguments.kwonlyargs)]
    if not arguments.kwarg:
        for setting in settings:
            if setting not in named:
                yield f"{function.name} takes no setting {setting}", did_you_mean(setting, named)
    defaulted = set(positional[len(positional) - len(arguments.defaults) :])
    needed = [one for one in positional[1:] if one not in defaulted]
    needed += [one.arg for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None]
    for setting in needed:
        if setting not in settings:
            yield f"{function.name} needs a setting {setting}", f"write with: {{{setting}: …}}, or give it a default"
