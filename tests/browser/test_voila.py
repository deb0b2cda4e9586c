"""Notebook 2 as an app: voila runs it, and its page has the board, live, and a form that submits."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.lab import OURS, ROOT
from tests.wait import wait_until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a voila that has this one notebook."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    log = tmp_path / "voila.log"
    notebook = str(ROOT / "notebooks" / "02-submit-and-watch.ipynb")
    with log.open("wb") as output:
        voila = subprocess.Popen(
            [sys.executable, "-m", "voila", notebook, "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"],
            env={**OURS, "JUPYTER_CONFIG_DIR": str(tmp_path), "IPYTHONDIR": str(tmp_path)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def answers() -> bool:
        assert voila.poll() is None, log.read_text()
        try:
            # Of a file that is not there: the notebook itself would be run for it.
            with urlopen(f"http://127.0.0.1:{port}/voila/static/none", timeout=5):
                return True
        except URLError as error:
            return hasattr(error, "code")
        except OSError:
            return False

    try:
        wait_until(answers, timeout_s=60, interval_s=0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        voila.terminate()
        voila.wait(timeout=30)


def test_voila_answers_with_the_board(browser: Browser, address: str) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 1000}) as context:
        page = context.new_page()
        page.goto(address, timeout=200_000)

        expect(page.get_by_role("heading", name="Submit and watch").first).to_be_visible(timeout=60_000)
        expect(page.locator(".light")).to_have_text("Live", timeout=60_000)
        expect(page.locator("tr[data-id]", has_text="render").first).to_be_visible(timeout=60_000)
        before = page.locator("tr[data-id]", has_text="render").count()

        page.locator(".widget-vbox input[type=number]").first.fill("77")
        page.get_by_role("button", name="Submit render").click()

        card = page.locator(".widget-html .dtq", has_text='"page": 77')
        expect(card).to_contain_text("completed", timeout=60_000)
        expect(page.locator("tr[data-id]", has_text="render")).to_have_count(before + 1, timeout=60_000)
        expect(page.get_by_text("Traceback")).to_have_count(0)
        if pictures := os.environ.get("DTQ_SCREENSHOTS"):
            page.screenshot(path=Path(pictures) / "voila.png", full_page=True)
