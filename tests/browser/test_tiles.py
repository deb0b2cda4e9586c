"""The tiles of the first row: whole at any width, and what is paused is marked on them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from dtqkit.dashboard import BOARD, FOLDER
from dtqkit.support.linker import link, style_sheet
from tests.browser.played import DEPTHS, NOW, STATS, WORKERS, mount, open_blank

#: Figures and words of tiles that are cut, or that leave their tile.
CUT = """() => {
  const wrong = [];
  for (const cell of document.querySelector("#cell > div").shadowRoot.querySelectorAll(".figures .cell")) {
    const tile = cell.getBoundingClientRect();
    for (const node of cell.querySelectorAll("dt, dd, dt > span:first-child, .held button")) {
      const range = document.createRange();
      range.selectNodeContents(node.matches("dt") ? node.firstChild : node);
      const { left, right, width } = range.getBoundingClientRect();
      if (!width) continue; // nothing is paused
      const style = getComputedStyle(node);
      if (style.textOverflow === "ellipsis" || left < tile.left - 1 || right > tile.right + 1)
        wrong.push(`${innerWidth}: ${node.textContent}`);
    }
  }
  return wrong;
}"""

LARGE: dict[str, Any] = {
    "depths": {**DEPTHS, "high": 888_888, "medium": 88_888_888, "low": 8_888, "oldest_wait_s": 86_000.0},
    "workers": [
        {**WORKERS[0], "name": f"build-machine-{n:03}.example.com", "load": 88, "concurrency": 100} for n in range(130)
    ],
}


def pause(**more: Any) -> dict[str, Any]:
    return {"id": str(more), "paused_at": NOW, **more}


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    open_blank(page, {})
    mount(page, link(BOARD), style_sheet(FOLDER))
    yield page
    page.context.close()


def answer(page: Page, operation: str, result: Any) -> None:
    """From now on; what the board asks for each five seconds it has then."""
    page.evaluate("([operation, result]) => (answers[operation] = { result })", [operation, result])
    page.clock.run_for(5_300)


def test_no_tile_cuts_its_figure_or_its_words_at_any_width(page: Page) -> None:
    lanes = [pause(lane=lane) for lane in ("high", "medium", "low")]
    forecast = [{"lane": "high", "drain_s": 86_000.0, "low_s": 80_000.0, "high_s": 86_300.0}]
    answer(page, "pauses", [*lanes[1:], pause(task="walk")])
    answer(page, "stats", {**STATS, "completed": 888_888, "failed": 888_888, "forecast": forecast})
    page.evaluate("events => push({ events })", LARGE)
    page.clock.run_for(1_000)
    cells = page.locator(".figures .cell")
    expect(cells.filter(has_text="Medium").locator(".value")).to_have_text("88.9M")
    expect(cells.filter(has_text="Medium").locator(".value")).to_have_attribute("title", "88,888,888")
    expect(cells.filter(has_text="Workers").locator(".foot")).to_have_text("11,440 of 13,000 busy")
    wrong: list[str] = []
    for width in (360, 390, 480, 619, 700, 721, 899, 1000, 1119, 1122, 1280, 1600):
        page.set_viewport_size({"width": width, "height": 800})
        wrong += page.evaluate(CUT)
    assert wrong == []


def test_a_worker_that_is_late_is_named_on_the_tile(page: Page) -> None:
    tile = page.locator(".workers.cell .extra")
    expect(tile).to_have_text(re.compile(r"w-2 late, last beat \d+ s ago"))
    page.clock.run_for(20_000)
    expect(tile).to_contain_text("2 late, last beat")


def test_a_paused_lane_is_marked_with_the_reason_for_a_pointer_and_for_keys(page: Page) -> None:
    answer(page, "pauses", [pause(lane="medium", reason="the month's end"), pause(task="walk", where={"page": 7})])
    marks = page.locator(".held button:visible")
    expect(marks).to_have_count(2)
    lane = page.get_by_role("button", name="Lane medium paused")
    expect(page.locator(".cell.medium .foot")).to_have_text("until resumed")
    tip = page.get_by_text("Lane medium is paused since")
    expect(tip).to_be_hidden()
    lane.hover()
    expect(tip).to_contain_text("the month's end")
    page.mouse.move(0, 700)
    expect(tip).to_be_hidden()
    page.keyboard.press("Tab")
    for _ in range(4):
        if lane.evaluate("node => node.matches(':focus-visible')"):
            break
        page.keyboard.press("Tab")
    expect(lane).to_be_focused()
    expect(tip).to_be_visible()
    assert lane.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    why = "Lane medium is paused since 08:00:10 until it is resumed: the month's end"
    expect(lane).to_have_accessible_description(why)
    page.get_by_role("button", name="Tasks paused").focus()
    expect(page.get_by_text("Task walk where page=7 is paused since")).to_be_visible()
    lane.press("Enter")
    expect(page.get_by_role("table", name="Pauses")).to_be_visible()
    answer(page, "pauses", [])
    expect(marks).to_have_count(0)


def test_where_every_lane_is_paused_the_throughput_says_so(page: Page) -> None:
    answer(page, "pauses", [pause(lane=lane) for lane in ("high", "medium")])
    everything = page.get_by_role("button", name="Everything paused")
    expect(everything).to_be_hidden()
    answer(page, "pauses", [pause(lane=lane) for lane in ("high", "medium", "low")])
    expect(everything).to_be_visible()
    expect(everything).to_have_text("paused")


def test_what_cannot_be_undone_looks_so_and_its_button_says_how_many(page: Page) -> None:
    changes = {
        "Cancel…": ("cancel_many", 1204, "Cancel 1,204 jobs", True),
        "Delete…": ("delete_many", 1, "Delete 1 job", True),
        "Requeue…": ("requeue_many", 12, "Requeue 12 jobs", False),
        "Move to low…": ("update_many", 12, "Move 12 jobs to low", False),
    }
    choice = page.get_by_label("Change all jobs that match")
    red = "rgb(191, 43, 43)"
    for deed, (operation, matched, label, dangerous) in changes.items():
        result = {"matched": matched, "changed": 0, "cursor": None}
        page.evaluate("([operation, result]) => (answers[operation] = { result })", [operation, result])
        choice.select_option(label=deed)
        page.clock.run_for(100)
        go = page.get_by_role("button", name=label, exact=True)
        expect(go).to_be_focused()
        assert (go.evaluate("node => getComputedStyle(node).backgroundColor") == red) is dangerous, label
        page.get_by_role("button", name="Not now").click()
