"""What the board shows of retry rules, snoozes, expiry and follow-ups."""

from __future__ import annotations

from datetime import UTC, datetime

from playwright.sync_api import expect

from dtqkit import TaskQueue
from tests.browser.conftest import Board
from tests.browser.tasks import walk
from tests.conftest import Mongo
from tests.serving import Server


def test_the_panel_says_why_a_job_is_not_tried_again_and_what_follows(
    board: Board, server: Server, tasks: TaskQueue, mongo: Mongo
) -> None:
    job, late = tasks.submit_many([walk.options(expires_s=600).bind(1), walk.bind(2)])
    jobs = mongo[tasks.settings.database_name]["jobs"]
    error = {"kind": "exception", "type": "GiveUp", "message": "no such customer", "final": "the task raised GiveUp"}
    ended = {"token": 4, "failures": 1, "rev": 9, "ended_at": datetime.now(UTC), "worker": "w1", "death_seq": 1}
    more = {"snoozes": 3, "on_failure": "alert", "followed_by": ["0" * 24], "error": error, "status": "failed"}
    jobs.update_one({"payload.steps": 1}, {"$set": {**ended, **more}})
    expired = {"kind": "expired", "type": "JobExpired", "message": "not started within 5 s of its submission"}
    jobs.update_one({"payload.steps": 2}, {"$set": {**ended, "token": 0, "status": "cancelled", "error": expired}})
    board.open(server)
    expect(board.row(late.id).locator("td.status")).to_have_text("Expired")
    board.job(job.id)
    facts = board.side.locator("dl.facts")
    for label, text in (
        *(("Snoozed", "3 times"), ("Not tried again", "the task raised GiveUp"), ("On failure", "alert")),
        *(("Followed by", "0" * 24), ("Expires after", "10 m")),
    ):
        expect(facts.locator("div", has=board.page.get_by_text(label, exact=True)).locator("dd")).to_have_text(text)
