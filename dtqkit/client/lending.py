"""A job that waits for other jobs lends its slot: it reports to its worker which jobs it waits for."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Final
from weakref import WeakKeyDictionary

from dtqkit.worker.context import JobContext, current_job


class _Waits:
    """The waits of each job that waits: its threads may wait side by side, each for other jobs."""

    def __init__(self) -> None:
        self._by_job: WeakKeyDictionary[JobContext, dict[object, tuple[str, ...]]] = WeakKeyDictionary()
        self.new_lock()

    def new_lock(self) -> None:
        """After a fork: a thread of the parent may have held the old one."""
        self._lock = threading.Lock()

    def begin(self, job: JobContext, wait: object, ids: tuple[str, ...]) -> None:
        with self._lock:
            self._by_job.setdefault(job, {})[wait] = ids
            self._report(job)

    def end(self, job: JobContext, wait: object) -> None:
        with self._lock:
            self._by_job.get(job, {}).pop(wait, None)
            self._report(job)

    def _report(self, job: JobContext) -> None:
        job.lends(tuple(dict.fromkeys(i for ids in self._by_job.get(job, {}).values() for i in ids)))


_waits: Final = _Waits()
os.register_at_fork(after_in_child=_waits.new_lock)


@contextmanager
def lending(ids: Iterable[str]) -> Generator[None]:
    """While this block waits for the jobs `ids`, the job that runs here, if one does, lends its slot to them."""
    job = current_job()
    if job is None or not (wanted := tuple(ids)):
        yield
        return
    wait = object()
    try:
        _waits.begin(job, wait, wanted)
        yield
    finally:
        _waits.end(job, wait)
