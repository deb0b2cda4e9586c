"""A task that lets no other thread of its process run."""

from __future__ import annotations

import re
import time


def hold_gil(seconds: float) -> float:
    """One call into C that keeps the GIL for about so long; returns for how long it did."""
    letters, took = 16, 0.0
    while took < seconds / 8:
        letters, began = letters + 1, time.perf_counter()
        re.match(r"(a+)+$", "a" * letters + "b")
        took = time.perf_counter() - began
    while took < seconds * 0.75:
        letters, took = letters + 1, took * 2
    began = time.perf_counter()
    re.match(r"(a+)+$", "a" * letters + "b")
    return time.perf_counter() - began
