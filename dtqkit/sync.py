"""TaskQueue: the queue for a script, a thread or a notebook. An asynchronous queue, driven on a loop of its own."""

from __future__ import annotations

import asyncio
import atexit
import importlib
import logging
import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType, TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Self,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)

import msgspec
from anyio.from_thread import BlockingPortal, start_blocking_portal
from typing_extensions import TypeVar as DefaultTypeVar

from dtqkit.control import AttemptRow, Control, Page, Requeued
from dtqkit.errors import DtqError, MissingExtra, TaskDefinitionError, WrongLoop, redact
from dtqkit.events import Depths, Heartbeat
from dtqkit.jobs import STATUSES, Job, Priority, Status
from dtqkit.queue import AsyncJobHandle, AsyncTaskQueue
from dtqkit.settings import Settings
from dtqkit.tasks import (
    Call,
    CallOptions,
    Context,
    Task,
    TaskInfo,
    TaskRegistry,
    check_name,
    options_of,
)
from dtqkit.worker.context import current_context

if TYPE_CHECKING:
    from pandas import DataFrame

    from dtqkit.notebook.bars import Progress
    from dtqkit.notebook.boards import Board
    from dtqkit.notebook.charts import Plots
    from dtqkit.notebook.forms import Form
    from dtqkit.supervisor import Supervisor

log: logging.Logger = logging.getLogger("dtqkit.queue")

#: How long a repr may look at the stores, in seconds.
LOOK_S: Final = 0.5
#: And how long each step of a hasty end may take.
LEAVE_S: Final = 1.0

_open: weakref.WeakSet[TaskQueue] = weakref.WeakSet()


@atexit.register
def _leave_all() -> None:
    for queue in list(_open):
        queue.leave()


Isolation: TypeAlias = Literal["auto", "process", "thread"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
F_co = DefaultTypeVar("F_co", covariant=True, bound=Callable[..., Any], default=Callable[..., Any])


class _Anything:
    """Nobody has one: only a first parameter that takes anything, or says nothing, takes this."""


#: What the decorator tells apart. Untyped comes first, since a first parameter that takes anything takes a Context too.
Untyped: TypeAlias = Callable[Concatenate[_Anything, ...], R]
ContextCoroutine: TypeAlias = Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]
ContextFunction: TypeAlias = Callable[Concatenate[Context, P], R]
CoroutineFunction: TypeAlias = Callable[P, Coroutine[Any, Any, R]]


class JobHandle(Generic[R]):
    """A job, to be waited for (`result()`) or awaited. Attributes never do I/O: they tell what was last heard."""

    __slots__ = ("__weakref__", "_queue", "asynchronous")

    def __init__(self, queue: TaskQueue, handle: AsyncJobHandle[R]) -> None:
        self._queue = queue
        #: The asynchronous handle, which lives on the queue's private loop.
        self.asynchronous: AsyncJobHandle[R] = handle

    @property
    def id(self) -> str:
        return self.asynchronous.id

    @property
    def record(self) -> Job:
        """The job as it was last heard of; `refresh()` asks."""
        self._queue.soon(self.asynchronous.keep_informed)
        return self.asynchronous.known

    @property
    def status(self) -> Status:
        return self.record.status

    def result(self, timeout: float | None = None) -> R:
        """The task's result; waits for it, at most `timeout` seconds.

        Raises JobFailed with the attempt's traceback, JobCancelled, or TimeoutError.
        """
        return self._queue.run(self.asynchronous.result(timeout))

    def __await__(self) -> Generator[Any, None, R]:
        return asyncio.wrap_future(self._queue.start(self.asynchronous.result())).__await__()

    def refresh(self) -> Self:
        """Ask for the job as it is now."""
        self._queue.run(self.asynchronous.refresh())
        return self

    def cancel(self) -> Self:
        """Cancel it while it waits; ask it to stop while it runs. Raises JobConflict when it is over."""
        self._queue.run(self.asynchronous.cancel())
        return self

    def requeue(self) -> Self:
        """Give the failed job another life. Raises JobConflict when it is not failed."""
        self._queue.run(self.asynchronous.requeue())
        return self

    def log(self) -> tuple[str, ...]:
        """The lines that it has logged so far."""
        return self._queue.run(self.asynchronous.log())

    def __repr__(self) -> str:
        return repr(self.asynchronous)

    def _repr_html_(self) -> str | None:
        from dtqkit.notebook.reprs import job_card

        self._queue.catch_up([self.asynchronous])
        return job_card(self.asynchronous.known)


