"""`dtqkit schedules …`: show schedules, make, pause, run and remove them, and apply those that an APP declares."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any, Final

import msgspec
import typer

from dtqkit.cli.app import App, load_app
from dtqkit.cli.show import as_json, clock, job_record, say, table
from dtqkit.cli.submit_options import seconds
from dtqkit.client.queue import TaskQueue
from dtqkit.client.schedules import check_named
from dtqkit.control import JobsRequest
from dtqkit.control.operations import STATUSES
from dtqkit.control.schedule_operations import REMOVE_SCHEDULE, SCHEDULE
from dtqkit.control.schedules import ScheduleRequest
from dtqkit.model.schedule_changes import check, span_s
from dtqkit.model.schedule_errors import UnknownZone
from dtqkit.model.schedules import CatchUpRuns, Definition, Overlap, Schedule, next_run
from dtqkit.model.timing import zone

app: Final = typer.Typer(add_completion=False, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def schedules(context: typer.Context, json: Json = False) -> None:
    """Show schedules; or make, pause, run and remove one."""
    if context.invoked_subcommand is None:
        _list(json=json)


@app.command("list")
def list_all(json: Json = False) -> None:
    """Show schedules, as the command without a subcommand does."""
    _list(json=json)


def _list(*, json: bool) -> None:
    with TaskQueue() as queue:
        found = [handle.record for handle in queue.schedules()]
        ended = {} if json else _ends(queue, found)
    if json:
        as_json(found)
    elif not found:
        print("no schedules")
    else:
        columns = ("name", "when", "next", "last", "enqueued", "missed", "skipped", "by hand", "task", "state")
        rows = [_row(record, ended.get(record.last_job or "")) for record in found]
        counts = ("enqueued", "missed", "skipped", "by hand")
        table(columns, rows, right=counts, spare=("by hand", "skipped", "last", "enqueued", "task"))


def _ends(queue: TaskQueue, records: Sequence[Schedule]) -> dict[str, str]:
    """The statuses of the last jobs, by id, by one look; of those that are still there."""
    last = [record.last_job for record in records if record.last_job is not None]
    found = queue.run(queue.core.control.ask(STATUSES, JobsRequest(ids=last))) if last else ()
    return {one.id: one.status for one in found}


def _row(record: Schedule, ended: str | None) -> tuple[str, ...]:
    counts = [str(n) for n in (record.enqueued, record.missed, record.skipped, record.by_hand)]
    return (
        record.name,
        _when(record),
        _next(record),
        _at(record.last_at, record),
        *counts,
        record.task,
        _state(record) or ("last run failed" if ended == "failed" else ""),
    )


def _at(when: datetime | None, record: Schedule) -> str:
    """In the zone of the schedule, with its offset from UTC."""
    return "" if when is None else when.astimezone(_zone(record)).strftime("%Y-%m-%d %H:%M:%S %z")


def _zone(record: Schedule) -> tzinfo:
    """UTC for a zone that is not known here."""
    try:
        return zone(record.tz)
    except UnknownZone:
        return UTC


def _next(record: Schedule) -> str:
    return "paused" if record.paused is not None else _at(next_run(record), record) or "none"


def _when(record: Schedule) -> str:
    return f"every {record.every_s:g} s" if record.cron is None else f"{record.cron} {record.tz}"


def _state(record: Schedule) -> str:
    if record.paused is not None:
        return f"paused: {record.paused.reason}" if record.paused.reason else "paused"
    if record.trouble:
        return record.trouble
    return "waits for the run before" if record.held_at is not None else ""


@app.command()
def show(
    name: Name,
    count: Annotated[int, typer.Option(min=1, max=200, metavar="N", help="How many next times and last jobs.")] = 5,
    json: Json = False,
) -> None:
    """Show one with its next times and its last jobs."""
    with TaskQueue() as queue:
        handle = queue.schedule_of(name)
        times, jobs = handle.next_runs(count), handle.runs(count)
    if json:
        as_json({"schedule": handle.record, "next": times, "runs": [job_record(job) for job in jobs]})
        return
    _print(handle.record)
    print("next:" if handle.record.paused is None else "next: none while it is paused; if it were not:")
    for at in times:
        print(f"  {_at(at, handle.record)}")
    if jobs:
        rows = [(job.id, _at(job.scheduled_for, handle.record), job.status, clock(job.created_at)) for job in jobs]
        table(("job", "scheduled for", "status", "enqueued"), rows)


def _print(record: Schedule) -> None:
    lines: dict[str, Any] = {
        "name": record.name,
        "task": f"{record.task} {msgspec.json.encode(record.payload).decode()}",
        "when": _when(record),
        "overlap": record.overlap,
        "catch up": f"{record.catch_up_runs} of {record.catch_up_s:g} s",
        "jitter": f"{record.jitter_s:g} s" if record.jitter_s else "",
        "declared by": record.declared.app if record.declared is not None else "",
        "counts": f"{record.enqueued} enqueued, {record.missed} missed, {record.skipped} skipped",
        "by hand": f"{record.by_hand} jobs, by run and backfill" if record.by_hand else "",
        "state": _state(record),
    }
    for what, text in lines.items():
        if text:
            say(f"{what + ':':<13}{text}")


@app.command()
def add(
    name: Name,
    task: Annotated[str, typer.Argument(metavar="TASK", help="The name of a task that workers have published.")],
    cron: Annotated[str | None, typer.Option(metavar="CRON", help="Five fields, as in '0 3 * * 1-5'.")] = None,
    every: Annotated[
        float | None, typer.Option(parser=seconds, metavar="SECONDS", help="The time between two runs.")
    ] = None,
    tz: Annotated[str, typer.Option(metavar="ZONE", help="The time zone of --cron.")] = "UTC",
    payload: Annotated[str, typer.Option(metavar="JSON", help="The task's arguments, as a JSON object.")] = "{}",
    overlap: Annotated[Overlap, typer.Option(help="When a run is due and the one before is not over.")] = "allow",
    catch_up: Annotated[str, typer.Option(metavar="AGE", help="Late runs that are made up for: 90s, 1h, 2d.")] = "1h",
    catch_up_runs: Annotated[CatchUpRuns, typer.Option(help="Which of the late runs.")] = "last",
    jitter: Annotated[float, typer.Option(parser=seconds, metavar="SECONDS", help="Start up to so much later.")] = 0.0,
    json: Json = False,
) -> None:
    """Make a schedule, or change the one of this name."""
    try:
        arguments = msgspec.json.decode(payload, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise typer.BadParameter(f"it is no JSON object: {error}", param_hint="'--payload'") from None
    wanted = Definition(
        name=name,
        task=task,
        payload=arguments,
        cron=cron,
        tz=tz,
        every_s=every,
        overlap=overlap,
        catch_up_s=span_s("catch_up", catch_up),
        catch_up_runs=catch_up_runs,
        jitter_s=jitter,
    )
    check(wanted)
    with TaskQueue() as queue:
        record = queue.run(queue.core.control.ask(SCHEDULE, wanted))
    _done(record, f"{name}: {_state(record) if record.paused else f'next at {_next(record)}'}", json=json)


@app.command()
def pause(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", "-r", metavar="TEXT", help="Why; shown with the schedule.")] = "",
    json: Json = False,
) -> None:
    """Pause one: what is due meanwhile is skipped."""
    with TaskQueue() as queue:
        record = queue.schedule_of(name).pause(reason).record
    _done(record, f"{name} is paused", json=json)


@app.command()
def resume(name: Name, json: Json = False) -> None:
    """Resume a paused one."""
    with TaskQueue() as queue:
        record = queue.schedule_of(name).resume().record
    _done(record, f"{name} is not paused any more: next at {_next(record)}", json=json)


@app.command()
def run(name: Name, json: Json = False) -> None:
    """Enqueue a job of one now, and print its id."""
    with TaskQueue() as queue:
        handle = queue.schedule_of(name).run_now()
    job = handle.asynchronous.known
    if handle.was_duplicate:
        until = job.uniqueness.partition(", key ")[0]
        say(f"dtqkit: there already, no new job: {job.id} has the unique key {job.unique_key!r} {until}", error=True)
    if json:
        as_json(job_record(job))
    else:
        print(job.id)


@app.command()
def backfill(
    name: Name,
    start: Annotated[str, typer.Option(metavar="TIME", help="The first time, as 2026-01-31T08:00+01:00.")],
    end: Annotated[str, typer.Option(metavar="TIME", help="The end; it is not included.")],
    json: Json = False,
) -> None:
    """Enqueue a job for each past time that has none. Times without an offset are those of the schedule's zone."""
    begin, until = _time("--start", start), _time("--end", end)
    with TaskQueue() as queue:
        handle = queue.schedule_of(name)
        there = zone(handle.record.tz)
        begin, until = (when if when.tzinfo else when.replace(tzinfo=there) for when in (begin, until))
        found = handle.backfill(begin, until)
    if json:
        as_json(found)
    else:
        skipped = f", {found.skipped} skipped, as another unique job has the key" if found.skipped else ""
        print(f"{found.times} times: {found.enqueued} jobs enqueued, {found.found} had one already{skipped}")


