"""Which source files a process has loaded, so that a worker and its children never run two versions of the code."""

from __future__ import annotations

import hashlib
import site
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

#: Directory names of installed packages: those do not change under a running worker.
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


def hashes(modules: Iterable[str], known: Collection[str] = ()) -> dict[str, str]:
    """The hash of each loaded source file that belongs to the application of `modules`, but those in `known`.

    These are the modules themselves and everything that is loaded from the directories of their packages:
    an edited helper changes what a task does as well as an edited task.
    """
    roots = {root for name in modules if (root := _root(name)) is not None}
    found: dict[str, str] = {}
    for file in _files(roots):
        if file not in known:
            try:
                found[file] = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:32]
            except OSError:
                continue  # in an archive, or gone
    return found


def changed(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Files that both have loaded, and that were not the same."""
    return sorted(file for file, value in theirs.items() if ours.get(file, value) != value)


def modules_of(app: str | None, refs: Iterable[str]) -> set[str]:
    """The modules of an APP and of tasks."""
    return {name.partition(":")[0] for name in (*refs, app or "")} - {""}


def _files(roots: Collection[str]) -> Iterator[str]:
    for name, module in sys.modules.copy().items():
        file = getattr(module, "__file__", None)
        # A module below a root may be loaded from elsewhere: each module counts for the place of its own package.
        if isinstance(file, str) and file.endswith(".py") and not _installed(file) and _root(name) in roots:
            yield file


def _root(module: str) -> str | None:
    """The directory from which the top-level package of a loaded module comes."""
    top = module.partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None)
    if isinstance(file, str):
        path = Path(file)
        return str(path.parent.parent if path.stem == "__init__" else path.parent)
    paths = list(getattr(sys.modules.get(top), "__path__", ()))  # a namespace package
    return str(Path(paths[0]).parent) if paths else None


@cache
def _system() -> tuple[str, ...]:
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    return tuple(f"{path}/" for path in (*standard, *site.getsitepackages()) if path)


def _installed(file: str) -> bool:
    return file.startswith(_system()) or not _INSTALLED.isdisjoint(Path(file).parts)
