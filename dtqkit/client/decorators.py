"""Tasks that submit themselves, and the decorators that make them: `@dtqkit.task` and `@queue.task`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from typing_extensions import TypeVar as DefaultTypeVar
from typing_extensions import Unpack

from dtqkit.client.handles import JobHandle, JobList
from dtqkit.model.errors import InvalidOption, InvalidPayload, TaskDefinitionError
from dtqkit.model.settings import Settings
from dtqkit.model.values import shown
from dtqkit.tasks.context import Context
from dtqkit.tasks.misuse import named
from dtqkit.tasks.options import CallOptions, OptionNames, TaskOptionNames, options_of, unknown_option
from dtqkit.tasks.task import Call, Task, check_name
from dtqkit.tasks.unique import check_by, unique_of

#: Of one job of a starmap.
Arguments: TypeAlias = tuple[Any, ...] | list[Any] | Mapping[str, Any]

P = ParamSpec("P")
R = TypeVar("R")
F_co = DefaultTypeVar("F_co", covariant=True, bound=Callable[..., Any], default=Callable[..., Any])


class Submitter(Protocol):
    """A TaskQueue, as far as its tasks need it."""

    @property
    def settings(self) -> Settings: ...

    def add(self, task: QueuedTask[..., Any], /) -> None: ...

    def submit_call(self, call: Call[R], /) -> JobHandle[R]: ...

    def submit_many(self, calls: Iterable[Call[R]], /) -> JobList[R]: ...


#: The queue of tasks that belong to none, in a worker's child.
_adopted: Submitter | None = None


def adopt(queue: Submitter) -> None:
    """Let tasks of this process, which is a worker's child, go to `queue` when they belong to no other."""
    global _adopted  # noqa: PLW0603 - a process has one
    _adopted = queue


class _Anything:
    """Nobody has one: only a first parameter that takes anything, or says nothing, takes this."""


#: What the decorator distinguishes. Untyped comes first: a first parameter that takes anything takes a Context too.
Untyped: TypeAlias = Callable[Concatenate[_Anything, ...], R]
ContextCoroutine: TypeAlias = Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]
ContextFunction: TypeAlias = Callable[Concatenate[Context, P], R]
CoroutineFunction: TypeAlias = Callable[P, Coroutine[Any, Any, R]]


