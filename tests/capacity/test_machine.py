"""Cores and memory that a process may use, on machines and in containers given as files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dtqkit.capacity import machine

GB = 1 << 30


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": f"MemTotal: 9 kB\nMemAvailable: {8 * GB // 1024} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_schedulable", lambda: 16)


V2 = {"proc/self/cgroup": "0::/kubepods/pod1/box\n"}
V1 = {
    "proc/self/cgroup": "11:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/docker/abc\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 16),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 16),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 16),
        # each group above may have a limit; a container that does not see its own path has its limits at the top
        ({**V2, "sys/fs/cgroup/kubepods/cpu.max": "300000 100000\n"}, 3),
        ({**V2, "sys/fs/cgroup/kubepods/pod1/box/cpu.max": "200000 100000\n"}, 2),
        ({**V2, "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        ({**V1, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n"}, 16),
        ({**V1, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n"}, 3),
    ],
)
def test_cores_are_those_of_the_quota(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    assert machine.cores(written(tmp_path, files)) == cores


@pytest.mark.parametrize(
    ("files", "available"),
    [
        ({}, 8 * GB),
        ({**V2, "sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "5\n"}, 8 * GB),
        ({**V2, "sys/fs/cgroup/memory.max": f"{2 * GB}\n", "sys/fs/cgroup/memory.current": f"{GB}\n"}, GB),
        (
            {
                **V2,
                "sys/fs/cgroup/kubepods/memory.max": f"{4 * GB}\n",
                "sys/fs/cgroup/kubepods/memory.current": f"{3 * GB}\n",
                "sys/fs/cgroup/kubepods/memory.stat": f"anon 7\ninactive_file {2 * GB}\n",
            },
            3 * GB,
        ),
        ({**V2, "sys/fs/cgroup/memory.high": f"{GB}\n", "sys/fs/cgroup/memory.current": f"{2 * GB}\n"}, 0),
        (
            {
                **V1,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GB}\n",
            },
            8 * GB,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{3 * GB}\n",
                "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": f"{2 * GB}\n",
                "sys/fs/cgroup/memory/docker/abc/memory.stat": f"cache 1\ntotal_inactive_file {GB}\n",
            },
            2 * GB,
        ),
    ],
)
def test_memory_is_what_the_machine_and_each_group_leave(tmp_path: Path, files: dict[str, str], available: int) -> None:
    assert machine.available_memory(written(tmp_path, files)) == available


def test_without_these_files_as_on_macos_cores_and_memory_are_still_found(tmp_path: Path) -> None:
    assert machine.cores(tmp_path) == 16
    assert machine.available_memory(tmp_path) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux")
def test_cores_are_those_that_the_process_may_run_on() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from dtqkit.capacity import machine; print(machine.cores())"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux")
def test_a_limit_of_the_address_space_counts() -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)); "
        "from dtqkit.capacity import machine; print(machine.available_memory())"
    )
    assert int(subprocess.check_output([sys.executable, "-c", program], text=True)) < 3 * GB
