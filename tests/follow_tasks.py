"""Tasks that follow on the end of others: `tests.follow_tasks:queue` is an APP. What they get goes into FOLLOW_FILE."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from dtqkit import JobEnd, TaskQueue

queue = TaskQueue()


def note(name: str, end: Any) -> None:
    """Append a line, in one write: several processes do."""
    if path := os.environ.get("FOLLOW_FILE"):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{json.dumps({'by': name, **end})}\n".encode())
        os.close(descriptor)


def noted(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@queue.task(priority="high", max_attempts=7)
async def alert(end: JobEnd) -> str:
    note("alert", msgspec.to_builtins(end))
    return f"{end.task} {end.status} {end.error.type if end.error else end.result}"


@queue.task
async def archive(what: dict[str, Any]) -> str:
    """Takes it as a dict, under a name of its own."""
    note("archive", what)
    return f"{what['task']} {what['status']} {what['result']}"


@queue.task(unique="active", unique_key="one")
async def single(end: JobEnd) -> str:
    return end.job


@queue.task(unique="waiting", unique_key="latest", on_duplicate="replace")
async def latest(end: JobEnd) -> str:
    return end.job


@queue.task(debounce_s=60)
async def calmed(n: int) -> int:
    return n


@queue.task
async def tick() -> str:
    """Takes nothing."""
    return "tick"


@queue.task(on_failure=alert, on_success="archive", max_attempts=2, backoff="fixed", backoff_s=0.01)
async def work(n: int, fail: bool = False) -> int:
    if fail:
        raise ValueError(f"no {n}")
    return n * 2


@queue.task(on_failure=alert, on_success=archive, max_losses=1, max_attempts=1)
def slow(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"
