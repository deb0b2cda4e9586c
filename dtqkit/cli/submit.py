"""`dtqkit submit`: one job, from a shell."""

from __future__ import annotations

import asyncio
from datetime import datetime
from json import JSONDecodeError, loads
from typing import Any, Final

import msgspec
import typer

from dtqkit.cli.app import App, load_app
from dtqkit.cli.pause import resume_command
from dtqkit.cli.show import as_json, clock, first_line, job_record, say
from dtqkit.cli.submit_options import (
    Arguments,
    AsJson,
    At,
    Attempts,
    Backoff,
    BackoffBase,
    BackoffMax,
    Debounce,
    DebounceMax,
    Delay,
    Duplicate,
    Expires,
    Key,
    Lane,
    OnFailure,
    OnSuccess,
    Payload,
    Tags,
    TaskName,
    Timeout,
    Unique,
    UniqueBy,
    UniqueFor,
    UniqueKey,
    Wait,
    WaitTimeout,
)
from dtqkit.client.aio import AsyncTaskQueue
from dtqkit.client.async_handle import AsyncJobHandle
from dtqkit.client.ended import failure_of
from dtqkit.client.late import NO_WORKERS
from dtqkit.client.queue import TaskQueue
from dtqkit.control.pauses import PAUSES, PausesRequest
from dtqkit.model.errors import DtqError, InvalidOption, JobFailed
from dtqkit.model.jobs import Job, JobError
from dtqkit.model.pauses import Pauses
from dtqkit.model.values import FLOAT
from dtqkit.support.cancel import end
from dtqkit.support.sanitize import log_safely
from dtqkit.tasks import unique as uniqueness
from dtqkit.tasks.options import CallOptions
from dtqkit.tasks.task import Call, Task
from dtqkit.tasks.unique import check_by, unique_of

#: How often --wait checks why no worker takes the job, in seconds.
EXPLAIN_S: Final = 2.0

#: The options of this command, by the first words of an error about the matching option of a call.
_OPTIONS: Final = {
    "delay_s": "--delay",
    "starts_at": "--at",
    "max_attempts": "--max-attempts",
    "timeout_s": "--timeout",
    "expires_s": "--expires",
    "backoff": "--backoff",
    "backoff_s": "--backoff-base",
    "backoff_max_s": "--backoff-max",
    "idempotency_key": "--key",
    "tags": "--tag",
    "on_failure": "--on-failure",
    "on_success": "--on-success",
    "unique": "--unique",
    "unique_for_s": "--unique-for",
    "unique_key": "--unique-key",
    "unique_by": "--unique-by",
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
    backoff: Backoff = None,
    backoff_base: BackoffBase = None,
    backoff_max: BackoffMax = None,
    key: Key = None,
    on_failure: OnFailure = None,
    on_success: OnSuccess = None,
    tag: Tags = None,
    unique: Unique = None,
    unique_for: UniqueFor = None,
    unique_key: UniqueKey = None,
    unique_by: UniqueBy = None,
    on_duplicate: Duplicate = None,
    debounce: Debounce = None,
    debounce_max: DebounceMax = None,
    wait: Wait = False,
    wait_timeout: WaitTimeout = None,
    json: AsJson = False,
) -> None:
    """Submit a job and print its id; with --wait, its result.

    With --wait, the exit status is 1 when the job fails, and when it is not over after --wait-timeout: it goes on then.
    """
    _check_bound(wait_timeout, wait=wait)
    queue = load_app(app)
    known = queue.registry.get(task)
    options = _options(
        known,
        priority=priority,
        delay_s=delay,
        starts_at=_moment(at),
        max_attempts=max_attempts,
        timeout_s=timeout,
        expires_s=expires,
        backoff=_backoff(backoff),
        backoff_s=backoff_base,
        backoff_max_s=backoff_max,
        idempotency_key=key,
        tags=tuple(tag or ()),
        on_failure=on_failure,
        on_success=on_success,
        unique=unique,
        unique_for_s=unique_for,
        unique_key=unique_key,
        unique_by=tuple(unique_by) if unique_by else None,
        on_duplicate=on_duplicate,
        debounce_s=debounce,
        debounce_max_s=debounce_max,
    )
    call: Call[Any] = Call(known, known.check_payload(_payload(known, payload, arguments or [])), options)
    _print(_submitted(queue, call, wait=wait, timeout=wait_timeout), json=json, waited=wait)


