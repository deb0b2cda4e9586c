"""`dtqkit up`: private stores, workers and a server, until Ctrl-C."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from dtqkit.cli.app import check_tasks, load_app
from dtqkit.cli.busy import stop_at_once, stop_workers
from dtqkit.cli.orphans import run_under_init
from dtqkit.cli.preflight import check_port, new_file
from dtqkit.cli.serving import HOST, ServerProcess
from dtqkit.cli.stop import StopSignal, nothing_to_stop, stopping
from dtqkit.client.queue import TaskQueue
from dtqkit.local import LocalStores, start_local_stores
from dtqkit.model.errors import redact
from dtqkit.model.settings import Settings
from dtqkit.model.starting import StartFailed
from dtqkit.run.supervisor import Supervisor
from dtqkit.support.sanitize import log_safely

log = logging.getLogger("dtqkit.up")

DEMO_APP: Final = "dtqkit.demo:queue"

#: How long workers may take until their first heartbeat, in seconds.
START_S: Final = 60.0
#: How often all processes are checked, in seconds.
LOOK_S: Final = 0.2

Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, metavar="PORT", help="Port of HTTP and the dashboard.  [default: PORT, else 3000]"),
]
WsPort = Annotated[
    int | None,
    typer.Option(
        min=0, max=65535, metavar="PORT", help="Second port, of WebSocket only.  [default: WS_PORT, else 8080]"
    ),
]


def up(
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=1000, metavar="N", help="Number of worker processes.  [default: NUM_WORKERS, else 3]"),
    ] = None,
    app: Annotated[
        str, typer.Option(metavar="APP", help="The queue and its tasks, as package.module:queue.")
    ] = DEMO_APP,
    port: Port = None,
    ws_port: WsPort = None,
    reload: Annotated[bool, typer.Option("--reload", help="Restart workers when their code changes.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the stores' data in this folder.  [default: delete it at the end]"),
    ] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            callback=new_file,
            help="Write addresses and token here, as JSON that only you can read, once all is up.",
        ),
    ] = None,
) -> None:
    """Start private stores, workers for APP and the dashboard.

    The stores are a redis-server and a mongod that only this command uses. Ctrl-C stops everything once running jobs
    are done; a second Ctrl-C stops it at once.
    """
    run_under_init()
    log_safely("%(asctime)s up %(levelname)s %(message)s", "%H:%M:%S")
    log.setLevel("INFO")
    with nothing_to_stop():
        check_tasks(load_app(app), app)  # an error is reported once here, and not by each worker
    settings = _settings(port, ws_port)
    stop = StopSignal()
    with ExitStack() as owned:
        stores = owned.enter_context(start_local_stores(data))
        settings = settings.replace(redis_url=stores.redis_url, atlas_uri=stores.atlas_uri)
        supervisor = owned.enter_context(Supervisor(settings, app, workers or settings.num_workers, reload=reload))
        again = {"--app": app, "--workers": workers, "--port": port, "--ws-port": ws_port}
        stop.at_once = partial(stop_at_once, supervisor, settings, kept := _kept(data, again, reload=reload))
        server = owned.enter_context(ServerProcess(settings))

        def look() -> bool:
            """Restart workers and stores that died; returns whether to stop. Raises when the server has ended."""
            stores.revive(log.warning)
            server.check()
            supervisor.watch()
            return stop.wait(LOOK_S)

        if _wait_for_beats(settings, supervisor, server, look):
            _print_summary(stores, supervisor, server, app)
            if ready_file is not None:
                owned.enter_context(_private(ready_file, _facts(settings, stores, supervisor, server)))
            while not look():
                pass
        busy = stop_workers(supervisor, settings)
        log.info("%s", stopping(busy, settings.grace_s, by_keyboard=stop.by_keyboard))
    stop.over()
    log.info("stopped; %s", kept)


def _settings(port: int | None, ws_port: int | None) -> Settings:
    """The environment's, with these ports. Raises CannotListen when a port is taken."""
    settings = Settings.from_env()
    if port is not None:
        settings = settings.replace(port=port)
    if ws_port is not None:
        settings = settings.replace(ws_port=ws_port)
    check_port(HOST, settings.port, "--port")
    check_port(HOST, settings.ws_port, "--ws-port")
    if settings.read_token and not settings.token:
        settings = settings.replace(token=secrets.token_urlsafe(32))  # DTQ_READ_TOKEN alone would not let you submit
    return settings


def _wait_for_beats(
    settings: Settings, supervisor: Supervisor, server: ServerProcess, look: Callable[[], bool]
) -> bool:
    """Wait until every worker has sent a heartbeat and the server answers; False when a stop is requested before.

    Raises StartFailed after START_S.
    """
    deadline = time.monotonic() + START_S
    with TaskQueue(settings) as queue:
        while not (server.ready() and set(supervisor.pids) <= {beat.pid for beat in queue.workers()}):
            if look():
                return False
            if time.monotonic() > deadline:
                raise StartFailed(f"workers and server did not start within {START_S:.0f} s; see their log lines above")
    return True


def _kept(data: Path | None, options: Mapping[str, object], *, reload: bool) -> str:
    """What happens to the stores' data at the end, and the command that continues, with the options of this one."""
    if data is None:
        return "the private stores and their jobs are deleted (use --data DIR to keep them)"
    parts = ["dtqkit", "up"]
    for option, value in options.items():
        if value not in (None, DEMO_APP):
            parts += [option, str(value)]
    parts += ["--reload"] * reload + ["--data", str(data)]
    return f"the jobs are kept in {data}: `{shlex.join(parts)}` continues with them"


def _print_summary(stores: LocalStores, supervisor: Supervisor, server: ServerProcess, app: str) -> None:
    program = stores.programs["redis"]  # redis-server or valkey-server
    print(f"{program:<13} {redact(stores.redis_url)}  (process {stores.pids['redis']})")
    print(f"mongod        {redact(stores.atlas_uri)}  (process {stores.pids['mongod']})")
    print(f"workers       {app}  (processes {', '.join(map(str, supervisor.pids))})")
    print(f"data          {stores.directory}")
    # The token is shown on a terminal only, never in a log.
    token = f"/#token={server.token}" if sys.stdout.isatty() else ""
    print(f"dashboard     {server.http}{token}  (process {server.pid})")
    print("Ctrl-C stops everything.", flush=True)


def _facts(settings: Settings, stores: LocalStores, supervisor: Supervisor, server: ServerProcess) -> dict[str, Any]:
    return {
        "http": server.http,
        "ws": server.ws,
        "token": server.token,
        "redis_url": settings.redis_url,
        "atlas_uri": settings.atlas_uri,
        "pids": {"up": os.getpid(), "server": server.pid, **stores.pids, "workers": supervisor.pids},
    }


@contextmanager
def _private(path: Path, facts: dict[str, Any]) -> Generator[None]:
    """A file that is written atomically, is never readable by other users, and is removed at the end."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(facts) + b"\n")
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
