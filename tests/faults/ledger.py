"""What job bodies say that they did: a file that every worker appends to, one write a line."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dtqkit import Context

What = Literal["start", "end", "raise"]


@dataclass(frozen=True)
class Entry:
    what: str
    job: str
    attempt: int
    worker: str
    #: Seconds of the machine's clock, which all servers and workers of a test share.
    at: float


def write(path: str, what: What, ctx: Context) -> None:
    line = f"{what} {ctx.job_id} {ctx.attempt} {ctx.worker} {time.time():.6f}\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Entry]:
    return parse(path.read_text().splitlines()) if path.exists() else []


def parse(lines: Iterable[str]) -> list[Entry]:
    entries: list[Entry] = []
    for line in lines:
        what, job, attempt, worker, at = line.split()
        entries.append(Entry(what, job, int(attempt), worker, float(at)))
    return entries
