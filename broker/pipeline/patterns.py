"""Regular expressions of conditions. A sender chooses the text, so a pattern that some text would keep busy for ever is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_PIECE = re.compile(
    r"(?:(?P<open>\((?:\?(?:P<\w+>|<?[=!]|[a-zA-Z-]*:))?)|(?P<close>\))|(?P<bar>\|)|(?P<atom>\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.))"
    r"(?P<times>[*+]|\{\d*,\d*\}|\?|\{\d+\})?[?+]?",
    re.DOTALL,
)
_ENDLESS = re.compile(r"[*+]|\{\d*,\}")
_ANYTHING_FIRST = re.compile(r"\.\*(?![*+?{])")


@dataclass(slots=True)
class _Group:
    """What an open group has held so far; of its alternatives, the loosest counts."""

    fixed: bool = False  # the alternative has a piece that stands there exactly so often
    endless: bool = False  # the alternative has a piece that repeats without end
    loose: bool = False  # an alternative is nothing but pieces that may be longer or shorter

    def take(self, times: str, *, loose: bool = False) -> None:
        if loose or _ENDLESS.fullmatch(times):
            self.endless = True
        elif not times or times[1:-1].isdigit():
            self.fixed = True

    def branch(self) -> bool:
        self.loose |= self.endless and not self.fixed
        self.fixed = self.endless = False
        return self.loose


def compile_search(pattern: str) -> Callable[[str], object]:
    """Return what tells whether a pattern is found anywhere in a text; raises ValueError with what is wrong with it."""
    if "|" not in pattern:  # found anywhere: what may stand in front says nothing, and costs the square of the text's length
        pattern = _ANYTHING_FIRST.sub("", pattern, count=1) if pattern.startswith(".*") else pattern
    try:
        search = re.compile(pattern).search
    except re.error as error:
        raise ValueError(f"{pattern} is no regular expression: {error}") from None
    if _repeats_twice(pattern):
        raise ValueError(f"{pattern} repeats what repeats already, and some texts would take it for ever; write a+ instead of (a+)+")
    return search


def _repeats_twice(pattern: str) -> bool:
    """Whether a group repeats without end though it holds nothing but what repeats: a text can be cut in too many ways."""
    groups = [_Group()]
    for piece in _PIECE.finditer(pattern):
        times = piece["times"] or ""
        if piece["open"]:
            groups.append(_Group())
        elif piece["bar"]:
            groups[-1].branch()
        elif piece["close"] and len(groups) > 1:
            loose = groups.pop().branch()
            if loose and _ENDLESS.fullmatch(times):
                return True
            groups[-1].take(times, loose=loose)
        elif piece["atom"]:
            groups[-1].take(times)
    return False