def _time(option: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text[:80]!r} is no time; it is written as 2026-01-31T08:00", param_hint=f"'{option}'"
        ) from None


@app.command()
def remove(name: Name, json: Json = False) -> None:
    """Remove one; its jobs stay."""
    with TaskQueue() as queue:
        # Without a look at it: one that cannot be read can be removed too.
        record = queue.run(queue.core.control.ask(REMOVE_SCHEDULE, ScheduleRequest(name=check_named(name))))
    _done(record, f"{name} is removed", json=json)


@app.command()
def apply(
    app: App,
    prune: Annotated[bool, typer.Option("--prune", help="Remove those that APP does not declare any more.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also put back a definition that a newer one has replaced.")
    ] = False,
    json: Json = False,
) -> None:
    """Put the schedules that APP declares into the record, as its workers do when they start.

    The exit status is 1 when some of them are refused.
    """
    queue = load_app(app)
    with queue:
        done = queue.apply_schedules(prune=prune, force=force)
    if json:
        as_json(done)
    else:
        for what in ("made", "changed", "unchanged", "older", "removed"):
            if names := getattr(done, what):
                print(f"{what}: {', '.join(names)}")
        if not any(getattr(done, field) for field in done.__struct_fields__):
            print(f"{app} declares no schedules")
    for why in done.refused.values():
        say(f"dtqkit: {why}", error=True)
    if done.refused:
        raise typer.Exit(1)


def _done(record: Schedule, text: str, *, json: bool) -> None:
    if json:
        as_json(record)
    else:
        say(text)
