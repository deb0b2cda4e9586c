"""`%dtq` and `%%dtq`: sugar for what the queue's methods do, after `%load_ext dtqkit.notebook`."""
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownVariableType=false
# (IPython leaves the user's names open)

from __future__ import annotations

import ast
import shlex
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class

from dtqkit.client.queue import TaskQueue
from dtqkit.tasks.options import TaskOptions

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_USAGE: Final = "%dtq status, or %%dtq task [priority=high] [max_attempts=3] … above a function"


@magics_class
class DtqMagics(Magics):
    """Finds the notebook's queue by itself: the variable `queue`, or the only TaskQueue there is."""

    @line_cell_magic
    def dtq(self, line: str, cell: str | None = None) -> Any:
        """`%dtq status` shows the queue; `%%dtq task priority=high` makes the cell's function a task of it."""
        verb, *options = shlex.split(line) or [""]
        if verb == "status" and cell is None and not options:
            return self._queue()
        if verb == "task" and cell is not None:
            return self._task(cell, _options(options))
        raise UsageError(_USAGE)

    def _task(self, cell: str, options: dict[str, Any]) -> Any:
        shell = cast("InteractiveShell", self.shell)
        found = [node.name for node in ast.parse(cell).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        if not found:
            raise UsageError("%%dtq task stands above a cell that defines a function with def or async def")
        queue = self._queue()
        shell.run_cell(cell).raise_error()
        task = queue.task(**options)(shell.user_ns[found[-1]])
        shell.user_ns[found[-1]] = task
        return task

    def _queue(self) -> TaskQueue:
        names = cast("InteractiveShell", self.shell).user_ns
        named = names.get("queue")
        if isinstance(named, TaskQueue):
            return named
        queues = {id(value): value for name, value in names.items() if isinstance(value, TaskQueue) and name[0] != "_"}
        if len(queues) != 1:
            raise UsageError(
                f"%dtq looks for a TaskQueue in a variable called queue; there are {len(queues)} under other names"
            )
        return next(iter(queues.values()))


def _options(words: list[str]) -> dict[str, Any]:
    """`key=value` words as the options of a task. Raises UsageError."""
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in (*TaskOptions.__struct_fields__, "name"):
            raise UsageError(f"{word!r} is not an option of a task; {_USAGE}")
        given[key] = value
    name = {"name": given.pop("name")} if "name" in given else {}
    try:
        options = msgspec.convert(given, TaskOptions, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"%%dtq task: {error}") from None
    return name | {key: getattr(options, key) for key in given}
