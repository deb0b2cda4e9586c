"""What a worker and its child processes say to each other: frames of msgpack, each behind its length."""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec

LENGTH: Final = struct.Struct("!I")


class Run(msgspec.Struct, tag="run", frozen=True):
    """Run this."""

    ref: str
    payload: dict[str, Any]
    job_id: str
    task: str
    attempt: int
    worker: str
    max_result: int


class TimeOut(msgspec.Struct, tag="timeout", frozen=True):
    """Raise TaskTimeout inside what runs."""

    job_id: str


class Warm(msgspec.Struct, tag="warm", frozen=True):
    """Import these modules now, so that the first job need not."""

    refs: list[str]


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """The child has started and imported what it was told to."""


class Report(msgspec.Struct, tag="report", frozen=True):
    """Progress (`fraction`, text) or a line of the log (None, text)."""

    job_id: str
    fraction: float | None
    text: str


class Done(msgspec.Struct, tag="done", frozen=True):
    """The task has returned, or raised; `error` is a JobError as builtins."""

    job_id: str
    run_ms: float
    result: Any = None
    error: dict[str, Any] | None = None


ToChild = Run | TimeOut | Warm
FromChild = Ready | Report | Done

_encoder = msgspec.msgpack.Encoder()
decode_to_child = msgspec.msgpack.Decoder(ToChild).decode
decode_from_child = msgspec.msgpack.Decoder(FromChild).decode


def frame(message: ToChild | FromChild) -> bytes:
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body
