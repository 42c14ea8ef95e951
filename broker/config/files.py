"""YAML files in which every value knows its line, with `${NAME:-default}` and `${file:/path}` filled in.

Types follow YAML 1.2: only `true` and `false` are boolean, only plain numbers are numbers, so `NO`, `0800` and `2.50` stay text.
A plain scalar gets its type after the substitution, a quoted one stays text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from broker.config.notyaml import not_yaml
from broker.errors import Problem
from broker.pipeline.shape import Place

MAX_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 50
_MAX_VALUES = 100_000
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)\.\d+")
_CONSTANTS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_SUBSTITUTION = re.compile(r"\$(\$\{|\{([^{}]*)\})")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(slots=True)
class Document:
    """One YAML file: plain values, and the line of each."""

    file: str  # as a person would name it
    value: Any = None
    problems: list[Problem] = field(default_factory=list)
    text: str = ""  # as it was read
    secrets: dict[str, str] = field(default_factory=dict)  # path of a `${file:…}` -> what stood in it
    _root: yaml.Node | None = None

    def line(self, place: Place) -> int:
        """Return the line of a place, or of the nearest one above it that exists; of a key, where the key stands."""
        node, line = self._root, 1
        for part in place:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line

    def problem(self, place: Place, what: str, instead: str = "") -> Problem:
        """Return a problem at a place of this file."""
        return Problem(self.file, self.line(place), _where(place), what, instead)


def _where(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == part:
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        child = node.value[part]
        return child.start_mark.line + 1, child
    return None


def read_document(path: Path, file: str, environment: Mapping[str, str]) -> Document:
    """Return the document at `path`; what is wrong is in its `problems`, and its value is None when it cannot be read."""
    text = read_text(path, file)
    return Document(file, problems=[text]) if isinstance(text, Problem) else parse_document(text, file, environment)


def read_text(path: Path, file: str) -> str | Problem:
    """Return the text of a file, or the problem with it."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return Problem(file, 0, "", f"larger than {MAX_BYTES // 1024 // 1024} MB")
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        return Problem(file, line, "", f"not UTF-8 (byte {error.start})", "save the file as UTF-8")
    except (OSError, ValueError) as error:
        return Problem(file, 0, "", f"cannot be read: {getattr(error, 'strerror', None) or error}")


def parse_document(text: str, file: str, environment: Mapping[str, str], secret: Callable[[str], str | Problem] | None = None) -> Document:
    """Return the document of a YAML text; `secret` returns what stands for a `${file:…}`, which is read when there is none."""
    document = Document(file, text=text)
    try:
        document._root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        document.problems.append(not_yaml(error, text, file))
    if document._root is not None:
        document.value = _Reader(document, environment, secret or _in_file).value(document._root, (), 0)
    return document


def _in_file(path: str) -> str | Problem:
    return read_text(Path(path), path)


class _Reader:
    """Turns the nodes of one document into values."""

    def __init__(self, document: Document, environment: Mapping[str, str], secret: Callable[[str], str | Problem]) -> None:
        self._document = document
        self._environment = environment
        self._secret = secret
        self._count = 0
        self._open: list[yaml.Node] = []  # from the top to where it reads

    def value(self, node: yaml.Node, place: Place, depth: int) -> Any:
        self._count += 1
        if depth > _MAX_DEPTH or self._count > _MAX_VALUES:
            if self._count <= _MAX_VALUES or self._count == _MAX_VALUES + 1:
                self._problem(node, place, "nested too deeply, or an alias that repeats itself")
            self._count = max(self._count, _MAX_VALUES + 1)
            return None
        if any(node is one for one in self._open):
            self._problem(node, place, "this alias stands for what it stands in", "write out what is meant")
            return None
        if node.tag.startswith("!"):
            self._problem(node, place, f"tag {node.tag} is not known here", "remove it")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        self._open.append(node)
        found = self._mapping(node, place, depth) if isinstance(node, yaml.MappingNode) else self._sequence(node, place, depth)
        self._open.pop()
        return found

    def _sequence(self, node: yaml.Node, place: Place, depth: int) -> list[Any]:
        return [self.value(item, (*place, index), depth + 1) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, place: Place, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, place, "a key is a single word or text")
                continue
            key = key_node.value
            if key_node.tag == "tag:yaml.org,2002:merge":
                self._problem(key_node, place, "keys are not merged here", "write them out")
                continue
            if key in found:
                self._problem(key_node, (*place, key), f"key {key} stands here again", f"it is also in line {lines[key]}; keep one")
                continue
            lines[key] = key_node.start_mark.line + 1
            found[key] = self.value(value_node, (*place, key), depth + 1)
        return found

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        text = _SUBSTITUTION.sub(lambda match: self._substituted(match, node, place), node.value) if "$" in node.value else node.value
        return _typed(text) if node.style is None else text

    def _substituted(self, match: re.Match[str], node: yaml.Node, place: Place) -> str:
        if match.group(2) is None:
            return "${"  # written $${
        name, has_default, default = match.group(2).partition(":-")
        if name.startswith("file:"):
            path = name.removeprefix("file:")
            text = self._secret(path)
            if isinstance(text, Problem):
                self._problem(node, place, f"{text.file} {text.what}")
                return ""
            self._document.secrets[path] = text
            return text.rstrip("\r\n")
        if not _NAME.fullmatch(name):
            self._problem(node, place, f"${{{name}}} names no environment variable", "write ${NAME}, ${NAME:-default} or ${file:/path}")
        elif value := self._environment.get(name, ""):
            return value
        elif not has_default:
            self._problem(node, place, f"environment variable {name} is not set", f"set it, or write ${{{name}:-a default}}")
        return default

    def _problem(self, node: yaml.Node, place: Place, what: str, instead: str = "") -> None:
        self._document.problems.append(Problem(self._document.file, node.start_mark.line + 1, _where(place), what, instead))


def _typed(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text) and text != "-0":
        return int(text)
    if _NUMBER.fullmatch(text) and repr(float(text)) == text:
        return float(text)
    return text
