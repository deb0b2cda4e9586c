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
from typing import Any, Final, Generic, ParamSpec, cast

import msgspec
from typing_extensions import TypeVar

from dtqkit.errors import TaskAlreadyRegistered, TaskDefinitionError, UnknownTask
from dtqkit.jobs import Priority
from dtqkit.options import CallOptions, TaskOptions
from dtqkit.signature import Context, Signature
from dtqkit.values import shown

__all__ = ["BoundTask", "Call", "CallOptions", "Context", "Task", "TaskInfo", "TaskOptions", "TaskRegistry"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
F_co = TypeVar("F_co", covariant=True, bound=Callable[..., Any], default=Callable[..., Any])

_PLAIN: Final = CallOptions()
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


class Call(msgspec.Struct, Generic[R_co], frozen=True):
    """A task with its arguments, checked: what `submit_many` takes. Its job's result is an R."""

    task: str
    payload: dict[str, Any]
    options: CallOptions


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

    def __init__(self, fn: F_co, *, name: str | None = None, options: TaskOptions | None = None) -> None:
        self.name: Final = _checked_name(fn, name)
        self.fn: Final = fn
        self.is_async: Final = inspect.iscoroutinefunction(fn)
        #: Used where a call does not say otherwise.
        self.defaults: Final = options or TaskOptions()
        if self.is_async and self.defaults.isolation != "auto":
            raise TaskDefinitionError(
                f"task {self.name!r}: isolation is {self.defaults.isolation!r}, but an async def runs on the "
                "worker's loop; leave it out, or write a def"
            )
        self._signature: Final = Signature(fn, self.name)
        self.schema: Final = self._signature.schema
        #: Whether a Context is passed before the payload's arguments.
        self.wants_context: Final = self._signature.wants_context
        self.description: Final = inspect.getdoc(fn) or ""
        functools.update_wrapper(cast("Callable[..., Any]", self), fn, updated=())

    @property
    def __call__(self) -> F_co:
        return self.fn

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def ref(self) -> str | None:
        """`module:qualname` under which another process finds this task; None when it cannot be imported."""
        module, qualname = _home(self.fn)
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
        content = msgspec.json.encode(
            (self.name, self.description, schema, self.defaults, importable), order="sorted"
        )
        return TaskInfo(
            name=self.name,
            description=self.description,
            schema=schema,
            defaults=self.defaults,
            schema_hash=hashlib.sha256(content).hexdigest()[:16],
            importable=importable,
        )

    def bind_payload(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """The payload for these arguments: a new dict of JSON values. InvalidPayload unless they fit."""
        return self._signature.bind(self.name, args, kwargs)

    def decode_payload(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a payload in the function's own types. InvalidPayload unless they fit."""
        return self._signature.decode(self.name, payload)

    def call(self, context: Context, arguments: Mapping[str, Any]) -> Any:
        """Call the function with decoded arguments, and the context if it wants one."""
        return self.fn(context, **arguments) if self.wants_context else self.fn(**arguments)

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Call[R_co]:
        """A call with these arguments, for `submit_many`."""
        return Call(self.name, self.bind_payload(*args, **kwargs), _PLAIN)

    def options(
        self,
        *,
        priority: Priority | None = None,
        delay_s: float = 0.0,
        idempotency_key: str | None = None,
        max_attempts: int | None = None,
        timeout_s: float | None = None,
        tags: tuple[str, ...] = (),
    ) -> BoundTask[P, R_co]:
        """The task with options for the next calls; what is None or left out stays as the task has it."""
        return BoundTask(
            self,
            CallOptions(
                priority=priority,
                delay_s=delay_s,
                idempotency_key=idempotency_key,
                max_attempts=max_attempts,
                timeout_s=timeout_s,
                tags=tags,
            ),
        )


class BoundTask(Generic[P, R_co]):
    """A task with the options of its next calls; immutable."""

    __slots__ = ("call_options", "task")

    def __init__(self, task: Task[P, R_co], call_options: CallOptions) -> None:
        self.task: Final = task
        self.call_options: Final = call_options

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Call[R_co]:
        """A call with these arguments and options, for `submit_many`."""
        return Call(self.task.name, self.task.bind_payload(*args, **kwargs), self.call_options)


class TaskRegistry:
    """The tasks of a queue, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}

    def add(self, task: Task[..., Any]) -> None:
        """Register; the same function again (a notebook cell run again) takes the place of its older self.

        Raises TaskAlreadyRegistered when another function has the name.
        """
        known = self._tasks.get(task.name)
        if known is not None and (old := _home(known.fn)) != (new := _home(task.fn)):
            raise TaskAlreadyRegistered(
                f"{':'.join(old)} is already registered as {task.name!r}; give {':'.join(new)} another name=…"
            )
        self._tasks[task.name] = task

    def get(self, name: str) -> Task[..., Any]:
        """UnknownTask, with the nearest names, if there is none."""
        try:
            return self._tasks[name]
        except KeyError:
            raise UnknownTask(name, difflib.get_close_matches(name, self._tasks)) from None

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


def _checked_name(fn: Callable[..., Any], name: str | None) -> str:
    """The task's name, once `fn` is of a kind that can be a task."""
    if isinstance(fn, Task):
        raise TaskDefinitionError(f"{fn.name!r} is a task already")
    if isinstance(fn, type) or not callable(fn):
        raise TaskDefinitionError(f"a task is a function, not {shown(fn)}: write a def that uses it")
    given = getattr(fn, "__name__", None) if name is None else name
    if given is None or given == "<lambda>":
        raise TaskDefinitionError(f"{shown(fn)} has no name of its own: give it name=…")
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise TaskDefinitionError(
            f"the name {shown(given)} cannot be a task's: a letter or underscore, then at most 127 letters, "
            "digits, underscores, dots or hyphens (ASCII)"
        )
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TaskDefinitionError(
            f"task {given!r} is a generator function: return a list, or submit a job an item"
        )
    return given
