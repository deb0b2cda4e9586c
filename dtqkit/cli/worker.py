"""`dtqkit worker`: one worker process, or a supervisor of several."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import threading
from functools import partial
from typing import Annotated, Final, Literal, NamedTuple, cast

import typer

from dtqkit.cli.app import App, check_tasks, load_app
from dtqkit.cli.busy import stop_at_once, stop_workers
from dtqkit.cli.orphans import run_under_init
from dtqkit.cli.reload import Restarter, start_again, wait_for_change
from dtqkit.cli.stop import (
    SIGNALS,
    STILL,
    StopRequests,
    StopSignal,
    end_now,
    nothing_to_stop,
    stopped_at_once,
    stopping,
)
from dtqkit.client.queue import TaskQueue
from dtqkit.model.errors import AppError, StoreUnavailable
from dtqkit.model.jobs import PRIORITIES, Priority
from dtqkit.model.settings import Settings
from dtqkit.run.loop import run_process
from dtqkit.run.process import default_lanes, work
from dtqkit.run.supervisor import AT_ONCE, AT_ONCE_S, Supervisor
from dtqkit.support.formatting import counted
from dtqkit.support.sanitize import log_safely
from dtqkit.tasks.hooks import ProcessLifespan
from dtqkit.worker.worker import Worker

log = logging.getLogger("dtqkit.process")

#: How long the stores may be unreachable when a worker starts, in seconds: less than the supervisor's WELL_S.
STORES_S: Final = 25.0
#: Pause between two tries, in seconds.
RETRY_S: Final = 1.0
#: Time between two log lines about unreachable stores, in seconds.
REMIND_S: Final = 10.0
#: How long a worker whose supervisor has ended may take to record its last outcomes, beyond its grace, in seconds.
ORPHAN_S: Final = 5.0

#: The form of a worker's name, which is stored in Redis and shown in logs and tables.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,79}")

LogLevel = Literal["debug", "info", "warning", "error"]


def checked_name(name: str | None) -> str | None:
    """An option's callback."""
    if name is not None and not _NAME.fullmatch(name):
        raise typer.BadParameter(
            f"{name[:80]!r}: a name has at most 80 ASCII letters, digits, . _ @ : - and begins with a letter or digit"
        )
    return name


def worker(
    app: App,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The worker's name; with --workers, NAME-1, NAME-2 …  [default: worker-1]",
            envvar="WORKER_ID",
            callback=checked_name,
        ),
    ] = None,
    lanes: Annotated[
        str | None,
        typer.Option(metavar="LANE,…", help="The lanes to serve, its own first.  [default: high,medium,low]"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Serve only its own lane, the first.")] = False,
    workers: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Number of processes; more than one get a supervisor.")
    ] = 1,
    reload: Annotated[
        bool, typer.Option("--reload", help="For development: restart when the code on disk changes.")
    ] = False,
    log_level: Annotated[
        LogLevel, typer.Option(help="The lowest level that is logged.", envvar="DTQ_LOG_LEVEL")
    ] = "info",
    owner: Annotated[int | None, typer.Option(hidden=True, help="Stop when this parent process has ended.")] = None,
) -> None:
    """Run the jobs of APP's tasks until SIGTERM or Ctrl-C.

    On the first signal it takes no more jobs, waits up to DTQ_GRACE_S, and returns unfinished jobs to the queue. A
    second signal, some seconds later, makes it return them at once.

    With --workers, a supervisor keeps that many processes running: the first serves high before the other lanes, the
    second medium, the third low, and so on.
    """
    run_under_init()
    directory = os.getcwd()  # noqa: PTH109 - a plain string, to start again in
    with nothing_to_stop():
        _configure_log("supervisor" if workers > 1 else name or "worker-1", log_level)
        queue = _load(app, owner if reload else None, directory)
        if workers == 1:
            place = Place(queue, app, name or "worker-1", _lanes(lanes, strict=strict), owner)
            stop = asyncio.Event()
            leaving = Leaving(queue.settings)
            restarter = Restarter(app, stop, lambda: leaving.busy)
            run_process(_work(place, stop, restarter, leaving, reload=reload))
            if restarter.due:
                log.info("reloaded: %s changed", restarter.changed)
                start_again(directory)
        elif lanes is not None:
            raise typer.BadParameter(
                "--lanes goes with one worker only; several workers get the default layout of lanes"
            )
        else:
            _supervise(queue.settings, app, workers, name or "worker", strict=strict, reload=reload)


class Place(NamedTuple):
    """The queue, name, lanes and parent of one worker process."""

    queue: TaskQueue
    app: str
    name: str
    lanes: tuple[Priority, ...]
    owner: int | None


def _load(app: str, owner: int | None, directory: str) -> TaskQueue:
    """The queue of APP. With an `owner`, which has loaded it before, code that cannot be loaded is waited for."""
    try:
        queue = load_app(app)
        check_tasks(queue, app)
    except AppError as error:
        if owner is None:
            raise
        log.error("the code cannot be loaded; waiting until a file changes: %s", error)  # noqa: TRY400 - no traceback of ours
        wait_for_change(app, owner)
        start_again(directory)
    return queue


def _configure_log(name: str, level: LogLevel) -> None:
    log_safely(f"%(asctime)s {name} %(levelname)s %(message)s", "%H:%M:%S")
    # Ours only: debug lines of MongoDB's driver show payloads.
    logging.getLogger("dtqkit").setLevel(level.upper())


