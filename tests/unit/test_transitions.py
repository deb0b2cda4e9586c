"""Who may change a job: looked up in the source, since an import contract does not see which method is called."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import dtqkit

PACKAGE: Final = Path(dtqkit.__file__).parent

#: Methods of the broker that put an id somewhere or publish what happened to a job.
OF_BROKER: Final = frozenset({"push", "push_later", "put_back", "unpop", "publish", "ask_to_stop"} | {"parking"})
#: Others that have such a name.
OTHERS: Final = frozenset({"self._store.catalogue.publish", "supervisor.ask_to_stop", "self.ask_to_stop"})

#: The parts of the store that write jobs, and who calls each of their methods that do.
WRITERS: Final[Mapping[tuple[str, str], str | tuple[str, ...]]] = {
    ("jobs", "settle"): "transitions/",
    ("jobs", "lose"): "transitions/",
    ("jobs", "cancel"): "transitions/",
    ("jobs", "requeue"): "transitions/",
    ("many", "cancel"): "transitions/",
    ("many", "requeue"): "transitions/",
    ("many", "update"): "transitions/",
    ("many", "update_one"): "transitions/",
    ("many", "delete"): "transitions/",
    ("pauses", "put"): "transitions/",
    ("pauses", "remove"): "transitions/",
    ("inserts", "insert"): "transitions/",
    ("upkeep", "recover"): "transitions/",
    ("upkeep", "cancel_waiting"): "transitions/",
    # A claim and its lease are the worker's own: there is no id to put anywhere, and nothing to announce.
    ("jobs", "claim_one"): ("worker/claim.py", "testing/runner.py"),
    ("jobs", "claim_many"): "worker/claim.py",
    ("jobs", "renew"): "worker/",
    # These change no job's status: old jobs are deleted, and times follow MongoDB's clock.
    ("upkeep", "expire"): "recovery/leader.py",
    ("steps", "set_back"): "recovery/leader.py",
    # The collection of leaders' notes.
    ("steps", "claim"): "recovery/leader.py",
}
CLASSES: Final = {
    "Jobs": "jobs",
    "Inserts": "inserts",
    "ManyJobs": "many",
    "PauseBook": "pauses",
    "Upkeep": "upkeep",
    "ClockSteps": "steps",
    "RecoveryScans": "scans",
}


@cache
def modules() -> dict[str, ast.Module]:
    """By path in the package."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def attributes(*but: str) -> Iterator[tuple[str, ast.Attribute]]:
    """Every `x.name` of the package outside these folders, with the module's path."""
    for module, tree in modules().items():
        if not module.startswith(but):
            yield from ((module, node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def test_nothing_but_transitions_and_the_broker_lists_ids_or_publishes() -> None:
    found = {
        f"{module}:{node.lineno}: {text}"
        for module, node in attributes("transitions/", "broker/", "testing/broker.py")
        if node.attr in OF_BROKER and (text := ast.unparse(node)) not in OTHERS
    }
    assert found == set(), "call a function of dtqkit.transitions instead"


def part_of_store(node: ast.expr) -> str | None:
    """`jobs` of `self._store.jobs`."""
    if isinstance(node, ast.Attribute) and node.attr in CLASSES.values():
        store = ast.unparse(node.value)
        if store.endswith("store"):
            return node.attr
    return None


def test_nothing_but_transitions_and_the_store_writes_jobs() -> None:
    wrong: set[str] = set()
    for module, node in attributes("store/"):
        where = WRITERS.get((part_of_store(node.value) or "", node.attr))
        if where is not None and not module.startswith(where):
            wrong.add(f"{module}:{node.lineno}: {ast.unparse(node)}, which only {where} does")
    assert wrong == set(), "call a function of dtqkit.transitions instead"


def test_a_part_of_the_store_is_used_where_it_is_named() -> None:
    """Under another name, the test above would not see what is called."""
    for module, tree in modules().items():
        named = [node for node in ast.walk(tree) if isinstance(node, ast.expr) and part_of_store(node) is not None]
        called = [node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        assert [ast.unparse(node) for node in named if node not in called] == [], module


def writing_methods(found: ast.ClassDef) -> set[str]:
    """Public methods that write: by themselves, or by private ones that they use."""
    uses: dict[str, set[str]] = {}
    writes: set[str] = set()
    for method in found.body:
        if not isinstance(method, ast.AsyncFunctionDef):
            continue
        inside = list(ast.walk(method))
        uses[method.name] = {node.attr for node in inside if isinstance(node, ast.Attribute)}
        if any(isinstance(node, ast.keyword) and node.arg == "writes" for node in inside):
            writes.add(method.name)
    while more := {name for name, used in uses.items() if used & writes & {n for n in uses if n[0] == "_"}} - writes:
        writes |= more
    return {name for name in writes if name[0] != "_"}


def test_every_method_that_writes_jobs_is_known_here() -> None:
    found: set[tuple[str, str]] = set()
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if module.startswith("store/") and isinstance(node, ast.ClassDef) and node.name in CLASSES:
                found |= {(CLASSES[node.name], name) for name in writing_methods(node)}
    assert found == set(WRITERS)
