"""The rules of a job's life that both the queue and the capacity model follow."""

from typing import Protocol


class SupportsRandom(Protocol):
    """Both random.Random and numpy.random.Generator."""

    def random(self) -> float: ...


def backoff_ceiling_s(
    failures: int, *, base_s: float = 1.0, factor: float = 2.0, max_s: float = 600.0
) -> float:
    """The longest wait before the next attempt, after `failures` (>= 1) failed ones."""
    try:
        return min(max_s, base_s * factor ** (failures - 1))
    except OverflowError:
        return max_s


def backoff_s(
    failures: int,
    rng: SupportsRandom,
    *,
    base_s: float = 1.0,
    factor: float = 2.0,
    max_s: float = 600.0,
) -> float:
    """A wait drawn evenly between zero and the ceiling (full jitter)."""
    return rng.random() * backoff_ceiling_s(failures, base_s=base_s, factor=factor, max_s=max_s)
