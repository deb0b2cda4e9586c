"""What is refused before anything is started or computed: a file that cannot be written, a port that is taken."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Final

import typer

from dtqkit.model.starting import CannotListen

#: What keeps a server from a port and can be told beforehand; all else is the server's own to say.
_REFUSED: Final = (errno.EADDRINUSE, errno.EACCES)


def new_file(path: Path | None) -> Path | None:
    """An option's callback: `path`, if a file can be made there. BadParameter says why not."""
    if path is None:
        return None
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder, not a file")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{path} cannot be written: the folder {path.parent} does not let us")
    return path


def check_port(host: str, port: int, option: str) -> None:
    """Raises CannotListen when `port` (0: any that is free) cannot be had; names `option`, which chooses another."""
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
