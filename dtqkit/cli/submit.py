"""`dtqkit submit`: one job, from a shell."""

from __future__ import annotations

import asyncio
from datetime import datetime
from json import JSONDecodeError, loads
from typing import Any, Final

import msgspec
import typer

from dtqkit.cli.app import App, load_app
from dtqkit.cli.show import as_json, first_line, job_record, say
from dtqkit.cli.submit_options import (
    Arguments,
    AsJson,
    At,
    Attempts,
    Debounce,
    DebounceMax,
    Delay,
    Duplicate,
    Expires,
    Follower,
    Key,
    Lane,
    Payload,
    Tags,
    TaskName,
    Timeout,
    Unique,
    UniqueFor,
    UniqueKey,
    Wait,
)
from dtqkit.client.aio import AsyncTaskQueue
from dtqkit.client.async_handle import AsyncJobHandle
from dtqkit.client.ended import failure_of
from dtqkit.client.late import NO_WORKERS
from dtqkit.model.errors import DtqError, InvalidOption, JobFailed
from dtqkit.model.jobs import Job, JobError
from dtqkit.model.values import FLOAT
from dtqkit.support.cancel import end
from dtqkit.support.sanitize import log_safely
from dtqkit.tasks.options import CallOptions
from dtqkit.tasks.task import Call, Task
from dtqkit.tasks.unique import unique_of

#: How often --wait checks why no worker takes the job, in seconds.
EXPLAIN_S: Final = 2.0

#: The options of this command, by the first words of an error about the matching option of a call.
_OPTIONS: Final = {
    "delay_s": "--delay",
    "starts_at": "--at",
    "max_attempts": "--max-attempts",
    "timeout_s": "--timeout",
    "expires_s": "--expires",
    "idempotency_key": "--key",
    "tags": "--tag",
    "on_failure": "--on-failure",
    "on_success": "--on-success",
    "unique": "--unique",
    "unique_for_s": "--unique-for",
    "unique_key": "--unique-key",
    "on_duplicate": "--on-duplicate",
    "debounce_s": "--debounce",
    "debounce_max_s": "--debounce-max",
}


def submit(
    app: App,
    task: TaskName,
    arguments: Arguments = None,
    payload: Payload = None,
    priority: Lane = None,
    delay: Delay = 0.0,
    at: At = None,
    max_attempts: Attempts = None,
    timeout: Timeout = None,
    expires: Expires = None,
    key: Key = None,
    on_failure: Follower = None,
    on_success: Follower = None,
    tag: Tags = None,
    unique: Unique = None,
    unique_for: UniqueFor = None,
    unique_key: UniqueKey = None,
    on_duplicate: Duplicate = None,
    debounce: Debounce = None,
    debounce_max: DebounceMax = None,
    wait: Wait = False,
    json: AsJson = False,
) -> None:
    """Submit a job and print its id; with --wait, its result.

    With --wait, the exit status is 1 when the job fails.
    """
    queue = load_app(app)
    # For the warning on stderr that Redis is unreachable, so that the job is safe but does not run yet.
    log_safely("%(name)s: %(message)s")
    known = queue.registry.get(task)
    options = _options(
        known,
        priority=priority,
        delay_s=delay,
        starts_at=_moment(at),
        max_attempts=max_attempts,
        timeout_s=timeout,
        expires_s=expires,
        idempotency_key=key,
        tags=tuple(tag or ()),
        on_failure=on_failure,
        on_success=on_success,
        unique=unique,
        unique_for_s=unique_for,
        unique_key=unique_key,
        on_duplicate=on_duplicate,
        debounce_s=debounce,
        debounce_max_s=debounce_max,
    )
    call: Call[Any] = Call(known, known.check_payload(_payload(known, payload, arguments or [])), options)
    with queue:
        handle = queue.submit_call(call).asynchronous
        if handle.was_duplicate:
            say(f"dtqkit: no new job: {handle.id} has the unique key {handle.known.unique_key!r}", error=True)
        if wait:
            queue.run(_over(handle, queue.core))
    _print(handle.known, json=json, waited=wait)


