"""Tasks: functions that are registered, the JSON Schema of their arguments, and the check of a payload.

A payload holds the arguments by name, as JSON values. Only what was given is in it: a parameter that was left out
takes the function's own default when it runs, so that a default can be changed while jobs wait.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    runtime_checkable,
)

import msgspec

from dtqkit.errors import InvalidPayload, TaskAlreadyRegistered, TaskDefinitionError, UnknownTask
from dtqkit.jobs import Priority
from dtqkit.values import Json, Unsuitable, check, to_builtins

P = ParamSpec("P")
R = TypeVar("R")

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


@runtime_checkable
class Context(Protocol):
    """What a running task can know and say of itself: the first parameter of a task that is annotated with it."""

    job_id: str
    task: str
    #: The claim's number, 1 for the first.
    attempt: int
    worker: str

    @property
    def cancelled(self) -> bool:
        """Whether the job should stop: looked at by tasks that run in a thread, which cannot be killed."""
        ...

    def progress(self, fraction: float, message: str = "") -> None:
        """Tell how far the job is, from 0 to 1."""
        ...

    def log(self, message: str) -> None:
        """Add lines to the job's log."""
        ...


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the jobs of a task are run, unless a submit says otherwise."""

    priority: Priority = "medium"
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    #: Seconds that one attempt may run.
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 300.0
    #: Base and ceiling of the retry delay in seconds; it doubles with each failure and is drawn with full jitter.
    backoff_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 1.0
    backoff_max_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 600.0
    #: Lost workers that a job survives, less one.
    max_losses: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    #: `def` tasks: `auto` is a child process for what can be imported, a thread for what cannot.
    isolation: Literal["auto", "process", "thread"] = "auto"


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What others need to know of a task."""

    name: str
    description: str
    #: JSON Schema 2020-12 of the payload.
    schema: dict[str, Any]
    defaults: TaskOptions
    schema_hash: str


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one submit says otherwise than its task; see `dtqkit.control.Submission`."""

    priority: Priority | None = None
    delay_s: float = 0.0
    max_attempts: int | None = None
    timeout_s: float | None = None
    idempotency_key: str | None = None
    tags: tuple[str, ...] = ()


_PLAIN: Final = CallOptions()


class Call(Generic[R]):
    """A task with its arguments, ready to be submitted."""

    __slots__ = ("options", "payload", "task")

    def __init__(self, task: Task[..., R], payload: dict[str, Json], options: CallOptions = _PLAIN) -> None:
        self.task = task
        self.payload = payload
        self.options = options

    def __repr__(self) -> str:
        return f"<call of {self.task.name}>"


class Task(Generic[P, R]):
    """A function that can be run as a job. Calling it runs it here."""

    def __init__(self, function: Callable[..., Any], name: str, defaults: TaskOptions) -> None:
        self.function = function
        self.name: Final = name
        self.defaults: Final = defaults
        self.is_async: Final = inspect.iscoroutinefunction(function)
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__wrapped__ = function
        parameters, self.wants_context = _parameters(function, name)
        self._names = tuple(parameters)
        self._keyword_only = frozenset(n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY)
        self._positional = tuple(n for n in self._names if n not in self._keyword_only)
        self._required = frozenset(n for n, p in parameters.items() if p.default is p.empty)
        self._defaults = {n: _default(name, p) for n, p in parameters.items() if p.default is not p.empty}
        self._model = _model(function, name, parameters)
        self._returns = _return_type(function)
        self._info: TaskInfo | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast(R, self.function(*args, **kwargs))

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    @property
    def ref(self) -> str | None:
        """Where another process finds it, `module:qualname`; None when it cannot (a notebook cell, a closure)."""
        module = sys.modules.get(self.__module__)
        if self.__module__ == "__main__" or "<" in self.__qualname__ or module is None:
            return None
        found: Any = module
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        return f"{self.__module__}:{self.__qualname__}" if found is self else None

    @property
    def info(self) -> TaskInfo:
        """What others need to know of it."""
        if self._info is None:
            schema = _schema(self._model, self.name, self._defaults)
            facts = msgspec.json.encode([schema, self.defaults, self.description], order="sorted")
            self._info = TaskInfo(
                name=self.name,
                description=self.description,
                schema=schema,
                defaults=self.defaults,
                schema_hash=hashlib.sha256(facts).hexdigest()[:16],
            )
        return self._info

    @property
    def description(self) -> str:
        """The docstring, without its indentation."""
        return inspect.cleandoc(self.function.__doc__ or "")

    # -- arguments

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """A call that can be submitted, alone or with many. Raises InvalidPayload, which names the argument."""
        return Call(self, self.bind_payload(*args, **kwargs))

    def bind_payload(self, *args: Any, **kwargs: Any) -> dict[str, Json]:
        """The arguments by name, as checked JSON values."""
        if len(args) > len(self._positional):
            takes = f"takes {len(self._positional)} positional arguments, and {len(args)} were given"
            raise InvalidPayload(self.name, "$", takes)
        given: dict[str, Any] = dict(zip(self._positional, args, strict=False))
        for key, value in kwargs.items():
            if key in given:
                raise InvalidPayload(self.name, f"$.{key}", f"argument {key!r} was given twice")
            given[key] = value
        try:
            payload = {key: to_builtins(value, f"$.{key}") for key, value in given.items()}
        except Unsuitable as error:
            raise InvalidPayload(self.name, error.path, error.detail) from None
        self.decode_payload(payload)
        return payload

    def check_payload(self, payload: Mapping[str, Any]) -> dict[str, Json]:
        """`payload`, if it may be stored and fits the parameters. Raises InvalidPayload."""
        try:
            checked = cast(dict[str, Json], check(payload))
        except Unsuitable as error:
            raise InvalidPayload(self.name, error.path, error.detail) from None
        self.decode_payload(checked)
        return checked

    def decode_payload(self, payload: Mapping[str, Json]) -> dict[str, Any]:
        """The keyword arguments of the function, in the types that it is annotated with. Raises InvalidPayload."""
        try:
            model = msgspec.convert(payload, self._model)
        except msgspec.ValidationError as error:
            raise self._misfit(payload, str(error)) from None
        return {name: getattr(model, _field(name)) for name in payload}

    def _misfit(self, payload: Mapping[str, Json], message: str) -> InvalidPayload:
        unexpected = sorted(set(payload) - set(self._names))
        if unexpected:
            known = f"it takes {', '.join(self._names)}" if self._names else "it takes none"
            return InvalidPayload(self.name, f"$.{unexpected[0]}", f"there is no argument {unexpected[0]!r}: {known}")
        missing = [n for n in self._names if n in self._required and n not in payload]
        if missing:
            return InvalidPayload(self.name, f"$.{missing[0]}", f"argument {missing[0]!r} is missing")
        detail, _, path = message.partition(" - at `")
        return InvalidPayload(self.name, path.rstrip("`") or "$", detail)

    def call(self, context: Context, arguments: Mapping[str, Any]) -> Any:
        """Run the function with decoded arguments; a coroutine for an asynchronous one."""
        if self.wants_context:
            return self.function(context, **arguments)
        return self.function(**arguments)

    def decode_result(self, result: Json) -> Any:
        """A recorded result in the type that the function says it returns, where that is more than JSON."""
        if self._returns is None:
            return result
        try:
            return msgspec.convert(result, self._returns)
        except msgspec.ValidationError:
            return result  # the function did not keep its word; what it returned is what there is


# -- signature to model

_REFUSED_KINDS: Final = {
    inspect.Parameter.VAR_POSITIONAL: "takes *{name}: a job's arguments have names; take a list instead",
    inspect.Parameter.VAR_KEYWORD: "takes **{name}: a job's arguments are declared; take a dict instead",
    inspect.Parameter.POSITIONAL_ONLY: "has the positional-only parameter {name}: a job's arguments go by name",
}


def _parameters(function: Callable[..., Any], name: str) -> tuple[dict[str, inspect.Parameter], bool]:
    """The parameters that a payload fills, and whether a Context comes before them."""
    if inspect.isclass(function) or not inspect.isroutine(function) or inspect.isbuiltin(function):
        raise TaskDefinitionError(f"{name}: only a function can be a task, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TaskDefinitionError(f"{name}: a generator cannot be a task: a job has one result; return a list")
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise TaskDefinitionError(f"{name}: its signature cannot be read") from None
    types = _annotations(function, name)
    parameters: dict[str, inspect.Parameter] = {}
    wants_context = False
    for i, parameter in enumerate(signature.parameters.values()):
        annotation = types.get(parameter.name, Any)
        if annotation is Context:
            if i != 0:
                raise TaskDefinitionError(f"{name}: {parameter.name}: Context must be the first parameter")
            wants_context = True
            continue
        if parameter.kind in _REFUSED_KINDS:
            raise TaskDefinitionError(f"{name} {_REFUSED_KINDS[parameter.kind].format(name=parameter.name)}")
        parameters[parameter.name] = parameter.replace(annotation=annotation)
    return parameters, wants_context


def _annotations(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise TaskDefinitionError(f"{name}: an annotation cannot be resolved: {error}") from None


def _return_type(function: Callable[..., Any]) -> Any:
    """The return annotation where decoding to it changes something; None otherwise."""
    returns = typing.get_type_hints(function, include_extras=True).get("return", Any)
    if returns in (Any, None, type(None), str, int, float, bool, list, dict, object):
        return None
    try:
        msgspec.json.schema(returns)
    except (TypeError, NotImplementedError):
        return None
    return returns


def _field(name: str) -> str:
    """A struct's field for the parameter; prefixed, since a parameter may be called like a method."""
    return f"p_{name}"


