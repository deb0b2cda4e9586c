"""Files of servers in memory, where there is room: they are synced to a disk some hundred times in a test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a file system, in which mkdtemp makes the directories
#: What the servers of all test processes may need, several times over.
_ROOM_BYTES: Final = 8 << 30


def directory() -> str | None:
    """Where temporary directories of servers are made; None is the usual place."""
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        return None
    return str(_MEMORY)


@contextmanager
def temporary_directories() -> Generator[None]:
    """Meanwhile, temporary directories of this process are made there."""
    before = tempfile.tempdir
    tempfile.tempdir = directory() or before
    try:
        yield
    finally:
        tempfile.tempdir = before
