"""Tasks that run in a worker's child processes. Apart, since a worker that has none starts no child."""

from __future__ import annotations

import time

from dtqkit import Context, task
from tests.faults.ledger import write


@task(backoff_s=0.1)
def note_in_child(ctx: Context, n: int, ledger: str, seconds: float = 0.0) -> int:
    write(ledger, "start", ctx)
    time.sleep(seconds)
    write(ledger, "end", ctx)
    return ctx.attempt
