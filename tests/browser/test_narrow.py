"""A board that is narrow, on a phone or in a notebook's cell: what a table leaves out, the panel of a job still has."""

from playwright.sync_api import Browser, expect

from dtqkit.dashboard import BOARD, FOLDER
from dtqkit.support.linker import link, style_sheet
from tests.browser.played import NOW, mount, open_blank


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
        "Schedules": ["0 3 * * 1-5 Europe/Berlin", "15 6 * * MON UTC", "3", "Paused: the bank is closed"],
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
