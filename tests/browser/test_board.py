"""What a person does with the board, against a real server, real stores and a real worker."""

import re
from datetime import date

from bson import ObjectId
from playwright.sync_api import expect

from dtqkit import TaskQueue
from tests.browser.conftest import Board, Boards
from tests.browser.tasks import HEALTHY, explode, heal, render, walk
from tests.serving import READ_TOKEN, TOKEN, Server, fill
from tests.wait import wait_until
from tests.workers import Workers


def test_a_job_that_the_form_submits_runs_and_completes_on_the_board(
    board: Board, server: Server, worker: Workers, tasks: TaskQueue
) -> None:
    board.open(server)
    board.button("Submit job").click()
    board.page.locator("#submit-task").select_option("walk")
    board.side.get_by_label("steps").fill("20")
    board.side.get_by_role("button", name="Submit", exact=True).click()

    submitted = board.side.get_by_role("status").get_by_role("button")
    expect(submitted).to_be_visible()
    (job,) = tasks.jobs().items
    status = board.row(job.id).locator("td.status")
    expect(status).to_have_text(re.compile(r"Running \d+ %"))
    submitted.click()
    expect(board.side.locator("progress")).to_be_visible()
    expect(status).to_have_text("Completed")
    expect(board.side.locator(".status")).to_have_text("Completed")
    expect(board.side.get_by_role("region", name="Result")).to_have_text('"arrived"')
    expect(board.side.get_by_role("region", name="Log")).to_contain_text("took step 20")


def test_the_form_follows_the_schema_and_leaves_out_what_is_the_default_anyway(
    board: Board, server: Server, worker: Workers, tasks: TaskQueue
) -> None:
    board.open(server)
    board.page.keyboard.press("n")
    board.page.locator("#submit-task").select_option("render")
    side = board.side
    expect(side).to_contain_text("Counted from one.")
    side.get_by_label("page", exact=True).fill("3")
    side.get_by_label("paper").select_option("a5")
    side.get_by_label("day").fill("2026-03-01")
    side.get_by_label("draft").check()
    side.get_by_label("marks").fill("[1, 2]")
    side.get_by_text("Options").click()
    side.get_by_label("Priority").select_option(label="high")
    side.get_by_label("Tags").fill("nightly, batch-7")
    side.get_by_role("button", name="Submit", exact=True).click()
    expect(side.get_by_role("status")).to_contain_text("Submitted")

    (job,) = tasks.jobs().items
    assert job.payload == {"page": 3, "paper": "a5", "day": "2026-03-01", "draft": True, "marks": [1, 2]}
    assert (job.priority, job.tags, job.max_attempts) == ("high", ("nightly", "batch-7"), 3)


def test_integers_that_javascript_would_round_are_submitted_and_shown_as_they_are(
    board: Board, server: Server, worker: Workers, tasks: TaskQueue
) -> None:
    board.open(server)
    board.page.keyboard.press("n")
    board.page.locator("#submit-task").select_option("render")
    side = board.side
    side.get_by_label("paper").select_option("a5")
    side.get_by_label("day").fill("2026-03-01")
    page = side.get_by_label("page", exact=True)
    page.fill("9223372036854775808")
    side.get_by_role("button", name="Submit", exact=True).click()
    expect(side).to_contain_text("64 bits")
    page.fill("9007199254740993")
    side.get_by_label("marks").fill("[9007199254740995, -9223372036854775808]")
    side.get_by_role("button", name="Submit", exact=True).click()
    submitted = side.get_by_role("status").get_by_role("button")
    submitted.click()

    (job,) = tasks.jobs().items
    assert (job.payload["page"], job.payload["marks"]) == (9007199254740993, [9007199254740995, -(2**63)])
    for region in ("Payload", "Result"):
        for digits in ("9007199254740993", "9007199254740995", "-9223372036854775808"):
            expect(side.get_by_role("region", name=region)).to_contain_text(digits)


