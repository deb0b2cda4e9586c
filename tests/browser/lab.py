"""A JupyterLab of a test's own, and how a person works with it."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout

ROOT = Path(__file__).parents[2]
IDLE = ".jp-Notebook-ExecutionIndicator[data-status=idle]"
#: How long a person would wait, in ms: the machine may be busy with other tests.
PATIENCE = 60_000
OURS: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(ROOT)}


class Lab:
    """Its settings in a folder, its port, its token; started by `command` with what Jupyter is asked for."""

    def __init__(
        self,
        home: Path,
        *,
        shows: Path,
        theme: str = "Light",
        command: Sequence[str] = (sys.executable, "-m", "jupyterlab"),
        environ: Mapping[str, str] = OURS,
    ) -> None:
        self.home = home
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
        self._log = (home / "lab.log").open("wb")
        self._process = subprocess.Popen(
            [
                *(*command, "--no-browser", "--allow-root"),
                *(f"--port={self._port}", "--ServerApp.port_retries=0"),
                *(f"--IdentityProvider.token={self._token}", f"--ServerApp.root_dir={shows}"),
            ],
            env={**environ, **{k: str(home / v) for k, v in private.items()}},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def _set(self, plugin: str, **values: object) -> None:
        path = self.home / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    @property
    def log(self) -> str:
        return (self.home / "lab.log").read_text()

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}/{path}?token={self._token}"

    def answers(self) -> bool:
        assert self._process.poll() is None, self.log
        try:
            with urlopen(self.address("api"), timeout=5) as answer:  # noqa: S310 - our own server
                return answer.status == 200
        except (URLError, OSError):
            return False

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        self._log.close()


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
