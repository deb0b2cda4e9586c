"""The asynchronous queue of a TestQueue: who waits for a job has it run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from typing_extensions import override

from dtqkit.client.aio import AsyncTaskQueue
from dtqkit.client.async_handle import AsyncJobHandle
from dtqkit.model.errors import JobNotFound, WaitTimeout
from dtqkit.model.settings import Settings
from dtqkit.tasks.hooks import Hooks
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.tasks.task import Call
from dtqkit.testing.memory import Memory
from dtqkit.testing.runner import NothingLeft

R = TypeVar("R")


class MemoryCore(AsyncTaskQueue):
    """On the virtual loop of its memory."""

    def __init__(self, settings: Settings, registry: TaskRegistry, hooks: Hooks, memory: Memory) -> None:
        super().__init__(settings, registry=registry, control=memory.control, hooks=hooks)
        self.memory = memory
        #: Whether a submit runs what is due before it returns.
        self.inline = False

    @override
    async def submit_call(self, call: Call[R]) -> AsyncJobHandle[R]:
        handle = await super().submit_call(call)
        if self.inline:
            await self.memory.runner.until_idle()
            self.refresh([handle])
        return handle

    @override
    async def submit_many(self, calls: Iterable[Call[R]]) -> list[AsyncJobHandle[R]]:
        handles = await super().submit_many(calls)
        if self.inline:
            await self.memory.runner.until_idle()
            self.refresh(handles)
        return handles

    def refresh(self, handles: Iterable[AsyncJobHandle[Any]]) -> None:
        """Give handles their present records. From any thread."""
        for handle in handles:
            if (job := self.memory.job(handle.id)) is not None:
                handle.on_job(job)

    @override
    def follow(self, handle: AsyncJobHandle[Any]) -> None:
        self.refresh([handle])

    @override
    async def _until_over(
        self, handles: Sequence[AsyncJobHandle[Any]], on_over: Callable[[AsyncJobHandle[Any]], None] | None, lend: bool
    ) -> None:
        left = list(handles)
        left.reverse()

        def over() -> bool:
            if on_over is not None:  # each is reported as soon as it is over, in whichever order
                for handle in [handle for handle in left if self._is_over(handle)]:
                    left.remove(handle)
                    on_over(handle)
            while left and self._is_over(left[-1]):
                left.pop()
            return not left

        try:
            await self.memory.runner.until(over)
        except NothingLeft:
            jobs = [handle.known for handle in left]
            why = await self.why_waiting(jobs) or "nothing that runs or is due in this TestQueue would end it"
            raise WaitTimeout(f"job {jobs[-1].id} ({jobs[-1].task}) is {jobs[-1].status}, and {why}") from None
        self.refresh(handles)

    def _is_over(self, handle: AsyncJobHandle[Any]) -> bool:
        job = self.memory.job(handle.id)
        if job is None:
            raise JobNotFound(handle.id)
        handle.on_job(job)
        return job.is_over
