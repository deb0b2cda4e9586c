"""When jobs come: weights by hour, around a mean of 1."""

import math
from collections.abc import Sequence

import numpy as np

from dtqkit.capacity.distributions import Floats


class Profile:
    """Relative rates, one an hour, repeated for ever; hour 0 is the simulation's first."""

    hours: int

    def __init__(self, weights: Sequence[float] | Floats) -> None:
        given = np.asarray(weights, dtype=np.float64)
        name = type(self).__name__
        if given.shape != (self.hours,):
            raise ValueError(f"{name} weights must be {self.hours} numbers, one an hour; got shape {given.shape}")
        if not (np.isfinite(given).all() and (given >= 0).all() and given.sum() > 0):
            raise ValueError(f"{name} weights must be finite, not negative and not all 0; got {given.tolist()}")
        self.weights = given / given.mean()

    @property
    def peak(self) -> float:
        """The busiest hour's rate over the mean rate."""
        return float(self.weights.max())

    @property
    def peak_hour(self) -> int:
        return int(self.weights.argmax())

    def at(self, times_s: Floats) -> Floats:
        """The rate over the mean rate at those times."""
        return self.weights[(times_s // 3600).astype(np.int64) % self.hours]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(peak={self.peak:.3g} at hour {self.peak_hour})"


class HourOfDay(Profile):
    """24 relative rates, from midnight."""

    hours = 24

    @classmethod
    def swing(cls, amplitude: float, peak_hour: float = 12) -> "HourOfDay":
        """A sine over the day: `swing(.6)` is ±60 %, `swing(1)` twice the mean at noon, none at midnight."""
        if not 0 <= amplitude <= 1:
            raise ValueError(
                f"HourOfDay amplitude must be from 0 to 1 (1 doubles the rate at the peak), got {amplitude!r}; "
                "for a sharper peak give the 24 weights"
            )
        return cls([1 + amplitude * math.cos(math.tau * (hour - peak_hour) / 24) for hour in range(24)])


class HourOfWeek(Profile):
    """168 relative rates, from Monday midnight."""

    hours = 168