def test_an_error_of_the_form_or_the_server_is_shown_at_its_field(
    board: Board, server: Server, worker: Workers, tasks: TaskQueue
) -> None:
    board.expected.append("422")  # chromium itself reports every refused request
    board.open(server)
    board.page.keyboard.press("n")
    board.page.locator("#submit-task").select_option("render")
    page, marks = board.side.get_by_label("page", exact=True), board.side.get_by_label("marks")
    submit = board.side.get_by_role("button", name="Submit", exact=True)

    page.fill("three")
    marks.fill("[1")
    submit.click()
    expect(page).to_have_accessible_description(re.compile("three is not a whole number"))
    expect(marks).to_have_accessible_description(re.compile("This is not JSON"))
    expect(page).to_be_focused()

    page.fill("0")
    marks.fill('[1, "two"]')
    board.side.get_by_label("paper").select_option("a4")
    board.side.get_by_label("day").fill("2026-03-01")
    submit.click()
    wrong = board.side.locator("[aria-invalid]")
    expect(wrong).to_have_count(1)
    expect(wrong).to_be_focused()
    expect(board.side.locator(".field:has([aria-invalid]) .problem")).not_to_be_empty()
    assert tasks.jobs().items == ()


def test_filters_a_search_and_pages_find_jobs(board: Board, server: Server, tasks: TaskQueue) -> None:
    many = tasks.submit_many(walk.bind() for _ in range(60))
    urgent = render.options(priority="high", tags=("blue",)).bind(1, "a4", date(2026, 3, 1))
    (wanted,) = tasks.submit_many([urgent])
    many[0].cancel()
    board.open(server)

    expect(board.rows).to_have_count(50)
    board.button("Older").click()
    expect(board.rows).to_have_count(11)
    expect(board.button("Older")).to_be_disabled()
    board.button("Newer").click()
    expect(board.rows).to_have_count(50)

    board.choose("Status", "cancelled")
    expect(board.rows).to_have_count(1)
    expect(board.row(many[0].id)).to_be_visible()
    board.choose("Status", "")
    board.choose("Priority", "high")
    expect(board.rows).to_have_count(1)
    board.choose("Priority", "")
    board.page.get_by_placeholder("Find an id, key or tag").fill("blue")
    expect(board.rows).to_have_count(1)
    expect(board.row(wanted.id)).to_be_visible()
    board.page.get_by_placeholder("Find an id, key or tag").fill("violet")
    expect(board.page.get_by_text("No job matches these filters.")).to_be_visible()


def test_a_job_opens_with_its_payload_its_attempts_and_its_error(
    board: Board, server: Server, worker: Workers, tasks: TaskQueue
) -> None:
    job = tasks.submit_many([explode.bind("no fuse")])[0]
    wait_until(lambda: job.refresh().status == "failed")
    board.open(server)

    panel = board.job(job.id)
    expect(panel.get_by_role("heading", name="explode")).to_be_focused()
    expect(panel.locator(".error")).to_have_text("ValueErrorno fuse")
    expect(panel.get_by_role("region", name="Traceback", exact=True)).to_contain_text("raise ValueError(message)")
    expect(panel.get_by_role("region", name="Payload")).to_contain_text('"message": "no fuse"')
    expect(panel.locator(".attempts li")).to_have_count(2)
    board.page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(board.row(job.id).get_by_role("button")).to_be_focused()


def test_a_running_job_and_a_waiting_one_can_be_cancelled(
    board: Board, server: Server, worker: Workers, tasks: TaskQueue
) -> None:
    running = tasks.submit_many([walk.bind(2000)])[0]
    waiting = tasks.submit_many([walk.options(delay_s=600).bind()])[0]
    board.open(server)
    expect(board.row(running.id).locator("td.status")).to_contain_text("Running")

    board.job(running.id)
    board.button("Cancel job").click()
    expect(board.side.locator(".status")).to_have_text("Cancelled")
    assert running.refresh().status == "cancelled"

    board.job(waiting.id)
    board.button("Cancel job").click()
    expect(board.row(waiting.id).locator("td.status")).to_have_text("Cancelled")
    expect(board.side.get_by_role("heading", name="walk")).to_be_focused()