class JobPage(Page[Job], frozen=True, kw_only=True):
    """A page of jobs that shows itself as a table in a notebook."""

    def __repr__(self) -> str:
        return f"<{_counted([job.status for job in self.items])}{', and more' if self.cursor else ''}>"

    def _repr_html_(self) -> str | None:
        from dtqkit.notebook.reprs import jobs_table

        return jobs_table(self.items, self.cursor is not None)


class JobList(Sequence[JobHandle[R]], Generic[R]):
    """The jobs of one `map` or `submit_many`, in the order of submission."""

    def __init__(self, queue: TaskQueue, handles: Sequence[JobHandle[R]]) -> None:
        self._queue = queue
        self._handles = tuple(handles)

    @overload
    def __getitem__(self, index: int) -> JobHandle[R]: ...
    @overload
    def __getitem__(self, index: slice) -> JobList[R]: ...
    def __getitem__(self, index: int | slice) -> JobHandle[R] | JobList[R]:
        if isinstance(index, slice):
            return JobList(self._queue, self._handles[index])
        return self._handles[index]

    def __len__(self) -> int:
        return len(self._handles)

    def results(self, timeout: float | None = None) -> list[R]:
        """All results, in the order of submission; waits for them, at most `timeout` seconds.

        Raises what the first job that has no result raises.
        """

        async def gather() -> list[R]:
            async with asyncio.timeout(timeout):
                await asyncio.gather(*(handle.asynchronous.over() for handle in self._handles))
                return [await handle.asynchronous.result() for handle in self._handles]

        return self._queue.run(gather())

    def as_completed(self, timeout: float | None = None) -> Iterator[JobHandle[R]]:
        """Each job as soon as it is over, however it ended. Raises TimeoutError after `timeout` seconds."""
        over: SimpleQueue[JobHandle[R] | None] = SimpleQueue()

        async def watch(handle: JobHandle[R]) -> None:
            await handle.asynchronous.over()
            over.put(handle)

        async def watch_all() -> None:
            try:
                async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
                    for handle in self._handles:
                        group.create_task(watch(handle))
            finally:
                over.put(None)

        watching = self._queue.start(watch_all())
        try:
            while (handle := over.get()) is not None:
                yield handle
            watching.result()
        finally:
            watching.cancel()

    def __repr__(self) -> str:
        return f"<{_counted([handle.asynchronous.known.status for handle in self._handles])}>"

    def _repr_html_(self) -> str | None:
        from dtqkit.notebook.reprs import jobs_bar

        handles = [handle.asynchronous for handle in self._handles]
        self._queue.catch_up(handles)
        return jobs_bar([handle.known.status for handle in handles])


class QueuedTask(Task[P, R, F_co]):
    """A task that can submit itself, once it belongs to a queue."""

    _queue: TaskQueue | None = None

    def attach(self, queue: TaskQueue) -> None:
        """Make `submit` and `map` go to `queue`."""
        self._queue = queue

    @property
    def queue(self) -> TaskQueue:
        if self._queue is None:
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

    def map(self, values: Iterable[Any]) -> JobList[R]:
        """A job for each value of the first parameter, submitted in bulk."""
        bind = cast(Callable[[Any], Call[R]], self.bind)
        return self.queue.submit_many(bind(value) for value in values)

    def options(
        self,
        *,
        priority: Priority | None = None,
        delay_s: float = 0.0,
        max_attempts: int | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        tags: Iterable[str] = (),
    ) -> Configured[P, R]:
        """The same task with other options for the jobs that are submitted through what this returns."""
        return Configured(
            self,
            CallOptions(
                priority=priority,
                delay_s=delay_s,
                max_attempts=max_attempts,
                timeout_s=timeout_s,
                idempotency_key=idempotency_key,
                tags=tuple(tags),
            ),
        )


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

    def map(self, values: Iterable[Any]) -> JobList[R]:
        """A job for each value of the first parameter, submitted in bulk."""
        bind = cast(Callable[[Any], Call[R]], self.bind)
        return self._task.queue.submit_many(bind(value) for value in values)


