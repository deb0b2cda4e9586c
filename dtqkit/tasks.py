"""Tasks: functions with a name, options and a checked payload; and the registry that a queue keeps of them.

A `Task` here knows no queue. It binds arguments into a `Call`, which every queue takes. What submits
(`.submit`, `.map`, `.delay`) returns handles, which live floors above, so it is added there by a subclass; the
decorator that users import makes that subclass. Three type parameters carry what a checker needs to know:

- `P`, the payload's parameters: those of `submit` and `bind`; the Context is not among them;
- `R`, what the job's result is: for `async def`, what is awaited;
- `F`, the function itself, for calling the task here: with its Context, and a coroutine if it is one. It has
  a default, so that `Task[P, R]` is enough to write.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, cast

import msgspec
from typing_extensions import TypeVar

from dtqkit.errors import TaskAlreadyRegistered, TaskDefinitionError, UnknownTask
from dtqkit.options import CallOptions, TaskOptions, options_of
from dtqkit.signature import Context, Signature
from dtqkit.values import check_payload, shown

__all__ = [
    "Call",
    "CallOptions",
    "Context",
    "Task",
    "TaskInfo",
    "TaskOptions",
    "TaskRegistry",
    "check_name",
    "options_of",
]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
F_co = TypeVar("F_co", covariant=True, bound=Callable[..., Any], default=Callable[..., Any])

_PLAIN: Final = CallOptions()
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


class Call(Generic[R_co]):
    """A task with its arguments, checked: what every queue takes. Its job's result is an R."""

    __slots__ = ("options", "payload", "task")

    def __init__(self, task: Task[..., R_co], payload: dict[str, Any], options: CallOptions = _PLAIN) -> None:
        self.task: Final = task
        self.payload: Final = payload
        self.options: Final = options

    def __repr__(self) -> str:
        return f"<call of {self.task.name}>"


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalogue keeps of a task: enough to check, submit and describe its jobs without its code."""

    name: str
    description: str
    #: JSON Schema (2020-12) of the payload.
    schema: dict[str, Any]
    defaults: TaskOptions
    #: Changes with anything else in here.
    schema_hash: str
    #: Whether another process can import it; a notebook cell's function it cannot.
    importable: bool


class Task(Generic[P, R_co, F_co]):
    """A function that a worker can run. Calling it runs it here: it is still a function."""

    def __init__(self, function: F_co, name: str, defaults: TaskOptions | None = None) -> None:
        _check_function(function, name)
        self.name: Final = check_name(name)
        self.function: Final = function
        self.is_async: Final = inspect.iscoroutinefunction(function)
        #: Used where a call does not say otherwise.
        self.defaults: Final = defaults or TaskOptions()
        if self.is_async and self.defaults.isolation != "auto":
            raise TaskDefinitionError(
                f"{name}: isolation is {self.defaults.isolation!r}, but an async def runs on the worker's loop; "
                "leave it out, or write a def"
            )
        self._signature: Final = Signature(function, name)
        #: JSON Schema (2020-12) of the payload.
        self.schema: Final = self._signature.schema
        #: Whether a Context is passed before the payload's arguments.
        self.wants_context: Final[bool] = self._signature.wants_context
        #: The docstring, without its indentation.
        self.description: Final = inspect.getdoc(function) or ""
        functools.update_wrapper(cast("Callable[..., Any]", self), function, updated=())

    if TYPE_CHECKING:
        # An attribute, since a method could not have F's parameters, and a property is not taken for a Callable.
        __call__: F_co
    else:

        def __call__(self, /, *args, **kwargs):
            return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def ref(self) -> str | None:
        """`module:qualname` under which another process finds this task; None when it cannot be imported."""
        module, qualname = _home(self.function)
        found: Any = None if module == "__main__" else sys.modules.get(module)
        if getattr(found, "__spec__", None) is None:
            return None
        for part in qualname.split("."):
            found = getattr(found, part, None)
        return f"{module}:{qualname}" if found is self else None

    @property
    def info(self) -> TaskInfo:
        """Its entry in the catalogue."""
        schema, importable = dict(self.schema), self.ref is not None
        content = msgspec.json.encode((self.name, self.description, schema, self.defaults, importable), order="sorted")
        return TaskInfo(
            name=self.name,
            description=self.description,
            schema=schema,
            defaults=self.defaults,
            schema_hash=hashlib.sha256(content).hexdigest()[:16],
            importable=importable,
        )

    def bind_payload(self, /, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """The payload for these arguments: a new dict of JSON values. InvalidPayload unless they fit."""
        return self._signature.bind(self.name, args, kwargs)

    def check_payload(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """`payload`, if it may be kept and fits. InvalidPayload unless it does."""
        check_payload(self.name, payload)
        self.decode_payload(payload)
        return dict(payload)

    def decode_payload(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a payload in the function's own types. InvalidPayload unless they fit."""
        return self._signature.decode(self.name, payload)

    def decode_result(self, result: Any) -> Any:
        """A recorded result in the type that the function says it returns; as it is if that is not what it is."""
        return self._signature.decode_result(result)

    def call(self, context: Context, arguments: Mapping[str, Any]) -> Any:
        """Call the function with decoded arguments, and the context if it wants one."""
        return self.function(context, **arguments) if self.wants_context else self.function(**arguments)

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R_co]:
        """A call that can be submitted, alone or with many. InvalidPayload, naming the argument, unless they fit."""
        return Call(self, self.bind_payload(*args, **kwargs))


