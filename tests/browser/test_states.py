"""Every state of the board, in both themes and on a phone: readable by all, nothing cut off; and in a notebook."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from dtqkit import TaskQueue
from dtqkit.control import OPERATIONS
from dtqkit.dashboard import FOLDER
from dtqkit.support.linker import style_sheet
from tests.browser.conftest import Board, Boards, Scheme
from tests.browser.tasks import explode, walk
from tests.serving import TOKEN, Server
from tests.wait import wait_until
from tests.workers import Workers

SERIOUS = ("serious", "critical")


def faults(page: Page) -> list[str]:
    """What axe finds serious, with the elements."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for rule in found
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    ]


def overflow(page: Page) -> list[str]:
    """What is wider than the window, but for what scrolls by design."""
    return page.evaluate(
        """() => {
          const root = document.getElementById("board").shadowRoot;
          const right = (node) => node.getBoundingClientRect().right;
          const wide = (node) => !node.closest(".charts, .tabs, pre") && right(node) > innerWidth + 1;
          return [...root.querySelectorAll("*")].filter(wide).map((node) => node.outerHTML.slice(0, 120));
        }"""
    )


@pytest.fixture
def busy(server: Server, tasks: TaskQueue) -> Server:
    """A server of a queue that has a job in most states."""
    with Workers(tasks):
        done = tasks.submit_many([walk.bind(1), explode.bind("a fuse that is not there, described at some length")])
        wait_until(lambda: all(job.refresh().record.is_over for job in done))
    tasks.submit_many([walk.bind(), walk.options(delay_s=600).bind()])
    tasks.pause(lane="low", reason="the month's end, for which accounting needs the whole database")
    tasks.schedule("nightly", walk.bind(1), cron="0 3 * * 1-5", tz="Europe/Berlin").pause("holidays")
    return server


Look = Callable[[Page], list[str]]


def tour(board: Board, look: Look) -> dict[str, list[str]]:
    """What `look` finds wrong in each view."""
    page = board.page
    expect(board.rows).to_have_count(4)
    shown = {"jobs": look(page)}
    page.locator("tr:has(td[data-status=failed])").get_by_role("button").click()
    expect(board.side.locator(".error")).to_be_visible()
    shown["job"] = look(page)
    page.keyboard.press("Escape")
    board.tab("Dead letters")
    expect(board.rows).to_have_count(1)
    board.button("Requeue all…").click()
    expect(board.button("Requeue 1 job")).to_be_focused()
    shown["dead letters"] = look(page)
    for name in ("Workers", "Capacity", "Schedules", "Pauses"):
        board.tab(name)
        shown[name] = look(page)
    expect(page.get_by_role("row", name="Lane low")).to_be_visible()
    board.button("Lane low paused: see the pauses").focus()
    shown["a pause"] = look(page)
    board.tab("Jobs")
    page.get_by_label("Change all jobs that match").select_option(label="Cancel…")
    expect(board.button("Cancel 2 jobs")).to_be_focused()
    shown["a change of all"] = look(page)
    board.button("Submit job").click()
    page.locator("#submit-task").select_option("render")
    board.side.get_by_text("Options").click()
    board.side.get_by_role("button", name="Submit", exact=True).click()
    expect(board.side.locator("[aria-invalid]").first).to_be_focused()
    shown["form"] = look(page)
    return shown


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_every_view_is_readable_by_all(new_board: Boards, busy: Server, scheme: Scheme) -> None:
    board = new_board(scheme=scheme, reduced_motion="reduce").open(busy)
    background = board.page.locator(".board").evaluate(
        "node => getComputedStyle(node.getRootNode().host).backgroundColor"
    )
    assert background == ("rgb(16, 20, 27)" if scheme == "dark" else "rgb(255, 255, 255)")
    shown = tour(board, faults)
    assert {view: wrong for view, wrong in shown.items() if wrong} == {}


def test_every_view_fits_a_phone(new_board: Boards, busy: Server) -> None:
    board = new_board(width=360, height=740, reduced_motion="reduce").open(busy)
    assert faults(board.page) == []
    shown = tour(board, overflow)
    assert {view: wrong for view, wrong in shown.items() if wrong} == {}


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_states_without_a_queue_are_readable_by_all(new_board: Boards, server: Server, scheme: Scheme) -> None:
    board = new_board(scheme=scheme)
    board.expected += [
        "ERR_CONNECTION_REFUSED",
        "ERR_CONNECTION_RESET",
        "ERR_EMPTY_RESPONSE",
        "ERR_SOCKET_NOT_CONNECTED",
    ]
    board.page.goto(server.http)
    board.page.get_by_label("Token").fill("wrong")
    board.button("Sign in").click()
    expect(board.page.get_by_role("alert").filter(has_text="does not know")).to_be_visible()
    shown = {"signed out": faults(board.page)}
    board.page.get_by_label("Token").fill(TOKEN)
    board.button("Sign in").click()
    expect(board.page.get_by_text("Nothing has been submitted yet.")).to_be_visible()
    shown["empty"] = faults(board.page)
    server.kill()
    expect(board.banner).to_be_visible()
    shown["reconnecting"] = faults(board.page)
    assert {view: wrong for view, wrong in shown.items() if wrong} == {}