def _model(
    function: Callable[..., Any], name: str, parameters: Mapping[str, inspect.Parameter]
) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for parameter in parameters.values():
        try:
            msgspec.json.schema(parameter.annotation)
        except Exception as error:
            raise TaskDefinitionError(
                f"{name}: parameter {parameter.name} has the type {parameter.annotation!r}, which no JSON value "
                f"can be checked against ({error}); a plain type, a dataclass or a msgspec.Struct can"
            ) from None
        field: Any = (_field(parameter.name), parameter.annotation)
        if parameter.default is not parameter.empty:
            # What was left out is left to the function; here the field only must not be required.
            field = (*field, msgspec.field(default=None))
        fields.append(field)
    return msgspec.defstruct(
        "Payload",
        fields,
        kw_only=True,
        forbid_unknown_fields=True,
        rename={_field(n): n for n in parameters},
        module=function.__module__,
    )


def _default(name: str, parameter: inspect.Parameter) -> Json:
    """The default as a JSON value, which the schema shows."""
    try:
        plain = to_builtins(parameter.default)
        msgspec.convert(plain, parameter.annotation)
    except (Unsuitable, msgspec.ValidationError) as error:
        raise TaskDefinitionError(
            f"{name}: the default of {parameter.name}, {parameter.default!r}, does not fit its type: {error}"
        ) from None
    return plain


