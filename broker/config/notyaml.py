"""What is wrong with a text that is no YAML, in words that say what to write instead."""

from __future__ import annotations

import re

import yaml
from yaml.reader import ReaderError

from broker.errors import Problem

_QUOTES = 'put what has brackets or braces in quotes, as in {"OBX[2]-5": X}, and close every bracket and brace'
_INSTEAD = (  # what PyYAML says, and what to do; the first that is found
    (r"character '\\t'", "indent with blanks, not with tabs"),
    (r"character '(.)' that cannot start", r"put a text that begins with \1 in quotes"),
    (r"mapping values are not allowed", "put a text with a colon in quotes, and indent what belongs together alike"),
    (r"expected alphabetic or numeric", "put a text that begins with * in quotes"),
    (r"undefined alias", "put a text that begins with * in quotes"),
    (r"'<stream end>'", "close every bracket and brace"),
    (r"expected ',' or '.'|while parsing a flow node", _QUOTES),
    (r"unexpected end of stream", "close every quotation mark"),
    (r"another document", "remove the line ---: a file holds one document"),
    (r"but found '<scalar>'", "put the whole text in one pair of quotes, and begin this line in the same column as those it belongs to"),
    (r"expected <block end>", "begin this line in the same column as those it belongs to"),
    (r"could not find expected ':'", "write key: value, and close every quotation mark"),
    (r"unknown escape character", "write it in single quotes, or each backslash twice"),
    (r"special characters are not allowed", "remove this character"),
)


def not_yaml(error: yaml.YAMLError | RecursionError, text: str, file: str) -> Problem:
    """Return the problem with a text that PyYAML cannot read."""
    if isinstance(error, RecursionError):
        return Problem(file, 0, "", "nested too deeply")
    if isinstance(error, ReaderError):
        line, said = text.count("\n", 0, int(error.position)) + 1, f"{error.reason}"
    elif isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line, said = mark.line + 1 if mark else 0, str(error.problem or error.context)
    else:
        line, said = 0, str(error).partition("\n")[0]
    instead = next((match.expand(what) for pattern, what in _INSTEAD if (match := re.search(pattern, said))), "")
    return Problem(file, line, "", f"not YAML: {said}", instead)
