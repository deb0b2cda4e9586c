"""docs/internals: its tables name every failpoint, and files and functions that are there."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from dtqkit.model.failpoints import ON_REQUEST, POINTS

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "internals" / "protocol.md"


class Row(NamedTuple):
    step: str
    points: list[str]
    code: list[Path]
    model: list[Path]


def rows() -> list[Row]:
    lines = re.findall(
        r"^\| (\d+ [^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE
    )
    found: list[Row] = []
    for step, points, callers, writes, model in lines:
        code = [ROOT / "dtqkit" / name for name in re.findall(r"`([^`]+)`", callers + writes)]
        modelled = [ROOT / "tests" / "model" / name for name in re.findall(r"`([^`]+)`", model)]
        found.append(Row(step, re.findall(r"`([^`]+)`", points), code, modelled))
    return found


def test_every_failpoint_is_in_the_table_and_no_other_name() -> None:
    assert {point for row in rows() for point in row.points} == set(POINTS)


def test_the_table_of_what_is_written_on_request_names_its_failpoints_and_files() -> None:
    lines = re.findall(r"^\| (2[01] [^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    named = [name for _, points, _, _ in lines for name in re.findall(r"`([^`]+)`", points)]
    assert set(named) == set(ON_REQUEST)
    files = [name for _, _, calls, writes in lines for name in re.findall(r"`([^`]+)`", calls + writes)]
    assert [name for name in files if not (ROOT / "dtqkit" / name).is_file()] == []


def test_the_files_of_the_table_are_there_and_each_verb_of_transitions_is_in_it() -> None:
    named = {path for row in rows() for path in (*row.code, *row.model)}
    assert [path for path in sorted(named) if not path.is_file()] == []
    verbs = {"announce", "cancel", "deadletter", "enqueue", "lose", "places", "release", "requeue", "settle", "unique"}
    assert verbs <= {path.stem for path in named if path.parent.name == "transitions"}


def test_the_model_has_each_steps_number_in_the_files_that_the_table_names() -> None:
    missing = [
        f"{row.step}: {path.name}"
        for row in rows()
        for path in row.model
        if row.step.split()[0] != "16" and not re.search(rf'f?"{row.step.split()[0]}[ab]? ', path.read_text())
    ]
    assert missing == []


#: By number, where neither of a function on a job's way and the next one names the other: what both use; or what one of
#: them uses, and the other's module connects with it.
SHARED: Final = {3: "SUBMIT", 5: "waiting", 14: "_ends"}
CONNECTED: Final = {12: "_way_of", 19: "RECORDS", 21: "known"}
#: The last function of each part of the way but the last: it has written to a store, or has called the task.
PARTS_END: Final = (7, 13, 17)


def test_the_functions_that_a_job_passes_are_there_and_each_hands_over_to_the_next() -> None:
    page = (PAGE.parent / "way-of-a-job.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| (\d+) \| `([^`]+)` `([^`]+)` \|", page, re.MULTILINE)
    assert f"There are {len(named)}." in page
    assert 20 < len(named) <= 22
    way = [Function(int(number), file, name) for number, file, name in named]
    assert [function.number for function in way] == list(range(1, len(way) + 1))
    gaps = [
        f"{one.name} does not hand over to {after.name}"
        for one, after in pairwise(way)
        if one.number not in PARTS_END and not one.hands_over_to(after)
    ]
    assert gaps == []


class Function:
    """A function of the package, and the names in its body."""

    def __init__(self, number: int, file: str, name: str) -> None:
        self.number = number
        self.name = name
        self.source: str = (ROOT / "dtqkit" / file).read_text(encoding="utf-8")
        body: list[ast.stmt] = ast.parse(self.source).body
        found: ast.stmt | None = None
        for part in name.split("."):
            kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            # the last of them: overloads come before
            *_, found = [node for node in body if isinstance(node, kinds) and node.name == part]
            body = found.body
        assert found is not None
        self.names = {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in ast.walk(found)
            if isinstance(node, ast.Attribute | ast.Name)
        }

    def hands_over_to(self, other: Function) -> bool:
        """Whether one of the two calls the other, or hands over to it by another way that is known here."""
        if (shared := SHARED.get(self.number)) is not None:
            return shared in self.names & other.names
        if (word := CONNECTED.get(self.number)) is not None:
            return (word in self.names and word in other.source) or (word in other.names and word in self.source)
        return other.name.rpartition(".")[2] in self.names or self.name.rpartition(".")[2] in other.names
