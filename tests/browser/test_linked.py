"""The board's modules as a browser loads them, and as a notebook gets them: the same board."""

import re
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest
from playwright.sync_api import Browser, Page, expect

from dtqkit.dashboard import BOARD, FOLDER
from dtqkit.support.linker import link, style_sheet
from tests.browser.played import mount, open_blank, tour

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Its errors fail the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.context.close()
    assert errors == []


def files_of(folder: Path) -> dict[str, str]:
    return {f"board/{path.name}": path.read_text() for path in folder.glob("*.js")}


def test_the_joined_modules_do_what_the_native_ones_do(browser: Browser) -> None:
    seen: list[dict[str, str]] = []
    for module in ("./board/index.js", link(BOARD)):
        page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        open_blank(page, files_of(BOARD))
        mount(page, module, style_sheet(FOLDER))
        seen.append(dict(tour(page)))
        page.context.close()
    native, linked = seen
    assert len(native) == 20
    assert len(set(native.values())) == len(native)  # each step has changed something
    assert "ValueError" in native["a failed job"]
    assert linked == native


def example() -> tuple[str, str]:
    """The panel of the documentation, and the list with its place in it."""
    page = (ROOT / "docs" / "internals" / "add-a-panel.md").read_text()
    panel, views = re.findall(r"```js\n(.*?)```", page, re.DOTALL)
    return panel, views


@pytest.mark.parametrize("form", ["native", "joined"])
def test_a_panel_is_one_module_and_its_place_in_the_list(page: Page, tmp_path: Path, form: str) -> None:
    panel, views = example()
    folder = copytree(BOARD, tmp_path / "board")
    (folder / "tasks.js").write_text(panel)
    (folder / "views.js").write_text(views)
    open_blank(page, files_of(folder))
    mount(page, "./board/index.js" if form == "native" else link(folder), style_sheet(FOLDER))
    tabs = page.get_by_role("navigation", name="Views").get_by_role("button")
    expect(tabs).to_have_text(["Jobs", "Dead letters", "Schedules", "Pauses", "Workers", "Tasks", "Capacity"])
    tabs.get_by_text("Tasks").click()
    expect(page.get_by_role("table", name="Tasks").locator("tbody tr")).to_have_text(["render101", "walk101"])


def test_the_list_of_the_example_is_the_list_of_today_and_one_panel_more() -> None:
    _, views = example()
    without = [line for line in views.splitlines() if "tasks.js" not in line]
    assert "\n".join([*without, ""]).replace("tasks, ", "") == (BOARD / "views.js").read_text()
