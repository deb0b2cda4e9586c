"""A queue on its two stores, on one event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from dtqkit.broker import Broker
from dtqkit.control import Control
from dtqkit.control.table import Operation, Req, Res
from dtqkit.direct import accept, change, look, many, pausing, schedules
from dtqkit.direct.parts import Parts, answers
from dtqkit.model.events import Batch, Line
from dtqkit.model.settings import Settings
from dtqkit.store import Store
from dtqkit.tasks.registry import TaskRegistry

#: Imported so that their functions answer.
ANSWERING = (accept, look, change, many, pausing, schedules)


class DirectControl(Control):
    """Opens its connections at the first use, on the loop that uses it first."""

    def __init__(
        self, settings: Settings, registry: TaskRegistry, store: Store | None = None, broker: Broker | None = None
    ) -> None:
        """`store` and `broker`: others than those of the settings' addresses, as in a test."""
        self._parts = Parts(settings, registry, store, broker)
        self._functions: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {}

    def function_of(self, operation: Operation[Req, Res]) -> Callable[[Req], Coroutine[Any, Any, Res]]:
        if (known := self._functions.get(operation.name)) is not None:
            return known
        if (function := answers.get(operation)) is None:
            raise NotImplementedError(f"{operation!r} has no implementation on the stores: see dtqkit.direct.parts")
        self._functions[operation.name] = known = partial(function, self._parts)
        return known

    async def until_open(self) -> None:
        """Wait for MongoDB. Raises NamespaceTaken: waiting does not change that."""
        await self._parts.until_open()

    async def until_taken(self) -> None:
        """Raises NamespaceTaken once Redis lists another environment's jobs; never returns."""
        await self._parts.stores.until_taken()

    def subscribe(self, callback: Callable[[Batch | Line], None]) -> Callable[[], None]:
        return self._parts.follower.subscribe(callback)

    async def close(self) -> None:
        await self._parts.close()
