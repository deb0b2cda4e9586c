"""Modules and functions stay small enough to be read at once."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[2]

MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 61


def module_lines() -> dict[str, int]:
    return {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in (ROOT / "dtqkit").rglob("*.py")}


def function_lines() -> dict[str, int]:
    """From `def` to the last line, by file and qualified name."""
    found: dict[str, int] = {}

    def visit(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = f"{name}.{child.name}".lstrip(".") if isinstance(child, Named) else name
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                found[f"{file} {inner}"] = (child.end_lineno or 0) - child.lineno + 1
            visit(child, inner)

    for path in (ROOT / "dtqkit").rglob("*.py"):
        file = str(path.relative_to(ROOT))
        visit(ast.parse(path.read_text()), "")
    return found


Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def test_no_module_has_more_than_400_lines() -> None:
    lines = module_lines()
    print(f"{len(lines)} modules, median {statistics.median(lines.values()):g} lines")
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}


def test_no_function_has_more_than_61_lines() -> None:
    lines = function_lines()
    print(f"{len(lines)} functions, median {statistics.median(lines.values()):g} lines")
    assert {name: n for name, n in lines.items() if n > MOST_LINES_OF_A_FUNCTION} == {}
