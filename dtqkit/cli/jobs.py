"""`dtqkit jobs`, `job`, `requeue`: show jobs, run them again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import msgspec
import typer

from dtqkit.cli.follow import follow_events
from dtqkit.cli.show import STYLES, as_json, clock, first_line, job_record, on_terminal, say, table
from dtqkit.cli.where import Where, where_of
from dtqkit.client.aio import AsyncTaskQueue
from dtqkit.client.late import with_cure
from dtqkit.control import MAX_PAGE, JobFilters, JobRequest, Page, Requeued
from dtqkit.control.bulk import BulkCall
from dtqkit.control.operations import GET_JOB, JOB_LOG, REQUEUE
from dtqkit.model.errors import JobConflict
from dtqkit.model.jobs import WAITING, Attempt, Job, Priority, Status
from dtqkit.support.causes import users_frames
from dtqkit.support.formatting import duration
from dtqkit.support.sanitize import escaped_line

T = TypeVar("T")

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TaskFilter = Annotated[str | None, typer.Option(metavar="TASK", help="Only jobs of this task.")]
PriorityFilter = Annotated[Priority | None, typer.Option(help="Only jobs of this lane.")]
WorkerFilter = Annotated[str | None, typer.Option(metavar="WORKER", help="Only jobs run by the worker with this id.")]
Text = Annotated[
    str | None, typer.Option("--q", metavar="TEXT", help="Only jobs whose id, key or a tag is TEXT or begins with it.")
]
Since = Annotated[
    str | None, typer.Option(metavar="AGE", help="Only jobs submitted since: 90s, 15m, 24h, 7d, or a time.")
]


def _ask(question: Callable[[AsyncTaskQueue], Awaitable[T]]) -> T:
    async def run() -> T:
        async with AsyncTaskQueue() as queue:
            return await question(queue)

    return asyncio.run(run())


def jobs(
    status: Annotated[Status | None, typer.Option(help="Only jobs in this status.")] = None,
    task: TaskFilter = None,
    priority: PriorityFilter = None,
    worker: WorkerFilter = None,
    since: Since = None,
    q: Text = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, metavar="N", help="Number of jobs.")] = 20,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Continue a listing: the cursor that it printed.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Then print jobs as they are submitted, retried or over.")
    ] = False,
    json: Json = False,
) -> None:
    """List jobs, newest first. With --follow, then a line when one is submitted, retried or over, until Ctrl-C."""
    if follow and (q or cursor):
        raise typer.BadParameter("--follow can be combined with --status, --task, --priority and --worker only")
    query: JobFilters = {"status": status, "task": task, "priority": priority, "worker": worker, "since": since}
    query["limit"] = limit
    if follow:
        asyncio.run(follow_events(query, json=json))
        return
    query |= {"q": q, "cursor": cursor}
    if json:
        page = _ask(lambda queue: queue.jobs(**query))
        as_json({"items": [job_record(job) for job in page.items], "cursor": page.cursor})
    else:
        _list(*_ask(lambda queue: _for_people(queue, query)))


async def _for_people(queue: AsyncTaskQueue, query: JobFilters) -> tuple[Page[Job], str, Collection[str]]:
    """A page of jobs with their attempts; why some of them wait, when no live worker takes them; which are paused."""
    page = await _with_attempts(queue, await queue.jobs(**query))
    waiting = [job for job in page.items if job.status in WAITING]
    why, paused = await queue.why_each_waits(waiting) if waiting else ("", ())
    return page, with_cure(why), paused


async def _with_attempts(queue: AsyncTaskQueue, page: Page[Job]) -> Page[Job]:
    """A listing lacks the attempts that did not complete."""
    without = [job.id for job in page.items if job.attempt and not job.attempts]
    if not without:
        return page
    whole = {job.id: job for job in (await queue.jobs(ids=without, limit=len(without))).items}
    return Page(items=tuple(whole.get(job.id, job) for job in page.items), cursor=page.cursor)


def _list(page: Page[Job], why_jobs_wait: str, paused: Collection[str]) -> None:
    if not page.items:
        print("no jobs")
        return
    columns = (
        "id",
        "task",
        "priority",
        "status",
        "attempts",
        "wait",
        "run",
        "submitted",
        "arguments",
        "worker",
        "error",
    )
    spare = ("arguments", "attempts", "wait", "priority", "submitted", "run")
    table(
        columns,
        [_row(job, paused=job.id in paused) for job in page.items],
        right=("attempts", "wait", "run"),
        spare=spare,
    )
    if why_jobs_wait:  # on standard error: scripts read the table
        say(f"why jobs wait: {why_jobs_wait}", error=True)
    if page.cursor is not None:
        print(f"more: --cursor {page.cursor}")


def _row(job: Job, *, paused: bool) -> tuple[str, ...]:
    last = job.attempts[-1] if job.attempts else None
    return (
        job.id,
        job.task,
        job.priority,
        "paused" if paused else job.status,
        job.tally if job.attempt else "",
        duration(last.wait_s) if last else "",
        _run(job),
        clock(job.created_at),
        first_line(msgspec.json.encode(job.payload).decode(), 40),
        job.worker or "",
        _error_of(job, 60),
    )


def _run(job: Job) -> str:
    """How long it ran; for a job under way, how long it has been running, or claimed without having begun."""
    if job.status == "running" and job.claimed_at is not None:
        begun = job.started_at is not None
        since = job.started_at or job.claimed_at
        return f"{'running' if begun else 'claimed'} {duration(max(0.0, (datetime.now(UTC) - since).total_seconds()))}"
    return duration(job.attempts[-1].run_s) if job.attempts else ""


def _expires(job: Job) -> str:
    """Until when a job must start that has not."""
    if job.expires_s is None or job.status not in WAITING or job.attempt:
        return ""
    return clock(job.created_at + timedelta(seconds=job.expires_s))


def _error_of(job: Job, limit: int) -> str:
    """Its last error, if it has one."""
    if job.error is None or job.status == "completed":
        return ""
    return f"{job.error.type}: {first_line(job.error.message, limit)}"


def job(
    id: JobId,
    json: Json = False,
    log: Annotated[bool, typer.Option("--log", help="Print only the log of the job's last attempt.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="With --log: print it unchanged, control characters and colours included.")
    ] = False,
) -> None:
    """Show one job: its attempts, its result or error, and the log of its last attempt."""
    if raw and (json or not log):
        raise typer.BadParameter("--raw goes with --log, and cannot be combined with --json")
    if log:
        lines = _ask(lambda queue: queue.control.ask(JOB_LOG, JobRequest(id=id)))
        if json:
            as_json(lines)
        else:
            text = "\n".join(lines.lines) or "no log"
            print(text, flush=True) if raw else say(text)
        return
    if json:
        as_json(job_record(_ask(lambda queue: queue.control.ask(GET_JOB, JobRequest(id=id)))))
    else:
        _show(*_ask(lambda queue: _with_reason(queue, id)))


async def _with_reason(queue: AsyncTaskQueue, id: str) -> tuple[Job, str]:
    """The job; and why it waits, when no live worker takes it."""
    found = await queue.control.ask(GET_JOB, JobRequest(id=id))
    return found, with_cure(await queue.why_waiting([found])) if found.status in WAITING else ""


def _show(job: Job, why_it_waits: str) -> None:
    facts: dict[str, str] = {
        "job": job.id,
        "task": job.task,
        "status": f"{job.status}, asked to stop" if job.cancel_requested and not job.is_over else job.status,
        "waits": why_it_waits,
        "attempts": job.tally,
        "priority": job.priority,
        "payload": first_line(msgspec.json.encode(job.payload).decode(), 2000),
        "submitted": clock(job.created_at),
        "due": clock(job.due_at) if job.status in WAITING else "",
        "expires": _expires(job),
        "tags": ", ".join(job.tags),
        "follows": job.follows or "",
        "followed": ", ".join(job.followed_by),
        "no next": job.not_followed or "",
        "key": job.idempotency_key or "",
        "unique": job.uniqueness,
        "limits": f"{job.max_attempts} failures, {duration(job.timeout_s)} an attempt, {job.max_losses} lost workers",
        "progress": f"{job.progress:.0%} {job.progress_message}".rstrip() if job.progress is not None else "",
    }
    if job.status == "completed":
        facts["result"] = first_line(msgspec.json.encode(job.result).decode(), 2000)
    facts["error"] = _error_of(job, 2000)
    facts["no retry"] = job.error.final if job.error is not None and job.status == "failed" else ""
    for name, value in facts.items():
        if value:
            _fact(name, value)
    if facts["error"] and job.error is not None and (more := job.error.message.strip().partition("\n")[2].strip()):
        say(f"{'':<10}{first_line(more, 2000)}")
    if job.attempts:
        print()
        columns = ("attempt", "claimed", "started", "wait", "run", "ending", "worker", "error")
        rows = [_attempt(job, attempt) for attempt in job.attempts]
        table(columns, rows, right=("attempt", "wait", "run"), spare=("claimed",))
    if job.error is not None and job.error.traceback and job.status != "completed":
        say(f"\n{users_frames(job.error.traceback)}")
    if job.log and len(job.attempts) > 1:
        print("\nlog of the last attempt:")
    for line in job.log:
        say(f"  {line}")


def _fact(name: str, value: str) -> None:
    if not on_terminal():
        print(f"{name:<10}{value}")
        return
    from rich.console import Console
    from rich.text import Text

    shown = Text.assemble((f"{name:<10}", "dim"), (escaped_line(value), STYLES.get(value, "")))
    Console(highlight=False).print(shown, soft_wrap=True)


def _attempt(job: Job, attempt: Attempt) -> tuple[str, ...]:
    under_way = attempt.ending is None
    error = f"{attempt.error.type}: {first_line(attempt.error.message, 100)}" if attempt.error else ""
    return (
        str(attempt.number),
        clock(attempt.claimed_at),
        clock(attempt.started_at),
        duration(attempt.wait_s),
        _run(job) if under_way else duration(attempt.run_s),
        attempt.ending or ("claimed" if attempt.started_at is None else "running"),
        attempt.worker,
        error,
    )


def requeue(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="The id of one failed job.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Requeue all dead letters that match.")] = False,
    task: TaskFilter = None,
    priority: PriorityFilter = None,
    since: Since = None,
    worker: WorkerFilter = None,
    q: Text = None,
    where: Where = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the dead letters that match.")] = False,
    json: Json = False,
) -> None:
    """Put one failed job, or all that match, back into their lanes."""
    if dead == (id is not None):
        raise typer.BadParameter("give either the ID of one job or --dead")
    if id is not None:
        if task or priority or since or worker or q or where or dry_run:
            raise typer.BadParameter("filters and --dry-run go with --dead")
        found = _ask(lambda queue: queue.control.ask(REQUEUE, JobRequest(id=id)))
        if json:
            as_json(job_record(found))
        else:
            print(f"{found.id} {found.status}")
        return
    given: BulkCall = {"task": task, "priority": priority, "since": since, "worker": worker, "q": q}
    given |= {"where": where_of(where), "all": True, "dry_run": dry_run}
    done = _ask(lambda queue: queue.requeue_many(**given))
    if json:
        as_json(Requeued(matched=done.matched, requeued=done.changed))
    elif dry_run:
        print(f"{done.matched} dead letters match")
    else:
        print(f"{done.changed} of {done.matched} dead letters requeued")
    if not dry_run and done.changed < done.matched:
        raise JobConflict(
            f"{done.matched - done.changed} were not requeued: others requeued them first, or they were deleted; or "
            "they are unique and another job has their key: `dtqkit requeue ID` names it, to wait for or cancel"
        )
