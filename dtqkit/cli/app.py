"""APP, `package.module:queue`: where a command finds a queue and its tasks."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated

import typer

from dtqkit.errors import AppError, DtqError
from dtqkit.sync import TaskQueue

App = Annotated[str, typer.Argument(metavar="APP", help="The queue and its tasks, as package.module:queue.")]


def load_app(app: str) -> TaskQueue:
    """The queue that `app` names, found from the current directory too. Raises AppError, which says what is wrong."""
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
    """What the module does have."""
    names = [name for name, value in vars(sys.modules[module_name]).items() if isinstance(value, TaskQueue)]
    return f"; did you mean {module_name}:{names[0]}?" if names else ""
