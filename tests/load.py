"""Load on a queue while a test does something to it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class Load(ABC):
    """Threads that `run`, from `with` to its end."""

    def __init__(self, threads: int) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self.run) for _ in range(threads)]

    @abstractmethod
    def run(self) -> None:
        """What each thread does while `goes_on`."""

    def goes_on(self, pause_s: float) -> bool:
        """Pause; then whether the test wants more."""
        return not self._stop.wait(pause_s)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