class TaskRegistry:
    """The tasks of a queue, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}
        #: Grows with each change.
        self.version: int = 0

    def add(self, task: Task[..., Any]) -> None:
        """Register; the same function again (a notebook cell run again) takes the place of its older self.

        Raises TaskAlreadyRegistered when another function has the name.
        """
        known = self._tasks.get(task.name)
        if known is task:
            return
        if known is not None and (old := _home(known.function)) != (new := _home(task.function)):
            raise TaskAlreadyRegistered(
                f"{':'.join(old)} is already registered as {task.name!r}; give {':'.join(new)} another name=…"
            )
        self._tasks[task.name] = task
        self.version += 1

    def find(self, name: str) -> Task[..., Any] | None:
        return self._tasks.get(name)

    def get(self, name: str) -> Task[..., Any]:
        """UnknownTask, with the nearest names or what there is, if there is none."""
        try:
            return self._tasks[name]
        except KeyError:
            raise UnknownTask(name, self.near(name), there=tuple(self._tasks)) from None

    def near(self, name: str) -> list[str]:
        """Registered names that look like `name`, at most three."""
        return difflib.get_close_matches(name, self._tasks, n=3)

    def catalogue(self) -> list[TaskInfo]:
        return [task.info for task in self]

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __iter__(self) -> Iterator[Task[..., Any]]:
        """As they are now: tasks may be added meanwhile."""
        return iter(tuple(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)


def _home(fn: Callable[..., Any]) -> tuple[str, str]:
    """Module and qualified name of a function."""
    module: str = getattr(fn, "__module__", None) or "?"
    return module, getattr(fn, "__qualname__", type(fn).__qualname__)


def check_name(name: str) -> str:
    """`name`, if a task may be called so; TaskDefinitionError if not."""
    if not _NAME.fullmatch(name):
        hint = ": a lambda needs name=…" if name == "<lambda>" else ""
        raise TaskDefinitionError(
            f"{shown(name)} cannot be a task's name{hint}; it is a letter or underscore, then at most 127 letters, "
            "digits, underscores, dots or hyphens (ASCII)"
        )
    return name


def _check_function(function: Callable[..., Any], name: str) -> None:
    if isinstance(function, Task):
        raise TaskDefinitionError(f"{name}: {function!r} is a task already")
    if isinstance(function, type) or not callable(function):
        raise TaskDefinitionError(f"{name}: a task is a function, not {shown(function)}; write a def that uses it")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TaskDefinitionError(f"{name}: a generator has many results and a job has one: return a list")
