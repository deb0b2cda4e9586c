"""The progress of a batch by lane: bars on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from dtqkit.cli.show import on_terminal, say
from dtqkit.model.jobs import PRIORITIES, Priority
from dtqkit.support.sanitize import escaped

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: Time between two looks at what has ended, and so between two plain lines, in seconds.
LOOK_S: Final = 2.0


class LaneProgress:
    """`advance(priority)` counts one more job of the lane as over.

    `idle` is called when no job has ended for a while; it returns the reason, which is printed once, or "".
    """

    def __init__(self, priorities: Iterable[Priority], idle: Callable[[], str] = str) -> None:
        self._total = Counter(priorities)
        self._idle = idle
        self._done: Counter[Priority] = Counter()
        self._seen = 0
        self._started = time.monotonic()
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look, name="dtqkit-progress", daemon=True)
        self._bars: Progress | None = None
        self._bar_of: dict[Priority, TaskID] = {}

    def __enter__(self) -> Self:
        if on_terminal():
            self._bars = _bars()
            self._bar_of = {lane: self._bars.add_task(lane, total=self._total[lane]) for lane in PRIORITIES}
            self._bars.start()
        self._looking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._looking.join()
        if self._bars is not None:
            self._bars.stop()
        elif kind is None and self._done.total() > self._seen:
            self._print_counts()

    def advance(self, lane: Priority) -> None:
        self._done[lane] += 1
        if self._bars is not None:
            self._bars.advance(self._bar_of[lane])

    def _look(self) -> None:
        explained = False
        while not self._over.wait(LOOK_S):
            if self._done.total() > self._seen:
                self._print_counts()
            elif not explained and (why := self._idle()):
                explained = True
                self._note(why)

    def _print_counts(self) -> None:
        done = Counter(self._done)
        self._seen = done.total()
        if self._bars is None:
            self._note("  ".join(f"{lane} {done[lane]:>5,}/{self._total[lane]:,}" for lane in PRIORITIES))

    def _note(self, text: str) -> None:
        line = f"{time.monotonic() - self._started:6.1f} s  {text}"
        if self._bars is None:
            say(line)
        else:
            self._bars.console.print(escaped(line), markup=False)  # above the bars


def _bars() -> Progress:
    from rich.console import Console
    from rich.logging import RichHandler
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(highlight=False)
    # Log lines are printed above the bars.
    logging.getLogger().handlers[:] = [RichHandler(console=console, show_time=False, show_level=False, show_path=False)]
    return Progress(
        TextColumn("{task.description:<7}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
