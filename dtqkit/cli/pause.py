"""`dtqkit pause`, `resume`, `pauses`: hold jobs back, let them go, show what is held."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import typer

from dtqkit.cli.show import as_json, clock, say, table
from dtqkit.cli.where import Where, where_of
from dtqkit.client.queue import TaskQueue
from dtqkit.control.queries import parse_since
from dtqkit.model.errors import InvalidQuery
from dtqkit.model.jobs import Priority
from dtqkit.model.pauses import Pause

Lane = Annotated[Priority | None, typer.Option(help="This lane.")]
TaskName = Annotated[str | None, typer.Option(metavar="TASK", help="This task.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def pause(
    lane: Lane = None,
    task: TaskName = None,
    where: Where = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="End by itself: in 90s, 15m, 24h, 7d, or at a time (UTC).")
    ] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why: shown wherever the pause is.")] = "",
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Also a task that no worker has published.")
    ] = False,
    json: Json = False,
) -> None:
    """Start no job of a lane, of a task, or of a task with certain values, until it is resumed.

    In force within two heartbeats. Jobs that run go on.
    """
    ends = None if until is None else _time(until)
    with TaskQueue() as queue:
        made = queue.pause(
            lane=lane, task=task, where=where_of(where), until=ends, reason=reason, allow_unknown=allow_unknown
        )
    as_json(made) if json else say(made.sentence())


def resume(lane: Lane = None, task: TaskName = None, where: Where = None, json: Json = False) -> None:
    """End the pause that was begun with the same options."""
    with TaskQueue() as queue:
        ended = queue.resume(lane=lane, task=task, where=where_of(where))
    as_json(ended) if json else say(f"{ended} is not paused any more")


def resume_command(pause: Pause) -> str:
    """The command that ends it."""
    parts = ["dtqkit", "resume"]
    for option in ("lane", "task"):
        if (name := getattr(pause, option)) is not None:
            parts += [f"--{option}", name]
    for name, value in pause.where.items():
        parts += ["--where", f"{name}={msgspec.json.encode(value).decode()}"]
    return shlex.join(parts)


def pauses(json: Json = False) -> None:
    """Show what is paused, and how many jobs wait because of it."""
    with TaskQueue() as queue:
        found = queue.pauses()
    if json:
        as_json(found)
        return
    if not found:
        print("nothing is paused")
        return
    rows = [
        (
            str(one),
            "?" if one.waiting is None else str(one.waiting),
            clock(one.paused_at),
            clock(one.until) or "resumed",
            one.reason,
        )
        for one in found
    ]
    table(("paused", "waiting", "since", "until", "reason"), rows, right=("waiting",))


def _time(text: str) -> datetime:
    """From now on, or at a time in ISO 8601."""
    now = datetime.now(UTC)
    try:
        when = parse_since(text, now)
    except InvalidQuery:
        raise typer.BadParameter(
            f"--until is {text!r}; it is 90s, 15m, 24h or 7d from now, or a time such as 2026-01-31T08:00"
        ) from None
    ago = now - when
    return now + ago if text[-1:] in "smhd" and ago >= timedelta(0) else when
