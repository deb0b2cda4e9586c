"""The demo's tasks, which read Python files. `dtqkit.demo:queue` is an APP; `dtqkit demo` submits the batch."""

from __future__ import annotations

import ast
import os
import signal
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from dtqkit.client.queue import TaskQueue
from dtqkit.tasks.context import Context

queue = TaskQueue()

#: Lines above which lint calls a function long.
LONG_FUNCTION_LINES = 100


class Size(TypedDict):
    """The size of a file."""

    lines: int
    functions: int
    classes: int


class Finding(TypedDict):
    """Something that lint found."""

    line: int
    rule: str
    detail: str


@queue.task(priority="high", backoff_s=0.2)
def parse(path: str) -> Size:
    """Measure a Python file. A file that is not Python fails."""
    source = _source(path)
    nodes = list(ast.walk(ast.parse(source, path)))
    return Size(
        lines=source.count("\n"),
        functions=sum(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for n in nodes),
        classes=sum(isinstance(n, ast.ClassDef) for n in nodes),
    )


@queue.task(priority="medium")
def index(path: str) -> list[str]:
    """The modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(_source(path), path)):
        match node:
            case ast.Import(names):
                found.update(alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module)
            case _:
                pass
    return sorted(found)


@queue.task(priority="low")
def lint(path: str) -> list[Finding]:
    """Find bare excepts, mutable defaults, long functions and unused imports."""
    tree = ast.parse(_source(path), path)
    found = [*_of_nodes(tree), *_unused_imports(tree, is_package=Path(path).name == "__init__.py")]
    return sorted(found, key=lambda finding: finding["line"])


@queue.task(priority="high", isolation="process")
def lose_worker(ctx: Context) -> str:
    """Kill the worker process that runs this, the first time; the job is run again by another one."""
    worker = os.getppid()
    command = Path(f"/proc/{worker}/cmdline").read_bytes().split(b"\0")
    if b"worker" not in command:
        raise RuntimeError(f"process {worker} is not a worker process: it is not killed")
    if ctx.attempt == 1:
        os.kill(worker, signal.SIGKILL)
        signal.pause()  # until the pipe to the worker breaks, and this process ends too
    return f"run again as attempt {ctx.attempt} by {ctx.worker}"


def _source(path: str) -> str:
    with tokenize.open(path) as file:
        return file.read()


def _of_nodes(tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        match node:
            case ast.ExceptHandler(type=None):
                yield Finding(line=node.lineno, rule="bare except", detail="catches KeyboardInterrupt too")
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _of_function(node)
            case _:
                pass


def _of_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Finding]:
    for default in (*node.args.defaults, *node.args.kw_defaults):
        if isinstance(default, ast.List | ast.Dict | ast.Set):
            yield Finding(line=default.lineno, rule="mutable default", detail=f"an argument of {node.name}()")
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > LONG_FUNCTION_LINES:
        yield Finding(line=node.lineno, rule="long function", detail=f"{node.name}() has {lines} lines")


def _unused_imports(tree: ast.Module, *, is_package: bool) -> Iterator[Finding]:
    """Names that are imported at the top and do not occur anywhere else: in code, in __all__ or in a string."""
    if is_package:
        return  # its imports are the package's public names
    imported: dict[str, int] = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "__future__":
            for alias in node.names:
                if alias.name != "*" and alias.asname != alias.name:
                    imported[alias.asname or alias.name.partition(".")[0]] = node.lineno
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            used.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            used.add(node.value)
    for name, line in imported.items():
        if name not in used and not name.startswith("__"):
            yield Finding(line=line, rule="unused import", detail=name)
