"""A kernel that is played: the board as a notebook's widget on answers that are written here, with its clock held.

The same tour gives the same elements, whatever module the board comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from playwright.sync_api import Page, Route

ADDRESS = "http://board.test/"
NOW = "2026-01-01T08:00:10Z"

MIME = {"js": "text/javascript", "css": "text/css", "html": "text/html"}


def job(number: int, status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"65a0000000000000000000{number:02x}",
        "task": "walk" if number % 2 else "render",
        "payload": {"page": number},
        "status": status,
        "created_at": "2026-01-01T08:00:00Z",
        "rev": 4,
        **more,
    }


RAN = {
    "claimed_at": "2026-01-01T08:00:01Z",
    "started_at": "2026-01-01T08:00:02Z",
    "token": 1,
    "worker": "w-1",
    "earlier": [],
}
FAULT = {"type": "ValueError", "message": "no fuse", "traceback": "Traceback:\n  ValueError: no fuse"}
ATTEMPT = {**RAN, "run_ms": 40.0, "wait_ms": 900.0, "ending": "failed", "error": FAULT, "queued_at": NOW}
JOBS = [
    job(7, "pending", priority="high"),
    job(6, "scheduled", due_at="2026-01-01T09:00:00Z", tags=["night"], idempotency_key="k-6"),
    job(5, "running", **RAN, progress=0.25, progress_message="a quarter"),
    job(4, "completed", **RAN, run_ms=1234.0, wait_ms=500.0, result={"n": "\x009007199254740993"}, ended_at=NOW),
    job(3, "failed", **{**RAN, "token": 2, "earlier": [ATTEMPT]}, failures=1, error=FAULT, ended_at=NOW),
    job(2, "cancelled", ended_at=NOW, priority="low"),
]
DEAD = [JOBS[4], job(1, "failed", **{**RAN, "earlier": [ATTEMPT]}, failures=3, error=FAULT, ended_at=NOW)]
DEPTHS = {"high": 1, "medium": 12345, "low": 0, "scheduled": 1, "running": 1, "oldest_wait_s": 5.0}
WORKERS = [
    {
        "name": f"w-{n}",
        "age_s": 1.0 + 10 * (n == 2),
        "load": 1,
        "concurrency": 4,
        "status": "stopping" if n == 2 else "running",
        "lanes": ["high", "medium"],
        "completed": 1234,
        "failed": n,
        "started_at": "2026-01-01T07:00:00Z",
        "host": "host",
        "pid": 10 + n,
        "version": "1.0",
        "tasks": ["walk"],
    }
    for n in (1, 2)
]
SNAPSHOT = {"at": NOW, "depths": DEPTHS, "workers": WORKERS, "jobs": JOBS}
SCHEMA = {
    "properties": {
        "page": {"type": "integer", "minimum": 1, "description": "Which page."},
        "scale": {"type": "number", "default": 1.5},
        "name": {"type": "string"},
        "draft": {"type": "boolean", "default": False},
        "kind": {"$ref": "#/$defs/Kind"},
        "when": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}], "default": None},
        "more": {"type": "object"},
    },
    "required": ["page", "kind"],
    "$defs": {"Kind": {"enum": ["a", "b"]}},
}
TASKS = [
    {"name": name, "schema": SCHEMA, "defaults": {"max_attempts": 3}, "description": "Renders a page."}
    for name in ("render", "walk")
]
STATS = {
    "at": NOW,
    "window_s": 300.0,
    "completed": 90,
    "failed": 10,
    "throughput_per_s": 0.333,
    "sampled": 50,
    "forecast": [
        {"lane": "high", "drain_s": None, "low_s": None, "high_s": None},
        {"lane": "medium", "drain_s": 100.0, "low_s": 90.0, "high_s": 130.0},
    ],
    "minutes": [
        {
            "at": f"2026-01-01T07:{45 + n}:00Z",
            "completed": 60 * n,
            "failed": n,
            "waiting": {"high": n, "medium": 40, "low": 2},
        }
        for n in range(15)
    ],
    "tasks": [
        {"task": name, "completed": 10, "failed": 1, "wait_p50_s": 0.2 * (n + 1), "wait_p95_s": 3.0 * (n + 1)}
        for n, name in enumerate(("walk", "render"))
    ],
}
ANSWERS: dict[str, Any] = {
    "snapshot": {"result": SNAPSHOT},
    "jobs": {"result": {"items": JOBS, "cursor": "more"}},
    "dead_letters": {"result": {"items": DEAD, "cursor": None}},
    "get": {"result": JOBS[4]},
    "log": {"result": {"lines": ["first", "second"]}},
    "tasks": {"result": TASKS},
    "stats": {"result": STATS},
    "health": {"result": {"status": "ok", "redis": "up", "mongodb": "up"}},
    "requeue": {"result": {**JOBS[4], "status": "pending", "rev": 6}},
    "requeue_many": {"result": {"matched": 2, "changed": 2, "cursor": None}},
    "submit": {"result": job(9, "pending", rev=1)},
}

MOUNT = """async ({ module, css, answers }) => {
  const { default: widget } = await import(module.startsWith("//") || module.includes("\\n")
    ? URL.createObjectURL(new Blob([module], { type: "text/javascript" })) : module);
  const listeners = new Set();
  window.sent = [];
  window.silent = false;
  window.answers = answers;
  window.push = (message) => listeners.forEach((listener) => listener(message));
  const model = {
    get: (name) => ({ css, snapshot: null })[name],
    on: (_, listener) => listeners.add(listener),
    off: (_, listener) => listeners.delete(listener),
    send: (message) => {
      window.sent.push([message.op, message.params]);
      const answer = window.answers[message.op] ?? { error: { code: "gone", detail: "No." } };
      if (!window.silent) setTimeout(() => window.push({ id: message.id, ...answer }));
    },
  };
  document.body.replaceChildren(Object.assign(document.createElement("div"), { id: "cell" }));
  window.unmount = widget.render({ model, el: document.getElementById("cell") });
}"""

ELEMENTS = """() => {
  const root = document.querySelector("#cell > div").shadowRoot;
  const focused = root.activeElement?.outerHTML.slice(0, 60);
  return [root.innerHTML, focused, JSON.stringify(sent)].join("\\n").replaceAll("><", ">\\n<");
}"""


def open_blank(page: Page, files: Mapping[str, str]) -> None:
    """An empty page at an address that serves `files`, with the clock held at NOW."""

    def serve(route: Route) -> None:
        name = route.request.url.removeprefix(ADDRESS)
        kind = MIME[name.rpartition(".")[2] if name else "html"]
        if name and name not in files:
            return route.fulfill(status=404)
        return route.fulfill(body=files.get(name, "<!doctype html><body></body>"), content_type=kind)

    page.route(f"{ADDRESS}**", serve)
    # Early enough for a slow machine: the clock goes on until it is held.
    page.clock.install(time="2026-01-01T07:00:00Z")
    page.goto(ADDRESS)
    page.clock.pause_at(NOW.replace(":10Z", ":11Z"))


def mount(page: Page, module: str, css: str) -> None:
    """The board of `module`: the text of one, or the address of one."""
    page.evaluate(MOUNT, {"module": module, "css": css, "answers": ANSWERS})
    page.clock.run_for(1500)


def tour(page: Page) -> Iterator[tuple[str, str]]:
    """A user's steps, with the elements after each."""

    def seen(step: str) -> tuple[str, str]:
        page.clock.run_for(600)
        return step, page.evaluate(ELEMENTS)

    def press(name: str, **more: Any) -> None:
        page.get_by_role("button", name=name, exact=True, **more).click()
        page.clock.run_for(300)

    def push(message: dict[str, Any]) -> None:
        page.evaluate("message => push(message)", message)

    yield seen("jobs")
    page.locator("tr", has=page.locator("td[data-status=failed]")).get_by_role("button").click()
    yield seen("a failed job")
    press("Requeue")
    yield seen("requeued")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    yield seen("the next row")
    page.locator("tr", has=page.locator("td[data-status=running]")).get_by_role("button").click()
    page.evaluate("job => (answers.get = { result: job })", JOBS[2])
    yield seen("a running job")
    press("Close")
    page.mouse.move(0, 0)
    push({"events": {"progress": [{"id": JOBS[2]["id"], "token": 1, "progress": 0.5, "message": "half"}]}})
    event = {"id": JOBS[0]["id"], "rev": 8, "status": "running", "task": "walk", "priority": "high", "worker": "w-1"}
    new = {"id": "65a000000000000000000100", "rev": 1, "status": "pending", "task": "walk", "priority": "low"}
    push({"events": {"jobs": [event, new], "depths": {**DEPTHS, "high": 0}}})
    yield seen("events")
    page.get_by_label("Status", exact=True).select_option("failed")
    yield seen("a filter")
    page.get_by_label("Status", exact=True).select_option("")
    press("Older")
    yield seen("the next page")
    page.keyboard.press("2")
    yield seen("dead letters")
    page.locator("tbody .choose input").first.click()
    press("Requeue selected…")
    yield seen("a selection")
    press("Requeue 2 jobs")
    yield seen("requeued from dead letters")
    press("Workers")
    yield seen("workers")
    press("Capacity")
    yield seen("capacity")
    page.keyboard.press("n")
    yield seen("the form")
    page.get_by_label("Task", exact=True).last.select_option("render")
    page.locator("aside").get_by_text("Options").click()
    page.get_by_label("scale", exact=True).fill("x")
    page.get_by_label("more", exact=True).fill("{")
    press("Submit")
    yield seen("a wrong form")
    page.get_by_label("page", exact=True).fill("9007199254740993")
    page.get_by_label("scale", exact=True).fill("2")
    page.get_by_label("more", exact=True).fill('{"a": 9007199254740993}')
    page.get_by_label("kind", exact=True).select_option("b")
    press("Submit")
    yield seen("submitted")
    error = {"code": "invalid", "detail": "no", "errors": [{"path": "$.page.deep", "detail": "bad"}, {"detail": "odd"}]}
    page.evaluate("error => (answers.submit = { error })", error)
    press("Submit")
    yield seen("refused")
    press("Close")
    page.evaluate("answers.health = { result: { redis: 'down', mongodb: 'up' } }")
    page.clock.run_for(6000)
    yield seen("Redis is away")
    page.evaluate("document.body.className = 'vscode-light'")
    page.evaluate("silent = true")
    page.clock.run_for(30_000)
    yield seen("no kernel")
    page.evaluate("unmount()")
    yield seen("unmounted")
