"""Conditions: `MSH-9.1 in [ORM, OMG] and not PV1-2 = E`, compiled once into closures.

    condition   = conjunction {"or" conjunction}
    conjunction = negation {"and" negation}
    negation    = "not" negation | "(" condition ")" | comparison
    comparison  = path "exists" | path "is" "missing" | path ("=" | "!=" | "<" | "<=" | ">" | ">=") text
                | path ["not"] "in" "[" text {"," text} "]" | path "matches" regular expression

A path that repeats (`*`) holds when any of its values does. `<` and `>` compare as numbers when both sides are numbers, else as text.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.dicom.path import canonical
from broker.model import Protocol as ProtocolName
from broker.pipeline.patterns import compile_search
from broker.pipeline.subject import Subject, check_path

Test = Callable[[Subject], bool]


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition."""

    holds: Test
    paths: tuple[str, ...] = ()  # that it reads
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)  # path -> the values outside of which it cannot hold
    compared: tuple[tuple[str, str], ...] = ()  # a path and a text that must be the same, or must not

    @property
    def never(self) -> bool:
        """Whether it contradicts itself, so that it never holds."""
        return any(not values for values in self.only.values())


ALWAYS = Condition(lambda subject: True)


class ConditionError(ValueError):
    """The text is no condition; the message says what was expected where."""


