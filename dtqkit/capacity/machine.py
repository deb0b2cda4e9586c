"""Cores and memory that this process may use, within its container's limits (cgroup 1 and 2).

Files are read below `root`: tests pass a directory with the files of another machine.
"""

import math
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
CGROUPS: Final = Path("sys/fs/cgroup")
#: cgroup 1 writes "no limit" as a number near 2^63.
V1_UNLIMITED: Final = 1 << 60


def cores(root: Path = ROOT) -> int:
    """Cores by CPU affinity and by the container's CPU quota, at least 1."""
    return max(1, min([_schedulable(), *(math.ceil(quota) for quota in _cpu_quotas(root))]))


def available_memory(root: Path = ROOT) -> int:
    """Bytes that can be allocated before a process is killed or an allocation fails."""
    return max(0, min([_free(root), *_left_in_cgroups(root), *_left_of_address_space(root)]))


def _schedulable() -> int:
    if count := getattr(os, "process_cpu_count", None):  # Python 3.13
        return int(count() or 1)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _free(root: Path) -> int:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    if not hasattr(os, "sysconf"):
        return sys.maxsize  # Windows: unknown
    # Python cannot ask macOS what is free: half of what there is.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _cpu_quotas(root: Path) -> Iterator[float]:
    for directory in _groups(root, ""):
        for quota, period in (line.split() for line in _lines(directory / "cpu.max")):
            if quota != "max":
                yield int(quota) / int(period)
    for directory in _groups(root, "cpu"):
        quota, period = _number(directory / "cpu.cfs_quota_us"), _number(directory / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            yield quota / period


def _left_in_cgroups(root: Path) -> Iterator[int]:
    for directory in _groups(root, ""):
        limits = [_number(directory / name) for name in ("memory.max", "memory.high")]
        yield from _left(limits, directory / "memory.current", directory / "memory.stat", "inactive_file")
    for directory in _groups(root, "memory"):
        limits = [_number(directory / "memory.limit_in_bytes")]
        yield from _left(limits, directory / "memory.usage_in_bytes", directory / "memory.stat", "total_inactive_file")


def _left(limits: Iterable[int | None], usage: Path, stat: Path, cache: str) -> Iterator[int]:
    """What the limits leave. Inactive file pages count as used, but the kernel frees them first: they are added."""
    used = _number(usage)
    for limit in limits:
        if limit is not None and limit < V1_UNLIMITED and used is not None:
            words = (line.split() for line in _lines(stat))
            yield limit - max(0, used - next((int(number) for name, number in words if name == cache), 0))


def _left_of_address_space(root: Path) -> Iterator[int]:
    if os.name != "posix":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        pages = next(iter(_lines(root / "proc/self/statm")), "0").split()[0]
        yield limit - int(pages) * os.sysconf("SC_PAGE_SIZE")


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Directories of the process's group and of all groups above it, as each may have a limit.

    `controller` is "" for cgroup 2 or a controller of cgroup 1. In a container that cannot see its group's name, the
    limits are at the top.
    """
    for line in _lines(root / "proc/self/cgroup"):
        _, names, path = line.split(":", 2)
        if controller not in names.split(","):
            continue
        for mount in (CGROUPS / "unified", CGROUPS) if not names else (CGROUPS / names, CGROUPS / controller):
            if (root / mount).is_dir():
                inside = Path(path.lstrip("/"))
                yield from (root / mount / group for group in (inside, *inside.parents))
                break


def _number(path: Path) -> int | None:
    """None where there is no such file, or no limit."""
    text = next(iter(_lines(path)), "max").strip()
    return None if text == "max" else int(text)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
