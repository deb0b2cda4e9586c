"""A real browser on a real board: chromium, a server process, and a worker in this one."""

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from dtqkit import TaskQueue
from tests.browser.tasks import HEALTHY
from tests.serving import READ_TOKEN, TOKEN, Server
from tests.workers import Workers

ARGUMENTS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

expect.set_options(timeout=10_000)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path. Without one the tests of this tier are skipped, or fail where DTQ_REQUIRE wants one."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing = "no chromium is installed (Debian: apt-get install chromium)"
        if "browser" in os.environ.get("DTQ_REQUIRE", ""):
            pytest.fail(f"DTQ_REQUIRE wants a browser: {missing}")
        pytest.skip(f"NOT TESTED IN A BROWSER: {missing}")
    return path


# Closed after each module: while playwright runs, its event loop blocks other tests' loops.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with warnings.catch_warnings():
        # Playwright leaves the pipe of its driver to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            yield browser
            browser.close()


@pytest.fixture
def tasks(queue: TaskQueue) -> TaskQueue:
    """The queue, which knows the tasks of tests.browser.tasks; no worker runs them."""
    queue.include("tests.browser.tasks")
    HEALTHY.clear()
    return queue


@pytest.fixture
def worker(tasks: TaskQueue) -> Iterator[Workers]:
    with Workers(tasks) as workers:
        yield workers


@pytest.fixture
def server(tasks: TaskQueue) -> Iterator[Server]:
    settings = tasks.settings.replace(port=0, ws_port=0, token=TOKEN, read_token=READ_TOKEN)
    with Server(settings) as server:
        yield server


#: What chromium itself reports of a server that is gone.
AWAY = ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_SOCKET_NOT_CONNECTED"]


class Board:
    """One page of one browser, which must log no errors but those in `expected`."""

    def __init__(self, browser: Browser, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        #: Parts of messages that the browser itself writes for an answer that the test asks for.
        self.expected: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def check(self) -> None:
        unexpected = [text for text in self.complaints if not any(part in text for part in self.expected)]
        assert unexpected == []

    def open(self, server: Server, token: str = TOKEN) -> "Board":
        """The board, signed in and live."""
        self.page.goto(f"{server.http}/#token={token}")
        expect(self.light).to_have_text("Live")
        return self

    @property
    def light(self) -> Locator:
        return self.page.locator(".light")

    @property
    def banner(self) -> Locator:
        return self.page.locator(".banner")

    @property
    def rows(self) -> Locator:
        return self.page.locator("tbody tr[data-id]")

    @property
    def side(self) -> Locator:
        return self.page.get_by_role("complementary")

    def row(self, job_id: str) -> Locator:
        return self.page.locator(f"tr[data-id='{job_id}']")

    def tab(self, name: str) -> None:
        self.page.get_by_role("navigation", name="Views").get_by_role("button", name=name).click()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def choose(self, label: str, value: str) -> None:
        self.page.get_by_label(label, exact=True).select_option(value)

    def job(self, job_id: str) -> Locator:
        """The panel of a job, opened by its row."""
        self.row(job_id).get_by_role("button").click()
        return self.side


Scheme = Literal["dark", "light"]


class Boards:
    """Opens boards; each is checked for complaints when the test is over."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._owned = ExitStack()

    def __call__(self, *, scheme: Scheme = "dark", width: int = 1280, height: int = 800, **more: Any) -> Board:
        board = Board(self._browser, color_scheme=scheme, viewport={"width": width, "height": height}, **more)
        self._owned.callback(board.context.close)
        self._owned.callback(board.check)
        return board

    def close(self) -> None:
        self._owned.close()


@pytest.fixture
def new_board(browser: Browser, server: Server) -> Iterator[Boards]:
    """Depends on the server, so that no board sees it go when the test is over."""
    boards = Boards(browser)
    yield boards
    boards.close()


@pytest.fixture
def board(new_board: Boards) -> Board:
    return new_board()
