"""Confidence intervals from independent replications, and the warm-up to leave out.

Waits of jobs in one queue are correlated. Formulas for independent observations, applied to all jobs together, give
"95 %" intervals that contain the true value 10 to 30 % of the time. So each replication gives one number, and the
interval is Student's t over those numbers.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from scipy.special import stdtrit

from dtqkit.capacity.checks import between_0_and_1
from dtqkit.capacity.distributions import Floats
from dtqkit.capacity.formatting import number
from dtqkit.support.markup import NOT_MATH


class Estimate(msgspec.Struct, frozen=True):
    """A mean over replications with its confidence interval. `truth in estimate` tests the interval."""

    value: float
    low: float
    high: float
    unit: str = ""
    #: Confidence level of [low, high].
    level: float = 0.95
    replications: int = 0

    @property
    def relative_half_width(self) -> float:
        """Half the interval's width divided by the value: 0.1 is ±10 %."""
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
    """Mean and confidence interval by Student's t, from one value per replication, shape (replications,).

    NaN (a replication without an observation) is left out. The interval of a single value is (-inf, inf).

    >>> print(interval([1.0, 2.0, 3.0], unit="s"))
    2 [-0.4841, 4.484] s
    """
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
    """How many observations to leave out at the start of `series` (shape (n,)), by MSER-5 (White 1997).

    The cut minimises the standard error of the remaining mean, over batches of 5, and lies in the first half. 0 for
    fewer than 50 observations.
    """
    batches = series[: len(series) // 5 * 5].reshape(-1, 5).mean(axis=1)
    n = len(batches)
    if n < 10:
        return 0
    left = np.arange(n, 0, -1, dtype=np.float64)
    sums = np.cumsum(batches[::-1])[::-1]
    squares = np.cumsum((batches**2)[::-1])[::-1]
    spread = (squares - sums**2 / left) / left**2
    return int(np.argmin(spread[: n // 2])) * 5