def _print(job: Job, *, json: bool, waited: bool) -> None:
    if json:
        as_json(job_record(job))
    elif not waited:
        print(job.id)
    elif job.status == "completed":
        as_json(job.result)
    if waited and job.status != "completed":
        raise _why(job)


async def _over(handle: AsyncJobHandle[Any], queue: AsyncTaskQueue) -> None:
    """Wait until the job is over. While no worker takes it, print the reason on standard error."""
    explaining = asyncio.create_task(_explain(handle, queue), name="explain the wait")
    try:
        await handle.over()
    finally:
        await end(explaining)


async def _explain(handle: AsyncJobHandle[Any], queue: AsyncTaskQueue) -> None:
    printed = ""
    while True:
        await asyncio.sleep(EXPLAIN_S)
        try:
            why = await queue.why_waiting([await handle.refresh()])
        except DtqError:
            continue  # the wait itself continues, and logs which store is unreachable
        if why and why != printed:
            until = "one starts" if why == NO_WORKERS else "one does"
            say(f"dtqkit: {why}; the job waits until {until}", error=True)
        printed = why


def _moment(text: str | None) -> datetime | None:
    """A time with its offset from UTC. Raises BadParameter."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        what = "no time" if moment is None else "a time without its offset from UTC"
        raise typer.BadParameter(f"{text[:80]!r} is {what}; write 2026-12-31T23:30+01:00", param_hint="'--at'")
    return moment


def _options(task: Task[..., Any], **given: Any) -> CallOptions:
    """Checked, also beside the task's own; BadParameter names the option as it was typed."""
    try:
        options = CallOptions(**given)
        unique_of(options, task.defaults)
    except InvalidOption as error:
        name, _, what = str(error).partition(" is ")
        raise typer.BadParameter(what, param_hint=f"'{_OPTIONS[name.partition('[')[0]]}'") from None
    return options


def _payload(task: Task[..., Any], text: str | None, arguments: list[str]) -> dict[str, Any]:
    if text is not None:
        if arguments:
            raise typer.BadParameter("give the arguments either as KEY=VALUE or as --payload, not both")
        return _json_object(text)
    payload: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key in payload:
            what = "repeats a key" if equals else "is not KEY=VALUE"
            raise typer.BadParameter(f"{argument[:80]!r} {what}", param_hint="'KEY=VALUE'")
        payload[key] = _value(task, key, value)
    return payload


def _json_object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.ValidationError:
        why = 'it is JSON, but not an object, as in {"page": 3}'
    except (msgspec.DecodeError, UnicodeError) as error:
        why = f"it is not JSON: {_place_of(text) or error}"
    raise typer.BadParameter(why, param_hint="'--payload'")


def _place_of(text: str) -> str:
    """The first error in it and its place, by the standard library; "" when that library accepts it."""
    try:
        loads(text)
    except JSONDecodeError as error:
        here = repr(text[error.pos :][:20]) if text[error.pos :] else "the end"
        return f"{error.msg} at character {error.pos + 1} ({here})"
    return ""


def _value(task: Task[..., Any], key: str, text: str) -> Any:
    """Decoded if it is JSON, else as text; always text where the task takes a string."""
    kind = task.info.schema["properties"].get(key, {}).get("type")
    if kind == "string":
        return text
    if kind == "number" and text in ("nan", "inf", "-inf"):
        return {FLOAT: text}
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return text


def _why(job: Job) -> DtqError:
    """The error in one line; the record has the traceback."""
    if job.status == "cancelled" and (why := failure_of(job)) is not None:
        return why
    error = job.error or JobError("exception", "Unknown", "the record has no error")
    return JobFailed(job.id, job.task, error.type, first_line(error.message), attempt=job.attempt)
