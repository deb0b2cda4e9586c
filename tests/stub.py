"""A Control of a test: each operation is answered by the method that has its name."""

from collections.abc import Callable
from typing import Any

from dtqkit.control import Control, Operation
from dtqkit.model.events import Batch, Line


class StubControl(Control):
    """Subclasses have the methods that their test needs; a method takes the request."""

    def function_of(self, operation: Operation[Any, Any]) -> Any:
        return getattr(self, operation.name)

    def subscribe(self, callback: Callable[[Batch | Line], None]) -> Callable[[], None]:  # noqa: ARG002
        return lambda: None

    async def close(self) -> None: ...
