"""No two files import each other, directly or through others: the package can be read from the bottom up.

An import inside a function or below TYPE_CHECKING counts too. lint-imports compares floors; this test
compares files, also within a floor.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "dtqkit"

#: Files that still import each other. Remove what no longer does; add nothing.
KNOWN = {
    "dtqkit.notebook",
    "dtqkit.notebook.charts",
    "dtqkit.notebook.forms",
    "dtqkit.notebook.magics",
    "dtqkit.client.queue",
}

Graph = Mapping[str, set[str]]


def modules(package: Path) -> dict[str, Path]:
    """The dotted name of each file, of a package's `__init__` too."""
    found: dict[str, Path] = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(tree: ast.AST, module: str, *, is_package: bool) -> Iterable[str]:
    """The dotted names in import statements anywhere in a file, relative ones resolved."""
    parents = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = parents[: len(parents) - node.level + 1] if node.level else []
            source = ".".join([*up, *filter(None, [node.module])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def graph_of(package: Path) -> Graph:
    """The files that each file imports. A name of a package that is no file counts as its `__init__`."""
    files = modules(package)
    edges: dict[str, set[str]] = {}
    for module, path in files.items():
        names = imported(ast.parse(path.read_text()), module, is_package=path.name == "__init__.py")
        targets = {name if name in files else name.rpartition(".")[0] for name in names}
        edges[module] = targets & files.keys() - {module}
    return edges


def reached(edges: Graph, start: str) -> set[str]:
    found: set[str] = set()
    left = [start]
    while left:
        new = edges[left.pop()] - found
        found |= new
        left += new
    return found


def in_circles(edges: Graph) -> set[str]:
    return {module for module in edges if module in reached(edges, module)}


def test_no_files_import_each_other_but_those_that_are_known() -> None:
    edges = graph_of(PACKAGE)
    circles = in_circles(edges)
    new = {f"{module} imports {', '.join(sorted(edges[module] & circles))}" for module in circles - KNOWN}
    assert not new, "these files are in a circle of imports: " + "; ".join(sorted(new))
    assert not KNOWN - circles, f"no longer in a circle, so remove them from KNOWN: {sorted(KNOWN - circles)}"


def test_a_circle_is_found_however_it_is_hidden(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    (package / "sub").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "a.py": "def f():\n    from pack import b\n",
        "b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack.sub import thing\n",
        "sub/__init__.py": "from . import c\n",
        "sub/c.py": "import pack.a\nfrom ..d import x\n",
        "d.py": "x = 1\n",
    }.items():
        (package / name).write_text(text)
    edges = graph_of(package)
    assert edges["pack.sub.c"] == {"pack.a", "pack.d"}
    assert in_circles(edges) == {"pack.a", "pack.b", "pack.sub", "pack.sub.c"}
