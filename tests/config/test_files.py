"""YAML with lines and substitutions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.config.files import parse_document, read_document


def value(text: str, **environment: str) -> Any:
    document = parse_document(text, "f.yaml", environment)
    assert document.problems == []
    return document.value


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("1", 1),
        ("-5", -5),
        ("0800", "0800"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2.5", 2.5),
        ("2.50", "2.50"),
        ("2.5.1", "2.5.1"),
        ("1e3", "1e3"),
        ("true", True),
        ("no", "no"),
        ("NO", "NO"),
        ("~", None),
        ("'1'", "1"),
        ("2026-03-02", "2026-03-02"),
        ("MSH-9.1 in [ORM, OMG]", "MSH-9.1 in [ORM, OMG]"),
        ("|\n  a\n  b", "a\nb"),
    ],
)
def test_a_scalar_has_the_type_a_reader_expects(text: str, result: Any) -> None:
    found = value(f"a: {text}")["a"]
    assert (found, type(found)) == (result, type(result))


@pytest.mark.parametrize(
    ("text", "environment", "result"),
    [
        ("${PORT:-2575}", {}, 2575),
        ("${PORT:-2575}", {"PORT": "7"}, 7),
        ("${PORT:-2575}", {"PORT": ""}, 2575),
        ('"${PORT:-2575}"', {}, "2575"),
        ("${HOST}:${PORT}", {"HOST": "h", "PORT": "7"}, "h:7"),
        ("${ON:-true}", {}, True),
        ("$${PORT}", {}, "${PORT}"),
        ("a $5 b", {}, "a $5 b"),
        ("${A:-}", {}, None),
    ],
)
def test_a_substitution_is_typed_after_it(text: str, environment: dict[str, str], result: Any) -> None:
    found = value(f"a: {text}", **environment)["a"]
    assert (found, type(found)) == (result, type(result))


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    assert value(f"a: ${{file:{tmp_path}/secret}}") == {"a": "s3cret"}


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb: ${NONE}", 2, "environment variable NONE is not set"),
        ("a: ${1X}", 1, "${1X} names no environment variable"),
        ("a: 1\nb:\n  c: 1\n  c: 2", 4, "key c stands here again"),
        ("a: [1, 2", 1, "not YAML"),
        ("a: 1\n? [b]\n: 2", 2, "a key is a single word or text"),
        ("a: !include x", 1, "tag !include is not known here"),
        ("a: &a [*a]", 1, "this alias stands for what it stands in"),
        ("a: *nothing", 1, "not YAML"),
        ("a: 1\n---\nb: 2", 2, "not YAML"),
        ("[" * 3000, 0, "nested too deeply"),
        ("a: \x00", 1, "not YAML"),
    ],
)
def test_a_mistake_has_its_line(text: str, line: int, what: str) -> None:
    document = parse_document(text, "f.yaml", {})
    assert [(p.file, p.line) for p in document.problems if what in str(p)] == [("f.yaml", line)], document.problems


def test_aliases_that_multiply_are_cut_off() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    document = parse_document("\n".join(levels), "f.yaml", {})
    assert len(document.problems) == 1


def test_every_place_has_its_line() -> None:
    document = parse_document("a:\n  - b: 1\n    c: [2,\n      3]\nd: {e: 4}\n", "f.yaml", {})
    places = {("a",): 1, ("a", 0): 2, ("a", 0, "b"): 2, ("a", 0, "c"): 3, ("a", 0, "c", 1): 4, ("d", "e"): 5, ("d", "missing"): 5, (): 1}
    assert {place: document.line(place) for place in places} == places  # type: ignore[arg-type]


def test_a_file_that_is_not_utf8_or_too_large(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"a: \xff")
    assert [p.what for p in read_document(path, "f.yaml", {}).problems] == ["not UTF-8 (byte 3)"]
    path.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    assert [p.what for p in read_document(path, "f.yaml", {}).problems] == ["larger than 4 MB"]


@pytest.mark.parametrize(
    ("text", "line", "instead"),
    [
        ("a:\n\t- b\n", 2, "indent with blanks, not with tabs"),
        ("a: b: c\n", 1, "put a text with a colon in quotes"),
        ("a: @b\n", 1, "put a text that begins with @ in quotes"),
        ("a: {b: %c}\n", 1, "put a text that begins with % in quotes"),
        ("a: *\n", 1, "put a text that begins with * in quotes"),
        ("a: {OBX[2]-5: x}\n", 1, 'put what has brackets or braces in quotes, as in {"OBX[2]-5": X}'),
        ("a: {port: ${PORT}}\n", 1, "put what has brackets or braces in quotes"),
        ("a: [b\n", 2, "close every bracket and brace"),
        ('a: "b\nc: d\n', 3, "close every quotation mark"),
        ("a:\n  - b: c\n - d\n", 3, "begin this line in the same column as those it belongs to"),
        ('a: "b" = c\n', 1, "put the whole text in one pair of quotes"),
        ("a: b\0c\n", 1, "remove this character"),
        ("x: y\na: b\x07c\n", 2, "remove this character"),
        ("a: b\n---\na: b\n", 2, "remove the line ---"),
    ],
)
def test_what_is_not_yaml_says_what_to_write(text: str, line: int, instead: str) -> None:
    (problem,) = parse_document(text, "f.yaml", {}).problems
    assert problem.what.startswith("not YAML: ")
    assert (problem.line, instead in problem.instead) == (line, True), problem


@pytest.mark.parametrize("text", ["a: &x [1, *x]", "a: &x\n  - b: {c: *x}"])
def test_an_alias_that_holds_itself_is_told_once_and_shortly(text: str) -> None:
    (problem,) = parse_document(text, "f.yaml", {}).problems
    assert problem.what == "this alias stands for what it stands in"
    assert len(problem.where) < 20


def test_keys_are_not_merged() -> None:
    (problem,) = parse_document("a: &x {b: c}\nd: {<<: *x}", "f.yaml", {}).problems
    assert (problem.line, problem.what, problem.instead) == (2, "keys are not merged here", "write them out")


def test_a_file_in_another_encoding_says_where_and_how_to_save_it(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes("a: b\nc: é\n".encode("latin-1"))
    (problem,) = read_document(tmp_path / "f.yaml", "f.yaml", {}).problems
    assert (problem.line, problem.what, problem.instead) == (2, "not UTF-8 (byte 8)", "save the file as UTF-8")
