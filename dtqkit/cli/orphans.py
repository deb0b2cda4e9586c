"""Reap the orphans that tasks leave behind, where the kernel makes this process their parent."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

from dtqkit.cli.init import VARIABLE

_PR_GET_CHILD_SUBREAPER: Final = 37


def run_under_init() -> None:
    """As PID 1 of a container, or as a subreaper: become its init, and run this very command as its child."""
    init = os.environ.pop(VARIABLE, "")  # of no interest to what tasks start
    if sys.platform != "linux" or init == str(os.getppid()) or not _gets_orphans():
        return
    script = str(Path(__file__).with_name("init.py"))
    command = [sys.executable, *sys.orig_argv[1:]]
    os.execv(sys.executable, [sys.executable, "-I", "-S", script, *command])  # noqa: S606 - ourselves again


def _gets_orphans() -> bool:
    if os.getpid() == 1:
        return True
    answer = ctypes.c_int(0)
    try:
        ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    except (OSError, AttributeError):
        return False
    return bool(answer.value)
