"""Tasks: functions with a name, options and a checked payload.

A `Task` here does not know a queue. It binds arguments into a `Call`, which every queue takes. The methods that submit
(`.submit`, `.map`, `.delay`) return handles, which higher layers define, so a subclass adds them there; the
decorator that users import makes that subclass. Three type parameters serve type checkers:

- `P`, the payload's parameters: those of `submit` and `bind`; the Context is not among them;
- `R`, what the job's result is: for `async def`, what is awaited;
- `F`, the function itself, for calling the task here: with its Context, and a coroutine if it is one. It has
  a default, so that `Task[P, R]` is enough to write.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, ParamSpec, TypeAlias, cast

import msgspec
from typing_extensions import TypeVar

from dtqkit.model.errors import InvalidOption, TaskDefinitionError
from dtqkit.model.values import check_payload, shown
from dtqkit.tasks import origin
from dtqkit.tasks.annotations import signature_of
from dtqkit.tasks.context import Context
from dtqkit.tasks.options import CallOptions, TaskOptions
from dtqkit.tasks.signature import Signature
from dtqkit.tasks.unique import check_by

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
F_co = TypeVar("F_co", covariant=True, bound=Callable[..., Any], default=Callable[..., Any])

#: Where a job of a task runs: on the worker's loop, in a thread of the worker, or in a child process.
RunsAs: TypeAlias = Literal["coroutine", "thread", "process"]

#: The options of a call that sets none.
DEFAULTS: Final = CallOptions()
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


class Call(Generic[R_co]):
    """A task with its arguments, checked: what every queue takes. Its job's result is an R."""

    __slots__ = ("options", "payload", "task")

    def __init__(self, task: Task[..., R_co], payload: dict[str, Any], options: CallOptions = DEFAULTS) -> None:
        self.task: Final = task
        self.payload: Final = payload
        self.options: Final = options

    def __repr__(self) -> str:
        return f"<call of {self.task.name}>"


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A task's entry in the catalogue: enough to check, submit and describe its jobs without its code."""

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
        self.is_async: Final = _is_async(function)
        #: The module that made it a task, and whether it did so during its import.
        self.home: Final[str]
        self.made_by_import: Final[bool]
        self.home, self.made_by_import = origin.defining_module()
        #: Used where a call does not set the option.
        self.defaults: Final = defaults or TaskOptions()
        if self.is_async and self.defaults.isolation != "auto":
            raise TaskDefinitionError(
                f"{name}: isolation is {self.defaults.isolation!r}, but an async def runs on the worker's loop; "
                "leave it out, or write a def"
            )
        self._signature: Final = Signature(function, name)
        #: JSON Schema (2020-12) of the payload.
        self.schema: Final = self._signature.schema
        self._check_unique_by()
        #: Whether a Context is passed before the payload's arguments.
        self.wants_context: Final[bool] = self._signature.wants_context
        #: The docstring, without its indentation.
        self.description: Final = _docstring(function)
        functools.update_wrapper(cast("Callable[..., Any]", self), function, updated=())
        self._check_isolation()

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
        """`module:qualname` where another process finds this task (`find_task`); None when it cannot be imported."""
        return origin.reference(self, self.function, self.home)

    @property
    def runs_as(self) -> RunsAs:
        """Where its jobs run, by the task alone; TaskRegistry.runs_as also considers an APP."""
        return self.runs_where(importable=self.ref is not None)

    def runs_where(self, *, importable: bool) -> RunsAs:
        """The same, given whether a child can import it. A task that asks for a process never gets a thread."""
        if self.is_async:
            return "coroutine"
        if self.defaults.isolation == "auto":
            return "process" if importable else "thread"
        return self.defaults.isolation

    def why_not_importable(self) -> str:
        """The reason, for an error message."""
        return origin.why_not(self.home, self.function)

    def _check_unique_by(self) -> None:
        if self.defaults.unique_by is not None:
            try:
                check_by(self.name, self.defaults.unique_by, self.schema)
            except InvalidOption as error:
                raise TaskDefinitionError(f"{self.name}: {error}") from None

    def _check_isolation(self) -> None:
        # A module does not have the attribute yet while it is being imported.
        if self.defaults.isolation != "process" or self.made_by_import or self.ref is not None:
            return
        if not origin.is_of_script(self.function, self.home):
            raise TaskDefinitionError(self.no_process())

    def check_runs_here(self) -> None:
        """Raises TaskDefinitionError if it asks for a process, and child processes could not import it."""
        if self.defaults.isolation == "process" and self.home == "__main__" and self.ref is None:
            raise TaskDefinitionError(self.no_process())

    def no_process(self) -> str:
        """The error text for a task that asks for a process and cannot have one."""
        return (
            f"{self.name}: isolation is 'process', but no child process could import it: {self.why_not_importable()}; "
            "put the function in a module, at its top level, or leave isolation out"
        )

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
        if self._signature.is_method:
            self._owner_class()
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
        """A recorded result in the function's return type; unchanged if it does not fit that type."""
        return self._signature.decode_result(result)

    def call(self, context: Context, arguments: Mapping[str, Any]) -> Any:
        """Call the function with decoded arguments, and the context if it wants one."""
        if self._signature.is_method:
            made = self._owner_class()()
            return self.function(made, context, **arguments) if self.wants_context else self.function(made, **arguments)
        return self.function(context, **arguments) if self.wants_context else self.function(**arguments)

    # -- a method: each job calls it on a new object, which the class makes without arguments

    _owner: type[Any] | None = None

    def __set_name__(self, owner: type[Any], _name: str) -> None:
        if self._signature.is_method:
            self._owner = owner
            self._owner_class()

    if not TYPE_CHECKING:  # to a checker, a task in a class is like any other

        def __get__(self, instance, owner=None):
            """`service.method(3)` calls it here, and `service.method.submit(3)` submits it."""
            return self if instance is None or not self._signature.is_method else MethodType(self, instance)

    def _owner_class(self) -> type[Any]:
        """The class whose objects have this method. TaskDefinitionError when it cannot be found or called."""
        owner = self._owner or origin.class_of(self.function)
        if owner is None:
            raise TaskDefinitionError(f"{self.name}: a method whose class cannot be found: use a @staticmethod")
        try:
            signature_of(owner).bind()
        except (TypeError, ValueError) as error:
            raise TaskDefinitionError(
                f"{self.name}: a method needs an object, and a worker cannot make a {owner.__qualname__}() ({error}): "
                "use a @staticmethod, or a function that makes the object"
            ) from None
        return owner

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R_co]:
        """A call that can be submitted, alone or with many. InvalidPayload, naming the argument, unless they fit."""
        return Call(self, self.bind_payload(*args, **kwargs))


