"""Notebook 2 as an app: voila runs it, and its page has the board."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.wait import wait_until

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(240)
def test_voila_answers_with_the_board(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(tmp_path), "IPYTHONDIR": str(tmp_path)}
    log = tmp_path / "voila.log"
    with log.open("wb") as output:
        voila = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "voila",
                str(ROOT / "notebooks" / "02-submit-and-watch.ipynb"),
                "--no-browser",
                f"--port={port}",
                "--Voila.ip=127.0.0.1",
            ],
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        page = wait_until(lambda: _page(port, voila, log), timeout_s=200, interval_s=0.5)
    finally:
        voila.terminate()
        voila.wait(timeout=30)
    # The page has the notebook's text, and a place for the board, whose model the kernel has made
    assert "Submit and watch" in page
    assert "application/vnd.jupyter.widget-view+json" in page
    assert "Traceback" not in page


def _page(port: int, voila: subprocess.Popen[bytes], log: Path) -> str:
    assert voila.poll() is None, log.read_text()
    try:
        with urlopen(f"http://127.0.0.1:{port}/", timeout=180) as answer:
            return answer.read().decode()
    except (URLError, OSError):
        return ""
