"""A Control of a test: each operation is answered by the method that has its name."""

from collections.abc import Callable
from typing import Any

from dtqkit.control import Control, Operation
from dtqkit.model.events import Batch, Line


class StubControl(Control):
    """Subclasses have the methods that their test needs; a method takes the request."""

    async def answer(self, operation: Operation[Any, Any], request: Any) -> Any:
        return await getattr(self, operation.name)(request)

    def subscribe(self, callback: Callable[[Batch | Line], None]) -> Callable[[], None]:  # noqa: ARG002
        return lambda: None

    async def close(self) -> None: ...
