"""Notebook 2 in a real JupyterLab: opened cold, run, its form's button pressed, its board watched; light and dark."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tests.wait import wait_until

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "02-submit-and-watch.ipynb"
IDLE = ".jp-Notebook-ExecutionIndicator[data-status=idle]"
#: How long a person would wait, in ms: the machine may be busy with other tests.
PATIENCE = 60_000

pytestmark = pytest.mark.timeout(300)


class Lab:
    """A JupyterLab of the test's own: its settings, its folder, its port."""

    def __init__(self, folder: Path, theme: str) -> None:
        self.folder = folder
        shutil.copy(NOTEBOOK, folder / NOTEBOOK.name)
        self.theme = theme
        self._set("apputils-extension/themes", theme=f"JupyterLab {theme}")
        self._set("apputils-extension/notification", fetchNews="false", checkForUpdates=False)
        self._set("notebook-extension/tracker", windowingMode="none")  # all cells are in the page
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._port = taken.getsockname()[1]
        self._token = secrets.token_hex(16)
        private = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        environ = {**os.environ, "PYTHONPATH": str(ROOT), **{k: str(folder / v) for k, v in private.items()}}
        self._log = (folder / "lab.log").open("wb")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
                *(f"--port={self._port}", "--ServerApp.port_retries=0"),
                *(f"--IdentityProvider.token={self._token}", f"--ServerApp.root_dir={folder}"),
            ],
            env=environ,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def _set(self, plugin: str, **values: object) -> None:
        path = self.folder / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}/{path}?token={self._token}"

    def answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "lab.log").read_text()
        try:
            with urlopen(self.address("api"), timeout=5) as answer:  # noqa: S310 - our own server
                return answer.status == 200
        except (URLError, OSError):
            return False

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        self._log.close()


@pytest.fixture(params=["Light", "Dark"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, request.param)
    try:
        wait_until(lab.answers, timeout_s=60)
        yield lab
    finally:
        lab.close()


@pytest.fixture
def page(browser: Browser, lab: Lab) -> Iterator[Page]:
    """The notebook, opened as somebody left it, with a kernel that has run nothing."""
    with browser.new_context(viewport={"width": 1280, "height": 1000}) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(lab.address(f"lab/tree/{NOTEBOOK.name}"))
        page.wait_for_selector(IDLE)
        yield page


def run_all(page: Page) -> None:
    """JupyterLab on a busy machine shows its menu before it obeys it: asked again until a cell waits or runs."""
    for _ in range(3):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        try:
            page.locator(".jp-InputPrompt", has_text="[*]").first.wait_for(timeout=PATIENCE / 6)
        except PlaywrightTimeout:
            continue
        return
    raise AssertionError("JupyterLab runs nothing")


def test_a_notebook_is_read_run_and_used(page: Page, lab: Lab) -> None:
    # Opened cold, its static cards are there, and no widget asks for what the kernel does not have
    expect(page.locator(".dtq", has_text="2 failed").first).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("model not found")).to_have_count(0)

    # When all of it is run
    run_all(page)

    # Then the board is live, the progress bar ends, and so does the notebook
    expect(page.locator(".light")).to_have_text("Live", timeout=PATIENCE)
    expect(page.get_by_text("24 of 24 jobs")).to_be_visible(timeout=PATIENCE)
    page.wait_for_selector(IDLE)
    before = page.locator("tbody tr[data-id]", has_text="render").count()

    # When somebody fills in the form and presses its button
    page.locator(".widget-vbox input[type=number]").first.fill("77")
    page.get_by_role("button", name="Submit render").click()

    # Then the job's card tells its result, and the board has its row, completed
    card = page.locator(".widget-html .dtq", has_text='"page": 77')
    expect(card).to_contain_text("completed", timeout=PATIENCE)
    job_id = card.locator("header code").inner_text()
    row = page.locator(f"tr[data-id='{job_id}']")
    expect(row).to_contain_text("Completed", ignore_case=True, timeout=PATIENCE)
    assert page.locator("tbody tr[data-id]", has_text="render").count() > before
    if pictures := os.environ.get("DTQ_SCREENSHOTS"):
        row.scroll_into_view_if_needed()
        page.screenshot(path=Path(pictures) / f"jupyterlab-{lab.theme.lower()}.png")
