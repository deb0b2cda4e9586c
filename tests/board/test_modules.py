"""What the board's modules keep to, so that they can be read, sent and joined."""

import gzip
import re
from pathlib import Path

import pytest

from dtqkit.dashboard import BOARD, FOLDER
from dtqkit.support.linker import link, style_sheet

MODULES = [*sorted(BOARD.glob("*.js")), FOLDER / "page.js"]
SHEETS = sorted(BOARD.glob("*.css"))
PAGE = (FOLDER / "index.html").read_text()

LONGEST = 260
WIDEST = 120
#: Of the joined modules; what is sent, so that a module is free to be readable.
LARGEST_GZIP = 30_000


def names(paths: list[Path]) -> set[str]:
    return {path.relative_to(FOLDER).as_posix() for path in paths}


def preloaded(page: str, modules: set[str]) -> str:
    """What is wrong with the page's list of modules."""
    listed = re.findall(r'<link rel="modulepreload" href="([^"]+)" />', page)
    wanted = "\n".join(f'<link rel="modulepreload" href="{name}" />' for name in sorted(modules - set(listed)))
    if wanted:
        return f"index.html lacks: {wanted}"
    return "".join(f"index.html lists what is not there: {name}\n" for name in sorted(set(listed) - modules))


@pytest.mark.parametrize("path", [*MODULES, *BOARD.glob("*.ts")], ids=lambda path: path.name)
def test_a_module_is_short_and_has_short_lines(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGEST
    assert [line for line in lines if len(line) > WIDEST or "\t" in line] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_is_type_checked_and_makes_no_markup_from_text(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("// @ts-check\n")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|@ts-(ignore|nocheck)", text)


def test_the_notebooks_module_is_self_contained_and_small_when_compressed() -> None:
    text = link(BOARD)
    assert not re.search(r"^\s*import\b|\bimport\(", text, re.MULTILINE)
    assert len(gzip.compress(text.encode())) <= LARGEST_GZIP


def test_the_page_asks_for_each_module_at_once() -> None:
    """A browser would else ask for a module only when what imports it has come: a chain of answers before the board."""
    assert preloaded(PAGE, names(MODULES)) == ""


def test_a_module_that_the_page_does_not_list_is_named_with_the_line_to_add() -> None:
    lacking = preloaded(PAGE, {*names(MODULES), "board/extra.js"})
    assert lacking == 'index.html lacks: <link rel="modulepreload" href="board/extra.js" />'


def test_the_page_has_each_style_sheet_once_and_a_notebook_the_same() -> None:
    listed = re.findall(r'<link rel="stylesheet" href="([^"]+)" />', PAGE)
    assert sorted(listed) == sorted(names(SHEETS))
    assert style_sheet(FOLDER) == "\n".join((FOLDER / name).read_text() for name in listed)


def test_the_page_has_no_code_and_no_style_of_its_own() -> None:
    """The server's Content-Security-Policy would refuse them."""
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src=)", PAGE)
