"""How the end of a task's call becomes an outcome: the same in the worker, in its threads and in its children."""

from __future__ import annotations

import time
import traceback
from typing import Final

import msgspec

from dtqkit.errors import InvalidPayload, InvalidResult, UnknownTask
from dtqkit.jobs import ErrorKind, JobError
from dtqkit.values import to_wire
from dtqkit.worker.context import shortened

#: Characters of a traceback that are kept, from its end.
MAX_TRACEBACK: Final = 16_000


class TaskTimeout(TimeoutError):
    """Raised inside a task that has run for its `timeout_s`."""


def checked_result(value: object, max_bytes: int) -> object:
    """`value` as a JSON value; InvalidResult, which names the part, when it cannot be recorded."""
    if value is None or value is True or value is False:
        return value
    result = to_wire(value)
    size = len(msgspec.json.encode(result))
    if size > max_bytes:
        detail = (
            f"a {type(value).__name__} of {size:,} bytes as JSON, and {max_bytes:,} are allowed "
            "(DTQ_MAX_RESULT): keep large data in a file or a database and return its address"
        )
        raise InvalidResult("$", detail)
    return result


def elapsed_ms(since: float) -> float:
    """Milliseconds since a `time.perf_counter()`, to a tenth: finer is noise, and equal ends can share one write."""
    return round((time.perf_counter() - since) * 1000, 1)


def error_of(error: BaseException, *, skip_frames: int = 1) -> JobError:
    """What is recorded of an exception; our own first `skip_frames` frames are left out of the traceback."""
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
        case _:
            pass
    text = "" if kind in ("invalid_result", "invalid_payload", "unknown_task") else _traceback(error, skip_frames)
    try:
        message = str(error)
    except Exception as broken:
        message = f"(its message cannot be shown: {type(broken).__name__})"
    return JobError(kind, type(error).__name__, shortened(message), text, type(error).__module__)


def _traceback(error: BaseException, skip_frames: int) -> str:
    frames = error.__traceback__
    for _ in range(skip_frames):
        frames = frames.tb_next if frames is not None and frames.tb_next is not None else frames
    try:
        text = "".join(traceback.format_exception(type(error), error, frames))
    except Exception:
        text = "".join(traceback.format_tb(frames))
    if len(text) > MAX_TRACEBACK:
        text = f"… ({len(text) - MAX_TRACEBACK} characters before)\n{text[-MAX_TRACEBACK:]}"
    return text.encode("utf-8", "replace").decode().replace("\0", "�")
