"""docs/internals: its tables name every failpoint, and files and functions that are there."""

from __future__ import annotations

import ast
import re
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


def test_the_functions_that_a_job_passes_are_there() -> None:
    page = (PAGE.parent / "way-of-a-job.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| \d+ \| `([^`]+)` `([^`]+)` \|", page, re.MULTILINE)
    assert f"There are {len(named)}." in page
    assert 20 < len(named) <= 22
    for file, function in named:
        body: list[ast.stmt] = ast.parse((ROOT / "dtqkit" / file).read_text(encoding="utf-8")).body
        for part in function.split("."):
            kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            # the last of them: overloads come before
            *_, found = [node for node in body if isinstance(node, kinds) and node.name == part]
            body = found.body
