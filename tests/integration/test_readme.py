"""The examples that people read first are run."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import dtqkit
from dtqkit import Settings, TaskQueue
from dtqkit.sync import TaskQueue as Documented
from tests.command import environment, running
from tests.wait import wait_until

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_a_python_block_of_the_readme_runs(block: str, settings: Settings, tmp_path: Path) -> None:
    """As a file of the name in its first line, with a worker for its queue."""
    name = re.fullmatch(r"# (\w+)\.py", block.splitlines()[0])
    assert name is not None, "a block says in its first line what file it is"
    script = tmp_path / f"{name[1]}.py"
    script.write_text(block)
    env = environment(settings)
    path = os.pathsep.join((env["PYTHONPATH"], str(tmp_path)))
    with (
        TaskQueue(settings) as queue,
        running("worker", f"{name[1]}:queue", log=tmp_path / "log", settings=settings, PYTHONPATH=path),
    ):
        wait_until(queue.workers, timeout_s=60)
        done = subprocess.run(
            [sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=60, cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "page 3 at 200 dpi\n"


def test_the_package_s_own_example_runs(tmp_path: Path) -> None:
    source = (dtqkit.__doc__ or "").partition("\n\n")[2]
    script = tmp_path / "example.py"
    script.write_text(f"{source}\nprint(add.submit(2, 3).result(timeout=30))\nqueue.close()\n")
    done = subprocess.run([sys.executable, str(script)], env=environment(), capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr


def test_the_queue_s_own_example_runs(tmp_path: Path) -> None:
    paragraphs = (inspect.getdoc(Documented) or "").split("\n\n")
    source = textwrap.dedent("\n\n".join(p for p in paragraphs if p.startswith("    ")))
    assert ".submit(3, dpi=200)" in source
    script = tmp_path / "example.py"
    script.write_text(f"from dtqkit import TaskQueue\n{source}\nprint(job.status)\nqueue.close()\n")
    done = subprocess.run([sys.executable, str(script)], env=environment(), capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "completed\n"), done.stderr
