"""SIGTERM and Ctrl-C, for commands that own processes: the first asks, the second ends."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType


class StopSignal:
    """Takes both signals over; `wait()` tells whether one has come. What is owned must not outlive us by itself."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked.is_set():
            os._exit(1)
        self._asked.set()

    def wait(self, timeout_s: float) -> bool:
        """Whether a signal has come, at the latest after `timeout_s`."""
        return self._asked.wait(timeout_s)
