"""In real kernels, which have a running loop: cell functions, widgets while a cell blocks, a restart, and %dtq."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from dtqkit import Settings
from dtqkit.run.supervisor import environment_of

ROOT = Path(__file__).parents[2]

Run = Callable[..., str]


@pytest.fixture
def run(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run cells in a fresh kernel whose environment names the test's stores; what the last one printed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)

    def run(*sources: str) -> str:
        notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
        NotebookClient(notebook, timeout=90, kernel_name="python3").execute()
        return "".join(output.get("text", "") for output in notebook.cells[-1].outputs)

    return run


def test_a_job_outlives_the_kernel_that_submitted_it(run: Run) -> None:
    # Given a kernel that submits a job and goes away
    job_id = run(
        "from dtqkit import TaskQueue\nqueue = TaskQueue()\nqueue.include('tests.sample')",
        "from tests.sample import add\nprint(add.submit(20, 3).id)",
    ).strip()
    # When another kernel, where a worker runs, asks for it
    shown = run(
        "from dtqkit import TaskQueue\nfrom tests.workers import Workers",
        "queue = TaskQueue()\nqueue.include('tests.sample')",
        f"with Workers(queue):\n    print(queue.get('{job_id}').result(timeout=30))\nqueue.close()",
    )
    # Then it has the result
    assert shown.strip() == "23"


def test_cell_functions_widgets_and_magics_work_while_a_cell_blocks(run: Run) -> None:
    shown = run(
        "import time\nfrom dtqkit import TaskQueue\nqueue = TaskQueue.local(workers=2)\n%load_ext dtqkit.notebook",
        "%%dtq task priority=high max_attempts=1\ndef nap(n: int) -> int:\n    time.sleep(0.1)\n    return n",
        "assert nap.defaults.priority == 'high'\nassert (await nap.submit(1)) == 1",
        # The cell never gives the kernel's loop a turn, and the widgets go on.
        "board = queue.board()\nbar = queue.progress(nap.map(range(10)))\n"
        "end = time.monotonic() + 30\n"
        "while not (bar.bar.bar_style and board.snapshot) and time.monotonic() < end:\n    time.sleep(0.05)\n"
        "print(bar.label.value.partition(' · ')[0], bar.bar.bar_style, sorted(board.snapshot))",
        "from IPython import get_ipython\nassert get_ipython().run_line_magic('dtq', 'status') is queue\n"
        "print(bar.bar.value, bar.bar.bar_style, sorted(board.snapshot))\nqueue.close()",
    )
    assert shown.strip() == "10.0 success ['at', 'depths', 'jobs', 'workers']"


def test_a_cell_that_is_run_again_shows_the_same_board_and_feeds_no_second(run: Run) -> None:
    shown = run(
        "from dtqkit import TaskQueue\nqueue = TaskQueue()",
        "first = queue.board()\nassert queue.board() is first\nfirst.close()\nsecond = queue.board()",
        "print(second is not first, first.closed, second.closed, queue.board() is second)\nqueue.close()",
    )
    assert shown.strip() == "True True False True"
