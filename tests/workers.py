"""Workers of a test: in threads of its own process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from dtqkit import Priority, Settings, TaskQueue
from dtqkit.run.process import work
from dtqkit.support.background import Background
from dtqkit.tasks.hooks import ProcessLifespan


async def _event() -> asyncio.Event:
    return asyncio.Event()


class Workers:
    """`count` workers on one loop, from `with` to its end; `stop()` stops them earlier."""

    def __init__(
        self,
        queue: TaskQueue,
        count: int = 1,
        *,
        settings: Settings | None = None,
        lanes: Sequence[Priority] = ("high", "medium", "low"),
        name: str = "w",
    ) -> None:
        self._queue = queue
        self._count = count
        self._settings = settings or queue.settings
        self._lanes = lanes
        self._name = name
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        background = Background("test-workers")
        self._stack.callback(background.join)
        self._stack.callback(background.end)
        stop = background.start(_event()).result()
        life = ProcessLifespan(self._queue.hooks)
        ready: list[Future[None]] = []
        running: list[Future[None]] = []
        for number in range(1, self._count + 1):
            started: Future[None] = Future()

            async def run(number: int = number, started: Future[None] = started) -> None:
                try:
                    await work(
                        self._settings,
                        self._queue.registry,
                        name=f"{self._name}{number}",
                        lanes=self._lanes,
                        life=life,
                        stop=stop,
                        started=lambda: started.set_result(None),
                    )
                except BaseException as error:
                    if not started.done():
                        started.set_exception(error)
                    raise

            ready.append(started)
            running.append(background.start(run()))

        def finish() -> None:
            background.soon(stop.set)
            for future in running:
                future.result(timeout=30)

        self._stack.callback(finish)
        for future in ready:
            future.result(timeout=10)
        return self

    def stop(self) -> None:
        """Stop gracefully, now."""
        self._stack.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