def _schema(model: type[msgspec.Struct], title: str, defaults: Mapping[str, Json]) -> dict[str, Any]:
    """One self-contained JSON Schema: the payload's own definition on top, others under $defs."""
    (top,), definitions = msgspec.json.schema_components([model], ref_template="#/$defs/{name}")
    own = top["$ref"].rpartition("/")[2]
    schema = dict(definitions.pop(own))
    schema["title"] = title
    properties: dict[str, Any] = {key: dict(value) for key, value in schema["properties"].items()}
    for key, default in defaults.items():
        properties[key]["default"] = default
    schema["properties"] = properties
    if definitions:
        schema["$defs"] = definitions
    return schema


# -- definition and registry


def options_of(name: str, options: Mapping[str, Any]) -> TaskOptions:
    """Checked options. Raises TaskDefinitionError, which names the option."""
    given = {key: value for key, value in options.items() if value is not None}
    try:
        return msgspec.convert(given, TaskOptions)
    except msgspec.ValidationError as error:
        raise TaskDefinitionError(f"{name}: {error}") from None


def check_name(name: str) -> str:
    """`name`, if a task may be called so."""
    if not _NAME.fullmatch(name):
        raise TaskDefinitionError(
            f"{name[:150]!r} cannot be a task's name: up to 128 letters, digits, _ . and -, beginning with a letter "
            "or _ (a lambda has no name: pass name=)"
        )
    return name


class TaskRegistry:
    """The tasks that a queue or a worker knows, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}
        #: Grows with each change.
        self.version = 0

    def add(self, task: Task[..., Any]) -> None:
        """Register `task`. The same function defined again, as when a cell is run again, replaces the former one.

        Raises TaskAlreadyRegistered when another function has the name.
        """
        known = self._tasks.get(task.name)
        if known is task:
            return
        if known is not None and _origin(known) != _origin(task):
            raise TaskAlreadyRegistered(
                f"{task.name!r} is {_origin(known)} already; give {_origin(task)} another name: @task(name=…)"
            )
        self._tasks[task.name] = task
        self.version += 1

    def find(self, name: str) -> Task[..., Any] | None:
        return self._tasks.get(name)

    def get(self, name: str) -> Task[..., Any]:
        """Raises UnknownTask, with the nearest names."""
        try:
            return self._tasks[name]
        except KeyError:
            raise UnknownTask(name, self.near(name)) from None

    def near(self, name: str) -> list[str]:
        return difflib.get_close_matches(name, self._tasks, n=3)

    def __iter__(self) -> Iterator[Task[..., Any]]:
        return iter(list(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)


def _origin(task: Task[..., Any]) -> str:
    return f"{task.__module__}.{task.__qualname__}"
