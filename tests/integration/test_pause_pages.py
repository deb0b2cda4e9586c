"""The examples of docs/pause.md and docs/many-jobs.md run as they stand."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any, Final

from dtqkit import TaskQueue

DOCS: Final = Path(__file__).parents[2] / "docs"


def run(page: str, queue: TaskQueue) -> list[str]:
    """What the examples of a page print."""

    @queue.task
    async def render(page: int, customer: int = 1) -> str:
        return f"page {page}"

    names: dict[str, Any] = {"queue": queue, "render": render}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL):
            exec(block, names)  # noqa: S102 - our own page
            if page == "many-jobs.md":
                render.map(range(3))
    return printed.getvalue().splitlines()


def test_the_examples_about_pauses_run(queue: TaskQueue) -> None:
    printed = run("pause.md", queue)
    assert printed == ["lane 'low' 0", "task 'render' where customer=7 0"]
    assert queue.pauses() == ()


def test_the_examples_about_many_jobs_run(queue: TaskQueue) -> None:
    printed = run("many-jobs.md", queue)
    assert printed[0] == "3"
    assert printed[-1] == "3 3"
