"""The panel of pauses, the change of a waiting job, and the change of all that match, in a real browser."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from dtqkit import TaskQueue
from tests import sample
from tests.browser.conftest import Board
from tests.serving import Server, publish

#: Where to put pictures of both themes, for people.
PICTURES = os.environ.get("DTQ_PICTURES")


def picture(board: Board, name: str) -> None:
    if PICTURES:
        for theme in ("dark", "light"):
            board.page.emulate_media(color_scheme=theme)
            board.page.screenshot(path=Path(PICTURES) / f"{name}-{theme}.png")


@pytest.fixture
def board(browser: Browser, server: Server, tasks: TaskQueue) -> Board:
    if "add" not in tasks.registry:
        tasks.include("tests.sample")
    with ThreadPoolExecutor(1) as pool:  # playwright's loop runs in this thread
        pool.submit(publish, tasks.settings, [task.info for task in tasks.registry]).result()
    return Board(browser).open(server)


def test_a_pause_is_begun_seen_and_ended(board: Board, tasks: TaskQueue) -> None:
    jobs = [sample.add.submit(7), sample.add.submit(8)]
    page = board.page
    board.tab("Pauses")
    expect(page.get_by_text("Nothing is paused.")).to_be_visible()
    page.get_by_label("What to pause").select_option("task add")
    page.get_by_label("Where").fill('{"a": 7}')
    page.get_by_label("Reason").fill("the printer is down")
    page.get_by_role("button", name="Pause", exact=True).click()
    row = page.get_by_role("row", name="Task add where a=7")
    expect(row).to_contain_text("the printer is down")
    expect(row.get_by_role("cell").nth(1)).to_have_text("1")
    page.get_by_label("What to pause").select_option("lane low")
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_role("row", name="Lane low")).to_be_visible()
    picture(board, "pauses")
    board.tab("Jobs")
    expect(board.row(jobs[0].id).locator("td.status")).to_have_text("Paused")
    expect(board.row(jobs[1].id).locator("td.status")).to_have_text("Pending")
    board.job(jobs[0].id)
    expect(board.side.locator(".status")).to_have_text("Paused")
    expect(page.locator(".warning")).to_contain_text("Task add where a=7 is paused since")
    expect(page.locator(".warning")).to_contain_text("until it is resumed: the printer is down")
    picture(board, "paused-job")
    page.keyboard.press("Escape")
    board.tab("Pauses")
    row.get_by_role("button", name="Resume").click()
    expect(row).to_have_count(0)
    assert [str(pause) for pause in tasks.pauses()] == ["lane 'low'"]
    board.expected.append("422")
    page.get_by_label("What to pause").select_option("task add")
    page.get_by_label("Where").fill('{"c": 7}')
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("does not have")
    board.check()


def test_all_that_match_are_changed_once_their_number_was_seen(board: Board, tasks: TaskQueue) -> None:
    jobs = tasks.submit_many(sample.add.bind(n) for n in range(30))
    other = sample.noop.submit()
    page = board.page
    page.get_by_label("Task", exact=True).first.select_option("add")
    expect(board.rows).to_have_count(30)
    choice = page.get_by_label("Change all jobs that match")
    choice.select_option(label="Move to low…")
    expect(page.get_by_text("30 jobs with task add will be moved to lane low.")).to_be_visible()
    picture(board, "bulk")
    page.get_by_role("button", name="Not now").click()
    choice.select_option(label="Cancel…")
    where = page.get_by_label("Only where the payload has")
    where.fill('{"a": 7')
    where.press("Enter")
    board.expected.append("400")
    expect(page.get_by_role("alert").filter(has_text="where")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel 30")).to_be_disabled()
    where.fill('{"a": 7}')
    where.press("Enter")
    expect(page.get_by_text("1 job with task add and a=7 will be cancelled.")).to_be_visible()
    page.get_by_role("button", name="Cancel 1 job").click()
    expect(board.rows.filter(has_text="Cancelled")).to_have_count(1)
    assert [job.refresh().status for job in jobs[6:9]] == ["pending", "cancelled", "pending"]
    choice.select_option(label="Cancel…")
    page.get_by_role("button", name="Cancel 29").click()
    expect(board.rows.filter(has_text="Cancelled")).to_have_count(30)
    assert {job.refresh().status for job in jobs} == {"cancelled"}
    assert other.refresh().status == "pending"
    board.check()


def test_a_waiting_job_is_changed_in_its_panel(board: Board, tasks: TaskQueue) -> None:
    job = sample.add.submit(7)
    board.job(job.id)
    board.side.get_by_role("button", name="Change…").click()
    board.side.get_by_label("Lane").select_option(label="high")
    board.side.get_by_label("Tags of the job").fill("urgent, second")
    board.side.get_by_label("Whole payload").fill('{"a": "seven"}')
    picture(board, "change")
    board.side.get_by_role("button", name="Change", exact=True).click()
    board.expected.append("422")
    expect(board.side.get_by_role("alert").filter(has_text="a")).to_contain_text("$.a")
    board.side.get_by_label("Whole payload").fill('{"a": 9}')
    board.side.get_by_role("button", name="Change", exact=True).click()
    expect(board.side.get_by_label("Change the job")).to_have_count(0)
    record = job.refresh().record
    assert (record.priority, record.tags, record.payload) == ("high", ("urgent", "second"), {"a": 9})
    board.check()
