"""A progress bar for jobs; it ends when they do."""
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownVariableType=false
# (ipywidgets and anywidget leave most of their types open)

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ipywidgets import HTML, FloatProgress, HBox, Layout

from dtqkit.client.handles import JobHandle
from dtqkit.notebook.boards import hand_over
from dtqkit.notebook.formatting import count
from dtqkit.support.formatting import duration

if TYPE_CHECKING:
    from dtqkit.client.async_handle import AsyncJobHandle
    from dtqkit.client.driver import Driver

#: Seconds between two updates.
TICK_S: Final = 0.2


class Progress(HBox):
    """A bar and a line of text; a running job counts by as much as it says it has done."""

    def __init__(self, queue: Driver, jobs: Iterable[JobHandle[Any]] | JobHandle[Any]) -> None:
        handles = [jobs] if isinstance(jobs, JobHandle) else list(jobs)
        self._handles = [handle.asynchronous for handle in handles]
        self.bar = FloatProgress(min=0.0, max=float(max(1, len(handles))), layout=Layout(width="24em"))
        self.label = HTML()
        super().__init__([self.bar, self.label])
        self._began = time.monotonic()
        self._done_before: float | None = None
        self._show()
        hand_over(queue.start, self._follow(queue))

    async def _follow(self, queue: Driver) -> None:
        """On the queue's loop, until all are over."""
        while not self._show():
            queue.core.freshen(self._handles)
            await asyncio.sleep(TICK_S)  # a bar is drawn at a steady pace, however many jobs end

    def _show(self) -> bool:
        """Draw what is known; whether all are over."""
        counts, done = tally(self._handles)
        over = counts["completed"] + counts["failed"] + counts["cancelled"]
        elapsed = time.monotonic() - self._began
        ended = over == len(self._handles)
        self.bar.value = done
        if ended:
            self.bar.bar_style = "danger" if counts["failed"] else "success"
        if self._done_before is None:
            self._done_before = done
        self.label.value = progress_text(counts, len(self._handles), elapsed, done, self._done_before)
        return ended

    def __repr__(self) -> str:
        return f"<Progress {self.label.value}>"


def tally(handles: Sequence[AsyncJobHandle[Any]]) -> tuple[Counter[str], float]:
    """How many jobs are in which status, and how many are done, counting running ones by their progress."""
    counts: Counter[str] = Counter()
    done = 0.0
    for handle in handles:
        job = handle.known
        counts[job.status] += 1
        done += 1.0 if job.is_over else (job.progress or 0.0) if job.status == "running" else 0.0
    return counts, done


def progress_text(counts: Counter[str], total: int, elapsed_s: float, done: float, before: float = 0.0) -> str:
    """The text beside the bar: how many are over, how they ended, and how long it took or may still take.

    `before`: how many were done when it began to count; they say nothing of the pace.
    """
    over = counts["completed"] + counts["failed"] + counts["cancelled"]
    words = [f"{over:,} of {count(total, 'job')}"]
    words += [f"{counts[status]:,} {status}" for status in ("running", "failed", "cancelled") if counts[status]]
    if over == total:
        words.append(duration(elapsed_s))
    elif done - before >= 1 and elapsed_s > 1:
        words.append(f"about {duration(elapsed_s / (done - before) * (total - done))} left")
    return " · ".join(words)
