"""Intervals from independent replications, and the warm-up to leave out.

Jobs that wait in one queue are correlated: formulas for independent observations, over pooled jobs, give
"95 %" intervals that cover the truth 10 to 30 % of the time. So one number a replication, and Student's t over those.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from dtqkit.capacity.checks import between_0_and_1
from dtqkit.capacity.distributions import Floats
from dtqkit.markup import NOT_MATH


def number(value: float, digits: int = 3) -> str:
    """So many digits, or all of a whole number: never an exponent where it is large."""
    return f"{value:,.0f}" if 999.5 <= abs(value) < math.inf else f"{value:.{digits}g}"


@dataclass(frozen=True)
class Estimate:
    """A mean over replications with its confidence interval."""

    value: float
    low: float
    high: float
    unit: str = ""
    level: float = 0.95
    replications: int = 0

    @property
    def relative_half_width(self) -> float:
        half = (self.high - self.low) / 2
        if not half:
            return 0.0
        return half / abs(self.value) if self.value else math.inf

    def text(self, digits: int = 3) -> str:
        """`1.93 [1.8, 2.06]`, `12,330 [11,900, 12,760]`."""
        return f"{number(self.value, digits)} [{number(self.low, digits)}, {number(self.high, digits)}]"

    def __contains__(self, truth: float) -> bool:
        return self.low <= truth <= self.high

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return f"{self:.4g} {self.unit}".rstrip()

    def _repr_html_(self) -> str:
        how = f"{self.level:.0%} interval, {self.replications} replications"
        return f'<span class="{NOT_MATH}">{self} <small>({how})</small></span>'


def interval(values: Sequence[float] | Floats, *, level: float = 0.95, unit: str = "") -> Estimate:
    """Student's t over one value a replication; NaN (nothing was observed) is left out. With fewer than two
    values the interval is without bounds."""
    between_0_and_1("level", level)
    seen = np.asarray(values, dtype=np.float64)
    seen = seen[~np.isnan(seen)]
    n = len(seen)
    if n == 0:
        return Estimate(math.nan, -math.inf, math.inf, unit, level, 0)
    mean = float(seen.mean())
    if math.isinf(mean):
        return Estimate(mean, mean, mean, unit, level, n)
    if n == 1:
        return Estimate(mean, -math.inf, math.inf, unit, level, 1)
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * float(seen.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, unit, level, n)


def mser5(series: Floats) -> int:
    """How many observations to leave out at the start: the cut that makes the rest's mean, over batches of 5,
    most certain (White 1997), within the first half."""
    batches = series[: len(series) // 5 * 5].reshape(-1, 5).mean(axis=1)
    n = len(batches)
    if n < 10:
        return 0
    left = np.arange(n, 0, -1, dtype=np.float64)
    sums = np.cumsum(batches[::-1])[::-1]
    squares = np.cumsum((batches**2)[::-1])[::-1]
    spread = (squares - sums**2 / left) / left**2
    return int(np.argmin(spread[: n // 2])) * 5
