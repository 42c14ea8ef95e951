"""The maximum is guarded, not the average: no module and no function grows past what one reading holds."""

from __future__ import annotations

import ast
from pathlib import Path

BROKER = Path(__file__).parents[1] / "broker"
MODULE_LINES = 420
FUNCTION_LINES = 60


def test_no_module_is_too_long() -> None:
    lengths = {str(path.relative_to(BROKER)): len(path.read_text().splitlines()) for path in BROKER.rglob("*.py")}
    assert lengths
    assert {path: lines for path, lines in lengths.items() if lines > MODULE_LINES} == {}


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{path.relative_to(BROKER)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in BROKER.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES} == {}
