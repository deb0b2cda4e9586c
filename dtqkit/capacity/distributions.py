"""How long one attempt takes: service times with a mean (s) and an scv (squared coefficient of variation)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from scipy.special import gammainccinv, ndtri

from dtqkit.capacity import checks

Floats = npt.NDArray[np.float64]


@runtime_checkable
class Distribution(Protocol):
    """What the engines draw from and the formulas ask."""

    @property
    def mean(self) -> float:
        """Seconds."""
        ...

    @property
    def scv(self) -> float:
        """Variance over squared mean: 0 for a constant, 1 for the exponential."""
        ...

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """`n` draws, in seconds."""
        ...


@dataclass(frozen=True)
class Exponential:
    """Memoryless: the M of M/M/c."""

    mean: float

    def __post_init__(self) -> None:
        checks.positive("Exponential mean", self.mean)

    @property
    def scv(self) -> float:
        return 1.0

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        return rng.exponential(self.mean, n)


@dataclass(frozen=True)
class Deterministic:
    """Always the same: the D of M/D/c."""

    mean: float

    def __post_init__(self) -> None:
        checks.positive("Deterministic mean", self.mean)

    @property
    def scv(self) -> float:
        return 0.0

    def sample(self, rng: np.random.Generator, n: int) -> Floats:  # noqa: ARG002 - a constant needs no draws
        return np.full(n, float(self.mean))


@dataclass(frozen=True)
class Lognormal:
    """What run times of real programs look like most often: many short ones, a few long ones."""

    mean: float
    scv: float = 1.0

    def __post_init__(self) -> None:
        checks.positive("Lognormal mean", self.mean)
        checks.positive("Lognormal scv", self.scv)

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        variance = math.log1p(self.scv)
        return rng.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance), n)


@dataclass(frozen=True)
class Gamma:
    """scv below 1: several steps in a row (Erlang); 1: exponential; above: burstier."""

    mean: float
    scv: float = 1.0

    def __post_init__(self) -> None:
        checks.positive("Gamma mean", self.mean)
        checks.positive("Gamma scv", self.scv)

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        return rng.gamma(1 / self.scv, self.mean * self.scv, n)


@dataclass(frozen=True)
class HyperExponential:
    """Two kinds of job, short and long, with balanced means (scv above 1)."""

    mean: float
    scv: float = 4.0

    def __post_init__(self) -> None:
        checks.positive("HyperExponential mean", self.mean)
        if not self.scv > 1:
            raise ValueError(f"HyperExponential scv must be above 1, got {self.scv!r}; use Gamma below 1")

    @property
    def branches(self) -> tuple[float, float, float]:
        """The share of short jobs, and the means of the short and of the long."""
        share = 0.5 * (1 + math.sqrt((self.scv - 1) / (self.scv + 1)))
        return share, self.mean / (2 * share), self.mean / (2 * (1 - share))

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        share, short, long = self.branches
        scale = np.where(rng.random(n) < share, short, long)
        return rng.exponential(1.0, n) * scale


@dataclass(frozen=True)
class Uniform:
    """Anything from `low` to `high` seconds, evenly: `Uniform(1, 60)` has a mean of 30.5 s."""

    low: float
    high: float

    def __post_init__(self) -> None:
        checks.not_negative("Uniform low", self.low)
        if not (math.isfinite(self.high) and self.high > self.low):
            raise ValueError(f"Uniform high must be above low ({self.low!r}), got {self.high!r}")

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2

    @property
    def scv(self) -> float:
        return (self.high - self.low) ** 2 / 12 / self.mean**2

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        return rng.uniform(self.low, self.high, n)


@dataclass(frozen=True)
class Scaled:
    """Another distribution, every draw times a factor: "what if each job took 20 % longer?"."""

    base: Distribution
    factor: float

    def __post_init__(self) -> None:
        checks.positive("Scaled factor", self.factor)

    @property
    def mean(self) -> float:
        return self.base.mean * self.factor

    @property
    def scv(self) -> float:
        return self.base.scv

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        return self.base.sample(rng, n) * self.factor


class Empirical:
    """Measured times, drawn again with replacement (a bootstrap)."""

    def __init__(self, values_s: Sequence[float] | Floats) -> None:
        values = np.asarray(values_s, dtype=np.float64)
        if values.ndim != 1 or not len(values):
            raise ValueError(f"Empirical values_s must be a list of at least one time, got shape {values.shape}")
        if not (np.isfinite(values).all() and (values >= 0).all() and values.mean() > 0):
            raise ValueError("Empirical values_s must be finite, not negative and not all 0 (seconds)")
        self.values_s = values

    def __repr__(self) -> str:
        return f"Empirical(n={len(self.values_s)}, mean={self.mean:.4g}, scv={self.scv:.3g})"

    @property
    def mean(self) -> float:
        return float(self.values_s.mean())

    @property
    def scv(self) -> float:
        return float(self.values_s.var()) / self.mean**2

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        return self.values_s[rng.integers(0, len(self.values_s), n)]


def _by_name(name: str, mean: float, scv: float) -> Distribution:
    match name:
        case "exponential":
            return Exponential(mean)
        case "deterministic":
            return Deterministic(mean)
        case "lognormal":
            return Lognormal(mean, scv)
        case "gamma":
            return Gamma(mean, scv)
        case _:
            return HyperExponential(mean, scv)


FAMILIES = ("exponential", "deterministic", "lognormal", "gamma", "hyperexponential")


def distribution(name: str, mean: float, scv: float = 1.0) -> Distribution:
    """The family of that name, as the command line has it. `scv` is unused where the family fixes it."""
    return _by_name(checks.one_of("distribution", name, FAMILIES), mean, scv)


def checked(service: object) -> Distribution:
    """`service` itself, if it is one; a ValueError that lists the known ones otherwise."""
    if not isinstance(service, Distribution) or isinstance(service, type):
        known = "Exponential, Deterministic, Lognormal, Gamma, HyperExponential, Uniform, Empirical"
        raise ValueError(  # noqa: TRY004 - one kind of error for every bad parameter
            f"service must be a distribution ({known}) or one per priority, got {service!r}"
        )
    return service


#: Points of a distribution, as the share of times that are longer: dense where the longest are, down to 1e-16.
_TAIL: Floats = (1 - (np.arange(4_000) + 0.5) / 4_000) ** 4
_WEIGHTS: Floats = 4 * (1 - (np.arange(4_000) + 0.5) / 4_000) ** 3 / 4_000
_DRAWN = 100_000


@lru_cache(maxsize=32)
def _gamma_tail(scv: float) -> Floats:
    """Its inverse takes milliseconds."""
    return scv * np.asarray(gammainccinv(1 / scv, _TAIL), dtype=np.float64)


def weighed(service: Distribution) -> tuple[Floats, Floats]:
    """Times (s) and their weights, which add up to 1, such that sum(weights * f(times)) is the mean of f.

    By quantiles for the families, exactly for measured times, by drawing for others.
    """
    match service:
        case Empirical():
            times, weights = service.values_s, np.full(len(service.values_s), 1 / len(service.values_s))
        case Scaled():
            times, weights = weighed(service.base)
            times = times * service.factor
        case HyperExponential():
            share, short, long = service.branches
            times = np.concatenate([-short * np.log(_TAIL), -long * np.log(_TAIL)])
            weights = np.concatenate([share * _WEIGHTS, (1 - share) * _WEIGHTS])
        case Exponential():
            times, weights = -service.mean * np.log(_TAIL), _WEIGHTS
        case Deterministic():
            times, weights = np.array([float(service.mean)]), np.ones(1)
        case Lognormal():
            variance = math.log1p(service.scv)
            times = np.exp(math.log(service.mean) - variance / 2 - math.sqrt(variance) * ndtri(_TAIL))
            weights = _WEIGHTS
        case Gamma():
            times, weights = service.mean * _gamma_tail(service.scv), _WEIGHTS
        case Uniform():
            times, weights = service.high - (service.high - service.low) * _TAIL, _WEIGHTS
        case _:
            times = service.sample(np.random.default_rng(0), _DRAWN)
            weights = np.full(_DRAWN, 1 / _DRAWN)
    return np.asarray(times, dtype=np.float64), weights / weights.sum()
