"""The tasks of tests/sample.py, and some that are hard on their host."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from dtqkit import TaskQueue, task
from tests.gil import hold_gil


@task(max_attempts=1)
def leave_orphans(count: int) -> int:
    """Processes that outlive the one that has started them, for a moment."""
    for _ in range(count):
        subprocess.run(["sh", "-c", "sleep 0.1 & exit 0"], check=True, start_new_session=True)
    return count


@task(max_attempts=1)
async def exit_status_async(status: int) -> int:
    """The exit status of a child of the worker itself, asked for long after its end."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", f"raise SystemExit({status})")
    plain = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({status})"])  # noqa: ASYNC220 - on purpose
    await asyncio.sleep(3.0)
    return status if await process.wait() == plain.wait() == status else -1


@task(max_attempts=1)
async def hold_gil_async(seconds: float) -> float:
    return hold_gil(seconds)


@task(max_attempts=1, isolation="thread")
def hold_gil_in_thread(seconds: float) -> float:
    return hold_gil(seconds)


@task
async def pid_async() -> int:
    return os.getpid()


queue = TaskQueue()
queue.include("tests.sample")
queue.include(__name__)
