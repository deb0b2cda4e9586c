"""The tasks of the fault tests: each says in a ledger, in one write, when an attempt starts and when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from dtqkit import Context, task
from tests.faults.ledger import write
from tests.gil import hold_gil as hold


@task(backoff_s=0.1)
async def note(ctx: Context, n: int, ledger: str, seconds: float = 0.0, failures: int = 0) -> int:
    """Fails `failures` times, then returns the number of the attempt whose result it is."""
    write(ledger, "start", ctx)
    await asyncio.sleep(seconds)
    if ctx.attempt <= failures:
        write(ledger, "raise", ctx)
        raise RuntimeError("asked to fail")
    write(ledger, "end", ctx)
    return ctx.attempt


@task(max_attempts=1, isolation="thread")
def poison(ctx: Context, n: int, ledger: str) -> None:
    """Takes its worker with it."""
    write(ledger, "start", ctx)
    os.kill(os.getpid(), signal.SIGKILL)


@task(max_attempts=1, max_losses=1)
async def note_once(ctx: Context, n: int, ledger: str, seconds: float) -> int:
    """May lose no worker."""
    write(ledger, "start", ctx)
    await asyncio.sleep(seconds)
    write(ledger, "end", ctx)
    return ctx.attempt


@task(max_attempts=1)
async def exit_worker(ctx: Context, n: int, ledger: str) -> None:
    """The same from the worker's own loop."""
    write(ledger, "start", ctx)
    os._exit(1)


@task
async def block(ctx: Context, n: int, ledger: str, seconds: float) -> int:
    """Wedges its worker's loop."""
    write(ledger, "start", ctx)
    time.sleep(seconds)
    write(ledger, "end", ctx)
    return ctx.attempt


@task
async def hold_gil(ctx: Context, n: int, ledger: str, seconds: float) -> int:
    """Stops every thread of its worker's process, the beat's too."""
    write(ledger, "start", ctx)
    hold(seconds)
    write(ledger, "end", ctx)
    return ctx.attempt
