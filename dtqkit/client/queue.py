"""TaskQueue: the queue for a script, a thread or a notebook. An asynchronous queue, driven on a loop of its own."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar, Unpack, cast, overload

from typing_extensions import override

from dtqkit.client.async_handle import AsyncJobHandle
from dtqkit.client.decorators import (
    ContextCoroutine,
    ContextFunction,
    CoroutineFunction,
    Decorator,
    QueuedTask,
    Untyped,
)
from dtqkit.client.frames import frame_of
from dtqkit.client.handles import JobHandle, JobList, JobPage
from dtqkit.client.many import BulkQueue
from dtqkit.client.pauses import PausingQueue
from dtqkit.client.schedule_handles import SchedulingQueue
from dtqkit.control import AttemptRow, Control, DeadLetterFilters, HistoryFilters, JobFilters, Requeued
from dtqkit.model.batches import BatchRefused
from dtqkit.model.errors import TaskDefinitionError, redact
from dtqkit.model.events import Depths, Heartbeat
from dtqkit.model.settings import Settings
from dtqkit.support.background import abandon
from dtqkit.tasks.hooks import ProcessLifespan
from dtqkit.tasks.misuse import BY_NAME, check_call, how_to_submit
from dtqkit.tasks.notice import notice
from dtqkit.tasks.options import TaskOptionNames
from dtqkit.tasks.task import Call, Task, TaskInfo

if TYPE_CHECKING:
    from pandas import DataFrame

    from dtqkit.notebook.bars import ProgressBar
    from dtqkit.notebook.boards import Board
    from dtqkit.notebook.charts import Plots
    from dtqkit.notebook.forms import Form
    from dtqkit.run.supervisor import Supervisor

log: logging.Logger = logging.getLogger("dtqkit.queue")

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

#: How long a hasty end of all queues may take.
LEAVE_S: Final = 1.0

#: Methods that are not for users.
_INTERNAL: Final = frozenset(
    (
        "after_fork",
        "catch_up",
        "core",
        "freshen",
        "hooks",
        "leave",
        "registry",
        "remote",
        "require_workers_for",
        "run",
        "start",
    )
)


class TaskQueue(SchedulingQueue, PausingQueue, BulkQueue):
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
        super().__init__(settings, control)
        self._works_here = False
        self._board: Board | None = None
        #: For people, while there are no settings to show.
        self._where = "from the environment"

    @classmethod
    def connect(cls, url: str, *, token: str = "") -> Self:
        """The queue behind the server at `url`, such as `https://queue.example`: over HTTP and WebSocket.

        Its tasks are those that the server's workers have published; functions that are defined here are checked
        against them, and do not run here. So a job whose code is elsewhere is submitted through a function without a
        body that has its task's name and parameters:

            @queue.task
            def render(page: int, dpi: int = 150) -> str: ...

            render.submit(3).result(timeout=30)
        """
        from dtqkit.remote import RemoteControl

        def control() -> Control:
            return RemoteControl(url, token)

        queue = cls(control=control())
        queue._new_control = control
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
        nowhere: a notebook would have it in its cells. Raises AppError when `app` cannot be imported.
        """
        from dtqkit.run.supervisor import Supervisor, check_app, environment_of

        check_app(app, environment_of(self.settings))
        supervisor = Supervisor(self.settings, app, workers, log_to=log or Path(os.devnull))
        supervisor.start_watching()
        self._owned.callback(supervisor.close)
        return supervisor

    def _work_here(self, workers: int) -> None:
        """Workers on an event loop in a thread of this process."""
        from dtqkit.client.here import work_here

        life = ProcessLifespan(self.hooks)
        background = work_here(self.settings, self.registry, life, workers, self._owned)
        self._works_here = True
        self._lifespan_here = lambda: background.start(life.renew()).result()

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
    def task(self, *, name: str | None = None, **options: Unpack[TaskOptionNames]) -> Decorator: ...
    def task(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Make a function a task of this queue, with or without options; see `dtqkit.task`."""
        decorator = Decorator(self, options.pop("name", None), options)
        return decorator if function is None else decorator(function)

    def add(self, task: QueuedTask[..., Any]) -> None:
        """Make a task that stands alone (`@dtqkit.task`) one of this queue's. Raises TaskAlreadyRegistered."""
        if self._works_here:
            task.check_runs_here()
            self._check_hooked(task)
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
        check_call(call)
        self.require_workers_for([call.task])
        return JobHandle(self, self.run(self.core.submit_call(call)))

    def submit_many(self, calls: Iterable[Call[R]]) -> JobList[R]:
        """Submit many at once, in bulk: `queue.submit_many(render.bind(p, dpi=d) for p, d in pages)`.

        Raises BatchRefused when some are refused: the others are accepted, and it has them as a JobList.
        """
        wanted = list(calls)
        for call in wanted:
            check_call(call)
        self.require_workers_for({call.task for call in wanted})
        try:
            handles = self.run(self.core.submit_many(wanted))
        except BatchRefused as error:
            error.accepted = self._list_of(error.accepted)
            raise
        return self._list_of(handles)

    def _list_of(self, handles: Iterable[AsyncJobHandle[R]]) -> JobList[R]:
        return JobList(self, [JobHandle(self, handle) for handle in handles])

    def require_workers_for(self, tasks: Iterable[Task[..., Any, Any]]) -> None:
        """TaskDefinitionError, which says what to do, for a task of a cell or script that only this process knows,
        while no worker lives in it."""
        if self._works_here:
            for line in self.registry.in_threads():
                notice(log, line)
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

    def jobs(self, **filters: Unpack[JobFilters]) -> JobPage:
        """Jobs, newest first: filters status, task, priority, worker, since (`7d`, `15m`, a time), q; limit; cursor."""
        page = self.run(self.core.jobs(**filters))
        return JobPage(items=page.items, cursor=page.cursor)

    def dead_letters(self, **filters: Unpack[JobFilters]) -> JobPage:
        """Jobs that failed for good, with the same filters."""
        page = self.run(self.core.dead_letters(**filters))
        return JobPage(items=page.items, cursor=page.cursor)

    def requeue_dead(self, **filters: Unpack[DeadLetterFilters]) -> Requeued:
        """Requeue dead letters: filters task, priority, since, ids; `dry_run=True` only counts."""
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

    def history(self, **filters: Unpack[HistoryFilters]) -> DataFrame:
        """A row an attempt, as a pandas DataFrame: filters since, task, status; columns, in this order.

        Times are in UTC, wait_s and run_s in seconds; what never began has NaT and NaN there. The columns payload, tags
        and result come when they are asked for: `queue.history(since="7d", columns=["task", "payload", "result"])`.
        """

        async def rows() -> list[AttemptRow]:
            return [row async for row in self.core.history(**filters)]

        return frame_of(filters, lambda: self.run(rows()))

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

    def progress(self, jobs: Iterable[JobHandle[Any]] | JobHandle[Any]) -> ProgressBar:
        """A bar that fills as the jobs end, also while a cell waits for them."""
        from dtqkit import notebook

        return notebook.progress(self, jobs)

    @property
    def plot(self) -> Plots:
        """Plots of the history: `queue.plot.waits()`, `.throughput()`, `.depths()`."""
        from dtqkit import notebook

        return notebook.plots(self)

    @override
    def after_fork(self) -> None:
        abandon(self._board)
        super().after_fork()
        self._board = None

    def __dir__(self) -> list[str]:
        """Without what handles, widgets and tests use: completion in a notebook shows what is there for its author."""
        return [name for name in super().__dir__() if name not in _INTERNAL]

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            if name in BY_NAME:
                raise AttributeError(f"a TaskQueue has no {name!r}: {how_to_submit()}", name=name, obj=self)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __repr__(self) -> str:
        where = redact(self._settings.redis_url) if self._settings else self._where
        return f"<TaskQueue {where}>"

    def _repr_html_(self) -> str | None:
        from dtqkit.notebook.reprs import queue_card

        async def look() -> tuple[Depths, Sequence[Heartbeat]]:
            return await self.core.depths(), await self.core.workers()

        found = None if self._would_block() else self._look(look())
        return None if found is None else queue_card(*found)
