"""What a notebook waits for, and what a live board costs a real kernel."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, cast

import psutil
from bson import ObjectId
from jupyter_client.manager import start_new_kernel

from dtqkit.broker.keys import Keys
from dtqkit.model.events import JobEvent, encode_batch
from tests.benchmarks.bench import Bench, cpu_s
from tests.benchmarks.report import Row, at_least, at_most, row

SUITE = "a notebook: import, local stores, the first result, and a board in a kernel while 1,000 jobs change"

JOBS = 1_000
#: Each job changes once in so many seconds; batches of events that come in it; for how long the board is watched.
ROUND_S = 1.0
BATCHES = 20
WATCHED_S = 20

IMPORT = "import time; t = time.perf_counter(); import dtqkit; print(time.perf_counter() - t)"
LOCAL = """
import time
from dtqkit import TaskQueue
started = time.perf_counter()
with TaskQueue.local(workers=3) as queue:
    ready = time.perf_counter()
    @queue.task
    def add(a: int, b: int) -> int:
        return a + b
    assert add.submit(1, 2).result(timeout=20) == 3
    print(ready - started, time.perf_counter() - ready)
"""
BOARD = """
import os
from dtqkit import Settings, TaskQueue
queue = TaskQueue(Settings(redis_url={redis!r}, atlas_uri={mongo!r}, namespace={namespace!r}))
board = queue.board()
print(os.getpid())
"""


def run(bench: Bench) -> Iterator[Row]:
    imports = [float(_python(IMPORT)[0]) for _ in bench.per_round()]
    yield row("import dtqkit", imports, "s", at_most(0.4))
    locals_ = [[float(text) for text in _python(LOCAL)] for _ in bench.per_round()]
    yield row("TaskQueue.local(), ready", [ready for ready, _ in locals_], "s", at_most(4))
    yield row("TaskQueue.local(), first result after that", [first for _, first in locals_], "s", at_most(1))
    yield from board(bench)


def _python(code: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def board(bench: Bench) -> Iterator[Row]:
    """Messages of the board that a kernel sends, and its CPU."""
    manager, client = cast("tuple[Any, Any]", start_new_kernel())
    try:
        with bench.settings() as settings:
            code = BOARD.format(redis=settings.redis_url, mongo=settings.atlas_uri, namespace=settings.namespace)
            said: list[str] = []
            client.execute_interactive(code, output_hook=lambda m: said.append(m["content"].get("text", "")))
            kernel = psutil.Process(int("".join(said)))
            ids = [str(ObjectId()) for _ in range(JOBS)]
            channel = Keys.of(settings.namespace).events
            _publish(bench, channel, ids, 0)
            time.sleep(2)
            _messages(client)
            seconds = bench.scaled(WATCHED_S)
            cpu, began = cpu_s(kernel), time.monotonic()
            for number in range(1, 1 + int(seconds / ROUND_S)):
                _publish(bench, channel, ids, number)
            took_s = time.monotonic() - began
            used = cpu_s(kernel) - cpu
            updates = _messages(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    yield row("board, messages to the front end", [updates / took_s], "/s", at_least(4))
    yield row("board, CPU of the kernel", [used / took_s * 100], "%", at_most(10))


def _publish(bench: Bench, channel: str, ids: list[str], number: int) -> None:
    """Every job changes once, in ROUND_S."""
    each = len(ids) // BATCHES
    status = "completed" if number % 2 else "running"
    for start in range(0, len(ids), each):
        due = time.monotonic() + ROUND_S / BATCHES
        events = [
            JobEvent(id=job, rev=number + 1, status=status, task="t", priority="low", run_ms=3.0)
            for job in ids[start : start + each]
        ]
        bench.redis.publish(channel, encode_batch(events))
        time.sleep(max(0.0, due - time.monotonic()))


def _messages(client: Any) -> int:
    """How many messages with events have come since this was asked last."""
    count = 0
    while client.iopub_channel.msg_ready():
        message = client.get_iopub_msg(timeout=1)
        content = message["content"].get("data", {}) if message["msg_type"] == "comm_msg" else {}
        count += content.get("method") == "custom" and "events" in content.get("content", {})
    return count
