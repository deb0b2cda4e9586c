"""How far a batch is, by lane: bars on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from dtqkit.cli.show import on_terminal
from dtqkit.jobs import PRIORITIES, Priority

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: Time between two plain lines, in seconds.
LINE_S: Final = 2.0


class LaneProgress:
    """`advance(priority)` says that one more job of the lane is over."""

    def __init__(self, priorities: Iterable[Priority]) -> None:
        self._total = Counter(priorities)
        self._done: Counter[Priority] = Counter()
        self._started = self._said = time.monotonic()
        self._bars: Progress | None = None
        self._bar_of: dict[Priority, TaskID] = {}

    def __enter__(self) -> Self:
        if on_terminal():
            self._bars = _bars()
            self._bar_of = {lane: self._bars.add_task(lane, total=self._total[lane]) for lane in PRIORITIES}
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        elif kind is None:
            self._say()

    def advance(self, lane: Priority) -> None:
        self._done[lane] += 1
        if self._bars is not None:
            self._bars.advance(self._bar_of[lane])
        elif time.monotonic() - self._said >= LINE_S:
            self._say()

    def _say(self) -> None:
        self._said = time.monotonic()
        lanes = "  ".join(f"{lane} {self._done[lane]:>5,}/{self._total[lane]:,}" for lane in PRIORITIES)
        print(f"{self._said - self._started:6.1f} s  {lanes}", flush=True)


def _bars() -> Progress:
    from rich.console import Console
    from rich.logging import RichHandler
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(highlight=False)
    # What is logged meanwhile stands above the bars.
    logging.getLogger().handlers[:] = [RichHandler(console=console, show_time=False, show_level=False, show_path=False)]
    return Progress(
        TextColumn("{task.description:<7}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
