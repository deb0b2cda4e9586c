"""Where a task was defined, and how another process finds it: by module name and attribute."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, cast

#: Our own packages, whose frames lie between a task and the code that defines it.
_OURS: Final = ("dtqkit.tasks.", "dtqkit.client.")


def defining_module() -> tuple[str, bool]:
    """The module whose code defines a task at this moment, and whether it does so while a module is imported.

    What an import defines exists in every process that does the same import.
    """
    frames = list(_frames(inspect.currentframe()))
    home = next((name for frame in frames if not (name := _module_of(frame)).startswith(_OURS)), "?")
    return home, any(frame.f_code.co_name == "<module>" and importable_module(_module_of(frame)) for frame in frames)


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))


def importable_module(name: str) -> bool:
    """Whether another process can import it: a script, a notebook and an exec have no spec."""
    return name != "__main__" and getattr(sys.modules.get(name), "__spec__", None) is not None


def home_of(function: Callable[..., Any]) -> tuple[str, str]:
    """Module and qualified name of a function; of a partial, those of what it calls."""
    while isinstance(function, functools.partial):
        function = cast("functools.partial[Any]", function).func
    module: str = getattr(function, "__module__", None) or "?"
    return module, getattr(function, "__qualname__", type(function).__qualname__)


def reference(task: Any, function: Callable[..., Any], home: str) -> str | None:
    """`module:attribute` at which `task` or `function` is found; None when there is none.

    `home` is the module that defined the task, perhaps another than the function's. It looks in both for the task under
    the function's name, then under any name; and last for the plain function.
    """
    own, qualname = home_of(function)
    for module in dict.fromkeys((home, own)):
        if not importable_module(module):
            continue
        found = vars(sys.modules[module])
        if leads_to(_at(module, qualname), task):
            return f"{module}:{qualname}"
        if (name := next((name for name, value in found.copy().items() if leads_to(value, task)), None)) is not None:
            return f"{module}:{name}"
    plain = _at(own, qualname) if importable_module(own) else None
    return f"{own}:{qualname}" if plain is function or _same_method(plain, function) else None


def _at(module: str, qualname: str) -> Any:
    found: Any = sys.modules[module]
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def class_of(method: Callable[..., Any]) -> type[Any] | None:
    """The class that a function was written in."""
    module, qualname = home_of(method)
    found = _at(module, qualname.rpartition(".")[0]) if module in sys.modules else None
    return cast("type[Any]", found) if isinstance(found, type) else None


def leads_to(found: Any, task: Any) -> bool:
    """Whether it is the task, or a function that wraps it by functools.wraps."""
    while found is not task:
        if type(found) is not types.FunctionType:
            return False
        found = vars(found).get("__wrapped__")
    return True


def _same_method(found: Any, function: Any) -> bool:
    """Each lookup of a method makes a new bound object; only a class's can be found again."""
    return inspect.ismethod(function) and inspect.isclass(function.__self__) and found == function


def is_script() -> bool:
    """Whether this process runs a script, and not a notebook or a prompt."""
    return getattr(sys.modules.get("__main__"), "__file__", None) is not None


def is_of_script(function: Callable[..., Any], home: str) -> bool:
    """Whether it is at the top level of a script that is also a module: `python shop.py`, `worker shop:queue`."""
    module, qualname = home_of(function)
    return is_script() and home == module == "__main__" and "<" not in qualname


def why_not(task_home: str, function: Callable[..., Any]) -> str:
    """The reason why another process cannot find it, for an error message."""
    module, qualname = home_of(function)
    if "__main__" in (task_home, module):
        return "it is defined in a script or notebook"
    outer = qualname.rpartition(".<locals>")[0]
    if outer:
        return f"it is defined inside {outer.rpartition('.')[2]}()"
    if qualname == "<lambda>":
        return "it is a lambda"
    return f"no name in module {task_home} leads to it"
