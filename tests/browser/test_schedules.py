"""The panel of schedules, against a real server and a real worker."""

from playwright.sync_api import Browser, expect

from dtqkit import TaskQueue
from dtqkit.dashboard import BOARD, FOLDER
from dtqkit.support.linker import link, style_sheet
from tests.browser.conftest import Board, Boards
from tests.browser.played import JOBS, mount, open_blank
from tests.browser.tasks import explode, walk
from tests.serving import READ_TOKEN, Server
from tests.wait import wait_until
from tests.workers import Workers


def test_a_schedule_is_paused_with_a_reason_resumed_and_run(
    board: Board, server: Server, worker: Workers, tasks: TaskQueue
) -> None:
    nightly = tasks.schedule("nightly", walk.bind(1), cron="0 3 * * 1-5", tz="Europe/Berlin")
    pulse = tasks.schedule("pulse", walk.bind(1), every_s=1)
    wait_until(pulse.runs)
    board.open(server)
    board.tab("Schedules")
    rows = board.page.get_by_role("table", name="Schedules").locator("tbody tr")
    expect(rows).to_have_count(2)
    first, second = rows.nth(0), rows.nth(1)
    expect(first).to_contain_text("0 3 * * 1-5 Europe/Berlin")
    expect(second).to_contain_text("every 1.0 s")

    board.button("Pause… nightly").click()
    reason = board.page.get_by_label("Reason to pause nightly")
    expect(reason).to_be_focused()
    reason.fill("<b>holidays</b>")
    reason.press("Enter")
    expect(first).to_contain_text("Paused: <b>holidays</b>")
    paused = nightly.refresh().record.paused
    assert paused is not None
    assert paused.reason == "<b>holidays</b>"
    board.button("Resume nightly").click()
    expect(first).to_contain_text("Active")
    assert nightly.refresh().record.paused is None

    board.button("Run now nightly").click()
    wait_until(nightly.runs)
    expect(board.side).to_contain_text("walk")
    second.locator("button.link").click()  # its last run
    expect(board.side).to_contain_text("walk")
    pulse.remove()
    expect(rows).to_have_count(1)


def test_a_schedule_whose_last_run_failed_says_so_and_leads_to_its_job(
    board: Board, server: Server, worker: Workers, tasks: TaskQueue
) -> None:
    ledger = tasks.schedule("ledger", explode.bind("no fuse"), every_s=3600)
    well = tasks.schedule("well", walk.bind(1), every_s=3600)
    jobs = [one.run_now() for one in (ledger, well)]
    wait_until(lambda: [job.refresh().status for job in jobs] == ["failed", "completed"])
    board.open(server)
    board.tab("Schedules")
    expect(board.page.get_by_role("row", name="well")).to_contain_text("Active")
    row = board.page.get_by_role("row", name="ledger")
    row.get_by_role("button", name="Last run failed").click()
    expect(board.side.locator(".error")).to_contain_text("no fuse")
    board.side.get_by_role("button", name="Requeue").click()
    ledger.pause("until it is repaired")
    expect(row).to_contain_text("Paused: until it is repaired")
    wait_until(lambda: jobs[0].refresh().status == "failed")
    expect(row).to_contain_text("Last run failed")


def test_a_failed_run_is_found_behind_runs_that_wait(browser: Browser) -> None:
    page = browser.new_page()
    open_blank(page, {})
    mount(page, link(BOARD), style_sheet(FOLDER))
    waiting, failed = JOBS[0], JOBS[4]
    ledger = {"name": "ledger", "task": "walk", "every_s": 60, "last_job": waiting["id"], "live": [waiting["id"]]}
    answers = {"schedules": {"result": [ledger]}, "schedule_runs": {"result": [waiting, failed]}}
    page.evaluate("more => Object.assign(answers, more)", answers)
    page.get_by_role("button", name="Schedules", exact=True).click()
    page.clock.run_for(5_000)
    expect(page.get_by_role("button", name="Last run failed")).to_be_visible()
    assert page.evaluate("sent.filter(([operation]) => operation === 'schedule_runs').length") == 1
    page.context.close()


def test_without_schedules_the_panel_says_how_to_make_one_and_a_reader_cannot_pause(
    new_board: Boards, server: Server, tasks: TaskQueue
) -> None:
    board = new_board()
    board.expected.append("403")  # chromium itself reports every refused request
    board.open(server, READ_TOKEN)
    board.tab("Schedules")
    expect(board.page.locator(".note:visible")).to_contain_text("No schedules.")
    tasks.schedule("nightly", walk.bind(1), cron="0 3 * * *")
    board.button("Run now nightly").click()
    expect(board.page.get_by_role("row", name="nightly")).to_contain_text("may look, but not change")
