"""A board that is narrow, on a phone or in a notebook's cell: what a table leaves out, the panel of a job still has."""

from playwright.sync_api import Browser, expect

from dtqkit.dashboard import BOARD, FOLDER
from dtqkit.support.linker import link, style_sheet
from tests.browser.played import mount, open_blank


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
