"""Stop a supervisor's workers, and count the jobs that they run at that moment."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from dtqkit.cli.stop import write_stderr
from dtqkit.client.aio import AsyncTaskQueue
from dtqkit.control import MAX_PAGE
from dtqkit.model.errors import DtqError
from dtqkit.model.settings import Settings
from dtqkit.run.supervisor import Supervisor
from dtqkit.support.formatting import counted

#: How long counting the running jobs may take, in seconds.
LOOK_S: Final = 1.0


def stop_workers(supervisor: Supervisor, settings: Settings) -> int | None:
    """Ask the workers to stop. Returns how many jobs they run, by the record; None if that takes more than LOOK_S."""
    pids = supervisor.pids
    supervisor.ask_to_stop()  # first: a second Ctrl-C may come while the jobs are counted
    try:
        return asyncio.run(_running(settings, frozenset(pids)))
    except (DtqError, TimeoutError):
        return None


async def _running(settings: Settings, pids: frozenset[int]) -> int | None:
    host = socket.gethostname()
    async with AsyncTaskQueue(settings) as queue, asyncio.timeout(LOOK_S):
        ours = {worker.id for worker in await queue.workers() if worker.host == host and worker.pid in pids}
        page = await queue.jobs(status="running", limit=MAX_PAGE)
    return sum(job.worker in ours for job in page.items) if page.cursor is None else None


def stop_at_once(supervisor: Supervisor, settings: Settings, then: str | None = None) -> None:
    """For a second request, in a signal handler. `then` is printed last: what happens to jobs whose stores stop too."""
    given_back, killed = supervisor.stop_at_once()
    parts = [f"{counted(given_back, 'worker', 'workers')} returned running jobs to the queue"] if given_back else []
    if killed:
        recovered = "" if then is not None else f": their jobs are recovered within {settings.recovered_s:.0f} s"
        parts.append(f"{counted(killed, 'worker was', 'workers were')} killed{recovered}")
    write_stderr(
        "; ".join([f"stopped at once: {', '.join(parts) or 'all workers had stopped'}", *([then] if then else [])])
    )
