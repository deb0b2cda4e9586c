"""A board that is narrow, on a phone or in a notebook's cell: what a table leaves out, the panel of a job still has."""

import pytest
from playwright.sync_api import Browser, expect

from dtqkit.dashboard import BOARD, FOLDER
from dtqkit.support.linker import link, style_sheet
from tests.browser.played import JOBS, NOW, mount, open_blank


def test_a_narrow_board_shows_the_attempts_of_a_job(browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 380, "height": 760})
    open_blank(page, {})
    mount(page, link(BOARD), style_sheet(FOLDER))
    failed = page.locator("tr", has=page.locator("td[data-status=failed]"))
    expect(failed.locator("td.attempts")).to_be_hidden()
    failed.get_by_role("button").click()
    page.clock.run_for(300)
    expect(page.get_by_role("heading", name="Attempts")).to_be_visible()
    expect(page.locator("ol.attempts li")).to_be_visible()
    expect(page.locator("ol.attempts")).to_contain_text("failed on w-1")
    page.context.close()


WIDTHS = (1280, 961, 960, 700, 620, 390)
#: Cells that say something and are not seen, or not whole.
LOST = """(table) => {
  const lost = (node) => !node.checkVisibility() || node.scrollWidth > node.clientWidth + 1;
  const cells = [...table.querySelectorAll("tbody td")].filter((node) => node.textContent);
  const wide = table.getBoundingClientRect().right > innerWidth + 1 ? ["the table is too wide"] : [];
  return [...wide, ...cells.filter(lost).map((node) => node.outerHTML)].map((what) => `${innerWidth}: ${what}`);
}"""
SCHEDULES = {
    "result": [
        {
            "name": "nightly",
            "task": "report",
            "cron": "0 3 * * 1-5",
            "tz": "Europe/Berlin",
            "next_at": NOW,
            "missed": 3,
            "last_job": JOBS[4]["id"],
            "last_at": NOW,
        },
        {
            "name": "weekly",
            "task": "report",
            "cron": "15 6 * * MON",
            "paused": {"at": NOW, "reason": "the bank is closed"},
        },
    ]
}
PAUSES = {
    "result": [
        {"id": "task:walk", "task": "walk", "where": {"page": 7}, "paused_at": NOW, "reason": "why", "waiting": 5}
    ]
}


def test_whatever_the_width_the_tables_keep_what_they_say(browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    open_blank(page, {})
    mount(page, link(BOARD), style_sheet(FOLDER))
    page.evaluate("([schedules, pauses]) => Object.assign(answers, { schedules, pauses })", [SCHEDULES, PAUSES])
    said = {
        "Schedules": [
            "0 3 * * 1-5 Europe/Berlin",
            "15 6 * * MON UTC",
            "3",
            "Paused: the bank is closed",
            "Last run failed",
        ],
        "Pauses": ["Task walk where page=7", "5", "until resumed", "why"],
        "Workers": ["high, medium", "1,234", "host:11", "1.0"],
    }
    wrong: list[str] = []
    for tab, texts in said.items():
        page.get_by_role("button", name=tab, exact=True).click()
        page.clock.run_for(300)
        table = page.get_by_role("table", name=tab)
        for text in texts:
            expect(table.get_by_text(text, exact=True).first).to_be_visible()
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            wrong += table.evaluate(LOST)
    assert wrong == []
    page.context.close()


def test_what_is_asked_or_scrolled_moves_no_column_and_covers_no_field(browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 600})
    open_blank(page, {})
    mount(page, link(BOARD), style_sheet(FOLDER))
    page.evaluate("schedules => Object.assign(answers, { schedules })", SCHEDULES)
    page.get_by_role("button", name="Schedules", exact=True).click()
    page.clock.run_for(300)
    columns = "table => [...table.querySelectorAll('th')].map((one) => one.getBoundingClientRect().left)"
    table = page.get_by_role("table", name="Schedules")
    before = table.evaluate(columns)
    page.get_by_role("button", name="Pause… nightly").click()
    expect(page.get_by_label("Reason to pause nightly")).to_be_focused()
    assert table.evaluate(columns) == pytest.approx(before, abs=2)
    page.get_by_role("button", name="Submit job").click()
    page.clock.run_for(300)
    form = page.get_by_role("complementary")
    form.get_by_label("Task", exact=True).select_option("walk")
    form.get_by_text("Options").click()
    form.get_by_label("Tags", exact=True).scroll_into_view_if_needed()
    assert form.evaluate("node => node.scrollTop") > 0
    bottom = "node => node.getBoundingClientRect().bottom"
    assert form.locator(".close").evaluate(bottom) <= form.locator("header").evaluate(bottom)
    expect(form.get_by_role("heading", name="Submit a job")).to_be_in_viewport()
    page.context.close()


def test_a_row_of_a_job_shows_its_error_at_any_width(browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    open_blank(page, {})
    mount(page, link(BOARD), style_sheet(FOLDER))
    failed = page.locator("tr", has=page.locator("td[data-status=failed]"))
    expect(failed.locator("td.outcome")).to_have_attribute("title", "ValueError: no fuse")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for column in ("outcome", "created", "run"):
            expect(failed.locator(f"td.{column}")).to_be_visible()
    page.context.close()