def test_dead_letters_are_counted_before_they_are_requeued_in_bulk(
    board: Board, server: Server, worker: Workers, tasks: TaskQueue
) -> None:
    dead = tasks.submit_many([heal.options(max_attempts=1).bind(f"patient {n}") for n in range(5)])
    other = tasks.submit_many([explode.bind("stays dead")])[0]
    wait_until(lambda: all(job.refresh().status == "failed" for job in [*dead, other]))
    board.open(server)
    board.tab("Dead letters")
    expect(board.rows).to_have_count(6)
    HEALTHY.update(f"patient {n}" for n in range(5))

    board.row(dead[0].id).get_by_role("checkbox").check()
    board.button("Requeue selected…").click()
    board.button("Requeue 1 job").click()
    expect(board.rows).to_have_count(5)

    # What was counted is not offered any more once other dead letters are shown, and focus stays where work goes on.
    board.button("Requeue all…").click()
    expect(board.button("Requeue 5 jobs")).to_be_focused()
    board.button("Not now").click()
    expect(board.button("Requeue all…")).to_be_focused()
    board.button("Requeue all…").click()
    expect(board.button("Requeue 5 jobs")).to_be_visible()
    board.choose("Task", "heal")
    expect(board.rows).to_have_count(4)
    expect(board.button("Requeue 5 jobs")).to_have_count(0)
    board.page.get_by_label("Select all on this page").check()
    expect(board.page.get_by_text("4 selected")).to_be_visible()
    board.button("Requeue all that match…").click()
    expect(board.page.get_by_text("4 jobs with task heal will be requeued.")).to_be_visible()
    board.button("Requeue 4 jobs").click()
    expect(board.page.get_by_text("4 jobs requeued.")).to_be_visible()
    expect(board.page.get_by_text("No job matches these filters.")).to_be_visible()

    wait_until(lambda: all(job.refresh().status == "completed" for job in dead))
    assert other.refresh().status == "failed"


def test_a_killed_server_leaves_the_last_data_and_is_found_again(
    board: Board, server: Server, worker: Workers, tasks: TaskQueue
) -> None:
    board.expected += [
        "ERR_CONNECTION_REFUSED",
        "ERR_CONNECTION_RESET",
        "ERR_EMPTY_RESPONSE",
        "ERR_SOCKET_NOT_CONNECTED",
    ]  # chromium's own words
    before = tasks.submit_many([walk.bind(1)])[0]
    board.open(server)
    expect(board.row(before.id).locator("td.status")).to_have_text("Completed")

    server.kill()
    expect(board.banner).to_contain_text("Connection lost at")
    expect(board.light).to_have_text("Reconnecting")
    expect(board.row(before.id)).to_be_visible()
    meanwhile = tasks.submit_many([walk.bind(1)])[0]
    server.start()
    board.button("Try now").click()
    expect(board.light).to_have_text("Live", timeout=30_000)  # chromium itself holds back a socket that failed often
    expect(board.banner).to_be_hidden()
    expect(board.row(meanwhile.id).locator("td.status")).to_have_text("Completed")


def test_a_wrong_token_is_refused_and_the_right_one_is_kept_for_the_tab(new_board: Boards, server: Server) -> None:
    board = new_board()
    board.page.goto(server.http)
    expect(board.page.get_by_label("Token")).to_be_focused()
    board.page.keyboard.type("wrong")
    board.page.keyboard.press("Enter")
    expect(board.page.get_by_role("alert").filter(has_text="does not know this token")).to_be_visible()
    board.page.get_by_label("Token").fill(TOKEN)
    board.button("Sign in").click()
    expect(board.light).to_have_text("Live")
    board.page.reload()
    expect(board.light).to_have_text("Live")

    elsewhere = new_board()
    elsewhere.page.goto(server.http)
    expect(elsewhere.light).to_have_text("Signed out")


