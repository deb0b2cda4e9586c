"""APP, `package.module:queue`: where a command finds a queue and its tasks."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Annotated

import typer

from dtqkit.client.queue import TaskQueue
from dtqkit.model.errors import AppError, DtqError

App = Annotated[str, typer.Argument(metavar="APP", help="The queue and its tasks, as package.module:queue.")]


def load_app(app: str) -> TaskQueue:
    """Import the queue that `app` names; the current directory is searched too. Raises AppError with the reason."""
    module_name, colon, attribute = app.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise AppError(f"{app!r} is not an APP: it is written package.module:queue, as in dtqkit.demo:queue")
    if (here := os.getcwd()) not in sys.path:  # noqa: PTH109 - a plain string, as sys.path has them
        sys.path.insert(0, here)
    try:
        found: object = importlib.import_module(module_name)
    except DtqError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        missing = isinstance(error, ModuleNotFoundError) and error.name is not None
        if missing and f"{module_name}.".startswith(f"{error.name}."):  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            raise AppError(f"{app}: there is no module {error.name!r} here ({here}) or on the path") from None  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        raise AppError(f"{app}: importing {module_name} raised {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise AppError(f"{app}: module {module_name} has no {attribute!r}{_hint(module_name)}")
        found = getattr(found, part)
    if not isinstance(found, TaskQueue):
        raise AppError(f"{app}: {attribute} is a {type(found).__name__}, not a TaskQueue{_hint(module_name)}")
    found.registry.came_from(app)
    return found


def _hint(module_name: str) -> str:
    """The names of queues that the module has."""
    names = [name for name, value in vars(sys.modules[module_name]).items() if isinstance(value, TaskQueue)]
    return f"; did you mean {module_name}:{names[0]}?" if names else ""


def main() -> None:
    """`python -m dtqkit.cli.app APP`: exit status 0, or 2 with the reason in the last line of standard error."""
    from dtqkit.run.supervisor import APP_ERROR, WRONG_USE

    try:
        check_tasks(load_app(sys.argv[1]), sys.argv[1])
    except DtqError as error:
        print(f"\n{APP_ERROR}{json.dumps(str(error))}", file=sys.stderr, flush=True)
        os._exit(WRONG_USE)  # threads that the module has started are not waited for
    os._exit(0)


def check_tasks(queue: TaskQueue, app: str) -> None:
    """Raises AppError when the queue has no tasks, or no stores from which a worker could take jobs."""
    if queue.remote:
        raise AppError(
            f"{app} is connected to a server (TaskQueue.connect), from which workers cannot take jobs: they need a "
            "TaskQueue(), with REDIS_URL and ATLAS_URI"
        )
    if not len(queue.registry):
        raise AppError(f"{app} has no tasks: decorate functions with @queue.task, or call queue.include(…)")


if __name__ == "__main__":
    main()