def check_name(name: str) -> str:
    """`name`, if it is valid for a task; raises TaskDefinitionError if not."""
    if not _NAME.fullmatch(name):
        hint = ": a lambda needs name=…" if name == "<lambda>" else ""
        raise TaskDefinitionError(
            f"{shown(name)} cannot be a task's name{hint}; it is a letter or underscore, then at most 127 letters, "
            "digits, underscores, dots or hyphens (ASCII)"
        )
    return name


def _docstring(function: Callable[..., Any]) -> str:
    """The docstring of the function, not that of functools.partial."""
    while isinstance(function, functools.partial):
        function = cast("functools.partial[Any]", function).func
    return inspect.getdoc(function) or ""


def _is_async(function: Callable[..., Any]) -> bool:
    """Also of an object whose __call__ is an async def."""
    called = getattr(function, "__call__", None)  # noqa: B004 - it is inspected, not called
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def _check_function(function: Callable[..., Any], name: str) -> None:
    if isinstance(function, Task):
        raise TaskDefinitionError(f"{name}: {function!r} is a task already; @queue.scheduled stands above @queue.task")
    if isinstance(function, classmethod):
        raise TaskDefinitionError(f"{name}: a classmethod has no class yet: use a @staticmethod, or Class.method later")
    if isinstance(function, type) or not callable(function):
        raise TaskDefinitionError(f"{name}: a task is a function, not {shown(function)}; write a def that uses it")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TaskDefinitionError(f"{name}: a generator has many results and a job has one: return a list")
    cached = cast("Any", getattr(function, "__wrapped__", None)) if hasattr(function, "cache_info") else None
    if cached is not None and inspect.iscoroutinefunction(cached):
        raise TaskDefinitionError(f"{name}: a cached coroutine can be awaited but once: cache inside the async def")
