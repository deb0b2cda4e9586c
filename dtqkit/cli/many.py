"""`dtqkit cancel`, `update`, `delete`: change one job, or all that match a filter."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from dtqkit.cli.jobs import Json, PriorityFilter, Since, TaskFilter, Text, WorkerFilter
from dtqkit.cli.show import as_json, job_record, on_terminal
from dtqkit.cli.submit_options import seconds
from dtqkit.cli.where import Where, where_of
from dtqkit.client.queue import TaskQueue
from dtqkit.control.bulk import Bulk
from dtqkit.model.errors import JobConflict
from dtqkit.model.jobs import Job, Priority, Status

OneId = Annotated[str | None, typer.Argument(metavar="ID", help="The id of one job; or give filters.")]
StatusFilter = Annotated[Status | None, typer.Option(help="Only jobs in this status.")]
All = Annotated[bool, typer.Option("--all", help="All jobs, where no filter is given.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the jobs that match.")]


def cancel(
    id: OneId = None,
    status: StatusFilter = None,
    task: TaskFilter = None,
    priority: PriorityFilter = None,
    worker: WorkerFilter = None,
    since: Since = None,
    q: Text = None,
    where: Where = None,
    all: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Cancel one job, or all that match: waiting ones at once, running ones within two heartbeats.

    Fails when the one job is over.
    """
    filters = _filters(id, status=status, task=task, priority=priority, worker=worker, since=since, q=q, where=where)
    _check(id, filters, all=all, dry_run=dry_run)
    with TaskQueue() as queue:
        if id is not None:
            job = queue.get(id).cancel().record
            _one(job, "was asked to stop" if job.status == "running" else job.status, json=json)
            return
        done = queue.cancel_many(**filters, all=all, dry_run=dry_run, progress=_progress("cancelled"))
    running = f", of which {done.stopping:,} were running and are asked to stop" if done.stopping else ""
    text = f"{done.changed:,} of {done.matched:,} jobs cancelled{running}"
    _print_done(done, text, "their status was another by then", dry_run=dry_run, json=json)


def update(
    id: OneId = None,
    to_priority: Annotated[Priority | None, typer.Option(help="Move to this lane.")] = None,
    to_delay: Annotated[
        float | None,
        typer.Option(
            parser=seconds, metavar="SECONDS", help="Start not before then: 600 from now, or 10m; 0: at once."
        ),
    ] = None,
    to_tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Have this tag, instead of those before; several times.")
    ] = None,
    to_payload: Annotated[
        str | None, typer.Option(metavar="JSON", help="Of one job: have this payload, checked as a new one.")
    ] = None,
    status: StatusFilter = None,
    task: TaskFilter = None,
    priority: PriorityFilter = None,
    worker: WorkerFilter = None,
    since: Since = None,
    q: Text = None,
    where: Where = None,
    all: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Change one waiting job, or all waiting jobs that match. Fails when the one job runs or is over."""
    filters = _filters(id, status=status, task=task, priority=priority, worker=worker, since=since, q=q, where=where)
    _check(id, filters, all=all, dry_run=dry_run)
    if to_payload is not None and id is None:
        raise typer.BadParameter("--to-payload goes with the ID of one job")
    given: dict[str, Any] = {"priority": to_priority, "delay_s": to_delay, "tags": to_tag}
    changes: Any = {name: value for name, value in given.items() if value is not None}
    with TaskQueue() as queue:
        if id is not None:
            payload = None if to_payload is None else _payload(to_payload)
            job = queue.get(id).update(payload=payload, **changes).record
            _one(job, f"changed, {job.status} in lane {job.priority}", json=json)
            return
        done = queue.update_many(changes, **filters, all=all, dry_run=dry_run, progress=_progress("changed"))
    text = f"{done.changed:,} of {done.matched:,} jobs changed"
    why = "they waited no more by then, or would expire before the delay ends: give a shorter one, or submit them again"
    _print_done(done, text, why, dry_run=dry_run, json=json)


def delete(
    status: StatusFilter = None,
    task: TaskFilter = None,
    priority: PriorityFilter = None,
    worker: WorkerFilter = None,
    since: Since = None,
    q: Text = None,
    where: Where = None,
    all: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Delete all jobs that match and are over."""
    filters = _filters(None, status=status, task=task, priority=priority, worker=worker, since=since, q=q, where=where)
    with TaskQueue() as queue:
        done = queue.delete_many(**filters, all=all, dry_run=dry_run, progress=_progress("deleted"))
    text = f"{done.changed:,} of {done.matched:,} jobs deleted"
    why = (
        "others deleted or requeued them first; or they are unique and kept until their window is over, or a job that "
        "follows them is not submitted yet: delete them later"
    )
    _print_done(done, text, why, dry_run=dry_run, json=json)


def _payload(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise typer.BadParameter(f"--to-payload is not a JSON object: {error}") from None


def _filters(id: str | None, *, where: list[str] | None, **given: Any) -> Any:
    filters = {name: value for name, value in {**given, "where": where_of(where)}.items() if value is not None}
    if id is not None and filters:
        raise typer.BadParameter(f"give either the ID of one job or filters (--{min(filters)})")
    return filters


def _check(id: str | None, filters: Any, *, all: bool, dry_run: bool) -> None:
    if id is not None and (all or dry_run):
        raise typer.BadParameter("--all and --dry-run go with filters, not with an ID")
    if id is None and not filters and not all:
        raise typer.BadParameter("give the ID of one job, or filters, or --all")


def _progress(done: str) -> Any:
    """A line on a terminal while there is more to do."""
    if not on_terminal():
        return None

    def show(bulk: Bulk) -> None:
        if bulk.cursor is not None:
            typer.echo(f"{bulk.changed:,} {done} so far", err=True)

    return show


def _one(job: Job, what: str, *, json: bool) -> None:
    as_json(job_record(job)) if json else print(f"{job.id} {what}")


def _print_done(done: Bulk, text: str, why: str, *, dry_run: bool, json: bool) -> None:
    if json:
        as_json(done)
    else:
        print(f"{done.matched:,} jobs match" if dry_run else text)
    if not dry_run and done.changed < done.matched:
        raise JobConflict(f"{done.matched - done.changed:,} were not changed: {why}")
