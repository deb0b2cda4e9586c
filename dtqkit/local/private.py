"""Directories and files that belong to this user: not created or planted by another user of the machine."""

import os
import stat
from pathlib import Path

from dtqkit.model.starting import LocalStoreError

_WRITABLE = stat.S_IWGRP | stat.S_IWOTH


def make_private(directory: Path) -> None:
    """Create `directory` for this user only. An existing one must belong to this user, and not be writable by others.

    Raises LocalStoreError with the cure.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise LocalStoreError(f"{directory} cannot be the data directory: {error}") from error
    if stat.S_ISLNK(found.st_mode):
        raise LocalStoreError(
            f"{directory} is a symbolic link, and cannot be the data directory: name what it points to"
        )
    if found.st_uid != os.geteuid():
        raise LocalStoreError(
            f"{directory} belongs to user {found.st_uid}, and cannot be the data directory: name one of yours"
        )
    if found.st_mode & _WRITABLE:
        raise LocalStoreError(
            f"others may write into {directory} (mode {stat.S_IMODE(found.st_mode):04o}), so it cannot be the data "
            f"directory: chmod 700 {directory}, or name another one"
        )


def open_private(path: Path, flags: int) -> int:
    """Open the file at `path`, created for this user only if it does not exist. Does not follow a symbolic link."""
    try:
        return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise LocalStoreError(f"{path} is a symbolic link: remove it, and check who created it") from None
        raise LocalStoreError(f"{path} cannot be opened: {error}") from error