class QueuedTask(Task[P, R, F_co]):
    """A task that can submit itself, once it belongs to a queue."""

    _queue: Submitter | None = None

    def attach(self, queue: Submitter) -> None:
        """Make `submit` and `map` go to `queue`."""
        self._queue = queue

    def submits_to(self, settings: Settings) -> bool:
        """Whether it belongs to a queue with these settings."""
        return self._queue is not None and self._queue.settings == settings

    @property
    def queue(self) -> Submitter:
        if self._queue is None:
            if _adopted is not None:
                return _adopted
            raise TaskDefinitionError(
                f"task {self.name!r} belongs to no queue yet: call queue.include({self.__module__!r}), "
                "or decorate it with @queue.task"
            )
        return self._queue

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Submit a job: accepted, and journaled by MongoDB, when this returns.

        Raises InvalidPayload when the arguments do not fit, StoreUnavailable when MongoDB does not take it, and
        OutcomeUnknown when it may have.
        """
        return self.queue.submit_call(self.bind(*args, **kwargs))

    delay = submit

    def map(self, /, *iterables: Iterable[Any], **same: Any) -> JobList[R]:
        """A job for each value of the first parameter, submitted in bulk.

        Several iterables give several parameters, until the shortest ends, as with the builtin `map`; keyword arguments
        are the same for all jobs: `render.map(pages, dpis, paper="A4")`. Raises InvalidPayload, which names the number
        of the job that does not fit, from 0; then none is submitted.
        """
        return self.queue.submit_many(_mapped(self.bind, iterables, same))

    def starmap(self, arguments: Iterable[Arguments], /, **same: Any) -> JobList[R]:
        """A job for each tuple of positional arguments or dict of named ones, as `map` does."""
        return self.queue.submit_many(_calls(self.bind, self.name, arguments, same))

    def options(self, **options: Unpack[OptionNames]) -> Configured[P, R]:
        """The same task with other options for the jobs that are submitted through what this returns.

        `wait_s`: while MongoDB takes nothing, as during an election, a submit is sent again for so long: under the same
        id, so that it makes one job. See `dtqkit.tasks.options.JobOptions` for the others. Raises InvalidOption.
        """
        if unknown := options.keys() - set(CallOptions.__struct_fields__):
            raise TypeError(f"options() has no option {unknown_option(unknown, CallOptions)}")
        tags = options.pop("tags", ())
        if not isinstance(tags, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption(f"tags is {shown(tags)}; it is a list of texts")
        given: dict[str, Any] = {**options, "tags": tags if isinstance(tags, str) else tuple(tags)}
        made = CallOptions(**given)
        unique_of(made, self.defaults)
        if made.unique_by is not None:
            check_by(self.name, made.unique_by, self.schema)
        return Configured(self, made)


class Configured(Generic[P, R]):
    """A task with other options: submits as the task does."""

    def __init__(self, task: QueuedTask[P, R], options: CallOptions) -> None:
        self._task = task
        self._options = options

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        call = self._task.bind(*args, **kwargs)
        return Call(self._task, call.payload, self._options)

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        return self._task.queue.submit_call(self.bind(*args, **kwargs))

    delay = submit

    def map(self, /, *iterables: Iterable[Any], **same: Any) -> JobList[R]:
        """See QueuedTask.map."""
        return self._task.queue.submit_many(_mapped(self.bind, iterables, same))

    def starmap(self, arguments: Iterable[Arguments], /, **same: Any) -> JobList[R]:
        """See QueuedTask.starmap."""
        return self._task.queue.submit_many(_calls(self.bind, self._task.name, arguments, same))


def _mapped(bind: Callable[..., Call[R]], iterables: tuple[Iterable[Any], ...], same: dict[str, Any]) -> list[Call[R]]:
    if not iterables:
        raise TypeError("map needs at least one iterable: the values of the first parameter")
    return _bound(bind, ((values, same) for values in zip(*iterables, strict=False)))


def _calls(bind: Callable[..., Call[R]], task: str, arguments: Iterable[Any], same: dict[str, Any]) -> list[Call[R]]:
    def each() -> Iterator[tuple[Sequence[Any], Mapping[str, Any]]]:
        for number, one in enumerate(arguments):
            if isinstance(one, Mapping):
                yield (), {**same, **cast("Mapping[str, Any]", one)}
            elif isinstance(one, tuple | list):
                yield cast("Sequence[Any]", one), same
            else:
                given = repr(one)[:60]
                raise InvalidPayload(task, "$", f"number {number} is {given}; starmap takes tuples, lists and dicts")

    return _bound(bind, each())


def _bound(bind: Callable[..., Call[R]], arguments: Iterable[tuple[Sequence[Any], Mapping[str, Any]]]) -> list[Call[R]]:
    calls: list[Call[R]] = []
    for number, (args, kwargs) in enumerate(arguments):
        try:
            calls.append(bind(*args, **kwargs))
        except InvalidPayload as error:
            raise InvalidPayload(error.task, error.path, f"number {number}: {error.detail}") from None
    return calls


class Decorator:
    """What `@task(...)` and `@queue.task(...)` return when they are given options: the decorator itself."""

    def __init__(self, queue: Submitter | None, name: str | None, options: dict[str, Any]) -> None:
        self._queue = queue
        self._name = name
        self._options = options

    @overload
    def __call__(self, function: Untyped[R], /) -> QueuedTask[..., R, Callable[..., R]]: ...
    @overload
    def __call__(self, function: ContextCoroutine[P, R], /) -> QueuedTask[P, R, ContextCoroutine[P, R]]: ...
    @overload
    def __call__(self, function: ContextFunction[P, R], /) -> QueuedTask[P, R, ContextFunction[P, R]]: ...
    @overload
    def __call__(self, function: CoroutineFunction[P, R], /) -> QueuedTask[P, R, CoroutineFunction[P, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> QueuedTask[P, R, Callable[P, R]]: ...
    def __call__(self, function: Callable[..., Any], /) -> QueuedTask[..., Any]:
        if isinstance(function, str):
            raise named(function)
        name = self._name if self._name is not None else getattr(function, "__name__", None)
        if name is None:
            raise TaskDefinitionError(f"{shown(function)} has no name of its own: give the task one, name=…")
        check_name(name)
        made: QueuedTask[..., Any] = QueuedTask(function, name, options_of(name, self._options))
        if self._queue is not None:
            self._queue.add(made)
        return made


@overload
def task(function: Untyped[R], /) -> QueuedTask[..., R, Callable[..., R]]: ...
@overload
def task(function: ContextCoroutine[P, R], /) -> QueuedTask[P, R, ContextCoroutine[P, R]]: ...
@overload
def task(function: ContextFunction[P, R], /) -> QueuedTask[P, R, ContextFunction[P, R]]: ...
@overload
def task(function: CoroutineFunction[P, R], /) -> QueuedTask[P, R, CoroutineFunction[P, R]]: ...
@overload
def task(function: Callable[P, R], /) -> QueuedTask[P, R, Callable[P, R]]: ...
@overload
def task(*, name: str | None = None, **options: Unpack[TaskOptionNames]) -> Decorator: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a task, in a module of its own; `queue.include(module)` takes it into a queue.

    Defaults: the function's name, priority medium, max_attempts 3, timeout_s 300 (seconds an attempt may run),
    backoff_s 1 (the first retry delay, doubled with each failure up to backoff_max_s 600, drawn with full jitter),
    max_losses 3 (lost workers until it is dead), isolation auto (a child process; a thread for what no child can
    import, which the worker logs). A child imports the worker's APP: whatever that registers, closures, partials
    and bound methods too, runs in one; a script's and a notebook's functions do not. A method's jobs call it on an
    object that its class makes without arguments. Raises TaskDefinitionError when the function cannot be a task, when
    what it says that it returns has no JSON form, and when the isolation that it asks for cannot be had.
    """
    decorator = Decorator(None, options.pop("name", None), options)
    return decorator if function is None else decorator(function)