def _lanes(text: str | None, *, strict: bool) -> tuple[Priority, ...]:
    if text is None:
        return default_lanes(1, strict=strict)
    lanes = tuple(part.strip() for part in text.split(","))
    wrong = [lane for lane in lanes if lane not in PRIORITIES]
    if wrong or len(set(lanes)) < len(lanes):
        what = f"there is no lane {wrong[0]!r}" if wrong else "a lane is repeated"
        raise typer.BadParameter(f"{what}; lanes are {', '.join(PRIORITIES)}", param_hint="'--lanes'")
    return cast("tuple[Priority, ...]", lanes[:1] if strict else lanes)


async def _work(place: Place, stop: asyncio.Event, restarter: Restarter, leaving: Leaving, *, reload: bool) -> None:
    owner = place.owner
    loop = asyncio.get_running_loop()
    requests = StopRequests(supervised=owner is not None)
    grace_s = place.queue.settings.grace_s

    def on_signal(number: int) -> None:
        by_keyboard = number == signal.SIGINT
        who = "" if by_keyboard else f"{signal.Signals(number).name}: "
        match requests.on(number):
            case "stop":
                log.info("%s%s", who, stopping(leaving.busy, grace_s, by_keyboard=by_keyboard and owner is None))
                restarter.close()
                stop.set()
            case "same":
                log.debug("%salready stopping", who)
            case "again":
                log.info("%s", STILL)
            case "at once":
                leaving.begin()

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(AT_ONCE, leaving.begin)
    watching: list[asyncio.Task[None]] = []
    if owner is not None:
        watching.append(asyncio.create_task(_stop_with(owner, stop, grace_s + ORPHAN_S), name="owner"))
    if reload:
        watching.append(asyncio.create_task(restarter.watch(), name="sources"))
    try:
        await _work_when_stores_answer(place, stop, restarter, leaving)
    finally:
        await leaving.done()
        for task in watching:
            task.cancel()
        # A signal that comes now must not be lost between this loop and the process that follows.
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, end_now)


async def _work_when_stores_answer(place: Place, stop: asyncio.Event, restarter: Restarter, leaving: Leaving) -> None:
    """Work. Raises StoreUnavailable when the stores do not answer within STORES_S of the start.

    A supervised worker waits without a limit while trying again may help: the supervisor would only restart it.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + STORES_S
    remind_at = 0.0
    settings, registry = place.queue.settings, place.queue.registry
    started = asyncio.Event()

    def works(worker: Worker) -> None:
        started.set()
        leaving.worker = worker
        tasks = counted(len(registry), "task", "tasks")
        log.info("worker %s (process %d) serves %s with %s", worker.id, os.getpid(), ", ".join(place.lanes), tasks)

    while not stop.is_set():
        try:
            await work(
                settings,
                registry,
                name=place.name,
                lanes=place.lanes,
                life=ProcessLifespan(place.queue.hooks),
                app=place.app,
                outdated=restarter.outdated,
                stop=stop,
                works=works,
            )
        except StoreUnavailable as error:
            left_s = deadline - loop.time()
            waits = place.owner is not None
            if started.is_set() or not error.passes or (left_s <= RETRY_S and not waits):
                raise
            if loop.time() >= remind_at:
                log.warning("%s; trying again%s", error, "" if waits else f" for {left_s:.0f} s")
                remind_at = loop.time() + REMIND_S
        else:
            break
        try:
            async with asyncio.timeout(RETRY_S):
                await stop.wait()
        except TimeoutError:
            pass
    if not restarter.due:
        log.info("worker %s stopped", leaving.worker.id if leaving.worker is not None else place.name)


class Leaving:
    """The stop at once of a worker process, at the second request: it returns its jobs to the queue and exits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        #: Set once the stores have answered.
        self.worker: Worker | None = None

    @property
    def busy(self) -> int:
        return self.worker.busy if self.worker is not None else 0

    def begin(self) -> None:
        if self._task is None:
            # Exits even if a store does not answer or a task blocks the loop.
            timer = threading.Timer(AT_ONCE_S, os._exit, (1,))
            timer.daemon = True
            timer.start()
            self._task = asyncio.create_task(self._leave(), name="stop at once")

    async def done(self) -> None:
        """Does not return if the stop has begun: the process exits."""
        if self._task is not None:
            await self._task

    async def _leave(self) -> None:
        try:
            busy = self.busy
            left = await self.worker.give_back() if self.worker is not None else 0
            log.warning("%s", stopped_at_once(busy - left, left, self._settings.recovered_s))
        finally:
            os._exit(1)


async def _stop_with(owner: int, stop: asyncio.Event, grace_s: float) -> None:
    """Stop when the process `owner`, our parent, has ended: nothing else would stop us then."""
    while os.getppid() == owner:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(1.0)
    if not stop.is_set():
        log.warning("the supervisor has ended: stopping once running jobs are done")
        stop.set()
    await asyncio.sleep(grace_s)
    os._exit(1)


def _supervise(settings: Settings, app: str, workers: int, name: str, *, strict: bool, reload: bool) -> None:
    stop = StopSignal()
    with Supervisor(settings, app, workers, name=name, strict=strict, reload=reload) as supervisor:
        stop.at_once = partial(stop_at_once, supervisor, settings)
        log.info("supervisor (process %d) runs %d workers", os.getpid(), workers)
        while not stop.wait(0.2):
            supervisor.watch()
        busy = stop_workers(supervisor, settings)
        log.info("%s", stopping(busy, settings.grace_s, by_keyboard=stop.by_keyboard))
    log.info("stopped")
