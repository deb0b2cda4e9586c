"""The hooks of a queue in a child process: what is asynchronous of them lives on a loop in a thread of its own.

The task has the main thread, where it can be interrupted. It runs while no event loop runs in that thread, so that it
may run one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context as Variables
from contextvars import copy_context
from functools import cached_property, partial
from typing import Any

from dtqkit.model.hook_errors import LifespanFailed
from dtqkit.support.background import Background
from dtqkit.tasks.hooks import Hooks
from dtqkit.tasks.lifespan import Entered, Lifespan, Manager
from dtqkit.tasks.middleware import Middleware, around_run
from dtqkit.worker.context import JobContext, enter
from dtqkit.worker.report import TaskTimeout


class ChildHooks:
    """The hooks that a child has by its APP. Its loop starts when something needs it."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        #: What the lifespan yielded.
        self.state: Any = None
        self._leave: Callable[[], object] | None = None

    @cached_property
    def _background(self) -> Background:
        return Background("dtqkit-hooks")

    @property
    def entered(self) -> bool:
        """Whether there is a lifespan to leave."""
        return self._leave is not None

    def begin(self) -> None:
        """Enter the lifespan, a plain one in this thread, which is the main one. Raises LifespanFailed."""
        if (lifespan := self._hooks.lifespan) is None:
            return
        manager = lifespan.open()
        if isinstance(manager, AbstractAsyncContextManager):
            self.state, self._leave = self._background.start(self._enter(lifespan, manager)).result()
            return
        try:
            self.state = manager.__enter__()
        except Exception as error:
            raise lifespan.failed(error) from error

        def leave() -> None:
            try:
                manager.__exit__(None, None, None)
            except Exception as error:
                raise lifespan.failed(error, " at its end") from error

        self._leave = leave

    async def _enter(self, lifespan: Lifespan, manager: Manager) -> tuple[Any, Callable[[], object]]:
        entered = Entered(lifespan, manager, _end_with)
        state = await entered.state()
        return state, lambda: self._background.start(entered.leave()).result()

    def end(self) -> None:
        """Leave the lifespan. Raises LifespanFailed."""
        if self._leave is not None:
            self._leave()

    def call(self, context: JobContext, task: Callable[[], Any], interrupt: Callable[[], None]) -> Any:
        """Call `task` here, within the middlewares. `interrupt` raises TaskStopped in this thread, from any thread."""
        chain = self._hooks.around_run
        return _Run(self._background, chain, context, interrupt).call(task) if chain else task()


def _end_with(failure: LifespanFailed) -> None:
    """A lifespan has ended while the child works: another child shall take its place."""
    with contextlib.suppress(OSError):
        os.write(2, f"{failure}\n".encode("utf-8", "replace"))
    os._exit(1)


class _Run:
    """One run within middlewares: these are in one coroutine, which waits while the task runs in the main thread."""

    def __init__(
        self, background: Background, chain: Sequence[Middleware], context: JobContext, interrupt: Callable[[], None]
    ) -> None:
        self._background = background
        self._chain = chain
        self._context = context
        self._interrupt = interrupt
        #: Whether the task was interrupted for a middleware; whether it is over, or will not begin any more.
        self._interrupted = False
        self._left = False
        self._pid = os.getpid()
        #: Set once the task may run, or all is over.
        self._reached = threading.Event()
        self._over = threading.Event()
        self._variables: Variables | None = None
        self._gate: asyncio.Future[tuple[Any, BaseException | None]] | None = None
        self._value: Any = None
        self._error: BaseException | None = None

    # -- on the loop

    async def _around(self) -> None:
        enter(self._context)
        try:
            self._value = await around_run(self._chain, self._context, self._task, (TaskTimeout,))
        except BaseException as error:  # whatever the task has raised: it must not end the loop
            self._error = error
        finally:
            self._over.set()
            self._reached.set()

    async def _task(self) -> Any:
        gate = self._gate = asyncio.get_running_loop().create_future()
        self._variables = copy_context()
        self._reached.set()
        try:
            value, error = await asyncio.shield(gate)
        except asyncio.CancelledError:  # by a timeout of a middleware's own: the task ends first
            while not (self._left or gate.done()):
                self._interrupted = True
                self._interrupt()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([gate])
            raise
        if error is not None:
            raise error
        return value

    # -- in the main thread

    def call(self, task: Callable[[], Any]) -> Any:
        running = self._background.start(self._around())
        try:
            self._reached.wait()
            if self._variables is not None:
                value, error = _outcome(self._variables, task)
                if os.getpid() == self._pid:
                    self._background.soon(lambda: self._end(value, error))
                else:  # a fork of the task's has come back from it, and has no loop
                    self._value, self._error = value, error
                    self._over.set()
            self._over.wait()
        except BaseException as error:  # it is interrupted, before or after its task
            self._left = True
            if self._interrupted:
                self._background.soon(partial(self._end, None, error))
            else:
                running.cancel()
            self._over.wait()  # bounded by its worker, which kills a child that does not end
            if not self._interrupted:
                raise
        if self._error is not None:
            raise self._error
        return self._value

    def _end(self, value: Any, error: BaseException | None) -> None:
        if self._gate is not None and not self._gate.done():
            self._gate.set_result((value, error))


def _outcome(variables: Variables, task: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return variables.run(task), None
    except BaseException as error:
        return None, error
