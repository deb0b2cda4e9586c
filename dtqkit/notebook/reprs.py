"""How a job, jobs, a page of jobs and a queue show themselves in a cell: static HTML, never a widget.

A saved notebook shows these cards without a kernel. They depend on nothing but the records, so that they are the same
whenever the same thing happened, apart from times.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

from dtqkit.model.events import Depths, Heartbeat
from dtqkit.model.jobs import PRIORITIES, STATUSES, Job, Status
from dtqkit.notebook.formatting import as_json, count, ran, short, waited
from dtqkit.notebook.html import Markup, card, el
from dtqkit.support.causes import users_frames
from dtqkit.support.formatting import duration

log = logging.getLogger("dtqkit.notebook")

#: Rows of a page that a cell shows.
ROWS: Final = 20

T = TypeVar("T")
P = ParamSpec("P")


def never_raises(show: Callable[Concatenate[T, P], Markup]) -> Callable[Concatenate[T, P], str | None]:
    """A repr that raises is logged, and the cell shows text instead."""

    @wraps(show)
    def shown(what: T, *args: P.args, **kwargs: P.kwargs) -> str | None:
        try:
            return str(show(what, *args, **kwargs))
        except Exception:
            log.exception("%s cannot be shown as HTML", type(what).__name__)
            return None

    return shown


@never_raises
def job_card(job: Job, paused: str = "") -> Markup:
    """One job: what it is, how it went, and its result or error; `paused` says which pause holds it."""
    facts: list[tuple[str, object]] = [
        ("arguments", el("code", as_json(job.payload))),
        ("priority", job.priority),
        ("waited", waited(job)),
        ("ran", ran(job)),
        ("attempts", job.tally),
    ]
    if paused:
        facts.append(("paused", paused))
    if job.worker and job.status != "pending":
        facts.append(("worker", job.worker))
    if job.unique is not None:
        facts.append(("unique", job.uniqueness))
    if job.progress is not None and job.status != "completed":
        facts.append(("progress", f"{job.progress:.0%} {short(job.progress_message)}".rstrip()))
    if job.status == "completed":
        facts.append(("result", el("code", as_json(job.result))))
    if job.cancel_requested and not job.is_over:
        facts.append(("cancel", "asked for"))
    parts: list[object] = [_title(job.task, job.status, job.id), _facts(facts)]
    if (error := _error(job)) is not None:
        parts.append(error)
    return card(*parts, label=f"job {job.id}")


@never_raises
def jobs_bar(statuses: Sequence[Status], as_of: str = "") -> Markup:
    """Many jobs: a bar with a piece for each status, and the numbers in words; `as_of` says when that was so."""
    counts: Counter[str] = Counter(statuses)
    present: list[Status] = [status for status in STATUSES if counts[status]]
    pieces = [el("i", class_=s, style=f"flex:{counts[s]}") for s in present]
    words = [el("span", f"{counts[s]:,} {s}", class_=s) for s in present]
    if as_of:
        words.append(el("span", as_of))
    return card(
        el("header", el("b", count(len(statuses), "job")), *words),
        el("div", *pieces, class_="bar"),
        label=count(len(statuses), "job"),
    )


@never_raises
def jobs_table(jobs: Sequence[Job], more: bool) -> Markup:
    """A page of jobs, newest first."""
    rows = [
        (
            el("code", job.id),
            job.task,
            el("code", as_json(job.payload, 60)),
            el("span", job.status, class_=job.status),
            job.priority,
            job.tally,
            waited(job),
            ran(job),
            short(str(job.error), 80) if job.error else "",
        )
        for job in jobs[:ROWS]
    ]
    hidden = len(jobs) - len(rows)
    title = count(len(jobs), "job") + (f", {hidden} not shown" if hidden else "") + (", and more" if more else "")
    head = ("job", "task", "arguments", "status", "priority", "attempts", "waited", "ran", "error")
    return card(el("header", el("b", title)), _table(head, rows), label=title)


@never_raises
def queue_card(depths: Depths, workers: Iterable[Heartbeat]) -> Markup:
    """A queue: what waits in each lane, and its workers."""
    beats = sorted(workers, key=lambda beat: beat.name)
    facts: list[tuple[str, object]] = [(lane, f"{getattr(depths, lane):,} waiting") for lane in PRIORITIES]
    facts.append(("scheduled", f"{depths.scheduled:,}"))
    facts.append(("running", f"{depths.running:,}"))
    if depths.oldest_wait_s is not None:
        facts.append(("oldest waits", duration(depths.oldest_wait_s)))
    rows = [(beat.name, " → ".join(beat.lanes), beat.status, f"{beat.load} of {beat.concurrency}") for beat in beats]
    parts: list[object] = [
        el("header", el("b", "TaskQueue"), el("span", count(len(beats), "worker"))),
        _facts(facts),
    ]
    if rows:
        parts.append(_table(("worker", "lanes", "state", "jobs"), rows))
    else:
        parts.append(el("p", "No workers are running: jobs wait until one starts."))
    return card(*parts, label="task queue")


def _title(name: str, status: Status, job_id: str) -> Markup:
    return el("header", el("b", name), el("span", status, class_=f"s {status}"), el("code", job_id))


def _facts(facts: Iterable[tuple[str, object]]) -> Markup:
    return el("dl", *(Markup(el("dt", name) + el("dd", value)) for name, value in facts))


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> Markup:
    body = [el("tr", *(el("td", cell) for cell in row)) for row in rows]
    return el("table", el("thead", el("tr", *(el("th", name) for name in head))), el("tbody", *body))


def _error(job: Job) -> Markup | None:
    """The error that ended it, or the last attempt's while it is tried again."""
    error = job.error
    if error is None and not job.is_over and job.earlier:
        error = job.earlier[-1].error
    if error is None:
        return None
    first, _, rest = error.message.strip().partition("\n")
    second = rest.strip().partition("\n")[0]
    said = el("div", el("b", error.type), f": {short(first)}", class_="failed")
    if second:
        said = Markup(said + el("div", short(second), class_="failed"))
    if not error.traceback:
        return said
    return Markup(said + el("details", el("summary", "traceback"), el("pre", users_frames(error.traceback))))
