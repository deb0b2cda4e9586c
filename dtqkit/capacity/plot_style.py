"""What all plots share: colours, axes, error bars.

Text follows the matplotlib style in force, so `plt.style.context("dark_background")` works, and the colours are legible
on light and on dark.
"""
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (matplotlib leaves most keyword arguments open, and a table's cells have no types)

from collections.abc import Sequence
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

BLUE: Final = "#3b82d6"
ORANGE: Final = "#e08a1e"
GREEN: Final = "#2fa36b"
RED: Final = "#e0524d"
PURPLE: Final = "#9a6fd0"
#: Inches.
SIZE: Final = (7.0, 4.2)


def new_axes(ax: Axes | None, title: str, x: str, y: str) -> Axes:
    """`ax`, or the axes of a new figure, with title and labels."""
    chosen = ax if ax is not None else plt.subplots(figsize=SIZE, layout="constrained")[1]
    chosen.set_title(title, fontsize=11)
    chosen.set_xlabel(x)
    chosen.set_ylabel(y)
    chosen.grid(alpha=0.25)
    chosen.spines[["top", "right"]].set_visible(False)
    return chosen


def _plain(value: float, _position: int | None) -> str:
    return f"{value:,.4g}"


def wait_scale(axes: Axes) -> None:
    """Linear up to 1 s, logarithmic beyond: shows waits of idle and of overloaded workers in one plot."""
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))


def error_bars(ax: Axes, x: Sequence[float], table: pd.DataFrame, label: str, color: str) -> None:
    """Points at `x` with the intervals of `table`: columns estimate, low, high."""
    middle = table["estimate"].to_numpy(dtype=np.float64)
    low, high = (table[name].to_numpy(dtype=np.float64) for name in ("low", "high"))
    ax.errorbar(x, middle, yerr=[middle - low, high - middle], fmt="o", ms=4, capsize=3, color=color, label=label)