def _submitted(queue: TaskQueue, call: Call[Any], *, wait: bool, timeout: float | None) -> Job:
    # For the warning on stderr that Redis is unreachable, so that the job is safe but does not run yet.
    log_safely("%(name)s: %(message)s")
    with queue:
        handle = queue.submit_call(call).asynchronous
        if handle.was_duplicate and (how := unique_of(call.options, call.task.defaults)) is not None:
            say(f"dtqkit: {_what_happened(handle.known, how)}", error=True)
        if wait:
            queue.run(_over(handle, queue.core, timeout))
    return handle.known


def _what_happened(job: Job, how: uniqueness.Unique) -> str:
    """To a submit that has found this job."""
    if how.debounce_s is not None:
        latest = "" if how.debounce_max_s is None else f", at most {how.debounce_max_s:g} s after the first one"
        return (
            f"debounced, no new job: {job.id} has these arguments now, and starts at {clock(job.due_at)}, "
            f"{how.debounce_s:g} s after the last submit{latest}"
        )
    if how.on_duplicate == "replace":
        return f"replaced, no new job: {job.id}, which waits, has these arguments and options now"
    if job.unique == "window":
        until = clock(job.unique_until)
        return f"throttled, no new job: {job.id} has the unique key {job.unique_key!r} until {until}"
    until = "it starts" if job.unique == "waiting" else "it is over"
    return f"duplicate, no new job: {job.id} has the unique key {job.unique_key!r} until {until}"


def _print(job: Job, *, json: bool, waited: bool) -> None:
    if json:
        as_json(job_record(job))
    elif not waited:
        print(job.id)
    elif job.status == "completed":
        as_json(job.result)
    if waited and job.status != "completed":
        raise _why(job)


def _check_bound(seconds: float | None, *, wait: bool) -> None:
    """Raises BadParameter."""
    if seconds is None:
        return
    if not wait:
        raise typer.BadParameter("it bounds the wait of --wait: give both", param_hint="'--wait-timeout'")
    if not 0 <= seconds < float("inf"):
        raise typer.BadParameter(
            f"{seconds:g} is no time to wait; it is 0 or more seconds", param_hint="'--wait-timeout'"
        )


async def _over(handle: AsyncJobHandle[Any], queue: AsyncTaskQueue, timeout: float | None) -> None:
    """Wait until the job is over; raises WaitTimeout. While no worker takes it, print the reason on standard error."""
    cure = "" if timeout is not None else "; Ctrl-C leaves it waiting, and --wait-timeout bounds this wait"
    explaining = asyncio.create_task(_explain(handle, queue, cure), name="explain the wait")
    try:
        await handle.over(timeout)
    finally:
        await end(explaining)


async def _explain(handle: AsyncJobHandle[Any], queue: AsyncTaskQueue, cure: str) -> None:
    printed = ""
    while True:
        await asyncio.sleep(EXPLAIN_S)
        try:
            job = (await handle.refresh()).known
            why = await queue.why_waiting([job])
            pauses = await queue.control.ask(PAUSES, PausesRequest(counted=False)) if why and why != printed else ()
        except DtqError:
            continue  # the wait itself continues, and logs which store is unreachable
        if why and why != printed:
            until = "one starts" if why == NO_WORKERS else "one does"
            if (pause := Pauses(pauses=pauses).of(job)) is not None:
                until = f"it is resumed: `{resume_command(pause)}`"
            say(f"dtqkit: {why}; the job waits until {until}{cure}", error=True)
            cure = ""
        printed = why


def _backoff(text: str | None) -> str | tuple[float, ...] | None:
    """`linear` as it is, `1,5,60` as delays."""
    if text is None:
        return None
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        return text


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
        if options.unique_by is not None:
            check_by(task.name, options.unique_by, task.schema)
    except InvalidOption as error:
        name, _, what = str(error).partition(" ")
        option = _OPTIONS[name.partition("[")[0]]
        raise typer.BadParameter(what.removeprefix("is "), param_hint=f"'{option}'") from None
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