class Decorator:
    """What `@task(...)` and `@queue.task(...)` return when they are given options: the decorator itself."""

    def __init__(self, queue: TaskQueue | None, name: str | None, options: dict[str, Any]) -> None:
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
        name = check_name(self._name if self._name is not None else getattr(function, "__name__", repr(function)))
        made: QueuedTask[..., Any] = QueuedTask(function, name, options_of(name, self._options))
        if self._queue is not None:
            self._queue.add(made)
        return made


class TaskQueue:
    """A queue. `TaskQueue()` takes REDIS_URL and ATLAS_URI from the environment and connects at the first use.

        queue = TaskQueue.local(workers=3)       # its own redis-server and mongod, workers in this process

        @queue.task(priority="high")
        def render(page: int, dpi: int = 150) -> str: ...

        job = render.submit(3, dpi=200)
        job.result(timeout=30)

    Its methods may be called from any thread, also while an event loop runs there; not from a coroutine that runs on a
    worker's loop, which they would block: there, use AsyncTaskQueue.
    """

    def __init__(self, settings: Settings | None = None, *, control: Control | None = None) -> None:
        self.registry: TaskRegistry = TaskRegistry()
        self._settings = settings
        self._control = control
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._core: AsyncTaskQueue | None = None
        self._owned = ExitStack()
        self._closed = False
        self._works_here = False
        self._board: Board | None = None
        #: For people, while there are no settings to tell.
        self._where = "from the environment"

    @classmethod
    def connect(cls, url: str, *, token: str = "") -> Self:
        """The queue behind the server at `url`, such as `https://queue.example`: over HTTP and WebSocket.

        Its tasks are those that the server's workers have published; functions that are defined here are checked
        against them, and do not run here.
        """
        from dtqkit.remote import RemoteControl

        queue = cls(control=RemoteControl(url, token))
        queue._where = redact(url)
        return queue

    @classmethod
    def local(cls, workers: int = 3, *, settings: Settings | None = None) -> Self:
        """A queue with stores and workers of its own, which stop with it or with this process; ready in seconds.

        The workers live in this process, so functions from a notebook's cells run too; with `workers=0` there are
        none until `start_workers`. Raises LocalStoreError when there is no redis-server or mongod to be found.
        """
        from dtqkit.local import start_local_stores

        base = Settings.from_env() if settings is None else settings
        stores = start_local_stores()
        queue = cls(base.replace(redis_url=stores.redis_url, atlas_uri=stores.atlas_uri))
        queue._owned.callback(stores.close)
        try:
            if workers:
                queue._work_here(workers)
        except BaseException:
            queue.close()
            raise
        return queue

    def start_workers(self, workers: int = 3, *, app: str, log: Path | None = None) -> Supervisor:
        """Worker processes for this queue's stores that serve `app`, such as "shop.tasks:queue"; stopped with it.

        They are started again when they die; `.pids` are those that live. What they log goes to the file `log`, or
        nowhere: a notebook would have it in its cells.
        """
        from dtqkit.supervisor import Supervisor

        supervisor = Supervisor(self.settings, app, workers, log_to=log or Path(os.devnull))
        supervisor.start_watching()
        self._owned.callback(supervisor.close)
        return supervisor

    def _work_here(self, workers: int) -> None:
        """Workers on an event loop in a thread of this process."""
        from dtqkit.process import default_lanes, work

        settings = self.settings
        portal = self._owned.enter_context(start_blocking_portal(name="dtqkit-workers"))
        stop = portal.call(_event)

        ready: Future[None] = Future()
        started: list[None] = []

        def one_more() -> None:
            started.append(None)
            if len(started) == workers:
                ready.set_result(None)

        async def run() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    for number in range(1, workers + 1):
                        name, lanes = f"worker-{number}", default_lanes(number)
                        group.create_task(
                            work(settings, self.registry, name=name, lanes=lanes, stop=stop, started=one_more)
                        )
            except BaseException as error:
                if not ready.done():
                    ready.set_exception(error)
                raise

        running = portal.start_task_soon(run)

        def finish() -> None:
            portal.call(stop.set)
            running.result()

        self._owned.callback(finish)
        ready.result()
        self._works_here = True

    # -- tasks

    @overload
    def task(self, function: Untyped[R], /) -> QueuedTask[..., R, Callable[..., R]]: ...
    @overload
    def task(self, function: ContextCoroutine[P, R], /) -> QueuedTask[P, R, ContextCoroutine[P, R]]: ...
    @overload
    def task(self, function: ContextFunction[P, R], /) -> QueuedTask[P, R, ContextFunction[P, R]]: ...
    @overload
    def task(self, function: CoroutineFunction[P, R], /) -> QueuedTask[P, R, CoroutineFunction[P, R]]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> QueuedTask[P, R, Callable[P, R]]: ...
    @overload
    def task(
        self,
        *,
        name: str | None = None,
        priority: Priority | None = None,
        max_attempts: int | None = None,
        timeout_s: float | None = None,
        backoff_s: float | None = None,
        backoff_max_s: float | None = None,
        max_losses: int | None = None,
        isolation: Isolation | None = None,
    ) -> Decorator: ...
    def task(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Make a function a task of this queue, with or without options; see `dtqkit.task`."""
        decorator = Decorator(self, options.pop("name", None), options)
        return decorator if function is None else decorator(function)

    def add(self, task: QueuedTask[..., Any]) -> None:
        """Make a task that stands alone (`@dtqkit.task`) one of this queue's. Raises TaskAlreadyRegistered."""
        self.registry.add(task)
        task.attach(self)

    def include(self, module: str | ModuleType) -> None:
        """Make all tasks that stand in `module` tasks of this queue."""
        loaded = importlib.import_module(module) if isinstance(module, str) else module
        found = cast(
            "list[QueuedTask[..., Any]]", [value for value in vars(loaded).values() if isinstance(value, QueuedTask)]
        )
        if not found:
            raise TaskDefinitionError(f"module {loaded.__name__} has no tasks: decorate functions with @task")
        for task in found:
            self.add(task)

    # -- submit

    def submit_call(self, call: Call[R]) -> JobHandle[R]:
        """Submit what `task.bind(...)` or `task.options(...).bind(...)` made."""
        self.require_workers_for([call.task])
        return JobHandle(self, self.run(self.core.submit_call(call)))

    def submit_many(self, calls: Iterable[Call[R]]) -> JobList[R]:
        """Submit many at once, in bulk: `queue.submit_many(render.bind(p, dpi=d) for p, d in pages)`."""
        wanted = list(calls)
        self.require_workers_for({call.task for call in wanted})
        handles = self.run(self.core.submit_many(wanted))
        return JobList(self, [JobHandle(self, handle) for handle in handles])

    def require_workers_for(self, tasks: Iterable[Task[..., Any, Any]]) -> None:
        """TaskDefinitionError, which says what to do, for a task of a cell or script that only this process knows,
        while no worker lives in it."""
        if self._works_here:
            return
        local = [task.name for task in tasks if task.function.__module__ == "__main__"]
        if not local:
            return
        published = {info.name for info in self.tasks() if info.importable}
        for name in local:
            if name not in published:
                raise TaskDefinitionError(
                    f"task {name!r} is defined in a cell or script, which no worker process can import, and no worker "
                    "lives in this process. Either put the function in a module, such as shop/tasks.py, start workers "
                    "that have it, and queue.include('shop.tasks') here; or use TaskQueue.local(), whose workers live "
                    "in this process"
                )

    # -- look and change

    def get(self, job_id: str) -> JobHandle[Any]:
        """A handle on an existing job. Raises JobNotFound."""
        return JobHandle(self, self.run(self.core.get(job_id)))

    def jobs(self, **filters: Any) -> JobPage:
        """Jobs, newest first: filters status, task, priority, worker, since (`7d`, `15m`, a time), q; limit; cursor."""
        page = self.run(self.core.jobs(**filters))
        return JobPage(items=page.items, cursor=page.cursor)

    def dead_letters(self, **filters: Any) -> JobPage:
        """Jobs that failed for good, with the same filters."""
        page = self.run(self.core.dead_letters(**filters))
        return JobPage(items=page.items, cursor=page.cursor)

    def requeue_dead(self, **filters: Any) -> Requeued:
        """Give dead letters another life: filters task, priority, since, ids; `dry_run=True` only counts."""
        return self.run(self.core.requeue_dead(**filters))

    def depths(self) -> Depths:
        """How many jobs wait in each lane, and run."""
        return self.run(self.core.depths())

    def workers(self) -> Sequence[Heartbeat]:
        """Live workers."""
        return self.run(self.core.workers())

    def tasks(self) -> Sequence[TaskInfo]:
        """What the workers have published."""
        return self.run(self.core.tasks())

    def history(self, **filters: Any) -> DataFrame:
        """A row an attempt, as a pandas DataFrame: filters since, task, status. Times in UTC; wait_s and run_s in s."""
        try:
            from pandas import DataFrame
        except ModuleNotFoundError as error:
            raise MissingExtra("queue.history()", error.name, "notebook") from None

        async def rows() -> list[AttemptRow]:
            return [row async for row in self.core.history(**filters)]

        found = self.run(rows())
        return DataFrame([msgspec.structs.asdict(row) for row in found], columns=AttemptRow.__struct_fields__)

    # -- in a notebook

    def board(self) -> Board:
        """The dashboard's board, live, in the cell. Raises MissingExtra without `dtqkit[notebook]`.

        A queue has one board until that is closed: a cell that is run again, or another one, shows it once more.
        """
        from dtqkit import notebook

        if self._board is None or self._board.closed:
            self._board = notebook.board(self)
        return self._board

    def form(self, task: QueuedTask[..., Any, Any] | str) -> Form:
        """A form that submits jobs of a task: one of this queue's, or the name of one that workers have published."""
        from dtqkit import notebook

        return notebook.form(self, task)

    def progress(self, jobs: Iterable[JobHandle[Any]] | JobHandle[Any]) -> Progress:
        """A bar that fills as the jobs end, also while a cell waits for them."""
        from dtqkit import notebook

        return notebook.progress(self, jobs)

    @property
    def plot(self) -> Plots:
        """Plots of the history: `queue.plot.waits()`, `.throughput()`, `.depths()`."""
        from dtqkit import notebook

        return notebook.plots(self)

    # -- life

    @property
    def settings(self) -> Settings:
        """Read from the environment at the first use, unless they were given."""
        if self._settings is None:
            self._settings = Settings.from_env()
        return self._settings

    @property
    def core(self) -> AsyncTaskQueue:
        """The asynchronous queue that this one drives; it lives on the private loop."""
        with self._lock:
            if self._closed:
                raise RuntimeError("this queue is closed")
            if self._core is None:
                settings = None if self._control is not None else self.settings
                self._core = AsyncTaskQueue(settings, registry=self.registry, control=self._control)
            return self._core

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the private loop."""
        with self._lock:
            if self._closed:
                work.close()
                raise RuntimeError("this queue is closed")
            if self._portal is None:
                self._portal = self._owned.enter_context(start_blocking_portal(name="dtqkit-queue"))
                self._owned.callback(self._close_core)
                _open.add(self)
        return self._portal.start_task_soon(lambda: work)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The same, and wait for it."""
        if self._would_block():
            work.close()
            raise WrongLoop(
                "a TaskQueue would block the event loop that it is called from: use AsyncTaskQueue and await it"
            )
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def soon(self, call: Callable[[], None]) -> None:
        """Let the private loop do something; nobody waits for it."""
        if self._portal is not None and not self._closed:
            self._portal.start_task_soon(call)

    def catch_up(self, handles: Sequence[AsyncJobHandle[Any]]) -> None:
        """Ask once for what these handles have not heard, waiting at most LOOK_S; from now on they hear by themselves.

        For showing them: never raises, and what cannot be had in time is shown as it was last known.
        """
        behind = [handle for handle in handles if not handle.follows and not handle.known.is_over]
        if not behind or self._would_block():
            return

        async def look() -> None:
            for handle in behind:
                handle.keep_informed()
            found = await self.core.control.get_many([handle.id for handle in behind])
            by_id = {job.id: job for job in found}
            for handle in behind:
                if handle.id in by_id:
                    handle.on_job(by_id[handle.id])

        self._look(look())

    def _look(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` brings within LOOK_S; None, with a line in the log, when it does not."""
        try:
            looking = self.start(work)
        except RuntimeError:
            return None  # closed
        try:
            return looking.result(LOOK_S)
        except (DtqError, TimeoutError) as error:
            looking.cancel()
            log.info("shown without a look at the stores: %s", error or "no answer in time")
            return None

    def _would_block(self) -> bool:
        """Whether the caller is a coroutine on a worker's loop or on the queue's own."""
        on_ours = current_context() is not None or threading.current_thread().name == "dtqkit-queue"
        return on_ours and _in_loop()

    def _close_core(self) -> None:
        if self._portal is not None and self._core is not None:
            self._portal.call(self._core.close)

    def close(self) -> None:
        """Close the connections; stop workers and stores that were started here. Jobs of other workers go on."""
        with self._lock:
            self._closed = True
        self._owned.close()

    def leave(self) -> None:
        """What is done for a queue that nobody has closed when the interpreter ends: its loop must not outlive it."""
        if self._portal is None or self._closed:
            return
        for step in (self._core and self._core.close, partial(self._portal.stop, cancel_remaining=True)):
            if step:
                with suppress(Exception):
                    self._portal.start_task_soon(step).result(LEAVE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = redact(self._settings.redis_url) if self._settings else self._where
        return f"<TaskQueue {where}>"

    def _repr_html_(self) -> str | None:
        from dtqkit.notebook.reprs import queue_card

        async def look() -> tuple[Depths, Sequence[Heartbeat]]:
            return await self.core.depths(), await self.core.workers()

        found = None if self._would_block() else self._look(look())
        return None if found is None else queue_card(*found)


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
def task(
    *,
    name: str | None = None,
    priority: Priority | None = None,
    max_attempts: int | None = None,
    timeout_s: float | None = None,
    backoff_s: float | None = None,
    backoff_max_s: float | None = None,
    max_losses: int | None = None,
    isolation: Isolation | None = None,
) -> Decorator: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a task, in a module of its own; `queue.include(module)` takes it into a queue.

    Defaults: the function's name, priority medium, max_attempts 3, timeout_s 300 (seconds an attempt may run),
    backoff_s 1 (the first retry delay, doubled with each failure up to backoff_max_s 600, drawn with full jitter),
    max_losses 3 (lost workers until it is dead), isolation auto (a child process; a thread for what cannot be
    imported). Raises TaskDefinitionError when the function cannot be a task.
    """
    decorator = Decorator(None, options.pop("name", None), options)
    return decorator if function is None else decorator(function)


def _counted(statuses: Sequence[Status]) -> str:
    """`4 jobs: 1 running, 3 completed`."""
    counts = Counter(statuses)
    shown = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return f"{len(statuses)} jobs: {shown}" if shown else "no jobs"


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _event() -> asyncio.Event:
    return asyncio.Event()
