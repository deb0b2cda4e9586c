"""Notebook 2 in a real JupyterLab: opened cold, run, its form's button pressed, its board watched; light and dark."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.lab import IDLE, PATIENCE, ROOT, Lab, run_all
from tests.wait import wait_until

NOTEBOOK = ROOT / "notebooks" / "02-submit-and-watch.ipynb"

#: Of an element: its text's colour, and the nearest ground that is painted beneath it, as [red, green, blue].
COLOURS = """(node) => {
  const painter = document.createElement("canvas").getContext("2d");
  const rgba = (colour) => {
    painter.clearRect(0, 0, 1, 1);
    painter.fillStyle = colour;
    painter.fillRect(0, 0, 1, 1);
    return Array.from(painter.getImageData(0, 0, 1, 1).data);
  };
  const ground = (element) => rgba(getComputedStyle(element).backgroundColor);
  let under = node;
  while (!ground(under)[3]) under = under.parentElement ?? under.getRootNode().host;
  return [rgba(getComputedStyle(node).color), ground(under)].map((colour) => colour.slice(0, 3));
}"""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=["Light", "Dark"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    shutil.copy(NOTEBOOK, tmp_path)
    lab = Lab(tmp_path, shows=tmp_path, theme=request.param)
    try:
        wait_until(lab.answers, timeout_s=60)
        yield lab
    finally:
        lab.close()


@pytest.fixture
def page(browser: Browser, lab: Lab) -> Iterator[Page]:
    """The notebook, opened as it was saved, with a kernel that has run nothing."""
    with browser.new_context(viewport={"width": 1280, "height": 1000}) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(lab.address(f"lab/tree/{NOTEBOOK.name}"))
        page.wait_for_selector(IDLE)
        yield page


def test_a_notebook_is_read_run_and_used(page: Page, lab: Lab) -> None:
    # Opened cold, its static cards are there, and no widget asks for what the kernel does not have
    expect(page.locator(".dtq", has_text="2 failed").first).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("model not found")).to_have_count(0)

    # When all of it is run
    run_all(page)

    # Then the board is live, the progress bar ends, and so does the notebook
    expect(page.locator(".light")).to_have_text("Live", timeout=PATIENCE)
    expect(page.get_by_text("24 of 24 jobs")).to_be_visible(timeout=PATIENCE)
    page.wait_for_selector(IDLE)
    before = page.locator("tbody tr[data-id]", has_text="render").count()

    # When a user fills in the form and presses its button
    page.locator(".widget-vbox input[type=number]").first.fill("77")
    page.get_by_role("button", name="Submit render").click()

    # Then the job's card shows its result, and the board has its row, completed
    card = page.locator(".widget-html .dtq", has_text='"page": 77')
    expect(card).to_contain_text("completed", timeout=PATIENCE)
    job_id = card.locator("header code").inner_text()
    row = page.locator(f"tr[data-id='{job_id}']")
    expect(row).to_contain_text("Completed", ignore_case=True, timeout=PATIENCE)
    assert page.locator("tbody tr[data-id]", has_text="render").count() > before

    # And all of it is in the theme's colours: the board, which has a root of its own, and the cards
    is_light = lab.theme == "Light"
    assert page.locator("body").get_attribute("data-jp-theme-light") == str(is_light).lower()
    for part in (page.locator(".light").first, card.locator("header").first):
        text, ground = part.evaluate(COLOURS)
        assert (sum(text) < sum(ground)) == is_light, (text, ground)
        assert abs(sum(text) - sum(ground)) > 300, (text, ground)
    if pictures := os.environ.get("DTQ_SCREENSHOTS"):
        row.scroll_into_view_if_needed()
        page.screenshot(path=Path(pictures) / f"jupyterlab-{lab.theme.lower()}.png")
