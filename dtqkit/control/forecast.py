"""When a lane will be empty: what waits, over the recent rate of ends, with an interval.

The ends are modelled as a stream whose counts have the variance `phi` times their mean (`phi` = 1: Poisson). Both the
rate, estimated from n ends, and the time that w more ends take vary by it: the relative variance of the estimate is
phi (1/n + 1/w), and the interval is that of a log-normal with this variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from dtqkit.control import Forecast
from dtqkit.model.jobs import Priority

#: With fewer ends than this, no rate is estimated.
MIN_ENDS: Final = 5
#: Of the normal distribution: 90 % lie within so many standard deviations.
_Z: Final = 1.645
_MAX_BINS: Final = 20
_ENDS_PER_BIN: Final = 5


def forecast(lane: Priority, waiting: int, ends_s: Sequence[float], span_s: float) -> Forecast:
    """`ends_s`: when jobs of the lane ended, in seconds from the beginning of a span of `span_s` in which it was busy.

    Jobs that are still to come are not in it: this is when the jobs that wait now are done.
    """
    if waiting == 0:
        return Forecast(lane=lane, waiting=0, drain_s=0.0, low_s=0.0, high_s=0.0)
    n = len(ends_s)
    if n < MIN_ENDS or span_s <= 0:
        return Forecast(lane=lane, waiting=waiting, drain_s=None, low_s=None, high_s=None)
    drain_s = waiting * span_s / n
    spread = _Z * math.sqrt(dispersion(ends_s, span_s) * (1 / n + 1 / waiting))
    return Forecast(
        lane=lane,
        waiting=waiting,
        drain_s=drain_s,
        low_s=drain_s * math.exp(-spread),
        high_s=drain_s * math.exp(spread),
    )


def dispersion(ends_s: Sequence[float], span_s: float) -> float:
    """Variance over mean of the counts in equal pieces of the span; at least 1."""
    bins = min(_MAX_BINS, len(ends_s) // _ENDS_PER_BIN)
    if bins < 2:
        return 1.0
    counts = [0] * bins
    for end_s in ends_s:
        counts[min(bins - 1, max(0, int(end_s / span_s * bins)))] += 1
    mean = len(ends_s) / bins
    variance = sum((count - mean) ** 2 for count in counts) / (bins - 1)
    return max(1.0, variance / mean)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Of values in ascending order, by linear interpolation; None of none."""
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
