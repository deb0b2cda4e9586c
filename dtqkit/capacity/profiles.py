"""Arrival rate by hour, as a factor of the mean rate."""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dtqkit.capacity.distributions import Floats
from dtqkit.model.errors import InvalidOption


class Profile:
    """Relative rates, one per hour, repeated cyclically. Hour 0 is the first hour of the simulation."""

    hours: ClassVar[int]

    def __init__(self, weights: Sequence[float] | Floats) -> None:
        given = np.asarray(weights, dtype=np.float64)
        name = type(self).__name__
        if given.shape != (self.hours,):
            raise InvalidOption(f"{name} weights must be {self.hours} numbers, one per hour; got shape {given.shape}")
        if not (np.isfinite(given).all() and (given >= 0).all() and given.sum() > 0):
            raise InvalidOption(f"{name} weights must be finite, not negative and not all 0; got {given.tolist()}")
        self.weights = given / given.mean()

    @property
    def peak(self) -> float:
        """Rate in the busiest hour divided by the mean rate."""
        return float(self.weights.max())

    @property
    def peak_hour(self) -> int:
        return int(self.weights.argmax())

    def at(self, times_s: Floats) -> Floats:
        """Rate divided by the mean rate at these times (s), same shape."""
        return self.weights[(times_s // 3600).astype(np.int64) % self.hours]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(peak={self.peak:.3g} at hour {self.peak_hour})"


class HourOfDay(Profile):
    """24 relative rates, from midnight on."""

    hours = 24

    @classmethod
    def swing(cls, amplitude: float, peak_hour: float = 12) -> "HourOfDay":
        """A sine over the day: `swing(.6)` is ±60 %, `swing(1)` is twice the mean at `peak_hour` and 0 at night."""
        if not 0 <= amplitude <= 1:
            raise InvalidOption(
                f"HourOfDay amplitude must be from 0 to 1 (1 doubles the rate at the peak), got {amplitude!r}; "
                "for a sharper peak give the 24 weights"
            )
        return cls([1 + amplitude * math.cos(math.tau * (hour - peak_hour) / 24) for hour in range(24)])


class HourOfWeek(Profile):
    """168 relative rates, from Monday midnight on."""

    hours = 168
