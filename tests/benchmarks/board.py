"""What the board costs a browser. The events are real: a feeder publishes them as workers do."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from playwright.sync_api import CDPSession, sync_playwright
from redis import Redis

from dtqkit.broker.keys import Keys
from dtqkit.dashboard import BOARD, FOLDER
from dtqkit.model.events import JobEvent, encode_batch
from dtqkit.support.linker import link, style_sheet
from tests.benchmarks.bench import Bench
from tests.benchmarks.report import Row, at_most, row
from tests.browser.conftest import ARGUMENTS
from tests.serving import TOKEN, Server, fill

SUITE = "the board in Chromium: 200 rows on screen, 100 events a second, 10,000 jobs behind them"

JOBS = 10_000
ROWS = 200
#: For how long it is watched, in seconds.
WATCHED_S = 60
EVENTS_PER_S = 100
BATCHES_PER_S = 20

OBSERVE = """() => {
  window.longTasks = [];
  new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((entry) => entry.duration)))
    .observe({ type: "longtask" });
}"""


def stored(number: int) -> dict[str, Any]:
    """A job that waits or has ended, as the store has it."""
    now = datetime.now(UTC)
    over = number < JOBS - 2 * ROWS
    document: dict[str, Any] = {
        "_id": ObjectId(),
        "task": f"task_{number % 7}",
        "payload": {"page": number},
        "priority": ("high", "medium", "low")[number % 3],
        "status": "completed" if over else "pending",
        "max_attempts": 3,
        "timeout_s": 60.0,
        "created_at": now,
        "token": int(over),
        "losses": 0,
        "rev": 4 if over else 1,
    }
    if over:
        document |= {"started_at": now, "ended_at": now, "run_ms": 12.5, "worker": "worker-1", "result": number}
    return document


def feed(redis: Redis, channel: str, ids: list[str], seconds: float, page_wait: Any) -> int:
    """EVENTS_PER_S for `seconds`: jobs in view begin, end and begin again, and new ones come."""
    each = EVENTS_PER_S // BATCHES_PER_S
    started = time.monotonic()
    sent = 0
    revisions: dict[str, int] = {}
    while (now := time.monotonic() - started) < seconds:
        events: list[JobEvent] = []
        for _ in range(each):
            job = str(ObjectId()) if sent % 10 == 0 else ids[sent % len(ids)]
            revisions[job] = revisions.get(job, 4) + 1
            status = "completed" if revisions[job] % 2 else "running"
            events.append(
                JobEvent(id=job, rev=revisions[job], status=status, task="task_1", priority="high", run_ms=3.0)
            )
            sent += 1
        redis.publish(channel, encode_batch(events))
        page_wait(max(1.0, 1000 * (sent / EVENTS_PER_S - now)))
    return sent


def metrics(session: CDPSession) -> dict[str, float]:
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}


def heap_mb(session: CDPSession) -> float:
    session.send("HeapProfiler.collectGarbage")
    return metrics(session)["JSHeapUsedSize"] / 1e6


def task_cpu_ms(trace: bytes) -> list[float]:
    """CPU time of each task of the page's main thread, so that what else the machine does is not counted."""
    events: list[dict[str, Any]] = json.loads(trace)["traceEvents"]
    names = {
        (e["pid"], e["tid"]) for e in events if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"
    }
    tasks = [e for e in events if e["name"] in ("RunTask", "ThreadControllerImpl::RunTask") and "tdur" in e]
    return [e["tdur"] / 1000 for e in tasks if (e["pid"], e["tid"]) in names]


def measure(server: Server, redis: Redis, channel: str, ids: list[str], seconds: float) -> Iterator[Row]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        paints: list[float] = []
        for _ in range(5):
            page.goto("about:blank")
            page.goto(f"{server.http}/#token={TOKEN}")
            page.locator("tbody tr[data-id]").first.wait_for()
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        page.get_by_label("Rows on a page").select_option(str(ROWS))
        page.locator(f"tbody tr[data-id]:nth-child({ROWS})").wait_for()
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})  # CPU time: other processes do not count
        page.evaluate(OBSERVE)
        heaps = [heap_mb(session)]
        browser.start_tracing(page=page, categories=["toplevel", "disabled-by-default-devtools.timeline"])
        before, begun = metrics(session), time.monotonic()
        sent = feed(redis, channel, ids, seconds / 2, page.wait_for_timeout)
        after, took = metrics(session), time.monotonic() - begun
        cpu_ms = task_cpu_ms(browser.stop_tracing())
        tasks: list[float] = page.evaluate("longTasks")
        for _ in range(4):
            heaps.append(heap_mb(session))  # collects garbage first: not while tasks are measured
            feed(redis, channel, ids, seconds / 8, page.wait_for_timeout)
        heaps.append(heap_mb(session))
        rows = page.locator("tbody tr[data-id]").count()
        browser.close()
    assert rows == ROWS
    yield row("first contentful paint", paints, "ms", at_most(300))
    yield row("events", [sent / took], "/s")
    yield row("main thread, busy", [(after["TaskDuration"] - before["TaskDuration"]) / took * 100], "%", at_most(30))
    yield row("main thread, longest task, CPU", [max(cpu_ms)], "ms", at_most(50))
    yield row("main thread, tasks longer than 50 ms by the clock", [len(tasks)], "", at_most(0))
    yield row("heap after collection, largest", [max(heaps)], "MB", at_most(60))
    yield row("heap, last / second", [heaps[-1] / heaps[1]], "x", at_most(1.1))
    yield row("modules of a notebook, gzip", [len(gzip.compress(link(BOARD).encode())) / 1000], "kB", at_most(30))
    yield row("style sheets", [len(style_sheet(FOLDER)) / 1000], "kB")


def run(bench: Bench) -> Iterator[Row]:
    documents = [stored(number) for number in range(JOBS)]
    with (
        bench.settings(port=0, ws_port=0, token=TOKEN) as settings,
        Server(settings) as server,
        Redis.from_url(settings.redis_url) as redis,
    ):
        fill(settings, documents)
        ids = [str(document["_id"]) for document in documents[-ROWS:]]
        yield from measure(server, redis, Keys.of(settings.namespace).events, ids, bench.scaled(WATCHED_S))
