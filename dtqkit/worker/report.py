"""How the end of a task's call becomes an outcome: the same in the worker, in its threads and in its children."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from dtqkit.model.errors import InvalidPayload, InvalidResult, TaskDefinitionError, TaskTimeout, UnknownTask, WrongLoop
from dtqkit.model.jobs import ErrorKind, JobError
from dtqkit.model.values import as_result
from dtqkit.model.verdicts import RetryAfter, Snooze
from dtqkit.tasks.options import TaskOptions
from dtqkit.tasks.retrying import why_final
from dtqkit.worker.context import shortened

_PACKAGE: Final = f"{Path(__file__).parents[1]}/"
_DEMO: Final = f"{_PACKAGE}demo.py"

#: The rules of a task that sets none.
NO_RULES: Final = TaskOptions()
_WITHOUT_TRACEBACK: Final = frozenset({"invalid_result", "invalid_payload", "unknown_task", "snoozed"})
#: Characters of a traceback that are kept, from its end.
MAX_TRACEBACK: Final = 16_000


class TaskStopped(BaseException):
    """Raised inside a task whose job is cancelled, or whose worker stops. Not to be caught but by `finally`."""


def checked_result(value: object, max_bytes: int) -> object:
    """`value` as a JSON value; InvalidResult, which names the part, when it cannot be recorded."""
    if value is None or value is True or value is False:
        return value
    result = as_result(value)
    size = len(msgspec.json.encode(result))
    if size > max_bytes:
        detail = (
            f"a {type(value).__name__} of {size:,} bytes as JSON, and {max_bytes:,} are allowed "
            "(DTQ_MAX_RESULT): keep large data in a file or a database and return its address"
        )
        raise InvalidResult("$", detail)
    return result


def elapsed_ms(since: float) -> float:
    """Milliseconds since a `time.monotonic()`, to a tenth: finer is noise, and equal ends can share one write."""
    return round((time.monotonic() - since) * 1000, 1)


def error_of(error: BaseException, rules: TaskOptions = NO_RULES) -> JobError:
    """What is recorded of an exception that a task with these rules raised; the traceback has no frames of ours."""
    kind: ErrorKind = "exception"
    match error:
        case TaskTimeout():
            kind = "timeout"
        case InvalidPayload():
            kind = "invalid_payload"
        case InvalidResult():
            kind = "invalid_result"
        case UnknownTask():
            kind = "unknown_task"
        case WrongLoop() | TaskDefinitionError():
            kind = "wrong_use"
        case Snooze():
            kind = "snoozed"
        case _:
            pass
    return JobError(
        kind,
        _shown("name", lambda: type(error).__name__),
        _shown("message", lambda: str(error)),
        "" if kind in _WITHOUT_TRACEBACK else traceback_of(error),
        _shown("module", lambda: type(error).__module__),
        final_by(rules, error) if kind == "exception" else "",
        error.seconds if isinstance(error, RetryAfter | Snooze) else None,
    )


def final_by(rules: TaskOptions, error: BaseException) -> str:
    """Why a job whose task has these rules is not tried again after `error`; "" when it may be."""
    if isinstance(error, RetryAfter):
        return ""
    return why_final(error, rules.retry_on, rules.give_up_on)


def _shown(what: str, read: Callable[[], str]) -> str:
    """The text of an object of a user's class, whose methods may raise."""
    try:
        return shortened(read())
    except Exception as broken:
        return f"(its {what} cannot be shown: {type(broken).__name__})"


def traceback_of(error: BaseException) -> str:
    """The user's frames of it, and of what it came from."""
    try:
        whole = traceback.TracebackException.from_exception(error)
        _leave_out(whole, set())
        text = "".join(whole.format())
    except Exception:
        text = "".join(traceback.format_tb(error.__traceback__))
    if len(text) > MAX_TRACEBACK:
        text = f"… ({len(text) - MAX_TRACEBACK} characters before)\n{text[-MAX_TRACEBACK:]}"
    return text.encode("utf-8", "replace").decode().replace("\0", "�")


def _leave_out(error: traceback.TracebackException, seen: set[int]) -> None:
    """Take our own frames out of an exception, and of those that it came from."""
    if id(error) in seen:
        return
    seen.add(id(error))
    error.stack = traceback.StackSummary.from_list([frame for frame in error.stack if not _ours(frame.filename)])
    for other in (error.__cause__, error.__context__, *(error.exceptions or ())):
        if other is not None:
            _leave_out(other, seen)


def _ours(file: str) -> bool:
    """The demo's tasks are a user's."""
    return (file.startswith(_PACKAGE) and file != _DEMO) or file.startswith("<frozen importlib")