# `>` belongs to a word between the names of two segments, as in ORC[2]>OBR-4; anywhere else it compares
# a DICOM tag, public or private, is a word too: (0010,0020), (0029,"CREATOR",10), and what stands in its items
_TAG = r'\([0-9A-Fa-f]{4},(?:[0-9A-Fa-f]{4}|"[^"]*",[0-9A-Fa-f]{2})\)(?:\[\d+\])?'
_TOKEN = re.compile(
    rf"\s*(?P<tag>(?:[A-Za-z0-9]+(?:\[\d+\])?\.)*{_TAG}(?:\.(?:{_TAG}|[A-Za-z0-9]+(?:\[\d+\])?))*)"
    r"|\s*(?:(?P<text>'[^']*'|\"[^\"]*\")|(?P<sign><=|>=|!=|[=<>(),\[\]])"
    r"|(?P<word>(?:[A-Z][A-Z0-9]{2}(?:\[(?:\d+|\*)\])?>(?=[A-Z][A-Z0-9]{2}(?![A-Za-z0-9])))*(?:[^\s\[\](),=!<>'\"]|\[(?:\d+|\*)\])+)|(?P<bad>\S))"
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_OWN = {  # what other languages write, and what is written here
    "==": "=",
    "eq": "=",
    "equals": "=",
    "<>": "!=",
    "ne": "!=",
    "contains": "matches",
    "like": "matches",
    "&&": "and",
    "||": "or",
    **{word: word for word in ("and", "or", "not", "in", "exists")},
}
_FOREIGN = re.compile(r"==|<>|&&|\|\||\b(?:eq|equals|ne|contains|like|AND|OR|NOT|IN|EXISTS)\b")
_WORDS = {"and", "or", "not", "in", "exists", "matches", "is", "missing"}


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a sign or quoted text, and its column from 1."""

    kind: str  # word, sign, text, end
    text: str
    column: int


def tokens(text: str) -> list[Token]:
    """Split a condition; raises ConditionError."""
    found, at = [], 0
    while match := _TOKEN.match(text, at):
        kind = match.lastgroup or "bad"
        value, at = match.group(kind), match.end()
        if kind == "bad":
            raise ConditionError(f"{value} does not belong here (column {match.start(kind) + 1})")
        shown = "word" if kind == "tag" else kind
        found.append(Token(shown, value[1:-1] if kind == "text" else value, match.start(kind) + 1))
    return [*found, Token("end", "the end", len(text) + 1)]


def compile_condition(text: str, protocol: ProtocolName) -> Condition:
    """Return the condition for subjects of a protocol; raises ConditionError."""
    try:
        parser = _Parser(tokens(text), protocol)
        condition = parser.alternatives(0)
        if parser.token.kind != "end":
            raise ConditionError(f"{parser.token.text} was not expected (column {parser.token.column})")
    except ConditionError as error:
        raise ConditionError(f"{error}{_meant(text)}") from None
    return condition


def _meant(text: str) -> str:
    """Return what to write when a condition that cannot be read has an operator of another language, "" when it has none."""
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", '""', text)
    if foreign := _FOREIGN.search(bare):
        return f"; write {_OWN[foreign[0].lower()]} instead of {foreign[0]}"
    if listed := re.search(r"\bin \(([^()\[\]]*)\)", bare):
        return f"; write a list in brackets, [{listed[1]}]"
    words = re.search(r"(?:=|<|>)\s*(\w+(?: (?!(?:and|or)\b)\w+)+)(?= and | or |\)|$)", bare)
    return f'; a text with blanks stands in quotes, "{words[1]}"' if words else ""


class _Parser:
    """Recursive descent over the tokens of one condition."""

    MAX_DEPTH = 50

    def __init__(self, tokens: list[Token], protocol: ProtocolName) -> None:
        self._tokens = tokens
        self._at = 0
        self._protocol = protocol

    @property
    def token(self) -> Token:
        """The token that comes next."""
        return self._tokens[self._at]

    def take(self, *texts: str) -> str | None:
        """Take the next token if it is one of these words or signs."""
        token = self.token
        if token.kind in ("word", "sign") and token.text in texts:
            self._at += 1
            return token.text
        return None

    def need(self, *texts: str) -> str:
        """Take the next token, which must be one of these; raises ConditionError."""
        found = self.take(*texts)
        if found is None:
            raise ConditionError(f"{' or '.join(texts)} expected instead of {self.token.text} (column {self.token.column})")
        return found

    def alternatives(self, depth: int) -> Condition:
        """condition"""
        parts = [self.conjunction(depth)]
        while self.take("or"):
            parts.append(self.conjunction(depth))
        return parts[0] if len(parts) == 1 else _either(parts)

    def conjunction(self, depth: int) -> Condition:
        """conjunction"""
        parts = [self.negation(depth)]
        while self.take("and"):
            parts.append(self.negation(depth))
        return parts[0] if len(parts) == 1 else _both(parts)

    def negation(self, depth: int) -> Condition:
        """negation"""
        if depth > self.MAX_DEPTH:
            raise ConditionError("nested too deeply")
        if self.take("not"):
            return _negated(self.negation(depth + 1))
        if self.take("("):
            inner = self.alternatives(depth + 1)
            self.need(")")
            return inner
        return self.comparison()

    def comparison(self) -> Condition:
        """comparison"""
        path = self.path()
        sign = self.need("exists", "is", "=", "!=", "<", "<=", ">", ">=", "in", "not", "matches")
        if sign == "exists":
            return Condition(lambda s: s.exists(path), (path,))
        if sign == "is":
            self.need("missing")
            return Condition(lambda s: not s.exists(path), (path,))
        if sign == "not":
            self.need("in")
            return _negated(_among(path, self.choices()))
        if sign == "in":
            return _among(path, self.choices())
        if sign in _COMPARE:
            return _ordered(path, self.literal(), _COMPARE[sign])
        if sign == "matches":
            return _matching(path, self.literal())
        equal = _among(path, frozenset((self.literal(),)))
        return equal if sign == "=" else _negated(equal)

    def path(self) -> str:
        """path"""
        token = self.token
        if token.kind != "word" or token.text in _WORDS:
            raise ConditionError(f"a path was expected instead of {token.text} (column {token.column})")
        if wrong := check_path(self._protocol, token.text):
            raise ConditionError(wrong)
        self._at += 1
        return canonical(token.text) if self._protocol == "dicom" else token.text

    def literal(self) -> str:
        """text"""
        token = self.token
        if token.kind not in ("word", "text"):
            raise ConditionError(f"a text was expected instead of {token.text} (column {token.column})")
        self._at += 1
        return token.text

    def choices(self) -> frozenset[str]:
        """A list of texts in brackets."""
        self.need("[")
        found = {self.literal()}
        while self.take(","):
            found.add(self.literal())
        self.need("]")
        return frozenset(found)


def _paths(parts: list[Condition]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for part in parts for path in part.paths))


def _compared(parts: list[Condition]) -> tuple[tuple[str, str], ...]:
    return tuple(dict.fromkeys(pair for part in parts for pair in part.compared))


def _either(parts: list[Condition]) -> Condition:
    tests = tuple(part.holds for part in parts)
    possible = [part for part in parts if not part.never] or parts
    shared = set(possible[0].only).intersection(*(part.only for part in possible))
    only = {path: frozenset().union(*(part.only[path] for part in possible)) for path in shared}
    return Condition(lambda s: any(test(s) for test in tests), _paths(parts), only, _compared(parts))


def _both(parts: list[Condition]) -> Condition:
    tests = tuple(part.holds for part in parts)
    only: dict[str, frozenset[str]] = {}
    for part in parts:
        for path, values in part.only.items():
            only[path] = only[path] & values if path in only else values
    return Condition(lambda s: all(test(s) for test in tests), _paths(parts), only, _compared(parts))


def _negated(inner: Condition) -> Condition:
    holds = inner.holds
    return Condition(lambda s: not holds(s), inner.paths, compared=inner.compared)


def _among(path: str, choices: frozenset[str]) -> Condition:
    compared = tuple((path, text) for text in sorted(choices))
    if "*" in path:
        return Condition(lambda s: not choices.isdisjoint(s.all(path)), (path,), compared=compared)
    if len(choices) == 1:
        (one,) = choices
        return Condition(lambda s: s.get(path) == one, (path,), {path: choices}, compared)
    return Condition(lambda s: s.get(path) in choices, (path,), {path: choices}, compared)


def _matching(path: str, pattern: str) -> Condition:
    try:
        search = compile_search(pattern)
    except ValueError as error:
        raise ConditionError(str(error)) from None
    return Condition(lambda s: any(search(value) for value in s.all(path)), (path,))


def _ordered(path: str, limit: str, compare: Callable[[Any, Any], bool]) -> Condition:
    number = _number(limit)

    def holds(value: str) -> bool:
        if not value:
            return False
        own = None if number is None else _number(value)
        return compare(value, limit) if own is None else compare(own, number)

    return Condition(lambda s: any(holds(value) for value in s.all(path)), (path,))


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else None
