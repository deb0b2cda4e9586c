"""One name means one thing: no two classes of the package have the same name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[2] / "dtqkit"


def classes() -> dict[str, list[str]]:
    """The modules of each class that has a name for others, without a leading underscore."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(path.relative_to(PACKAGE).as_posix())
    return found


def test_no_two_classes_have_the_same_name() -> None:
    assert len(classes()) > 300
    assert {name: modules for name, modules in classes().items() if len(modules) > 1} == {}
