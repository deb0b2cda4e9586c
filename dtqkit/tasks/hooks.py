"""The hooks of a queue: its middleware and its lifespan, and how they live in a process that runs jobs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast

from dtqkit.model.hook_errors import HookError, LifespanFailed
from dtqkit.tasks.lifespan import Entered, Lifespan
from dtqkit.tasks.middleware import Middleware, instance_of, is_around
from dtqkit.tasks.origin import home_of

log = logging.getLogger("dtqkit.worker")


class Hooks:
    """What a queue's user has registered. Read for each job, so all that is there is a tuple or None."""

    def __init__(self) -> None:
        self._middleware: tuple[Middleware, ...] = ()
        #: Those around each submit, and those around each run of a job, the outermost first.
        self.around_submit: tuple[Middleware, ...] = ()
        self.around_run: tuple[Middleware, ...] = ()
        self.lifespan: Lifespan | None = None

    def add(self, given: Any) -> None:
        """Register a middleware. A class that is defined again, as in a notebook's cell, replaces the earlier one.

        Raises HookError.
        """
        new = instance_of(given)
        if any(old is new for old in self._middleware):
            return
        for i, old in enumerate(self._middleware):
            if _redefined(old, new, by_class=isinstance(given, type)):
                self._set((*self._middleware[:i], new, *self._middleware[i + 1 :]))
                return
        self._set((*self._middleware, new))

    def set_lifespan(self, function: Any) -> None:
        """Register the lifespan. Raises HookError when it cannot be one, or there is another one."""
        new = Lifespan(function)
        if self.lifespan is not None and self.lifespan.name != new.name:
            raise HookError(
                f"lifespan {new.name}: this queue has {self.lifespan.name} already, and ctx.state has one value: "
                "write one lifespan that enters both, or keep the name of one that is defined again"
            )
        self.lifespan = new

    def take(self, other: Hooks) -> None:
        """Have the same as `other`."""
        self._set(other._middleware)
        self.lifespan = other.lifespan

    def _set(self, middleware: tuple[Middleware, ...]) -> None:
        self._middleware = middleware
        self.around_submit = tuple(one for one in middleware if is_around(type(one), "submit"))
        self.around_run = tuple(one for one in middleware if is_around(type(one), "run"))


def _redefined(old: Middleware, new: Middleware, *, by_class: bool) -> bool:
    same = home_of(cast(Any, type(old))) == home_of(cast(Any, type(new)))
    return same and (by_class or type(old) is not type(new))


#: The state while a newer lifespan is entered: jobs wait for `Life.renewed`.
RENEWING: Final = object()


class Life:
    """The lifespan of a queue in a process that runs jobs, for all workers that live on one loop of it."""

    def __init__(self, hooks: Hooks | None = None) -> None:
        self.hooks: Hooks = hooks or Hooks()
        #: What the lifespan yielded; None without one; or RENEWING.
        self.state: Any = None
        #: Why it ended before it was asked to.
        self.failure: LifespanFailed | None = None
        self.broke = asyncio.Event()
        self._lock = asyncio.Lock()
        self._users = 0
        self._entered: Entered | None = None

    async def begin(self) -> None:
        """Enter it, unless another worker has. Raises LifespanFailed."""
        async with self._lock:
            if not self._users:
                await self._enter()
            self._users += 1

    async def end(self) -> None:
        """Leave it, when no other worker needs it. Raises LifespanFailed."""
        async with self._lock:
            self._users -= 1
            if not self._users:
                await self._leave()

    async def renew(self) -> None:
        """The lifespan is another one: leave the older and enter it. Raises LifespanFailed."""
        async with self._lock:
            if self._users:
                try:
                    await self._leave(RENEWING)
                except LifespanFailed as error:  # of the older one, which is not used any more
                    log.warning("%s", error)
                try:
                    await self._enter()
                finally:
                    if self.state is RENEWING:  # it could not be entered, or there is none any more
                        self.state = None

    async def renewed(self) -> Any:
        """The state, once no newer lifespan is being entered."""
        async with self._lock:
            return self.state

    async def _enter(self) -> None:
        self.failure = None
        self.broke.clear()
        if (lifespan := self.hooks.lifespan) is not None:
            entered = Entered(lifespan, lifespan.open(), self._on_broke)
            self.state = await entered.state()
            self._entered = entered

    async def _leave(self, state: object = None) -> None:
        entered, self._entered, self.state = self._entered, None, state
        if entered is not None:
            await entered.leave()

    def _on_broke(self, failure: LifespanFailed) -> None:
        self.failure = failure
        self.broke.set()
