"""A TestQueue for asynchronous code: AsyncTaskQueues on whichever loop, whose jobs are the TestQueue's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

from typing_extensions import override

from dtqkit.client.aio import AsyncTaskQueue
from dtqkit.client.async_handle import AsyncJobHandle
from dtqkit.control import AttemptRow, Control, HistoryQuery
from dtqkit.control.operations import HISTORY, SUBMIT, SUBMIT_MANY
from dtqkit.control.table import Operation, Req, Res
from dtqkit.model.events import Batch, Line
from dtqkit.tasks.registry import TaskRegistry
from dtqkit.testing.core import MemoryCore


class Bridge(Control):
    """Asks the queue in memory, from any loop."""

    def __init__(self, core: MemoryCore, registry: TaskRegistry) -> None:
        """`registry` has the tasks of the queue that asks: they run here."""
        self.core: Final = core
        self._registry = registry

    @override
    def function_of(self, operation: Operation[Req, Res]) -> Callable[[Req], Coroutine[Any, Any, Res]]:
        if operation is HISTORY:
            return cast("Callable[[Req], Coroutine[Any, Any, Res]]", self._history)

        async def ask(request: Req) -> Res:
            for task in self._registry:
                if task.name not in self.core.registry:
                    self.core.registry.add(task)
            answer = await self.there(self.core.control.ask(operation, request))
            if self.core.inline and operation in (SUBMIT, SUBMIT_MANY):
                await self.there(self.core.memory.runner.until_idle())
            return answer

        return ask

    async def there(self, work: Coroutine[Any, Any, Res]) -> Res:
        """Do this on the loop of the queue."""
        turns = self.core.memory.turns
        return await (work if turns.here() else asyncio.wrap_future(turns.start(work)))

    async def _history(self, query: HistoryQuery) -> AsyncIterator[AttemptRow]:
        async def read() -> list[AttemptRow]:
            return [row async for row in await self.core.control.ask(HISTORY, query)]

        rows = await self.there(read())

        async def each() -> AsyncIterator[AttemptRow]:
            for row in rows:
                yield row

        return each()

    @override
    def subscribe(self, callback: Callable[[Batch | Line], None]) -> Callable[[], None]:
        """Nobody waits for events here: see `bridged`."""
        return lambda: None

    @override
    async def close(self) -> None:
        pass


_until_over: Final = AsyncTaskQueue.until_over
_follow: Final = AsyncTaskQueue.follow


async def _run_until_over(
    queue: AsyncTaskQueue,
    handles: Sequence[AsyncJobHandle[Any]],
    timeout: float | None = None,
    on_over: Callable[[AsyncJobHandle[Any]], None] | None = None,
    *,
    lend: bool = True,
) -> None:
    control = queue.control
    if isinstance(control, Bridge):
        await control.there(control.core.until_over(handles, timeout, on_over))
    else:
        await _until_over(queue, handles, timeout, on_over, lend=lend)


def _follow_now(queue: AsyncTaskQueue, handle: AsyncJobHandle[Any]) -> None:
    if isinstance(queue.control, Bridge):
        queue.control.core.refresh([handle])
    else:
        _follow(queue, handle)


#: The queues in memory that stand in for others now: the last one gets what is made meanwhile.
_cores: Final[list[MemoryCore]] = []


@contextmanager
def bridged(core: MemoryCore) -> Generator[None]:
    """While this lasts, an AsyncTaskQueue that is made without a `control` of its own has the jobs of `core`."""
    _cores.append(core)
    for name, method in _REPLACED.items():
        setattr(AsyncTaskQueue, name, method)
    try:
        yield
    finally:
        _cores.remove(core)
        for name, method in _ORIGINAL.items() if not _cores else ():
            setattr(AsyncTaskQueue, name, method)


def _direct(queue: AsyncTaskQueue) -> Control:
    return Bridge(_cores[-1], queue.registry)


_REPLACED: Final[dict[str, Any]] = {"_direct": _direct, "until_over": _run_until_over, "follow": _follow_now}
_ORIGINAL: Final[dict[str, Any]] = {name: getattr(AsyncTaskQueue, name) for name in _REPLACED}
