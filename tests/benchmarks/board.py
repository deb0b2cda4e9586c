"""What the board costs a browser: 200 rows on screen, 100 events a second, 10,000 jobs behind them.

`python -m tests.benchmarks.board [seconds]` prints JSON. The events are real: a feeder publishes them as workers do.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import time
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from playwright.sync_api import CDPSession, sync_playwright
from redis import Redis

from dtqkit import Settings
from dtqkit.broker.keys import Keys
from dtqkit.dashboard import BOARD_CSS, BOARD_JS
from dtqkit.events import JobEvent, encode_batch
from dtqkit.local import start_local_stores
from tests.browser.conftest import ARGUMENTS
from tests.serving import TOKEN, Server, fill

JOBS = 10_000
ROWS = 200
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
    return round(metrics(session)["JSHeapUsedSize"] / 1e6, 2)


def task_cpu_ms(trace: bytes) -> list[float]:
    """CPU time of each task of the page's main thread, so that what else the machine does is not counted."""
    events: list[dict[str, Any]] = json.loads(trace)["traceEvents"]
    names = {
        (e["pid"], e["tid"]) for e in events if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"
    }
    tasks = [e for e in events if e["name"] in ("RunTask", "ThreadControllerImpl::RunTask") and "tdur" in e]
    return [e["tdur"] / 1000 for e in tasks if (e["pid"], e["tid"]) in names]


def measure(server: Server, redis: Redis, channel: str, ids: list[str], seconds: float) -> dict[str, Any]:
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
    return {
        "seconds": round(took, 1),
        "events_per_s": round(sent / took, 1),
        "rows": rows,
        "main_thread_share": round((after["TaskDuration"] - before["TaskDuration"]) / took, 3),
        "script_share": round((after["ScriptDuration"] - before["ScriptDuration"]) / took, 3),
        "tasks_over_50_ms_of_wall_time": len(tasks),
        "tasks_over_50_ms_of_cpu_time": sum(cost > 50 for cost in cpu_ms),
        "longest_task_ms_of_cpu_time": round(max(cpu_ms), 1),
        "heap_mb": heaps,
        "first_contentful_paint_ms": [round(paint, 1) for paint in paints],
        "board_js_bytes": BOARD_JS.stat().st_size,
        "board_css_bytes": BOARD_CSS.stat().st_size,
    }


def main(seconds: float) -> None:
    namespace = f"b{secrets.token_hex(5)}"
    with start_local_stores() as stores:
        settings = Settings(
            redis_url=stores.redis_url, atlas_uri=stores.atlas_uri, namespace=namespace, port=0, ws_port=0, token=TOKEN
        )
        documents = [stored(number) for number in range(JOBS)]
        with Server(settings) as server, Redis.from_url(stores.redis_url) as redis:
            fill(settings, documents)
            ids = [str(document["_id"]) for document in documents[-ROWS:]]
            print(json.dumps(measure(server, redis, Keys.of(namespace).events, ids, seconds), indent=2))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
