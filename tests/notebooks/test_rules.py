"""What every committed notebook keeps to; nbval runs them (`make notebooks`)."""

from __future__ import annotations

import ast
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import nbformat
import pytest

from dtqkit.support.linker import link
from tests.notebooks.save_board import renewed

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LIVE = "# NBVAL_IGNORE_OUTPUT"
LARGEST_BYTES = 600_000


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def markdown(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_the_first_notebooks_are_there() -> None:
    assert {path.name[:2] for path in NOTEBOOKS} >= {"01", "02", "03", "05", "06"}


def test_it_was_executed_from_top_to_bottom_and_nothing_raised(path: Path) -> None:
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


def is_compared(cell: Any) -> bool:
    """Of a picture, nbval compares only the words for it, which are always the same."""
    pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
    return LIVE not in cell.source and len(pictures) < len(cell.outputs)


def test_at_least_half_of_the_cells_with_output_are_compared(path: Path) -> None:
    shown = [cell for cell in code_cells(path) if cell.outputs]
    assert sum(map(is_compared, shown)) * 2 >= len(shown)


def test_a_saved_board_is_the_board_of_today(path: Path) -> None:
    notebook: Any = nbformat.read(path, as_version=4)
    states = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    saved = {states[name]["state"]["_esm"] for name in states if "_esm" in states[name]["state"]}
    assert saved <= {link(files("dtqkit") / "dashboard" / "board")}, "run `make saved-board`"


def test_the_command_for_a_saved_board_renews_it_and_changes_nothing_else() -> None:
    path = next(path for path in NOTEBOOKS if path.stem == "02-submit-and-watch")
    text = path.read_text()
    assert renewed(text) == text
    older = text.replace("// Joined from the modules", "// An older board, joined from the modules")
    assert older != text
    assert renewed(older) == text


def test_a_live_cell_ends_in_an_assert(path: Path) -> None:
    for cell in code_cells(path):
        if LIVE in cell.source:
            *body, last = ast.parse(cell.source).body
            if isinstance(last, ast.Expr):  # what the cell shows may follow
                last = body[-1]
            assert isinstance(last, ast.Assert), cell.source


def test_no_cell_hides_its_output_with_a_semicolon_or_waits_blindly(path: Path) -> None:
    for cell in code_cells(path):
        assert not cell.source.rstrip().endswith(";")
        assert "clear_output" not in cell.source


def test_it_says_first_what_will_be_learned_and_last_what_to_open_next(path: Path) -> None:
    first, *_, last = markdown(path)
    assert first.startswith("# ")
    assert re.search(r"\b(learn|see that|see how)\b", first)
    assert re.search(r"\bnext\b", last, re.IGNORECASE)


def test_its_links_to_other_notebooks_are_not_broken(path: Path) -> None:
    known = {path.name for path in NOTEBOOKS}
    linked = {name for text in markdown(path) for name in re.findall(r"\]\(([^):]+\.ipynb)\)", text)}
    assert linked - known == set()


def test_it_is_small_and_says_nothing_of_the_machine_that_made_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST_BYTES
    assert not re.search(r"/(?:home|root|work|Users)/[a-z]", text)


def test_what_is_static_is_shown_without_a_widget(path: Path) -> None:
    """A widget that has no stored state reads `model not found` where the notebook is only looked at."""
    notebook: Any = nbformat.read(path, as_version=4)
    states = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    for cell in code_cells(path):
        for output in cell.outputs:
            view = output.get("data", {}).get("application/vnd.jupyter.widget-view+json")
            assert view is None or view["model_id"] in states
