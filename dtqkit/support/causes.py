"""Tracebacks of other processes: the user's frames, and the exception itself."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any, Final

_PACKAGE: Final = Path(__file__).parents[1]
#: A frame's first line. In an exception group, bars stand before it.
_FRAME: Final = re.compile(r'^(?P<indent>[ |]*)  File "(?P<path>[^"]*)", line \d+')
#: Of the package, the part after its own directory, on whatever machine.
_OURS: Final = re.compile(r"[\\/]dtqkit[\\/](?P<rest>.+\.py)$")
#: Modules of the package that hold tasks as users write them.
_AS_USERS: Final = frozenset({"demo.py"})


def users_frames(traceback: str) -> str:
    """`traceback` without the frames of dtqkit; unchanged when there are no others."""
    kept: list[str] = []
    frames = 0
    dropping: str | None = None  # the indent of the frame whose lines are left out
    for line in traceback.splitlines():
        found = _FRAME.match(line)
        if found is not None:
            ours = _is_ours(found["path"])
            dropping = found["indent"] if ours else None
            frames += not ours
        elif dropping is not None and not _is_of_frame(line, dropping):
            dropping = None
        if dropping is None:
            kept.append(line)
    return "\n".join(kept) if frames else traceback.rstrip()


def _is_of_frame(line: str, indent: str) -> bool:
    """Whether a line goes on with a frame: its source, the marks below it, or how often it was repeated."""
    return line.startswith((f"{indent}    ", f"{indent}  [Previous line repeated"))


def _is_ours(path: str) -> bool:
    found = _OURS.search(path)
    if found is None:
        return False
    rest = found["rest"].replace("\\", "/")
    return rest not in _AS_USERS and (_PACKAGE / rest).is_file()


def original(module: str, name: str, message: str) -> Exception | None:
    """The exception as it was raised elsewhere; None when its class cannot be found here for certain.

    Only builtins and classes of modules that are imported already are looked up, and no constructor of theirs runs:
    a record must not be able to run code.
    """
    found: Any = vars(sys.modules[module]).get(name) if module in sys.modules else None
    if not (isinstance(found, type) and issubclass(found, Exception)):
        return None
    maker: Any = next(one for one in found.__mro__ if "__new__" in vars(one))
    if maker.__module__ != "builtins":
        return None
    for argument in _arguments(message):
        try:
            error: object = maker.__new__(found, argument)
            if isinstance(error, found) and str(error) == message:
                return error
        except Exception:  # noqa: S112 - it takes other arguments, or its text needs what its constructor sets
            continue
    return None


def _arguments(message: str) -> list[object]:
    """What an exception may have been given, for its text to be `message`: a KeyError shows the repr of its key."""
    try:
        return [message, ast.literal_eval(message)]
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return [message]