MOUNT = """async ({ css, saved, answers }) => {
  const { default: widget } = await import("./board/index.js");
  const listeners = new Set();
  window.sent = [];
  window.push = (message) => listeners.forEach((listener) => listener(message));
  const model = {
    get: (name) => ({ css, snapshot: saved })[name],
    on: (_, listener) => listeners.add(listener),
    off: (_, listener) => listeners.delete(listener),
    send: (message) => {
      window.sent.push(message);
      const answer = answers?.[message.op] ?? { error: { code: "gone", detail: "No." } };
      if (answers) setTimeout(() => window.push({ id: message.id, ...answer }));
    },
  };
  document.body.replaceChildren(Object.assign(document.createElement("div"), { id: "cell" }));
  window.unmount = widget.render({ model, el: document.getElementById("cell") });
}"""

JOB = {"id": "65a000000000000000000001", "task": "walk", "payload": {}, "created_at": "2026-01-01T08:00:00Z", "rev": 1}
SNAPSHOT: dict[str, Any] = {
    "at": "2026-01-01T08:00:05Z",
    "depths": {"high": 0, "medium": 1, "low": 0, "scheduled": 0, "running": 0, "oldest_wait_s": 5.0},
    "workers": [],
    "jobs": [JOB],
}


def mount(board: Board, server: Server, **given: Any) -> None:
    """The board as a notebook's widget: no kernel is here, so that its model is played."""
    board.page.goto(server.http)
    board.page.evaluate(MOUNT, {"css": style_sheet(FOLDER), "saved": None, "answers": None, **given})


def test_a_widget_speaks_with_its_kernel_and_follows_its_events(board: Board, server: Server) -> None:
    answers = {
        "snapshot": {"result": SNAPSHOT},
        "jobs": {"result": {"items": [JOB], "cursor": None}},
        "tasks": {"result": []},
        "health": {"result": {"status": "ok", "redis": "up", "mongodb": "up"}},
    }
    mount(board, server, answers=answers)
    expect(board.light).to_have_text("Live")
    expect(board.row(JOB["id"])).to_contain_text("Pending")
    event = {"id": JOB["id"], "rev": 4, "status": "completed", "task": "walk", "priority": "medium", "run_ms": 12.0}
    board.page.evaluate("event => push({events: {jobs: [event]}})", event)
    expect(board.row(JOB["id"]).locator("td.status")).to_have_text("Completed")
    assert {"snapshot", "jobs", "tasks", "stats", "health"} <= {m["op"] for m in board.page.evaluate("sent")}
    board.page.evaluate("unmount()")
    expect(board.rows).to_have_count(0)


def test_a_kernel_whose_cell_blocks_is_not_taken_for_lost(board: Board, server: Server) -> None:
    """Its widgets go on sending (they have a thread of their own), and answer once the cell is done."""
    board.page.clock.install()
    mount(board, server)
    push = "push({events: {depths: {high: 0, medium: 1, low: 0, scheduled: 0, running: 0, oldest_wait_s: 5}}})"
    for _ in range(20):
        board.page.evaluate(push)
        board.page.clock.run_for(1000)
    expect(board.light).to_have_text("Live")
    expect(board.page.get_by_text("does not answer")).to_have_count(0)
    # The first question is answered at last
    board.page.evaluate("snapshot => push({id: sent.find((m) => m.op === 'snapshot').id, result: snapshot})", SNAPSHOT)
    jobs = {"items": [JOB], "cursor": None}
    board.page.evaluate("jobs => push({id: sent.find((m) => m.op === 'jobs').id, result: jobs})", jobs)
    board.page.clock.run_for(1000)
    expect(board.row(JOB["id"])).to_contain_text("Pending")
    # And a kernel that sends nothing any more counts as lost
    board.page.clock.run_for(40_000)
    expect(board.light).to_have_text("Reconnecting")


def test_a_saved_notebook_shows_what_its_board_last_knew(board: Board, server: Server) -> None:
    mount(board, server, saved=SNAPSHOT)
    expect(board.light).to_have_text("Saved snapshot")
    expect(board.banner).to_contain_text("As it was on 1 Jan")
    expect(board.row(JOB["id"])).to_contain_text("Pending")
    expect(board.button("Submit job")).to_be_hidden()
    assert faults(board.page) == []


def test_a_notebooks_theme_goes_before_the_systems(board: Board, server: Server) -> None:
    mount(board, server, saved=SNAPSHOT)
    host = board.page.locator("#cell > div")
    for light, scheme in (("true", "light"), ("false", "dark")):
        board.page.evaluate("light => (document.body.dataset.jpThemeLight = light)", light)
        expect(host).to_have_attribute("data-theme", scheme)
        assert host.evaluate("node => getComputedStyle(node).colorScheme") == scheme


def test_the_boards_routes_are_those_of_the_table_of_operations(board: Board, server: Server) -> None:
    board.page.goto(server.http)
    routes = board.page.evaluate("async () => (await import('./board/routes.js')).ROUTES")
    table = {operation.name: [operation.method, operation.path] for operation in OPERATIONS}
    assert routes == {name: table[name] for name in routes}
