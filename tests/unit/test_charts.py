"""What queue.plot draws, to the value, from a history that is known."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dtqkit import TaskQueue
from dtqkit.notebook.charts import Plots

T0 = pd.Timestamp("2026-03-01T08:00:00Z")


class History:
    """A queue that remembers these attempts; its waiting jobs come in two pages."""

    def __init__(
        self, attempts: list[tuple[str, float, float | None, float, str]], waiting: list[tuple[str, float]]
    ) -> None:
        self._attempts, self._waiting = attempts, waiting

    def history(self, since: str | None = None) -> pd.DataFrame:
        assert since in (None, "1h")
        rows = [
            {
                "priority": priority,
                "queued_at": T0 + pd.Timedelta(seconds=queued),
                "started_at": None if started is None else T0 + pd.Timedelta(seconds=started),
                "ended_at": T0 + pd.Timedelta(seconds=ended),
                "wait_s": None if started is None else started - queued,
                "ending": ending,
            }
            for priority, queued, started, ended, ending in self._attempts
        ]
        return pd.DataFrame(rows, columns=["priority", "queued_at", "started_at", "ended_at", "wait_s", "ending"])

    def jobs(self, cursor: str | None = None, **_: Any) -> Any:
        mine = self._waiting[1:] if cursor else self._waiting[:1]
        items = [SimpleNamespace(priority=p, queued_at=T0 + pd.Timedelta(seconds=at), created_at=T0) for p, at in mine]
        return SimpleNamespace(items=items, cursor=None if cursor or len(self._waiting) < 2 else "more")


ATTEMPTS = [
    ("high", 0.0, 1.0, 2.0, "completed"),
    ("high", 0.0, 3.0, 4.0, "failed"),
    ("low", 1.0, 2.0, 4.5, "completed"),
    ("low", 1.0, 5.0, 6.0, "completed"),
]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    mpl.use("agg")
    yield
    plt.close("all")


def plots(attempts: Any = ATTEMPTS, waiting: Any = ()) -> Plots:
    return Plots(cast(TaskQueue, History(attempts, list(waiting))))


def line(axes: Axes, label: str) -> Line2D:
    (found,) = [line for line in axes.get_lines() if str(line.get_label()).startswith(label)]
    return found


def test_waits_are_drawn_as_the_share_that_waited_at_most_so_long() -> None:
    axes = plots().waits()
    np.testing.assert_allclose(np.asarray(line(axes, "high").get_xydata()), [[0, 0], [1, 0.5], [3, 1]])
    np.testing.assert_allclose(np.asarray(line(axes, "low").get_xydata()), [[0, 0], [1, 0.5], [4, 1]])
    assert line(axes, "high").get_label() == "high (95 % within 2.9 s)"
    assert axes.get_xlabel() == "wait in the queue (s)"


def test_throughput_counts_what_ended_in_each_second() -> None:
    axes = plots().throughput(since="1h")
    heights = {str(bars.get_label()): [bar.get_height() for bar in bars] for bars in axes.containers}  # pyright: ignore
    assert heights == {"completed": [1, 0, 1, 0, 1], "failed or lost": [0, 0, 1, 0, 0]}
    (failed,) = [bars for bars in axes.containers if bars.get_label() == "failed or lost"]
    assert [bar.get_y() for bar in failed] == [1, 0, 1, 0, 1]  # pyright: ignore - upon the completed ones
    assert axes.get_ylabel() == "attempts per second"


def test_depths_rise_with_each_arrival_fall_with_each_start_and_end_with_what_waits() -> None:
    axes = plots(waiting=[("low", 6.0), ("medium", 2.0)]).depths()
    drawn = {name: line(axes, name).get_ydata() for name in ("high", "medium", "low")}
    assert {name: list(values) for name, values in drawn.items()} == {  # pyright: ignore
        "high": [2, 1, 0],
        "medium": [1],
        "low": [2, 1, 0, 1],
    }


@pytest.mark.parametrize("name", ["waits", "throughput", "depths"])
def test_a_queue_that_has_done_nothing_says_so_in_axes_of_ones_own(name: str) -> None:
    _, mine = plt.subplots()
    axes = getattr(plots(attempts=[]), name)(ax=mine)
    assert axes is mine
    assert [text.get_text() for text in axes.texts] == ["nothing has run yet"]


def test_what_never_ran_has_no_wait_and_waited_until_it_ended() -> None:
    with_lost = [*ATTEMPTS, ("high", 0.0, None, 6.0, "lost")]
    waits, depths = line(plots(with_lost).waits(), "high"), line(plots(with_lost).depths(), "high")
    assert np.asarray(waits.get_xdata()).tolist() == [0.0, 1.0, 3.0]
    assert np.asarray(depths.get_ydata()).tolist() == [3, 2, 1, 0]
