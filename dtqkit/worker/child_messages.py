"""The messages between a worker and its child processes: frames of msgpack, each behind its length."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

LENGTH: Final = struct.Struct("!I")

#: Why a task is interrupted: it has run for its time, or its attempt is stopped from outside.
Why = Literal["timeout", "stop"]


class Setup(msgspec.Struct, tag="setup", frozen=True, kw_only=True):
    """What a child needs before its first job: it imports the APP as its worker did, then the tasks' modules."""

    #: `package.module:queue`; None for workers in a notebook or script.
    app: str | None
    #: The tasks that run in children: `module:qualname` by name; empty where only the APP's import brings it.
    tasks: dict[str, str]
    #: The same of every importable task of the worker: those submit to the worker's queue here too.
    known: Sequence[str]
    #: The worker's Settings as builtins. Here and not on the command line, since they hold passwords.
    settings: dict[str, Any]
    argv: Sequence[str]


class Run(msgspec.Struct, tag="run", frozen=True):
    """Run this."""

    ref: str
    payload: dict[str, Any]
    job_id: str
    task: str
    claim_number: int
    worker: str
    max_result: int
    #: Of the attempt, as people count; `claim_number` counts claims.
    attempt: int
    #: The nominal time of the job's schedule.
    scheduled_for: datetime | None = None


class Interrupt(msgspec.Struct, tag="interrupt", frozen=True):
    """Raise TaskTimeout or TaskStopped inside what runs."""

    job_id: str
    claim_number: int
    why: Why


class Leave(msgspec.Struct, tag="leave", frozen=True):
    """Leave the lifespan and end."""


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """The child has imported the APP and its tasks."""

    pid: int
    #: What could not be imported (the APP, or a task by name), and why.
    errors: dict[str, str]
    #: Hash of each source file that was loaded, see `source.hashes`.
    code: dict[str, str]
    #: Why the lifespan could not be entered: then it runs no job.
    lifespan: str = ""
    #: Whether it has a lifespan to leave: it is asked to, before it is killed.
    leaves: bool = False


class Begun(msgspec.Struct, tag="begun", frozen=True):
    """The first line of the task runs, at this monotonic time (the same clock in all processes of a host)."""

    job_id: str
    at: float


class Progress(msgspec.Struct, tag="progress", frozen=True):
    """How far the task is. What is printed and logged comes by the pipe of the child's output."""

    job_id: str
    fraction: float
    text: str


class Waiting(msgspec.Struct, tag="waiting", frozen=True):
    """The job waits for these jobs; none: it goes on."""

    job_id: str
    ids: Sequence[str]


class Done(msgspec.Struct, tag="done", frozen=True):
    """The task has returned, or raised; `error` is a JobError as builtins. Without `started`, it has never begun."""

    job_id: str
    #: A process that the task forked has the same socket.
    pid: int
    started: float | None
    run_ms: float | None
    result: Any = None
    error: dict[str, Any] | None = None


ToChild = Setup | Run | Interrupt | Leave
FromChild = Ready | Begun | Progress | Waiting | Done

_encoder = msgspec.msgpack.Encoder()
decode_to_child = msgspec.msgpack.Decoder(ToChild).decode
decode_from_child = msgspec.msgpack.Decoder(FromChild).decode


def frame(message: ToChild | FromChild) -> bytes:
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body
