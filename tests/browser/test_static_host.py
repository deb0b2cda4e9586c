"""The dashboard's folder on a static host, as it is, at an address below the root; the queue is elsewhere."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from playwright.sync_api import Browser, expect

from dtqkit import TaskQueue
from dtqkit.dashboard import FOLDER
from tests.browser.conftest import Board
from tests.serving import TOKEN, Server


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        pass


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    copytree(FOLDER, tmp_path / "queue" / "board-of-ours", ignore=ignore_patterns("*.py", "__pycache__"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_board_on_a_static_host_shows_a_queue_elsewhere(
    browser: Browser, host: ThreadingHTTPServer, tmp_path: Path, tasks: TaskQueue
) -> None:
    origin = f"http://127.0.0.1:{host.server_port}"
    settings = tasks.settings.replace(port=0, ws_port=0, token=TOKEN, cors_origins=(origin,))
    config = tmp_path / "queue" / "board-of-ours" / "config.js"
    with Server(settings) as server:
        written = config.read_text()
        config.write_text(written.replace('apiBase: ""', f'apiBase: "{server.http}"'))
        assert config.read_text() != written
        board = Board(browser)
        board.page.goto(f"{origin}/queue/board-of-ours/#token={TOKEN}")
        expect(board.light).to_have_text("Live")
        expect(board.page.get_by_text("Nothing has been submitted yet.")).to_be_visible()
        board.check()
        board.context.close()