def test_a_token_in_the_address_is_used_and_taken_out_of_it(board: Board, server: Server) -> None:
    board.open(server)
    assert board.page.url == f"{server.http}/"
    assert TOKEN not in board.page.evaluate("JSON.stringify(history.state) + location.href + document.cookie")


def test_a_read_only_token_sees_everything_and_the_board_shows_that_it_is_read_only(
    board: Board, server: Server, tasks: TaskQueue
) -> None:
    board.expected.append("403")
    job = tasks.submit_many([walk.bind()])[0]
    board.open(server, READ_TOKEN)
    board.job(job.id)
    board.button("Cancel job").click()
    expect(board.side.get_by_role("alert")).to_have_text("This token may look, but not change anything.")
    assert job.refresh().status == "pending"


def test_markup_in_names_errors_and_payloads_stays_text(board: Board, server: Server, tasks: TaskQueue) -> None:
    evil = '<img src="x" onerror="document.title=1"><b>bold</b>'
    job = tasks.submit_many([explode.bind(evil)])[0]
    row = job.record
    name = f"{evil}<script>document.title=1</script>"
    document = {
        "_id": ObjectId(),
        "task": name,
        "payload": {evil: evil},
        "priority": "high",
        "status": "failed",
        "max_attempts": 1,
        "timeout_s": 60.0,
        "created_at": row.created_at,
        "started_at": row.created_at,
        "ended_at": row.created_at,
        "token": 1,
        "losses": 0,
        "failures": 1,
        "rev": 3,
        "worker": evil,
        "tags": [evil],
        "log": [evil],
        "error": {"kind": "exception", "type": evil, "message": evil, "traceback": evil},
    }
    fill(tasks.settings, [document])
    board.open(server)

    panel = board.job(str(document["_id"]))
    expect(panel.get_by_role("heading", name=name)).to_be_visible()
    expect(panel.get_by_role("region", name="Log")).to_have_text(evil)
    expect(board.row(str(document["_id"])).locator("td.outcome")).to_have_text(f"{evil}: {evil}")
    assert board.page.locator("img, script:not([src]), tbody b, aside b b").count() == 0
    assert board.page.title() == "dtqkit"


def test_an_update_leaves_the_focus_the_scroll_and_the_rows_where_they_are(
    board: Board, server: Server, tasks: TaskQueue
) -> None:
    jobs = tasks.submit_many(render.bind(n + 1, "a4", date(2026, 3, 1)) for n in range(40))
    board.open(server)
    row = board.row(jobs[20].id)
    row.get_by_role("button").focus()
    element = row.element_handle()
    top = board.page.locator(".scroller").evaluate("node => node.scrollTop")
    with Workers(tasks):
        expect(row.locator("td.status")).to_have_text("Completed")
        newest = tasks.submit_many([walk.bind(1)])[0]
        expect(board.button("1 new job")).to_be_visible()
        expect(row.get_by_role("button")).to_be_focused()
        assert row.evaluate("(node, before) => node === before", element)
        assert board.page.locator(".scroller").evaluate("node => node.scrollTop") == top
        board.button("1 new job").click()
        expect(board.row(newest.id)).to_be_visible()


