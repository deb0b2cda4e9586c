"""What a visitor on Binder gets: its environment made from nothing, its start, a notebook, and the dashboard's card."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.lab import IDLE, PATIENCE, ROOT, Lab, run_all
from tests.wait import wait_until

pytestmark = pytest.mark.timeout(480)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """As repo2docker goes about it: requirements first, then the sources, postBuild, and start before Jupyter."""
    venv, repository = tmp_path / "venv", tmp_path / "repository"
    gone = ("REDIS_URL", "ATLAS_URI", "PYTHONPATH", "VIRTUAL_ENV")
    environ = {k: v for k, v in os.environ.items() if k not in gone and not k.startswith("DTQ_")}
    environ["PATH"] = f"{venv / 'bin'}{os.pathsep}{environ['PATH']}"

    def run(*command: str) -> None:
        done = subprocess.run(command, env=environ, cwd=repository, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    repository.mkdir()
    run(sys.executable, "-m", "venv", str(venv))
    # Most of it is never imported.
    run("python", "-m", "pip", "install", "--no-compile", "-r", str(ROOT / "binder" / "requirements.txt"))
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, repository / name)
    run("binder/postBuild")

    command = (str(repository / "binder" / "start"), "jupyter", "lab")
    lab = Lab(tmp_path, shows=repository, command=command, environ=environ)
    try:
        wait_until(lab.answers, timeout_s=120)
        yield lab
    finally:
        lab.close()


def test_a_visitor_runs_a_notebook_and_opens_the_dashboard(browser: Browser, lab: Lab) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 1000}) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))

        # When a visitor opens the first notebook and runs it
        page.goto(lab.address("lab/tree/notebooks/01-quickstart.ipynb"))
        page.wait_for_selector(IDLE)
        page.get_by_role("menuitem", name="Edit", exact=True).click()
        page.get_by_role("menuitem", name="Clear Outputs of All Cells", exact=True).click()
        run_all(page)

        # Then it runs to its end, and nothing in it raises
        cells = page.locator(".jp-CodeCell .jp-InputPrompt")
        error = page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']")
        expect(cells.last.or_(error).filter(has_text=re.compile(rf"\[{cells.count()}\]:|Error"))).to_be_visible(
            timeout=2 * PATIENCE
        )
        assert error.all_inner_texts() == []
        expect(page.locator(".jp-OutputArea-output:has-text('HELLO, ADA!')").first).to_be_visible()
        expect(page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']")).to_have_count(0)

        # When the dashboard is opened by its card
        page.get_by_role("menuitem", name="File", exact=True).click()
        page.get_by_role("menuitem", name="New Launcher").click()
        page.locator(".jp-LauncherCard", has_text="Task queue").click()
        board = page.frame_locator("iframe[src*='dtqkit']")

        # Then it is signed in, its socket goes through the proxy, and three workers serve it
        expect(board.locator(".light")).to_have_text("Live", timeout=PATIENCE)
        assert [url for url in sockets if "/dtqkit/ws" in url]

        # And a job that its form submits is run
        board.get_by_role("button", name="Submit job", exact=True).click()
        board.locator("#submit-task").select_option("parse")
        board.get_by_label("path").fill(str(ROOT / "dtqkit" / "model" / "jobs.py"))
        board.get_by_role("complementary").get_by_role("button", name="Submit", exact=True).click()
        expect(board.locator("tr[data-id]", has_text="parse").first).to_contain_text(
            "Completed", ignore_case=True, timeout=PATIENCE
        )
        if pictures := os.environ.get("DTQ_SCREENSHOTS"):
            page.screenshot(path=Path(pictures) / "binder.png")
