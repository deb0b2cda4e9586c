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
from dtqkit.support.importing import importing


def server(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on. Any but loopback requires DTQ_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="Port of HTTP and WebSocket.  [default: PORT, else 3000]"),
    ] = None,
    ws_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Second port, of WebSocket only.  [default: WS_PORT, else 8080]"
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="Number of processes; they share the ports.")
    ] = 1,
    dev: Annotated[
        bool, typer.Option("--dev", help="For development: accept requests from pages on other ports of this machine.")
    ] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            callback=new_file,
            help="Write addresses and token here, as JSON that only you can read, once jobs are accepted.",
        ),
    ] = None,
    owner: Annotated[int | None, typer.Option(hidden=True, help="Stop when this parent process has ended.")] = None,
) -> None:
    """Serve the HTTP API, the WebSocket stream and the dashboard until SIGTERM or Ctrl-C.

    Without DTQ_TOKEN, a server on loopback makes a token. It prints the token and the address on a terminal, or writes
    them to the ready file.
    """
    try:
        with importing():
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
    """Stop when the process `owner`, our parent, has ended: nothing else would stop us then."""
    while os.getppid() == owner:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