def test_everything_is_reached_by_the_keyboard(board: Board, server: Server, tasks: TaskQueue) -> None:
    jobs = tasks.submit_many(walk.bind() for _ in range(3))
    board.open(server)
    keys = board.page.keyboard
    expect(board.rows).to_have_count(3)
    keys.press("/")
    expect(board.page.get_by_placeholder("Find an id, key or tag")).to_be_focused()
    keys.type(jobs[1].id)
    expect(board.rows).to_have_count(1)
    keys.press("ControlOrMeta+A")
    keys.press("Delete")
    expect(board.rows).to_have_count(3)
    for _ in range(9):
        keys.press("Tab")
        if board.row(jobs[2].id).get_by_role("button").evaluate("node => node.matches(':focus')"):
            break
    keys.press("ArrowDown")
    keys.press("j")
    keys.press("k")
    expect(board.row(jobs[1].id).get_by_role("button")).to_be_focused()
    keys.press("Enter")
    expect(board.side.get_by_role("heading", name="walk")).to_be_focused()
    keys.press("Tab")
    expect(board.button("Cancel job")).to_be_focused()
    keys.press("Enter")
    expect(board.side.locator(".status")).to_have_text("Cancelled")
    keys.press("Escape")
    expect(board.row(jobs[1].id).get_by_role("button")).to_be_focused()
    keys.press("2")
    expect(board.page.get_by_text("No dead letters.")).to_be_visible()
    keys.press("n")
    expect(board.side.get_by_role("heading", name="Submit a job")).to_be_visible()


def test_the_first_row_shows_depths_rates_and_workers(
    board: Board, server: Server, worker: Workers, tasks: TaskQueue
) -> None:
    jobs = tasks.submit_many([walk.bind(1) for _ in range(4)])
    wait_until(lambda: all(job.refresh().status == "completed" for job in jobs))
    tasks.submit_many([walk.options(delay_s=600).bind()])
    board.open(server)
    cells = board.page.locator(".cell")
    expect(cells.filter(has_text="Workers").locator(".value")).to_have_text("1")
    expect(cells.filter(has_text="Workers").locator(".extra")).to_have_text(re.compile(r"oldest beat [\d.]+ m?s ago"))
    expect(cells.filter(has_text="Throughput").locator(".foot")).to_have_text("4 in 5 m")
    expect(cells.filter(has_text="Failures").locator(".value")).to_have_text("0")
    expect(cells.filter(has_text="Oldest wait").locator(".foot")).to_have_text("0 running, 1 scheduled")
    expect(cells.filter(has_text="High").locator(".foot")).to_have_text("empty")
    expect(board.page.locator(".waits .name")).to_have_text("walk")


def test_a_page_without_a_network_says_so_at_once_and_comes_back_with_it(board: Board, server: Server) -> None:
    board.expected += ["ERR_INTERNET_DISCONNECTED"]
    board.open(server)
    board.context.set_offline(True)
    expect(board.light).to_have_text("Reconnecting", timeout=3_000)
    board.context.set_offline(False)
    expect(board.light).to_have_text("Live")


def test_a_page_that_gets_no_more_messages_does_not_show_live(board: Board, server: Server) -> None:
    """A socket that opens and then gets nothing, as over a path that drops everything."""
    board.page.clock.install()
    board.open(server)
    board.page.evaluate("""() => {
      window.sockets = [];
      window.WebSocket = class { constructor() { window.sockets.push(this); } send() {} close() {} };
    }""")
    board.page.clock.run_for(1_000)
    server.kill()  # the real socket closes; those that come after it hang
    expect(board.light).to_have_text("Reconnecting")
    board.page.clock.run_for(1_000)
    assert board.page.evaluate("sockets.length") == 1
    say = "text => sockets.at(-1).onmessage({ data: text })"
    snapshot = (
        '{"type":"snapshot","depths":{"high":0,"medium":0,"low":0,"scheduled":0,"running":0},"workers":[],"jobs":[]}'
    )
    board.page.evaluate(say, snapshot)
    expect(board.light).to_have_text("Live")
    for _ in range(4):
        board.page.clock.run_for(9_000)
        board.page.evaluate(say, '{"type":"beat"}')
    expect(board.light).to_have_text("Live")
    board.page.clock.run_for(14_000)
    expect(board.light).to_have_text("Reconnecting")
    board.expected += ["ERR_CONNECTION_REFUSED", "Failed to load resource"]
