"""Checks before anything is started or computed: that a file can be written, that a port is free."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Final

import typer

from dtqkit.model.starting import CannotListen

#: Errors of a port that can be found beforehand; the server reports all others.
_REFUSED: Final = (errno.EADDRINUSE, errno.EACCES)


def new_file(path: Path | None) -> Path | None:
    """An option's callback: `path`, if a file can be made there. Raises BadParameter with the reason."""
    if path is None:
        return None
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder, not a file")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{path} cannot be written: no permission to write in the folder {path.parent}")
    return path


def check_port(host: str, port: int, option: str) -> None:
    """Raises CannotListen when `port` (0: any that is free) cannot be opened; it names `option`, which sets another."""
    if port == 0:
        return
    try:
        for family, _, _, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            socket.create_server(address, family=family).close()
    except OSError as error:
        if error.errno in _REFUSED:
            raise CannotListen(
                f"cannot listen on port {port} of {host} ({os.strerror(error.errno)}): "
                f"choose another with {option}, or 0 for any that is free"
            ) from None
