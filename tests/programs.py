"""The redis-servers and mongods of this machine: of the wheels and on PATH. The store tests run on each."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from dtqkit.local import programs
from dtqkit.local.programs import MONGOD, REDIS, Platform, Program


class Pair(NamedTuple):
    redis: Path
    mongod: Path

    def __str__(self) -> str:
        return "-".join(f"{path.name} {_version(path)}" for path in self)

    def first_on_path(self, directory: Path) -> str:
        """A PATH on which `directory` comes first, with these two in it."""
        directory.mkdir()
        for name, program in zip(("redis-server", "mongod"), self, strict=True):
            (directory / name).symlink_to(program)
        return f"{directory}{os.pathsep}{os.environ['PATH']}"


def pairs() -> list[Pair]:
    """Each server at least once, the wheels' first; of the kind that there are fewer of, the last is taken again."""
    redis, mongod = list(_found(REDIS)), list(_found(MONGOD))
    if not redis or not mongod:
        return []
    return [Pair(one or redis[-1], other or mongod[-1]) for one, other in zip_longest(redis, mongod)]


def _found(program: Program) -> Iterator[Path]:
    wheel = programs.wheel_for(program, Platform.here())
    carried = programs._in_wheel(wheel) if wheel else None
    seen: set[Path] = set()
    for path in (carried, *map(shutil.which, program.names)):
        if path and (real := Path(path).resolve()) not in seen and programs._too_old(program, str(path)) is None:
            seen.add(real)
            yield Path(path)


def _version(path: Path) -> str:
    printed = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    found = re.search(r"\bv=?(\d[\d.]*)", printed)
    return found[1] if found else "?"
