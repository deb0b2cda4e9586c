"""The README's examples run as they stand, each in a directory and a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from dtqkit import Settings, TaskQueue
from tests.command import answer, environment, running
from tests.serving import TOKEN, Server
from tests.wait import wait_until

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_first_job_returns_what_the_readme_says(tmp_path: Path) -> None:
    script = tmp_path / "first.py"
    script.write_text(BLOCKS[0])
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "page 3 at 200 dpi\n", "")


def test_the_hooks_are_around_a_job_and_give_it_their_state(tmp_path: Path, settings: Settings) -> None:
    (example,) = re.findall(r"```py\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "shop.py").write_text(example)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    with (
        running("worker", "shop:queue", log=tmp_path / "log", settings=settings, PYTHONPATH=path),
        TaskQueue(settings) as queue,
    ):
        wait_until(queue.workers, timeout_s=60)
        done = answer("submit", "shop:queue", "store", "page=3", "--wait", settings=settings, PYTHONPATH=path)
        assert done["result"] == "/tmp/pages/3"  # noqa: S108 - a name, not a file
        (line,) = queue.get(done["id"]).log()
    assert line.startswith("store took ")


def test_every_command_stands_in_a_block() -> None:
    command = re.compile(r"dtqkit (up|plan|submit|jobs|worker|server)|pip install|client/")
    assert [line for line in README.splitlines() if command.match(line)] == []


def test_the_app_is_served_by_workers_of_its_own(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "shop.py").write_text(BLOCKS[1])
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    with (
        running("worker", "shop:queue", log=tmp_path / "log", settings=settings, PYTHONPATH=path),
        TaskQueue(settings) as queue,
    ):
        wait_until(queue.workers, timeout_s=60)
        done = answer("submit", "shop:queue", "render", "page=3", "--wait", settings=settings, PYTHONPATH=path)
    assert done["result"] == "page 3 at 150 dpi"


def test_the_queue_behind_a_server_is_used_as_the_readme_says(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "shop.py").write_text(BLOCKS[1])
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    behind = settings.replace(port=0, ws_port=0, token=TOKEN)
    with (
        running("worker", "shop:queue", log=tmp_path / "log", settings=settings, PYTHONPATH=path),
        TaskQueue(settings) as queue,
        Server(behind) as server,
    ):
        wait_until(queue.workers, timeout_s=60)
        done = subprocess.run(
            [sys.executable, "-c", BLOCKS[2].replace("http://127.0.0.1:3000", server.http)],
            cwd=tmp_path,
            env={**environment(), "PYTHONPATH": path, "DTQ_TOKEN": TOKEN},
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert (done.returncode, done.stdout) == (0, "page 3 at 150 dpi\n"), done.stderr
