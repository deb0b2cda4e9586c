"""`dtqkit server`: the queue over HTTP and WebSocket."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from dtqkit.cli.preflight import check_port, new_file
from dtqkit.model.errors import MissingExtra
from dtqkit.model.settings import Settings
from dtqkit.model.starting import CannotListen


def server(
    host: Annotated[
        str, typer.Option(help="The address to listen on; others than loopback need DTQ_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="HTTP and WebSocket.  [default: PORT, else 3000]")
    ] = None,
    ws_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="WebSocket.  [default: WS_PORT, else 8080]")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the ports.")] = 1,
    dev: Annotated[bool, typer.Option("--dev", help="Let pages from other ports of this machine in.")] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", callback=new_file, help="Written, as JSON that only you can read, once jobs are accepted."
        ),
    ] = None,
    owner: Annotated[int | None, typer.Option(hidden=True, help="Stop when this parent process is gone.")] = None,
) -> None:
    """Serve the HTTP API, the WebSocket stream and the dashboard until SIGTERM or Ctrl-C.

    Without DTQ_TOKEN, and on loopback only, a token is made and printed with the address (to a terminal, or in the
    ready file).
    """
    try:
        from dtqkit.web.run import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("dtqkit"):
            raise
        raise MissingExtra("the server", error.name, "server") from None
    if owner is not None:
        threading.Thread(target=_outlive_not, args=(owner,), name="owner", daemon=True).start()
    settings = Settings.from_env()
    if port is not None:
        settings = settings.replace(port=port)
    if ws_port is not None:
        settings = settings.replace(ws_port=ws_port)
    check_port(host, settings.port, "--port")
    check_port(host, settings.ws_port, "--ws-port")
    try:
        run(settings, host=host, processes=processes, dev=dev, ready_file=ready_file, lines=owner is not None)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {host} ({settings.port} and {settings.ws_port}): {error.strerror or error}"
        ) from None


def _outlive_not(owner: int) -> None:
    """Stop when the process `owner`, our parent, is gone: nobody would stop us any more."""
    while os.getppid() == owner:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
