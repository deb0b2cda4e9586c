"""Control: answers the operations, whether the queue is here or behind HTTP."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeAlias, TypeVar, overload

from dtqkit.control.records import NOTHING, Nothing
from dtqkit.control.table import Operation, Req, Res
from dtqkit.model.events import Batch, Line

Owner = TypeVar("Owner")
#: A function that answers an operation for `Owner`.
Answer: TypeAlias = Callable[[Owner, Req], Coroutine[Any, Any, Res]]


class Control(ABC):
    """What a queue can be asked."""

    @overload
    def ask(self, operation: Operation[Nothing, Res]) -> Coroutine[Any, Any, Res]: ...
    @overload
    def ask(self, operation: Operation[Req, Res], request: Req) -> Coroutine[Any, Any, Res]: ...
    def ask(self, operation: Operation[Any, Any], request: Any = NOTHING) -> Coroutine[Any, Any, Any]:
        """The answer to one operation, as in `await control.ask(GET_JOB, JobRequest(id=job_id))`."""
        return self.function_of(operation)(request)

    @abstractmethod
    def function_of(self, operation: Operation[Req, Res]) -> Callable[[Req], Coroutine[Any, Any, Res]]:
        """What answers `operation` here."""

    @abstractmethod
    def subscribe(self, callback: Callable[[Batch | Line], None]) -> Callable[[], None]:
        """Call `callback` on the loop with each batch of events, and with a Line when it is up or down.

        Returns a function that ends the subscription.
        """

    @abstractmethod
    async def close(self) -> None: ...


class Answers(Generic[Owner]):
    """The functions with which one implementation of Control answers, by operation."""

    def __init__(self) -> None:
        self._by_name: dict[str, Answer[Owner, Any, Any]] = {}

    def to(self, operation: Operation[Req, Res]) -> Callable[[Answer[Owner, Req, Res]], Answer[Owner, Req, Res]]:
        """Decorates the function that answers `operation`. Raises ValueError when it has one already."""

        def add(function: Answer[Owner, Req, Res]) -> Answer[Owner, Req, Res]:
            if operation.name in self._by_name:
                raise ValueError(f"{operation!r} has two implementations: {function.__qualname__} is the second")
            self._by_name[operation.name] = function
            return function

        return add

    def get(self, operation: Operation[Req, Res]) -> Answer[Owner, Req, Res] | None:
        """The function that answers `operation`, if there is one."""
        return self._by_name.get(operation.name)

    def remove(self, operation: Operation[Any, Any]) -> None:
        """Take one out again, as a test does with its own."""
        del self._by_name[operation.name]
